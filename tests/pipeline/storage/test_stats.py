"""The status of many files at once."""

import os
import threading
import time

from vice.pipeline.storage.stats import stat_all


def test_where_each_takes_long_they_are_looked_up_side_by_side(tmp_path, monkeypatch):
    paths = [os.fsencode(tmp_path / f"{number:03}") for number in range(200)]
    for number, path in enumerate(paths[::2]):
        with open(path, "wb") as file:  # noqa: PTH123 - Path takes no bytes
            file.write(bytes(number))
    quick, stat, threads = stat_all(paths), os.stat, set()

    def slow(path):
        threads.add(threading.get_ident())
        time.sleep(0.001)
        return stat(path)

    monkeypatch.setattr(os, "stat", slow)
    found = stat_all(paths)
    monkeypatch.undo()
    assert len(threads) > 2
    assert [one.st_size for one in found[::2]] == list(range(100)) == [one.st_size for one in quick[::2]]
    assert all(isinstance(one, FileNotFoundError) for one in found[1::2] + quick[1::2])
