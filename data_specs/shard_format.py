"""Shard format, versions 1 to 3: names of files and members, Arrow schemas, and the record `dataset.json`.

OUT/dataset.json            settings, spec, totals, sha256 of every other file; written last = complete
OUT/manifest.parquet        a row per sample            OUT/rejected.parquet   a row per input left out
OUT/shards/SPLIT-000000.tar USTAR, members of a sample adjacent    .idx  DALI index    .json  shard record
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from vice.data_specs.dataset import DatasetSpec
from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import fingerprint
from vice.data_specs.regions import RegionLayer
from vice.data_specs.validation import StrictModel, parse

FORMAT_NAME = "vice-shards"
FORMAT_VERSIONS = (1, 2, 3)
"""Of `dataset.json`, the lowest that can say it all: 2 adds `data_version` and `earlier`, where inputs were appended;
3 adds `notes`, where there are any, and the setting `white_level`, where it was given."""

DATASET_FILE = "dataset.json"
MANIFEST_FILE = "manifest.parquet"
REJECTED_FILE = "rejected.parquet"
SHARD_FOLDER = "shards"
WORK_FOLDER = ".vice-prep"
"""Hidden folder in OUT with lock, plan, rows and temporary files; gone once OUT is complete."""

INDEX_VERSION = "v1.2"
"""Of the DALI index."""

DENSITY_MEMBER = "density.png"
LABELS_MEMBER = "labels.png"
META_MEMBER = "json"

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("index", pa.int32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_sha256", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("original_width", pa.int32(), nullable=False),
        pa.field("original_height", pa.int32(), nullable=False),
        pa.field("num_regions", pa.map_(pa.string(), pa.int32()), nullable=False),
        pa.field("member_bytes", pa.map_(pa.string(), pa.int64()), nullable=False),
        pa.field("has_labels", pa.bool_(), nullable=False),
    ]
)
"""A row per sample: `shard` is the tar's file name, `index` its place there, sizes in pixels; the maps go from layer
name (`slic20`) to its number of regions and from member (`jpg`) to its bytes."""

REJECTED_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("code", pa.string(), nullable=False),
    ]
)
"""A row per input left out: on which step, why in words, and the kind of reason (`too-small`). Folders written before
codes were introduced lack the last column."""


class PrepSettings(StrictModel):
    """Everything that decides the bytes of the shards; equal settings and inputs give equal bytes."""

    split: str = Field(default="train", pattern=r"^[a-z0-9_]+$")
    """Name of the split; begins every shard's and sample's name."""
    regions: list[RegionLayer] = [RegionLayer(method="slic", size=20)]
    """Region layers to store."""
    density_stride: int = Field(default=4, ge=1, le=64)
    """Picture pixels per cell of the content-density map."""
    short_side: int | None = Field(default=None, ge=32)
    """Resize so that the shorter side has this many pixels (never enlarges)."""
    center_crop: bool = False
    """Crop to a centred square after resizing."""
    max_side: int = Field(default=2048, ge=32)
    """Pictures whose longer side is larger are made smaller."""
    picture: Literal["jpeg", "png"] = "jpeg"
    """How pictures are stored: jpeg keeps the original bytes where it can, png is lossless."""
    white_level: Annotated[int, Field(ge=1, le=65535)] | Literal["auto"] | None = None
    """Value that is white in files of 16 bits per channel: None is 65535; auto finds it for each file, the smallest
    2^n-1 that neither its values nor the maximum in its metadata exceed."""
    max_pixels: int = Field(default=100_000_000, ge=1024)
    """Pictures and label maps with more pixels are rejected by their header, before they are decoded."""
    tar_window: int = Field(default=16, ge=1)
    """Where the source is tars: inputs are shuffled among this many tars, so that a shard reads from few of them."""
    samples_per_shard: int = Field(default=512, ge=1)
    """Inputs per shard."""
    seed: int = Field(default=0, ge=0)
    """Seed of the order of the inputs over the shards."""

    @model_serializer(mode="wrap")
    def _leave_out_later_settings(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A setting that came later is left out where it changes nothing, so that fingerprints stay."""
        content = handler(self)
        if self.white_level is None:
            content.pop("white_level", None)
        return content


class ShardRecord(StrictModel):
    """`SPLIT-000000.json`: this shard is complete."""

    tar_sha256: str
    index_sha256: str
    num_samples: int
    num_rejected: int
    settings_fingerprint: str


class Note(StrictModel):
    """What should be known of some samples."""

    num_inputs: int
    sources: list[str]
    """The first few of them."""


class EarlierVersion(StrictModel):
    """OUT before inputs were appended: its samples are the first rows of the manifest."""

    fingerprint: str
    num_inputs: int
    num_samples: int
    num_rejected: int
    num_shards: int


class DatasetRecord(StrictModel):
    """`dataset.json`, written last: the whole OUT is complete."""

    format: Literal["vice-shards"] = FORMAT_NAME
    version: Literal[1, 2, 3] = 1
    """Of the format."""
    data_version: int = 1
    """Of the data: 1, and one more for every time that inputs were appended."""
    earlier: list[EarlierVersion] = []
    """All versions of the data before this one, the first one first."""
    settings: PrepSettings
    dataset: DatasetSpec
    implementation: dict[str, str]
    """Versions of whatever makes bytes (libraries and our own layers)."""
    settings_fingerprint: str
    """Of settings, dataset and implementation together."""
    num_inputs: int
    num_samples: int
    num_rejected: int
    num_shards: int
    notes: dict[str, Note] = {}
    """How pictures are stored that lost something on the way: bits, values or pages."""
    files: dict[str, str]
    """sha256 of every other file of OUT, by path relative to OUT."""
    fingerprint: str
    """sha256 of this record without this field: names the data, exactly."""

    @classmethod
    def sealed(cls, **fields: Any) -> DatasetRecord:
        """Make a record and compute its fingerprint."""
        draft = cls(**fields, fingerprint="")
        return draft.model_copy(update={"fingerprint": fingerprint(draft.content(exclude={"fingerprint"}))})

    def content(self, *, exclude: set[str] = frozenset()) -> dict[str, Any]:
        """What `dataset.json` says; earlier versions of the format do not have all fields."""
        later = ({"data_version", "earlier"} if self.version < 2 else set()) | (
            {"notes"} if self.version < 3 else set()
        )
        return self.model_dump(mode="json", exclude=exclude | later)

    def as_earlier(self) -> EarlierVersion:
        """This version as the next one names it."""
        return EarlierVersion(**{name: getattr(self, name) for name in EarlierVersion.model_fields})

    def as_of(self, fingerprint: str) -> DatasetRecord:
        """The record with the totals of an earlier version of the data.

        Args:
            fingerprint: of that version; any other gives this record as it is.
        """
        for place, earlier in enumerate(self.earlier):
            if earlier.fingerprint == fingerprint:
                update = {"data_version": place + 1, "earlier": self.earlier[:place]}
                return self.model_copy(update=update | earlier.model_dump())
        return self


def shard_name(split: str, number: int) -> str:
    """Name of a shard without suffix: `train-000012`."""
    return f"{split}-{number:06d}"


def picture_member(settings: PrepSettings) -> str:
    """Extension of the picture's member: `jpg` or `png`."""
    return "jpg" if settings.picture == "jpeg" else "png"


def parse_dataset_record(data: bytes, where: object) -> DatasetRecord:
    """Parse the bytes of a `dataset.json`.

    Args:
        data: the file's bytes.
        where: its address, for messages.

    Raises:
        InputError: not ours, or of another format version.
    """
    try:
        told = json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise InputError("not readable as JSON", where=where, hint="shard again into a new folder") from None
    if not isinstance(told, dict) or told.get("format") != FORMAT_NAME:
        raise InputError("not written by vice-prep", where=where, hint="give a folder made by vice-prep shard")
    if told.get("version") not in FORMAT_VERSIONS:
        raise InputError(
            f"shard format version {told.get('version')!r}, this program reads versions 1 to 3",
            where=where,
            hint="shard again, or install the version of vice-dense that wrote it",
        )
    return parse(DatasetRecord, told, where=where)


def fingerprint_of_record(data: bytes) -> str:
    """The fingerprint that a `dataset.json` should carry: of all it says, whichever version of this program said it."""
    return fingerprint({name: value for name, value in json.loads(data).items() if name != "fingerprint"})


def parse_index(text: str) -> list[dict[str, tuple[int, int]]]:
    """Parse a DALI index (`v1.2 N`, then per sample `ext offset size filename ...`).

    Returns:
        Per sample: member extension to (offset of its data in the tar, size), in bytes.

    Raises:
        ValueError: not such an index.
    """
    header, *lines = text.splitlines()
    version, count = header.split()
    if version != INDEX_VERSION or int(count) != len(lines):
        raise ValueError("not a DALI index of version 1.2 or not whole")
    samples = []
    for line in lines:
        words = line.split(" ")
        samples.append({words[i]: (int(words[i + 1]), int(words[i + 2])) for i in range(0, len(words) - 3, 4)})
    return samples
