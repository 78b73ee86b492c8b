"""OUT as it was before inputs are appended: its tables are kept in the work folder until the new ones are complete."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.shard_format import (
    DATASET_FILE,
    MANIFEST_FILE,
    REJECTED_FILE,
    SHARD_FOLDER,
    DatasetRecord,
    parse_dataset_record,
)
from vice.pipeline.dataset_record import read_dataset_record
from vice.pipeline.prep.shard import WORK_FOLDER
from vice.pipeline.prep.tables import read_rejected
from vice.pipeline.storage.base import Storage

_FOLDER = f"{WORK_FOLDER}/earlier"


class Earlier:
    """A complete OUT that is being appended to.

    An append that is interrupted while it replaces the tables is run again from the kept ones.

    Args:
        out: the folder.

    Raises:
        InputError: it is not a complete folder of shards.
    """

    def __init__(self, out: Storage):
        self._out = out
        self.record: DatasetRecord = read_dataset_record(out)
        self._folder = _FOLDER if self._is_kept() else "."

    def _is_kept(self) -> bool:
        try:
            kept = parse_dataset_record(self._out.read(f"{_FOLDER}/{DATASET_FILE}"), self._out.where(_FOLDER))
        except (FileNotFoundError, InputError):
            return False
        return kept.fingerprint == self.record.fingerprint

    @property
    def is_kept(self) -> bool:
        """Whether an append was interrupted, or is running."""
        return self._folder == _FOLDER

    def keep(self) -> None:
        """Keep the tables; called by the only writer.

        Raises:
            WorkError: another run has appended to OUT meanwhile.
        """
        if read_dataset_record(self._out).fingerprint != self.record.fingerprint:
            hint = "run the same command again"
            raise WorkError("another run has just appended to OUT", where=self._out.address, hint=hint)
        if self.is_kept:
            return
        for name in (MANIFEST_FILE, REJECTED_FILE, DATASET_FILE):
            with self._out.create(f"{_FOLDER}/{name}") as file:
                for chunk in self._out.chunks(name):
                    file.write(chunk)
        self._folder = _FOLDER

    def undo(self) -> None:
        """Remove the shards that an interrupted append has made, and put the kept tables back."""
        made = [entry.path for entry in self._out.walk() if entry.path.startswith(f"{SHARD_FOLDER}/")]
        for path in made:
            if path not in self.record.files:
                self._out.delete(path)
        for name in (MANIFEST_FILE, REJECTED_FILE) if self.is_kept else ():
            self._out.write(name, self._out.read(f"{self._folder}/{name}"))

    def manifest(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The manifest in pieces, with all columns or the named ones."""
        with self._open(MANIFEST_FILE) as file:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=1 << 12, columns=columns):
                yield pa.Table.from_batches([batch])

    def rejected(self) -> pa.Table:
        """The list of rejected inputs."""
        with self._open(REJECTED_FILE) as file:
            return read_rejected(file)

    def stored_sources(self) -> pa.Array:
        """large_string: sources of all samples."""
        chunks = [table["source"].combine_chunks() for table in self.manifest(["source"])]
        return pa.chunked_array(chunks, pa.string()).cast(pa.large_string()).combine_chunks()

    def rejected_sources(self) -> pa.Array:
        """large_string: sources of all rejected inputs."""
        return self.rejected()["source"].cast(pa.large_string()).combine_chunks()

    def _open(self, name: str):
        return self._out.open(name if self._folder == "." else f"{self._folder}/{name}")
