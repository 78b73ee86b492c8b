"""Shards for tests without Ray: the same steps as `vice-prep shard`, one input after the other."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from vice.data_specs.dataset import DatasetSpec, load_dataset
from vice.data_specs.regions import RegionLayer
from vice.data_specs.shard_format import MANIFEST_FILE, REJECTED_FILE, DatasetRecord, PrepSettings
from vice.pipeline.prep.plan import make_plan
from vice.pipeline.prep.sample import make_sample
from vice.pipeline.prep.shard import ShardFiles, build_part, write_shard
from vice.pipeline.prep.totals import complete
from vice.pipeline.prep.workspace import Workspace
from vice.pipeline.storage.base import Storage
from vice.pipeline.storage.opening import open_storage


def shard_serially(source: Path, out: Path, settings: PrepSettings, spec: DatasetSpec | None = None) -> DatasetRecord:
    """Make a complete OUT in this process; the bytes are those that `vice-prep shard` makes."""
    spec = spec or load_dataset("image_folder")
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        plan = make_plan(source, settings, spec)
        with Workspace(open_storage(out), plan) as workspace:
            shards = [make_shard(workspace, number) for number in plan.numbers]
            return complete(workspace, shards)
    finally:
        cv2.setNumThreads(threads)


def shard_blobs(folder: Path, num_pictures: int, *, samples_per_shard: int) -> Path:
    """OUT of pictures of 40×40 with one layer, `slic:10`, made below a folder."""
    (folder / "pictures").mkdir(exist_ok=True)
    for number in range(num_pictures):
        (folder / f"pictures/{number:02d}.jpg").write_bytes(jpeg(blobs(40, 40, number)))
    settings = PrepSettings(regions=[RegionLayer.from_text("slic:10")], samples_per_shard=samples_per_shard)
    shard_serially(folder / "pictures", folder / "out", settings)
    return folder / "out"


def make_shard(workspace: Workspace, number: int) -> ShardFiles:
    """Make one shard of a workspace, in two parts."""
    plan = workspace.plan
    results = [make_sample(one, key, plan.recipe) for one, key in plan.inputs_of(number)]
    parts = [build_part(results[:3]), build_part(results[3:])]
    return write_shard(workspace.out, plan.shard(number), parts, plan.settings_fingerprint)


def blobs(width: int, height: int, seed: int) -> np.ndarray:
    """A picture of smooth coloured blobs, uint8 [h, w, 3], RGB."""
    noise = np.random.Generator(np.random.Philox(key=seed)).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3))
    return cv2.resize(noise.astype(np.uint8), dsize=(width, height), interpolation=cv2.INTER_CUBIC)


def jpeg(pixels: np.ndarray, quality: int = 90) -> bytes:
    """A picture, uint8 [h, w, 3] RGB, as baseline JPEG."""
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def png(pixels: np.ndarray) -> bytes:
    """A picture uint8 [h, w, 3] RGB, or a map [h, w] of 8 or 16 bits, as PNG."""
    return cv2.imencode(".png", pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path there."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def entries_of(out: Storage) -> list[str]:
    """The sources of manifest and rejected list together, sorted; every input must be there once."""
    found = []
    for name in (MANIFEST_FILE, REJECTED_FILE):
        with out.open(name) as file:
            found += pq.read_table(file)["source"].to_pylist()
    assert len(found) == len(set(found))
    return sorted(found)
