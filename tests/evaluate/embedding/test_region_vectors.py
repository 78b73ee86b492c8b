"""`vice-eval embed --regions`: one vector per region as files; killed and run again, the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from sharding import shard_blobs

from vice.data_specs.region_vectors import parse_vectors_record
from vice.evaluate import cli
from vice.evaluate.embedding.region_means import region_means
from vice.evaluate.encoders.raw import ColourPositionEncoder
from vice.evaluate.scenes import resized
from vice.pipeline.region_vectors import RegionVectors
from vice.pipeline.shards import Shards

ENCODERS = """
import time
import numpy as np
from vice.evaluate.encoders.raw import ColourEncoder, ColourPositionEncoder

class Slow(ColourPositionEncoder):
    def embed(self, pictures):
        time.sleep(0.02)
        return super().embed(pictures)

class Large(ColourEncoder):
    def embed(self, pictures):
        return super().embed(pictures) * np.float32(1e6)

class Undefined(ColourEncoder):
    def embed(self, pictures):
        maps = super().embed(pictures)
        return maps * np.float32("nan") if pictures.max() > 127 else maps
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Eleven pictures in shards of three."""
    return Shards(shard_blobs(tmp_path_factory.mktemp("vectors"), 11, samples_per_shard=3))


@pytest.fixture
def encoders(tmp_path):
    path = tmp_path / "encoders.py"
    path.write_text(ENCODERS)
    return path


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


def content(out):
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


COLOUR = "vice.evaluate.encoders.raw:ColourPositionEncoder"


def test_every_region_of_every_sample_has_a_row(embed, shards, tmp_path):
    out = tmp_path / "out"
    code, said, err = embed(COLOUR, shards.address, out, "--regions=slic:10", "--short-side=60")
    assert (code, err) == (0, "") and "vectors of 11 pictures" in said
    assert sorted(content(out)) == ["vectors.json", *(f"vectors/train-{number:06d}.parquet" for number in range(4))]
    tables = [pq.read_table(path) for path in sorted(out.glob("vectors/*.parquet"))]
    vectors = RegionVectors(out)
    assert (len(vectors), vectors.dim) == (11, 5)
    rows = [row for table in tables for row in table.to_pylist()]
    for number, sample in enumerate(shards):
        regions, count = sample.regions["slic10"], int(sample.regions["slic10"].max()) + 1
        own, rows = rows[:count], rows[count:]
        assert [(row["key"], row["region"]) for row in own] == [(sample.key, region) for region in range(count)]
        picture = resized(sample.picture, 60)
        expected = region_means(ColourPositionEncoder().embed(picture[None])[0], regions, stride=4, size=(60, 60))
        np.testing.assert_allclose(np.array([row["vector"] for row in own]), expected, atol=1e-3)
        np.testing.assert_array_equal(vectors.of_sample(number), np.array([row["vector"] for row in own], np.float16))
        assert [row["area"] for row in own] == np.bincount(regions.reshape(-1)).tolist()
        ys, xs = np.nonzero(regions == 2)
        assert (own[2]["x"], own[2]["y"]) == pytest.approx((xs.mean(), ys.mean()), abs=1e-5)
    assert not rows


def test_the_record_says_what_the_vectors_were_made_from(embed, shards, tmp_path):
    assert (
        embed(COLOUR, shards.address, tmp_path / "out", "--regions=slic10", "--flip", "--scale=1", "--scale=2")[0] == 0
    )
    record = parse_vectors_record((tmp_path / "out" / "vectors.json").read_bytes(), "")
    assert (record.format, record.version, record.layer) == ("vice-region-vectors", 1, "slic:10")
    assert record.shards.fingerprint == shards.fingerprint and record.shards.num_samples == 11
    assert record.encoder.name == COLOUR and record.dim == 5
    assert record.settings["averaged"] == {"scales": [1.0, 2.0], "mirrored_too": True}
    assert record.num_regions == sum(int(sample.regions["slic10"].max()) + 1 for sample in shards)
    assert [part.num_samples for part in record.parts] == [3, 3, 3, 2]


def test_two_runs_give_the_same_bytes_and_a_third_has_nothing_to_do(embed, shards, checkpoints, tmp_path):
    for out in ("one", "two"):
        assert embed(checkpoints["first"], shards.address, tmp_path / out, "--regions=slic:10")[0] == 0
    whole = content(tmp_path / "one")
    assert content(tmp_path / "two") == whole
    code, said, _ = embed(checkpoints["first"], shards.address, tmp_path / "two", "--regions=slic:10")
    assert code == 0 and "nothing to do" in said and content(tmp_path / "two") == whole


def test_a_file_that_was_lost_or_cut_is_made_again(embed, shards, tmp_path):
    arguments = [COLOUR, shards.address, tmp_path / "out", "--regions=slic:10"]
    assert embed(*arguments)[0] == 0
    whole = content(tmp_path / "out")
    (tmp_path / "out/vectors/train-000001.parquet").unlink()
    (tmp_path / "out/vectors/train-000002.parquet").write_bytes(b"cut")
    assert embed(*arguments)[0] == 0
    assert content(tmp_path / "out") == whole


def test_a_killed_run_is_resumed_to_the_same_bytes(shards, encoders, tmp_path):
    words = [sys.executable, "-c", "from vice.evaluate import cli; cli.main()", "embed", f"{encoders}:Slow"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def command(out):
        return [*words, shards.address, str(tmp_path / out), "--regions=slic:10", "--scale=1", "--scale=1.5", "--flip"]

    process = subprocess.Popen(command("killed"), env=environment, stdout=subprocess.DEVNULL)
    folder = tmp_path / "killed" / "vectors"
    # while the third file is being written
    while not list(folder.glob(".train-000002.*")):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = {path.name for path in folder.iterdir()}
    assert {"train-000000.parquet", "train-000001.parquet"} <= there and "train-000003.parquet" not in there
    assert not (tmp_path / "killed" / "vectors.json").exists()
    kept = (folder / "train-000000.parquet").stat().st_mtime_ns
    for out in ("killed", "whole"):
        done = subprocess.run(command(out), env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert (folder / "train-000000.parquet").stat().st_mtime_ns == kept


def test_another_encoder_layer_setting_or_source_is_refused_with_the_difference(
    embed, shards, checkpoints, encoders, tiny, tmp_path
):
    out = tmp_path / "out"
    assert embed(checkpoints["first"], tiny["val"], out, "--regions=slic:20")[0] == 0
    for arguments, said in (
        ([checkpoints["second"], tiny["val"]], "encoder.name: 'tiny-first' -> 'tiny-second'"),
        ([checkpoints["first"], shards.address, "--regions=slic:10"], "layer: 'slic:20' -> 'slic:10'"),
        ([checkpoints["first"], tiny["unlabelled"]], "shards.dataset: 'tiny' -> 'image_folder'"),
        ([checkpoints["first"], tiny["val"], "--short-side=64"], "settings.short_side: None -> 64"),
        ([checkpoints["first"], tiny["val"], "--flip"], "settings.averaged: None -> "),
    ):
        code, _, err = embed(*arguments[:2], out, "--regions=slic:20", *arguments[2:])
        assert code == 2 and said in err and err.count("\n") == 1, err
    # the same before it is complete
    record = json.loads((out / "vectors.json").read_text())
    for name in ("fingerprint", "num_samples", "num_regions", "parts"):
        del record[name]
    (out / "vectors.json").unlink()
    (out / "started.json").write_text(json.dumps(record))
    code, _, err = embed(checkpoints["second"], tiny["val"], out, "--regions=slic:20")
    assert code == 2 and "encoder.name: 'tiny-first' -> 'tiny-second'" in err
    assert embed(checkpoints["first"], tiny["val"], out, "--regions=slic:20")[0] == 0
    assert not (out / "started.json").exists()
    code, _, err = embed(checkpoints["first"], tiny["val"], encoders.parent, "--regions=slic:20")
    assert code == 2 and "holds other files" in err


def test_other_weights_of_one_name_are_told_without_a_hash(embed, shards, encoders, tmp_path):
    arguments = [f"{encoders}:Slow", shards.address, tmp_path / "out", "--regions=slic:10"]
    assert embed(*arguments)[0] == 0
    encoders.write_text(ENCODERS.replace("0.02", "0.0"))
    code, _, err = embed(*arguments)
    assert code == 2 and "holds other region vectors (the encoder has other weights)" in err


def test_values_that_float16_cannot_hold_are_refused_with_the_key(embed, shards, encoders, tmp_path):
    code, _, err = embed(f"{encoders}:Large", shards.address, tmp_path / "out", "--regions=slic:10")
    assert code == 1 and "which float16 cannot hold" in err and err.count("\n") == 1, err
    assert f"key {shards.keys[0]}" in err
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_values_that_are_undefined_are_refused_before_the_work(embed, shards, encoders, tmp_path):
    code, _, err = embed(f"{encoders}:Undefined", shards.address, tmp_path / "out", "--regions=slic:10")
    assert code == 2 and "not finite" in err and err.count("\n") == 1, err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--regions=grid:16"], "only stored layers have region vectors: --regions grid:16; stored: slic:10"),
        (["--regions=slic:12"], "no region layer 'slic:12'"),
        (["--regions=slic:10", "--dtype=float32"], "--dtype float32"),
        (["--regions=slic:10", "--format=png"], "--format png"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(embed, shards, tmp_path, more, said):
    code, _, err = embed(COLOUR, shards.address, tmp_path / "out", *more)
    assert code == 2 and said in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_two_writers_do_not_meet(embed, shards, tmp_path):
    from vice.evaluate.embedding.out_folder import locked

    with locked(tmp_path / "out"):
        code, _, err = embed(COLOUR, shards.address, tmp_path / "out", "--regions=slic:10")
    assert code == 2 and "another process is writing there" in err


def test_an_unfinished_folder_names_the_command_that_finishes_it(embed, shards, tmp_path):
    out = tmp_path / "out"
    assert embed(COLOUR, shards.address, out, "--regions=slic:10")[0] == 0
    record = json.loads((out / "vectors.json").read_text())
    (out / "vectors.json").unlink()
    source = {name: record[name] for name in ("format", "version", "encoder", "shards", "layer")}
    (out / "started.json").write_text(json.dumps(source))
    with pytest.raises(Exception, match=rf"not complete: {out}; finish them with: .* {out} --regions slic:10"):
        RegionVectors(out)
