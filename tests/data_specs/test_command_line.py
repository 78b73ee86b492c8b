"""What every command does with SIGTERM and Ctrl-C, and that what it prints can be pasted into a shell."""

import shlex
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from vice.evaluate.commands.job import say_next

WAITING = """
import sys, time, typer
from vice.data_specs.command_line import run_command
app = typer.Typer()
@app.command()
def wait():
    print("ready", flush=True)
    time.sleep(60)
@app.command()
def wrapped():
    try:
        wait()
    except KeyboardInterrupt as interrupt:
        raise SystemError("what compiled code makes of it") from interrupt
@app.command()
def look():
    wait()
run_command(app, sys.argv.pop(1), resumable=["wait"])
"""


@pytest.mark.parametrize(
    ("name", "subcommand", "number", "code"),
    [
        ("vice-prep", "wait", signal.SIGTERM, 143),
        ("vice-train", "wait", signal.SIGINT, 130),
        ("vice-eval", "look", signal.SIGTERM, 143),
        ("vice-prep", "wrapped", signal.SIGTERM, 143),
    ],
)
def test_sigterm_and_ctrl_c_end_a_command_with_one_true_line(name, subcommand, number, code):
    words = [sys.executable, "-c", WAITING, name, subcommand]
    # a shell's background job ignores SIGINT, and so would its children
    with_sigint = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, **pipes, preexec_fn=with_sigint)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    what = "to resume" if subcommand == "wait" else "to start over; what it had finished before stays"
    assert (process.returncode, err) == (code, f"{name}: interrupted; run the same command again {what}\n")


@pytest.mark.parametrize("package", ["pipeline.prep", "train", "evaluate"])
def test_every_command_runs_that_way(package):
    source = (Path(__file__).parents[2] / package.replace(".", "/") / "cli.py").read_text(encoding="utf-8")
    assert "    run_command(app, " in source


def test_next_lines_quote_paths(capsys):
    say_next(Path("my runs/a & (b)"))
    printed = capsys.readouterr().out.removeprefix("next: ")
    words = ["vice-eval", "report", "my runs/a & (b)", "--output", "my runs/a & (b)/report.html"]
    assert shlex.split(printed) == words
