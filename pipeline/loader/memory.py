"""Memory of batches' pictures: in main memory it is used again once nobody has the batch any more."""

from __future__ import annotations

import contextlib
import math
import mmap
import weakref
from collections import defaultdict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vice.pipeline.loader.batch import BatchFormat


class BatchMemory:
    """Gives memory for pictures of batches.

    New main memory is zeroed and mapped page by page when it is first written, which took a tenth of the loader's time.
    So blocks lie on large pages where the system has them, and one whose tensors are all gone is given out again. (On a
    GPU torch keeps memory itself.)

    Args:
        batch_format: type and layout.
        device: where.
    """

    def __init__(self, batch_format: BatchFormat, device: torch.device):
        self._format, self._device = batch_format, device
        self._free: dict[int, list[mmap.mmap]] = defaultdict(list)

    def images(self, num_views: int, num_pictures: int, size: int) -> Float[Tensor, "m n 3 h w"]:
        """Memory for the views of a batch; what is in it is left over from others."""
        if not self._format.channels_last:
            return self._empty((num_views, num_pictures, 3, size, size))
        return self._empty((num_views, num_pictures, size, size, 3)).permute(0, 1, 4, 2, 3)

    def _empty(self, shape: tuple[int, ...]) -> Tensor:
        dtype = self._format.dtype
        if self._device.type != "cpu":
            return torch.empty(shape, dtype=dtype, device=self._device)
        free = self._free[math.prod(shape) * dtype.itemsize]
        block = free.pop() if free else _block(math.prod(shape) * dtype.itemsize)
        array = np.frombuffer(block, np.uint8)
        # every tensor and view of this memory keeps the array: once it is gone nobody can see the block
        weakref.finalize(array, free.append, block).atexit = False
        return torch.from_numpy(array).view(dtype).view(shape)


def _block(num_bytes: int) -> mmap.mmap:
    # private: a child process that is forked must not write into its parent's batches
    block = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(AttributeError, OSError):  # a system without large pages
        block.madvise(mmap.MADV_HUGEPAGE)
    return block
