"""The failures a user can cause: one line that says what, where, and what to do next."""

from __future__ import annotations

import io
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class ViceError(Exception):
    """A known failure, told in one line.

    Args:
        what: what is wrong, in plain words.
        where: the file, folder, shard, key or setting it was found in.
        hint: what to do next.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, hint: str | None = None):
        self.what, self.where, self.hint = what, where, hint
        super().__init__(self.line())

    def line(self) -> str:
        """The message as one line, whatever line breaks its parts held."""
        parts = self.what if self.where is None else f"{self.what}: {self.where}"
        return " ".join((parts if self.hint is None else f"{parts}; {self.hint}").split())

    def __reduce__(self):
        # Ray and multiprocessing pickle exceptions by their positional arguments; ours are keywords.
        return _rebuild, (type(self), self.what, self.where, self.hint)


class InputError(ViceError):
    """Bad arguments or bad input: nothing was started, nothing was written (exit code 2)."""

    exit_code = 2


class WorkError(ViceError):
    """Work that began and could not be finished (exit code 1)."""

    exit_code = 1


def _rebuild(kind: type[ViceError], what: str, where: object, hint: str | None) -> ViceError:
    return kind(what, where=where, hint=hint)


def run_command(app: Callable[..., object], name: str) -> None:
    """Run a command-line app: a known error prints one line and sets the exit code, a traceback only with `--debug`.

    SIGTERM, by which schedulers and containers end a program, does what Ctrl-C does; the exit code is 143.

    Args:
        app: the Typer app (or any callable taking `prog_name`).
        name: the command's name, as printed before the error.
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
            if debug:
                traceback.print_exc()
            print(f"{name}: error: {error.line()}", file=sys.stderr)
            sys.exit(error.exit_code)
        except SystemExit as end:
            if end.code != _EXIT_CODE_OF_CTRL_C:
                raise
            print(f"{name}: interrupted; run the same command again to resume", file=sys.stderr)
            sys.exit(128 + signal.SIGTERM if came else _EXIT_CODE_OF_CTRL_C)


_EXIT_CODE_OF_CTRL_C = 130
"""With which Typer ends on it."""


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
