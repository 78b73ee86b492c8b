"""What the three commands share: one line for a known error, one way to be interrupted, commands that can be pasted."""

from __future__ import annotations

import io
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from vice.data_specs.errors import ViceError, is_interrupt

_EXIT_CODE_OF_CTRL_C = 130
"""With which Typer ends on it."""


def command(*words: object) -> str:
    """A command of these words, quoted where a shell would take them apart."""
    return shlex.join(str(word) for word in words)


def run_command(app: Callable[..., object], name: str, *, resumable: Collection[str]) -> None:
    """Run a command-line app: a known error prints one line and sets the exit code, a traceback only with `--debug`.

    SIGTERM, by which schedulers and containers end a program, does what Ctrl-C does; the exit code is 143.

    Args:
        app: the Typer app (or any callable taking `prog_name`).
        name: the command's name, as printed before the error.
        resumable: its subcommands that continue where they were interrupted.
    """
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may know fewer characters than file names have
    with _sigterm_as_interrupt() as came:
        try:
            app(prog_name=name)
        except ViceError as error:
            if is_interrupt(error):
                _end_interrupted(name, resumable, came)
            if debug:
                traceback.print_exc()
            print(f"{name}: error: {error.line()}", file=sys.stderr)
            sys.exit(error.exit_code)
        except (Exception, SystemExit) as end:
            if not (is_interrupt(end) or (isinstance(end, SystemExit) and end.code == _EXIT_CODE_OF_CTRL_C)):
                raise
            _end_interrupted(name, resumable, came)


def _end_interrupted(name: str, resumable: Collection[str], came: list[int]) -> NoReturn:
    resumes = any(argument in resumable for argument in sys.argv[1:2])
    what = "to resume" if resumes else "to start over; what it had finished before stays"
    print(f"{name}: interrupted; run the same command again {what}", file=sys.stderr)
    sys.exit(128 + signal.SIGTERM if came else _EXIT_CODE_OF_CTRL_C)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[list[int]]:
    """Let SIGTERM raise KeyboardInterrupt; the list says whether it came."""
    came: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> NoReturn:
        came.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)
