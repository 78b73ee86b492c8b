"""Making a sample in a process of its own, for inputs of which one kills whatever process decodes it."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys

from vice.data_specs.errors import WorkError
from vice.pipeline.prep.inputs import printable
from vice.pipeline.prep.rejection import Rejection
from vice.pipeline.prep.sample import PreparedSample, Recipe, make_sample
from vice.pipeline.prep.tars import Input

KILLED_DECODER = "killed-decoder"

_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}
"""Signals by which a process ends through what it does; a kill from outside (SIGTERM) is not the input's."""

_OUT_OF_MEMORY = signal.SIGKILL
"""By which the system ends the process that takes most memory; others may send it too, hence it must come twice."""


def make_sample_apart(one: Input, key: str, recipe: Recipe) -> PreparedSample | Rejection:
    """`make_sample` in a new process; an input that crashes it is rejected.

    Raises:
        OSError: the source's disk or store failed.
        WorkError: the process was killed from outside, or failed otherwise.
    """
    call = pickle.dumps((one, key, recipe))
    command = [sys.executable, "-c", "from vice.pipeline.prep.isolation import main; main()"]
    done = subprocess.run(command, input=call, capture_output=True, check=False)
    if -done.returncode == _OUT_OF_MEMORY:
        done = subprocess.run(command, input=call, capture_output=True, check=False)
    if -done.returncode in {*_CRASHES, _OUT_OF_MEMORY}:
        return killed_decoder(one, signal.Signals(-done.returncode).name)
    if done.returncode != 0:
        told = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise WorkError(f"a process ended with {done.returncode} {''.join(told)}", where=printable(one.path))
    return pickle.loads(done.stdout)


def killed_decoder(one: Input, how: str) -> Rejection:
    """The rejection of an input that ends whatever process decodes it."""
    return Rejection(printable(one.path), "picture", f"crashes the program that decodes it ({how})", KILLED_DECODER)


def main() -> None:
    """The new process: one call from standard input, its result to standard output."""
    import cv2

    cv2.setNumThreads(1)
    result = make_sample(*pickle.load(sys.stdin.buffer))
    sys.stdout.buffer.write(pickle.dumps(result))
