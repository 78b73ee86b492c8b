"""Loaded by every Python process with this folder on its path: training processes leave a record, and die on demand.

HOOK_FILE gets a line for every process's start and end, and with HOOK_KEYS for every batch. HOOK_PLAN says, by the
number of restarts, what happens:
`start`: killed at once;
`batch:STEP`: killed when it asks for that step's batch;
`wait:STEP`: never gets that step's batch;
`save:STEP`: while that step's checkpoint is half written the launcher is killed; this process waits for its own end.
"""

import atexit
import json
import os
import signal
import sys
import time
from pathlib import Path

RESTARTS = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
EVENT, _, STEP = json.loads(os.environ.get("HOOK_PLAN", "{}")).get(RESTARTS, "").partition(":")


def record(**line):
    with Path(os.environ["HOOK_FILE"]).open("a") as file:
        file.write(json.dumps({"pid": os.getpid(), "restarts": int(RESTARTS), **line}) + "\n")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def watch_batches():
    from vice.pipeline.loader.loader import ViewLoader

    ask = ViewLoader.__next__

    def asked(loader):
        if EVENT == "batch" and loader.step == int(STEP):
            die()
        if EVENT == "wait" and loader.step == int(STEP):
            record(event="wait")
            time.sleep(60)
        batch = ask(loader)
        record(step=loader.step - 1, world_size=int(os.environ["WORLD_SIZE"]), keys=batch.keys)
        return batch

    ViewLoader.__next__ = asked


def watch_checkpoints():
    import torch

    save = torch.save

    def half_saved(content, file):
        save(content, file)
        if content.get("step") == int(STEP):
            file.truncate(file.tell() // 2)
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)

    torch.save = half_saved


if "vice.train.launching.worker" in sys.orig_argv:
    record(event="start")
    atexit.register(lambda: record(event="end", torch="torch" in sys.modules))
    if EVENT == "start":
        die()
    if EVENT in {"batch", "wait"} or "HOOK_KEYS" in os.environ:
        watch_batches()
    if EVENT == "save":
        watch_checkpoints()
