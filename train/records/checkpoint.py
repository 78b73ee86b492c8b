"""Checkpoints: one file with everything, written aside and renamed, loaded with `weights_only=True`."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.validation import parse
from vice.train.config import TrainConfig
from vice.train.network.model import DenseModel, RegionModel, build_model
from vice.train.network.packaged_weights import PACKAGED
from vice.train.network.weights import initialise
from vice.train.records.run_dir import CHECKPOINT_FOLDER, LAST, resume_point
from vice.train.records.upgrade import upgraded_state
from vice.train.start import Start

CHECKPOINT_FORMAT = "vice-checkpoint"
CHECKPOINT_VERSION, OLD_VERSIONS = 3, (2,)
_NUMBERED = "step-*.pt"


class CheckpointInfo(NamedTuple):
    """What a checkpoint says of itself."""

    name: str
    """Of the configuration."""
    step: int
    num_steps: int
    num_concepts: int
    views_seen: int
    shards_fingerprint: str
    """Of the shards it was trained on."""


class Checkpoint(NamedTuple):
    """A checkpoint file's content."""

    path: Path
    state: dict[str, Any]

    @property
    def config(self) -> TrainConfig:
        """The run's resolved configuration."""
        return parse(TrainConfig, self.state["config"], where=self.path)

    @property
    def is_old(self) -> bool:
        """Whether it was written by an earlier version: it can be evaluated and exported, but not resumed."""
        return self.state["version"] in OLD_VERSIONS

    @property
    def start(self) -> Start | None:
        """What was fitted at step 0; None for runs that did not start from their encoder."""
        saved = self.state.get("start")
        return None if saved is None else Start.from_state(saved)

    @property
    def info(self) -> CheckpointInfo:
        """What it says of itself."""
        state = self.state
        return CheckpointInfo(
            name=state["config"]["name"],
            step=state["step"],
            num_steps=state["num_steps"],
            num_concepts=state["config"]["assignment"]["num_concepts"],
            views_seen=state["views_seen"],
            shards_fingerprint=state["loader"]["shards"],
        )


def save_checkpoint(run_dir: Path, state: dict[str, Any], *, keep: int) -> Path:
    """Write a step's checkpoint, point `last.pt` at it, and remove all but the newest `keep`.

    Args:
        run_dir: the run's folder.
        state: tensors, numbers, strings, lists and dictionaries only; must have `step`.
        keep: numbered checkpoints kept.

    Raises:
        WorkError: it cannot be written, as on a full disk; the checkpoints before it stay.
    """
    folder = run_dir / CHECKPOINT_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{state['step']:08d}.pt"
    aside = folder / ".writing.tmp"
    try:
        with aside.open("wb") as file:
            torch.save({"format": CHECKPOINT_FORMAT, "version": CHECKPOINT_VERSION, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        _point_last_at(path)
    except (OSError, RuntimeError) as error:
        # half a checkpoint only takes room
        aside.unlink(missing_ok=True)
        failed = _failed_write(error)
        if failed is None:
            raise
        hint = f"make room there and launch again, which goes on from {resume_point(run_dir)}"
        raise WorkError("cannot write the checkpoint", where=f"{path} ({failed.strerror})", hint=hint) from None
    for old in sorted(folder.glob(_NUMBERED))[:-keep]:
        old.unlink()
    return path


def _point_last_at(path: Path) -> None:
    """Make `last.pt` a second name for the same bytes: it is replaced in one step and costs no space."""
    link = path.parent / ".last.tmp"
    link.unlink(missing_ok=True)
    link.hardlink_to(path)
    link.rename(path.parent / LAST)
    # names are safe from a power cut only when their folder is
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _failed_write(error: BaseException | None) -> OSError | None:
    """The operating system's error among those that led to this one: torch adds one of its unfinished archive."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        InputError: there is none, it cannot be read, or it is not of this program's version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            "no such checkpoint", where=path, hint="it lies in RUN/checkpoints/last.pt after vice-train launch"
        )
    state = _load(path)
    if state is None:
        raise InputError("not readable as a checkpoint", where=path, hint=_hint_for_damaged(path))
    if not isinstance(state, dict) or state.get("format") != CHECKPOINT_FORMAT:
        raise InputError("not a checkpoint of vice-train", where=path)
    if state.get("version") in OLD_VERSIONS:
        state = upgraded_state(state)
    elif state.get("version") != CHECKPOINT_VERSION:
        hint = "train again, or install the version of vice-dense that wrote it"
        raise InputError(
            f"checkpoint version {state.get('version')!r}, not {CHECKPOINT_VERSION}", where=path, hint=hint
        )
    return Checkpoint(path, state)


def _load(path: Path) -> Any:
    """What a file holds, on the CPU; None where it cannot be read or a byte of it was changed."""
    try:
        # torch itself does not hold a file's bytes against their checksums
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, KeyError, ValueError, IndexError):
        return None
    except zipfile.BadZipFile:
        return None


def _hint_for_damaged(path: Path) -> str:
    """Name the newest numbered checkpoint that can be read, and how to go on from it."""
    for other in sorted(path.parent.glob(_NUMBERED), reverse=True):
        if other != path and _load(other) is not None:
            if path.name == LAST:
                return f"{other.name} is the newest that is; go on from it with: ln -f {other} {path}"
            return f"{other.name} of the same folder is the newest that is"
    return "no other one of its folder is either: start a new run" if path.name == LAST else "take another one"


def initial_model(config: TrainConfig, start: Start | None = None) -> DenseModel:
    """The network as it was at step 0 of a run, in evaluation mode on the CPU.

    It has the random weights of the run's seed, the pretrained encoder where it had one, which is fetched or read
    again, and the linear map that was fitted then.

    Args:
        config: of the run.
        start: of its checkpoint or export.

    Raises:
        InputError: the pretrained weights are not available any more.
    """
    model = build_model(config)
    try:
        initialise(model.dense.encoder, config.model)
    except InputError as error:
        what = f"the pretrained weights that the run started from are not available: {error.what}"
        hint = error.hint if config.model.weights == PACKAGED else "restore that file as it was when the run started"
        raise InputError(what, where=error.where, hint=hint) from None
    if start is not None:
        start.put_into(model)
    return model.dense.eval()


def load_region_model(checkpoint: Checkpoint) -> RegionModel:
    """The trained model of a checkpoint with its concepts, on the CPU; needs no other weights and no network.

    Raises:
        InputError: the weights do not fit the configuration.
    """
    config = checkpoint.config
    # without a gradient there is nothing to compute again
    plain = config.model.model_copy(update={"activation_checkpointing": False})
    model = build_model(config.model_copy(update={"model": plain}))
    try:
        model.load_state_dict(checkpoint.state["model"])
    except RuntimeError:
        raise InputError("the weights do not fit the configuration", where=checkpoint.path) from None
    return model
