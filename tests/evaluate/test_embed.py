"""`vice-eval embed`: maps of any pictures as files; stopped anywhere and run again, the same bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from photographs import photographs
from sharding import blobs, jpeg, png

from vice.evaluate import cli
from vice.evaluate.embedding import writers
from vice.evaluate.encoders.opening import open_encoder


@pytest.fixture
def embed(monkeypatch, capsys):
    """Run the command in this process: exit code, output, error output."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vice-eval", "embed", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as exit_:
            code = exit_.code or 0
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Five pictures in two folders, two of one size and one name, and a file that is none."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    for number, (name, size) in enumerate({"a.png": (64, 48), "b.jpg": (64, 48), "deep/a.png": (75, 50)}.items()):
        data = blobs(*size, seed=number)
        (folder / name).write_bytes(png(data) if name.endswith("png") else jpeg(data))
    (folder / "a.jpg").write_bytes(jpeg(blobs(40, 40, seed=9)))
    (folder / "broken.png").write_bytes(png(blobs(64, 48, seed=8))[:200])
    return folder


def content(out: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file() and p.name != ".lock"
    }


def test_every_picture_becomes_an_array(embed, pictures, checkpoints, tmp_path):
    code, out, err = embed(checkpoints["first"], pictures, tmp_path / "out", "--dtype=float32")
    assert (code, err) == (0, "")
    assert "wrote 4 of 5 pictures" in out and "rejected broken.png: " in out
    encoder = open_encoder(str(checkpoints["first"]), device=torch.device("cpu")).encoder
    names = {"a.png", "b.jpg", "deep/a.png", "a.jpg"}
    for name in names:
        found = np.load(tmp_path / "out" / "maps" / f"{name}.npy")
        picture = cv2.imread(str(pictures / name), cv2.IMREAD_COLOR_RGB)
        # another decoder of JPEG, other neighbours in the batch
        np.testing.assert_allclose(found, encoder.embed(picture[None])[0], atol=0.02 if "jpg" in name else 1e-4)
    assert len(list((tmp_path / "out" / "maps").rglob("*.npy"))) == 4
    told = json.loads((tmp_path / "out" / "embeddings.json").read_text())
    assert (told["num_pictures"], told["num_rejected"], list(told["rejected"])) == (5, 1, ["broken.png"])
    assert told["made_by"]["encoder"]["name"] == "tiny-first"
    code, out, _ = embed(checkpoints["first"], pictures, tmp_path / "out", "--dtype=float32")
    assert code == 0 and "nothing to do" in out and "rejected broken.png" in out


OVERFLOWS = """
import numpy as np
class Large:
    stride = 8
    def embed(self, pictures):
        n, h, w, _ = pictures.shape
        return np.full((n, 1, -(-h // 8), -(-w // 8)), 70_000 if h == 50 else 1, np.float32)
"""


def test_a_value_beyond_float16_ends_the_work_and_names_the_picture(embed, pictures, tmp_path):
    (tmp_path / "own.py").write_text(OVERFLOWS)
    for form in ("npy", "parquet"):
        code, _, err = embed(f"{tmp_path}/own.py:Large", pictures, tmp_path / form, f"--format={form}")
        assert code == 1 and "70000 does not fit into float16: deep/a.png; write --dtype float32" in err
        assert not (tmp_path / form / "embeddings.json").exists()
    for file in (tmp_path / "npy").rglob("*.npy"):
        assert np.isfinite(np.load(file)).all()
    assert embed(f"{tmp_path}/own.py:Large", pictures, tmp_path / "wide", "--dtype=float32")[0] == 0


def test_parquet_parts_hold_the_same_numbers(embed, pictures, checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(writers.ParquetWriter, "unit", 2)
    monkeypatch.setattr(writers, "PART_PICTURES", 2)
    assert embed(checkpoints["first"], pictures, tmp_path / "npy")[0] == 0
    assert embed(checkpoints["first"], pictures, tmp_path / "parts", "--format=parquet")[0] == 0
    parts = sorted((tmp_path / "parts").glob("*.parquet"))
    assert [part.name for part in parts] == [f"part-{number:06d}.parquet" for number in range(3)]
    rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert [row["key"] for row in rows] == ["a.jpg", "a.png", "b.jpg", "deep/a.png"]
    for row in rows:
        values = np.array(row["embedding"], np.float16).reshape(row["d"], row["gh"], row["gw"])
        np.testing.assert_array_equal(values, np.load(tmp_path / "npy" / "maps" / f"{row['key']}.npy"))
    assert (rows[3]["height"], rows[3]["width"], rows[3]["gh"], rows[3]["gw"]) == (50, 75, 13, 19)
    # what was rejected is known again without another look at the pictures
    whole = content(tmp_path / "parts")
    (tmp_path / "parts" / "embeddings.json").unlink()
    assert embed(checkpoints["first"], pictures, tmp_path / "parts", "--format=parquet")[0] == 0
    assert content(tmp_path / "parts") == whole


def test_previews_have_one_basis_that_stays(embed, pictures, checkpoints, tmp_path):
    arguments = [checkpoints["first"], pictures, tmp_path / "out", "--format=png"]
    assert embed(*arguments)[0] == 0
    whole = content(tmp_path / "out")
    preview = cv2.imread(str(tmp_path / "out" / "previews" / "deep" / "a.png.png"))
    assert preview.shape == (50, 75, 3) and preview.std() > 10
    (tmp_path / "out" / "previews" / "b.jpg.png").unlink()
    (tmp_path / "out" / "embeddings.json").unlink()
    assert embed(*arguments)[0] == 0
    assert content(tmp_path / "out") == whole


def test_shards_and_lists_are_sources_too(embed, tiny, checkpoints, tmp_path, pictures):
    assert embed(checkpoints["first"], tiny["unlabelled"], tmp_path / "shards", "--short-side=40", "--flip")[0] == 0
    assert len(list((tmp_path / "shards" / "maps").iterdir())) == 5
    (tmp_path / "list.txt").write_text(f"{pictures}/a.png\n{pictures}/deep/a.png\n")
    assert embed("timm/resnet18", tmp_path / "list.txt", tmp_path / "listed")[0] == 0
    assert len(list((tmp_path / "listed" / "maps").rglob("*.npy"))) == 2


def test_another_encoder_source_or_setting_is_refused_with_the_difference(embed, pictures, checkpoints, tmp_path):
    assert embed(checkpoints["first"], pictures, tmp_path / "out")[0] == 0
    for arguments, told in (
        ([checkpoints["second"], pictures], "made_by.encoder.name: 'tiny-first' -> 'tiny-second'"),
        ([checkpoints["first"], pictures / "deep"], "made_by.source"),
        ([checkpoints["first"], pictures, "--dtype=float32"], "made_by.settings.dtype: 'float16' -> 'float32'"),
    ):
        code, _, err = embed(*arguments[:2], tmp_path / "out", *arguments[2:])
        assert code == 2 and told in err and err.count("\n") == 1
    code, _, err = embed(checkpoints["first"], pictures, pictures)
    assert code == 2 and "holds other files" in err


def test_a_killed_run_goes_on_to_the_same_bytes(checkpoints, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02d}.png").write_bytes(png(blobs(128, 96, seed=number)))
    # maps depend on what is embedded together by a rounding error: one picture at a time
    program = (
        "import vice.evaluate.embedding.job as job; job.PIXELS_AT_ONCE = 1; from vice.evaluate import cli; cli.main()"
    )
    words = [sys.executable, "-c", program, "embed", str(checkpoints["first"]), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*words, str(tmp_path / "killed")], env=environment, stdout=subprocess.DEVNULL)
    maps = tmp_path / "killed" / "maps"
    while not maps.is_dir() or len(list(maps.glob("[0-9]*.npy"))) < 5:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = len(list(maps.glob("[0-9]*.npy")))
    assert 5 <= there < 60 and not (tmp_path / "killed" / "embeddings.json").exists()
    for out in ("killed", "whole"):
        done = subprocess.run([*words, str(tmp_path / out)], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


@pytest.mark.parametrize("name", ["started.json", "embeddings.json"])
def test_a_damaged_record_is_one_line(embed, pictures, checkpoints, tmp_path, name):
    assert embed(checkpoints["first"], pictures, tmp_path / "out")[0] == 0
    record = json.loads((tmp_path / "out" / name).read_text())
    for damage in ("", "{", "[]", "\0\xff", '{"rejected": 3}', json.dumps({**record, "rejected": []})):
        (tmp_path / "out" / name).write_text(damage)
        code, _, err = embed(checkpoints["first"], pictures, tmp_path / "out")
        assert code == 2 and str(tmp_path / "out") in err and len(err.splitlines()) == 1, (damage, err)


def test_a_folder_without_a_readable_picture_is_an_error(embed, pictures, checkpoints, tmp_path):
    for path in pictures.rglob("*.*"):
        path.unlink() if path.name != "broken.png" else None
    for form in ("npy", "parquet", "png"):
        code, _, err = embed(checkpoints["first"], pictures, tmp_path / form, f"--format={form}")
        assert code == 2 and "none of" in err and "can be read" in err and len(err.splitlines()) == 1, err
        assert not (tmp_path / form / "embeddings.json").exists()


def test_a_disk_without_room_is_known_before_the_work(embed, pictures, checkpoints, tmp_path, monkeypatch):
    full = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    code, _, err = embed(checkpoints["first"], pictures, tmp_path / "out")
    assert code == 2 and "GB are needed, 0.0 GB are free" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "out" / "started.json").exists()


@pytest.mark.parametrize("form", ["npy", "png"])
def test_a_picture_with_the_longest_name_is_written_under_a_shorter_one(embed, checkpoints, tmp_path, form):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(2):
        (folder / f"{'é' * 122}{number}xxx.jpg").write_bytes(jpeg(blobs(64, 48, seed=number)))
    code, out, err = embed(checkpoints["first"], folder, tmp_path / "out", f"--format={form}")
    assert (code, err) == (0, "") and "wrote 2 of 2 pictures" in out
    names = sorted(path.name for path in (tmp_path / "out").rglob(f"*~*.{form}"))
    assert len(names) == 2 and all(len(name.encode()) <= 244 for name in names)
    assert "nothing to do" in embed(checkpoints["first"], folder, tmp_path / "out", f"--format={form}")[1]


@pytest.mark.photographs
def test_awkward_photographs_are_embedded_or_rejected_with_a_reason(embed, checkpoints, tmp_path):
    source = photographs("robustness")
    code, _out, err = embed(checkpoints["first"], source, tmp_path / "out", "--tile=512")
    assert (code, err) == (0, "")
    told = json.loads((tmp_path / "out" / "embeddings.json").read_text())
    written = {str(p.relative_to(tmp_path / "out" / "maps"))[:-4] for p in (tmp_path / "out" / "maps").rglob("*.npy")}
    files = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert written | set(told["rejected"]) == files and not written & set(told["rejected"])
    assert len(written) > 15 and all(told["rejected"].values())
    for name in written:
        assert np.isfinite(np.load(tmp_path / "out" / "maps" / f"{name}.npy")).all()


def test_all_maps_of_a_backbone_are_written_raw_and_the_last_one_by_default(embed, pictures, tmp_path):
    for name, words in {"all": ["--levels", "all"], "last": []}.items():
        assert embed("timm/regnetx_002", pictures, tmp_path / name, "--dtype", "float32", *words)[0] == 0
    found, last = (np.load(tmp_path / name / "maps" / "deep" / "a.png.npy") for name in ("all", "last"))
    encoder = open_encoder("timm/regnetx_002", device=torch.device("cpu")).encoder
    picture = cv2.imread(str(pictures / "deep" / "a.png"), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_allclose(found, encoder.embed(picture[None])[0], atol=1e-4)
    assert (found.shape, last.shape) == ((600, 13, 19), (368, 2, 3))
    code, _, err = embed("timm/regnetx_002", pictures, tmp_path / "reduced", "--dims", "4")
    assert code == 2 and "--dims" in err and not (tmp_path / "reduced").exists()
