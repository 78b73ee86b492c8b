"""`dataset.json` of an OUT: written last, so that OUT is complete where it can be read."""

from __future__ import annotations

from vice.data_specs.errors import InputError
from vice.data_specs.shard_format import DATASET_FILE, SHARD_FOLDER, DatasetRecord, parse_dataset_record
from vice.pipeline.storage.base import Storage
from vice.pipeline.storage.local import LocalStorage


def read_dataset_record(out: Storage) -> DatasetRecord:
    """Read `dataset.json` of a complete OUT.

    Raises:
        InputError: OUT does not exist, is not complete, not ours, or of another format version.
    """
    try:
        data = out.read(DATASET_FILE)
    except (FileNotFoundError, NotADirectoryError):
        raise _not_complete(out) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error})", where=out.where(DATASET_FILE)) from None
    return parse_dataset_record(data, out.where(DATASET_FILE))


def _not_complete(out: Storage) -> InputError:
    """Why there is no dataset record."""
    missing = isinstance(out, LocalStorage) and not out.folder.exists()
    try:
        begun = not missing and any(entry.path.startswith(f"{SHARD_FOLDER}/") for entry in out.walk())
    except OSError as error:  # a bucket that is not there
        return InputError(f"cannot be listed ({error})", where=out.address)
    if begun:
        hint = "run the same vice-prep shard again to finish them"
        return InputError("shards are not complete", where=out.address, hint=hint)
    what = "no such folder" if missing else "not a folder of shards"
    return InputError(what, where=out.address, hint="make shards with: vice-prep shard SOURCE OUT")
