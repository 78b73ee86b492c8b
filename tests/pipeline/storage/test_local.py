"""What only folders on disks do."""

import os

import pytest

from vice.data_specs.errors import InputError, WorkError
from vice.pipeline.storage.local import ASIDE_FOLDER, LocalStorage


def test_a_missing_folder_cannot_be_walked_but_is_made_by_a_write(tmp_path):
    storage = LocalStorage(tmp_path / "deep/er")
    with pytest.raises(InputError, match=r"cannot list a folder \(No such file or directory\)"):
        list(storage.walk())
    storage.write("file", b"x")
    assert storage.read("file") == b"x"


def test_names_that_are_no_text_are_read_all_the_same(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9")).write_bytes(b"x")
    storage = LocalStorage(tmp_path)
    assert [storage.read(entry.path) for entry in storage.walk()] == [b"x"]


def test_what_a_killed_run_left_aside_is_cleared(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.write("file", b"x")
    (tmp_path / ASIDE_FOLDER / "file.0.tmp").write_bytes(b"half")
    storage.clear_aside()
    assert [entry.path for entry in storage.walk(hidden=True)] == ["file"]


def test_one_writer_at_a_time(tmp_path):
    storage = LocalStorage(tmp_path)
    with storage.hold("lock") as hold:
        hold.check()
        with pytest.raises(WorkError, match="another run is writing there"), storage.hold("lock"):
            pass
    with storage.hold("lock"):
        pass
