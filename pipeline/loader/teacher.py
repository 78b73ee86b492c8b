"""A teacher's vectors for the regions of a batch, gathered in main memory and copied to the batch's device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float16, Int64
from torch import Tensor


def teacher_rows(
    vectors: Sequence[Float16[np.ndarray, "all t"] | None], region_ids: Int64[Tensor, "n r"], device: torch.device
) -> Float16[Tensor, "n r t"] | None:
    """Vectors of each picture's mutual regions, 0 beyond; None where there is no teacher.

    Args:
        vectors: of all regions of each of the N pictures, by their stored ids.
        region_ids: of the mutual regions, -1 beyond.
        device: where the result is needed; copied from pinned memory, ordered by the current stream, if it is a GPU.
    """
    if not vectors or vectors[0] is None:
        return None
    on_gpu = device.type == "cuda"
    ids = region_ids.cpu().numpy()
    rows = torch.empty(*ids.shape, vectors[0].shape[1], dtype=torch.float16, pin_memory=on_gpu)
    array = rows.numpy()
    for picture, all_regions in enumerate(vectors):
        count = int((ids[picture] >= 0).sum())
        array[picture, :count] = all_regions[ids[picture, :count]]
        array[picture, count:] = 0
    return rows.to(device, non_blocking=True) if on_gpu else rows
