"""DALI on the CPU as an independent reader of shards and pictures, to compare with what our own readers give."""

from pathlib import Path

import numpy as np
import nvidia.dali.fn as fn
import nvidia.dali.types as types
from nvidia.dali import pipeline_def

from vice.pipeline.shards import Shards


def assert_dali_agrees(out: Path, layers: list[str], *more: str, batch_size: int = 1) -> None:
    """DALI's own reader with our index: every picture and every map equal to what our reader gives."""
    ours = Shards(out)
    tars = [str(path) for path in sorted(out.glob("shards/*.tar"))]
    members = ["jpg", "density.png", *(f"{layer}.png" for layer in layers), *more]

    @pipeline_def(batch_size=batch_size, num_threads=2, device_id=None)
    def graph():
        read = fn.readers.webdataset(
            paths=tars,
            index_paths=[f"{tar[:-3]}idx" for tar in tars],
            ext=members,
            missing_component_behavior="error",
        )
        maps = [fn.decoders.image(data, dtype=types.UINT16, output_type=types.ANY_DATA) for data in read[2:]]
        density = fn.decoders.image(read[1], output_type=types.ANY_DATA)
        return fn.decoders.image(read[0], output_type=types.RGB), density, *maps

    pipeline = graph()
    pipeline.build()
    for number in range(len(ours)):
        if number % batch_size == 0:
            outputs = pipeline.run()
        picture, density, *maps = (np.asarray(output.at(number % batch_size)) for output in outputs)
        mine = ours.sample(number)
        stored = [mine.regions[layer] for layer in layers] + ([mine.labels] if more else [])
        assert np.array_equal(picture, mine.picture), ours.where(number)
        assert np.array_equal(density[..., 0], mine.density), ours.where(number)
        assert all(np.array_equal(a[..., 0], b) for a, b in zip(maps, stored, strict=True)), ours.where(number)


def decoded_by_dali(files: list[bytes]) -> list[np.ndarray]:
    """Pictures as DALI decodes them on the CPU, uint8 [h, w, 3] RGB each."""

    @pipeline_def(batch_size=len(files), num_threads=2, device_id=None)
    def graph():
        return fn.decoders.image(fn.external_source(name="files", device="cpu"), output_type=types.RGB)

    pipeline = graph()
    pipeline.build()
    pipeline.feed_input("files", [np.frombuffer(data, np.uint8) for data in files])
    (pictures,) = pipeline.run()
    return [np.array(pictures.at(number)) for number in range(len(files))]
