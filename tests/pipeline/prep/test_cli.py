"""`vice-prep` at the command line: help with an example, every mistake in one line with the right exit code."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from vice.data_specs.shard_format import DATASET_FILE
from vice.pipeline.prep import cli

COMMAND = [sys.executable, "-c", "from vice.pipeline.prep.cli import main; main()"]


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process: exit code, standard output, standard error."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["vice-prep", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return run


@pytest.mark.parametrize("name", ["shard", "verify", "info", "preview", "scenes"])
def test_help_shows_a_complete_example(run, name):
    code, out, _ = run(name, "--help")
    assert code == 0 and f"Example: vice-prep {name} " in " ".join(out.split())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["{tmp}/nowhere", "{tmp}/out"], "no such source: {tmp}/nowhere; give a folder, a glob, "),
        (["{tmp}/empty", "{tmp}/out"], "no pictures in the source: {tmp}/empty;"),
        (["{tmp}/full/picture.jpg", "{tmp}/out"], "the source is no folder, list or tar: {tmp}/full/picture.jpg;"),
        (["{tmp}/full", "{tmp}/full"], "OUT lies in the source folder"),
        (["{tmp}/full", "{tmp}/full/shards"], "OUT lies in the source folder"),
        (["{tmp}/full", "{tmp}/foreign"], "OUT is not empty (holds notes.txt): {tmp}/foreign; give a new"),
        (["{tmp}/full", "{tmp}/out", "--dataset", "nothing"], "unknown dataset: 'nothing'; choose from ade20k,"),
        (
            ["{tmp}/full", "{tmp}/out", "--regions", "felzenszwalb:20"],
            "'method': Input should be 'slic', 'slico', 'opencv-slic', 'opencv-slico' or 'mslic'",
        ),
        (["{tmp}/full", "{tmp}/out", "--regions", "slic"], "not a region layer: 'slic'; write METHOD:SIZE"),
        (["{tmp}/full", "{tmp}/out", "--regions", "slic:8", "--regions", "slic:8"], "region layer given twice: slic8"),
        (["{tmp}/full", "{tmp}/out", "--max-side", "5"], "'max_side': Input should be greater than or equal to 32"),
        (["{tmp}/full", "{tmp}/out", "--split", "A b"], "'split': String should match pattern"),
    ],
)
def test_bad_arguments_are_one_line_and_nothing_is_written(run, tmp_path, options, told):
    for folder in ("empty", "full", "foreign"):
        (tmp_path / folder).mkdir()
    (tmp_path / "full/picture.jpg").write_text("x")
    (tmp_path / "foreign/notes.txt").write_text("x")
    code, out, err = run("shard", *(option.format(tmp=tmp_path) for option in options))
    assert code == 2 and not out
    assert len(err.splitlines()) == 1 and err.startswith("vice-prep: error: ") and told.format(tmp=tmp_path) in err
    assert not (tmp_path / "out").exists() and not (tmp_path / "full/shards").exists()


def test_another_format_version_is_refused_by_every_command(run, copied, source, tmp_path):
    path = copied / DATASET_FILE
    path.write_text(path.read_text().replace('"version": 1', '"version": 7'))
    preview = ("preview", copied, "--output", tmp_path / "sheet.png")
    for words in (("verify", copied), ("info", copied), preview, ("shard", source, copied)):
        code, _, err = run(*words)
        assert code == 2 and "shard format version 7, this program reads versions 1 to 3" in err


def test_good_commands_say_what_they_found(run, shards, source, spec_page, tmp_path):
    assert run("verify", shards, "--deep")[1].startswith("good: 36 samples")
    assert '"num_samples": 36' in run("info", shards, "--json")[1]
    code, out, _ = run("preview", shards, "--output", tmp_path / "sheet.html")
    assert code == 0 and out == f"wrote {tmp_path / 'sheet.html'}\n"
    options = ("--dataset", spec_page, "--regions", "slic:10", "--regions", "slico:16", "--samples-per-shard", 8)
    code, out, _ = run("shard", source, shards, *options)
    assert code == 0 and out.startswith("nothing to do: complete already\nsamples    36 of 40 inputs in 5 shards")


def test_a_damaged_out_fails_with_code_1(run, copied):
    path = copied / "shards/train-000001.tar"
    path.write_bytes(path.read_bytes() + b"more")
    code, _, err = run("verify", copied)
    assert code == 1 and "shards/train-000001.tar was changed" in err and len(err.splitlines()) == 1


def test_debug_adds_the_traceback(run, tmp_path):
    _, _, err = run("info", tmp_path, "--debug")
    assert "Traceback" in err and err.splitlines()[-1].startswith("vice-prep: error: not a folder of shards")


@pytest.mark.parametrize(("share", "code"), [(0.1, 0), (0.099, 1), (0, 1)])
def test_too_many_rejections_are_an_error_of_a_complete_out(run, source, shards, spec_page, share, code):
    """4 of 40 inputs."""
    layers = ["--regions", "slic:10", "--regions", "slico:16", "--samples-per-shard", 8]
    result = run("shard", source, shards, "--dataset", spec_page, *layers, "--max-rejected", share)
    assert result[0] == code and "36 of 40 inputs" in result[1]
    if code:
        (line,) = result[2].splitlines()
        assert f"4 of 40 inputs (10.00%) were rejected, more than --max-rejected {share} (1 × decode: " in line
        assert f"{shards}/rejected.parquet" in line and "--retry-rejected" in line


def test_only_the_job_needs_ray_and_nothing_needs_torch():
    """What looks at shards or works in one process must run without Ray, and no prep machine has torch."""
    looking = "import vice.pipeline.prep." + ", vice.pipeline.prep.".join(
        ["cli", "verify", "info", "preview", "job", "append", "repair"]
    )
    probe = "import sys; print([m for m in ('ray', 'torch', 'webdataset', 'nvidia.dali') if m in sys.modules])"
    for line, loaded in ((looking, "[]"), ("import vice.pipeline.prep.tasks", "['ray']")):
        done = subprocess.run([sys.executable, "-c", f"{line}; {probe}"], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == loaded


def test_what_a_terminal_cannot_write_is_replaced(shards):
    command = [*COMMAND, "info", str(shards)]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=ascii_only, check=True)
    assert done.stderr == "" and "?" in done.stdout


def test_an_address_where_no_cluster_answers_is_one_line(run, source, spec_page, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    started = time.monotonic()
    code, _, err = run("shard", source, tmp_path / "out", "--dataset", spec_page, "--ray-address", address)
    assert code == 1 and err.startswith(
        "vice-prep: error: no Ray cluster can be joined ([Errno 111] Connection refused)"
    )
    assert len(err.splitlines()) == 1 and "--ray-address" in err and time.monotonic() - started < 15
    assert not (tmp_path / "out").exists()


def test_an_address_where_another_program_answers_is_one_line(run, source, spec_page, tmp_path):
    """Ray itself would try for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")).start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        code, _, err = run("shard", source, tmp_path / "out", "--dataset", spec_page, "--ray-address", address)
    assert (code, len(err.splitlines())) == (1, 1) and "another program answers there" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("variable", "value"), [("HOME", "/dev/null/home"), ("RAY_TMPDIR", "/tmp/" + "r" * 100)])
def test_a_folder_that_ray_cannot_use_is_one_line_with_the_variable_to_set(
    source, spec_page, tmp_path, variable, value
):
    words = [source, tmp_path / "out", "--dataset", spec_page, "--workers", "1"]
    done = subprocess.run(
        [*COMMAND, "shard", *map(str, words)], capture_output=True, text=True, env={**os.environ, variable: value}
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert f"; set {variable} to a folder" in done.stderr


@pytest.fixture
def short_folder():
    """A folder for Ray, whose sockets need short paths."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.parametrize("moment", ["while Ray starts", "while it works"])
def test_sigterm_is_an_interrupt(source, spec_page, short_folder, tmp_path, moment):
    """As Slurm, Docker and Kubernetes end a program; no process may stay behind."""
    out, temporary = tmp_path / "out", short_folder
    words = [source, out, "--dataset", spec_page, "--samples-per-shard", "1", "--workers", "1", "--regions", "slic:4"]
    driver = subprocess.Popen(
        [*COMMAND, "shard", *map(str, words)],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "RAY_TMPDIR": str(temporary)},
    )  # fmt: skip
    signs = {"while Ray starts": "**/gcs_server.out", "while it works": "shards/*.json"}
    folder = temporary if moment == "while Ray starts" else out
    deadline = time.monotonic() + 90
    while not list(folder.glob(signs[moment])) and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    driver.send_signal(signal.SIGTERM)
    _, err = driver.communicate(timeout=60)
    assert (driver.returncode, err) == (143, "vice-prep: interrupted; run the same command again to resume\n")
    deadline = time.monotonic() + 30
    while (left := _processes_of(temporary)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def _processes_of(folder):
    """Command lines that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(folder).encode() in path.read_bytes():
                found.append(path.read_bytes())
    return found
