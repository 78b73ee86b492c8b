"""The DALI graph: bytes and a plan go in, views come out. The graph draws nothing; on the CPU it is the same graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from nvidia.dali import fn, pipeline_def, types

from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.pipeline.loader.plan import ViewPlan

INPUTS = ("picture", "regions", "boxes", "flip", "colour", "recolour", "blur")
"""What the source gives for every sample, in this order."""


def plan_arrays(plan: ViewPlan) -> tuple[np.ndarray, ...]:
    """A plan as the arrays that follow `picture` and `regions` in INPUTS."""
    boxes, colour = plan.boxes, plan.colour
    corners = np.stack([boxes.top, boxes.left, boxes.top + boxes.side, boxes.left + boxes.side], axis=1)
    return (
        corners.astype(np.float32),
        plan.flip.astype(np.int32),
        np.stack(colour[:4], axis=1),
        colour.applied.astype(np.int32),
        plan.blur_sigma,
    )


@pipeline_def(enable_conditionals=True)
def views_graph(
    source: Callable,
    *,
    num_views: int,
    size: int,
    on_gpu: bool,
    stored_regions: bool,
    layout: str,
    nearest: bool = False,
):
    """M normalised views of each picture and, where they are stored, M crops of its region map.

    Colour is computed in floating point and not clipped to the picture's range here: that is left to the reader.

    Args:
        source: gives a batch as lists of arrays, one list for each of INPUTS (without `regions` if none are stored).
        num_views: views a picture.
        size: side of a view in pixels.
        on_gpu: decode JPEG on the GPU and do all geometry and colour there; region maps are PNG, decoded on the CPU.
        stored_regions: whether there is a region map to decode.
        layout: of the views, `CHW` or `HWC`.
        nearest: take the nearest pixel of the picture, as for region maps, instead of a triangular filter.

    Returns:
        M times float32 [3, size, size] (or [size, size, 3]), then M times int32 [size, size, 1].
    """
    names = [name for name in INPUTS if stored_regions or name != "regions"]
    inputs = fn.external_source(source=source, num_outputs=len(names), batch=True)
    given = {name: inputs[place] for place, name in enumerate(names)}
    picture = fn.decoders.image(given["picture"], device="mixed" if on_gpu else "cpu", output_type=types.RGB)
    resize = {"interp_type": types.INTERP_NN, "antialias": False} if nearest else {"interp_type": types.INTERP_LINEAR}
    crops = [fn.resize(picture, size=[size, size], **resize, **_roi(given, view)) for view in range(num_views)]
    images = [_appearance(crop, given, view, layout) for view, crop in enumerate(crops)]
    if not stored_regions:
        return tuple(images)
    # UINT16 with ANY_DATA is the one way that leaves 16-bit labels as they are
    ids = fn.decoders.image(given["regions"], device="cpu", output_type=types.ANY_DATA, dtype=types.UINT16)
    ids = ids.gpu() if on_gpu else ids
    return (*images, *(_region_view(ids, given, view, size) for view in range(num_views)))


def _appearance(crop, given, view: int, layout: str):
    # floating point after the resize: rounding to 8 bits takes DALI's CPU operators more time than the arithmetic
    if given["recolour"][view] != 0:
        brightness, contrast, saturation, hue = (given["colour"][view, channel] for channel in range(4))
        image = fn.color_twist(
            crop, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue, dtype=types.FLOAT
        )
    else:
        image = fn.cast(crop, dtype=types.FLOAT)
    if given["blur"][view] > 0:
        image = fn.gaussian_blur(image, sigma=given["blur"][view], dtype=types.FLOAT)
    return fn.crop_mirror_normalize(
        image,
        mirror=given["flip"][view],
        mean=[255 * value for value in IMAGE_MEAN],
        std=[255 * value for value in IMAGE_STD],
        dtype=types.FLOAT,
        output_layout=layout,
    )


def _region_view(ids, given, view: int, size: int):
    cropped = fn.resize(ids, size=[size, size], interp_type=types.INTERP_NN, antialias=False, **_roi(given, view))
    return fn.cast(fn.flip(cropped, horizontal=given["flip"][view], vertical=0), dtype=types.INT32)


def _roi(given, view: int) -> dict:
    return {"roi_start": given["boxes"][view, 0:2], "roi_end": given["boxes"][view, 2:4]}
