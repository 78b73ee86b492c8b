"""From what a command line says to the encoders of an evaluation: the one asked for, and its baselines."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from pydantic import ValidationError

from vice.data_specs.entries import Levels
from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import fingerprint, sha256_file
from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.data_specs.results import EncoderRef
from vice.evaluate.encoders.backbones import backbone_of_run, build_backbone
from vice.evaluate.encoders.fitting import Compared, check_dims
from vice.evaluate.encoders.levels import BackboneMaps, LevelsEncoder
from vice.evaluate.encoders.network import NetworkEncoder
from vice.evaluate.encoders.protocol import Encoder
from vice.evaluate.encoders.python_object import load_object
from vice.evaluate.encoders.raw import ColourEncoder, ColourPositionEncoder
from vice.evaluate.names import BASELINES, FROZEN, RANDOM, STEP_0, TRAINED, UNTRAINED, reduced_name
from vice.train.config import ModelConfig, TrainConfig
from vice.train.export import (
    DESCRIPTION_FILE,
    WEIGHTS_FILE,
    export_config,
    export_start,
    load_export,
    read_description,
)
from vice.train.network.model import OUTPUT_STRIDE, DenseModel
from vice.train.network.packaged_weights import PACKAGED
from vice.train.network.public_weights import normalisation
from vice.train.network.torchvision_maps import TORCHVISION
from vice.train.network.weight_source import initial_weights_in_words, weights_file
from vice.train.records.checkpoint import CHECKPOINT_FOLDER, LAST, initial_model, load_region_model, read_checkpoint
from vice.train.start import Start

TIMM = "timm/"
OUTPUT_STRIDE_OF_BACKBONES = 32
"""The default."""
WEIGHT_SEED = 0
"""Of the random weights of a network that is not ours."""


class Opened(NamedTuple):
    """An encoder with all that an evaluation wants of it."""

    ref: EncoderRef
    encoder: Encoder
    """Of a backbone: its maps raw, neither standardised nor reduced."""
    compared: list[Compared]
    """This encoder and its baselines, before they are fitted."""
    missing: dict[str, str]
    """Baselines that cannot be built, by name, with the reason."""
    concepts: Float32[np.ndarray, "k d"] | None
    """Unit vectors that it was trained with; None for networks that have none."""
    run_dir: Path | None
    """The run's folder of a checkpoint, with its metrics."""


def open_encoder(
    source: str,
    *,
    device: torch.device,
    weights: str = "none",
    output_stride: int = OUTPUT_STRIDE_OF_BACKBONES,
    untrained: bool = True,
    levels: Levels | None = None,
    dims: int | None = None,
) -> Opened:
    """Open an encoder of any origin.

    Args:
        source: a checkpoint, a run's folder (its last checkpoint), a folder of `vice-train export`, `timm/NAME`,
            `torchvision/NAME`, or a Python object as `module:object` or `file.py:object`.
        device: where to run it.
        weights: of timm's and torchvision's networks: `none`, `packaged`, a public name (`default`), or a file.
        output_stride: picture pixels per cell of their last map: 8, 16 or 32.
        untrained: also build the baselines that are networks: what training started from.
        levels: of timm's and torchvision's networks: all maps (the default) or the last one.
        dims: of the same: values per cell that a PCA leaves; None keeps all.

    Raises:
        InputError: there is no such encoder, or it cannot be built.
    """
    if source.startswith((TIMM, TORCHVISION)):
        return _backbone(source, weights, output_stride, device, untrained, levels or "all", dims)
    stride = None if output_stride == OUTPUT_STRIDE_OF_BACKBONES else output_stride
    for value, option in ((levels, "--levels"), (dims, "--dims"), (stride, "--output-stride")):
        if value is not None:
            what = "only networks of timm and torchvision have maps to choose from, to dilate and to reduce"
            raise InputError(what, where=f"{option} {value}", hint=f"leave out {option}")
    if weights != "none":
        raise InputError("only networks of timm and torchvision take weights", where=f"--weights {weights}")
    path = Path(source)
    if path.is_dir() and (path / DESCRIPTION_FILE).is_file():
        return _export(path, device, untrained)
    if ":" in source and not path.exists():
        return _python(source, baselines=untrained)
    last = path / CHECKPOINT_FOLDER / LAST
    return _checkpoint(last if path.is_dir() else path, device, untrained)


def step_zero(config: TrainConfig, start: Start | None) -> DenseModel:
    """The network of a run before its first step. How it is built again is decided here alone.

    Args:
        config: of the run.
        start: what was fitted at step 0, where anything was.

    Raises:
        InputError: the pretrained weights that it started from are not available any more.
    """
    return initial_model(config, start)


def _checkpoint(path: Path, device: torch.device, untrained: bool) -> Opened:
    checkpoint = read_checkpoint(path)
    model = load_region_model(checkpoint)
    ref = EncoderRef(
        kind="checkpoint",
        sha256=sha256_file(path),
        dim=model.dense.embedding_dim,
        stride=OUTPUT_STRIDE,
        weights=_trained_from(checkpoint.config),
        **checkpoint.info._asdict(),
    )
    run_dir = path.parent.parent
    return _run(
        ref,
        model.dense,
        checkpoint.config,
        checkpoint.start,
        model.concepts,
        device,
        run_dir=run_dir,
        baselines=untrained,
    )


def _export(folder: Path, device: torch.device, untrained: bool) -> Opened:
    description = read_description(folder)
    config = export_config(folder)
    model = load_export(folder)
    ref = EncoderRef(
        kind="export",
        name=description["name"],
        sha256=sha256_file(folder / WEIGHTS_FILE),
        dim=model.dense.embedding_dim,
        stride=OUTPUT_STRIDE,
        weights=_trained_from(config),
        step=description["step"],
        num_steps=description["num_steps"],
        num_concepts=len(model.concepts),
        views_seen=description["views_seen"],
        shards_fingerprint=description["shards"],
    )
    return _run(
        ref, model.dense, config, export_start(folder), model.concepts, device, run_dir=None, baselines=untrained
    )


def _trained_from(config: TrainConfig) -> str:
    return f"trained from {initial_weights_in_words(config.model.weights)}"


def _run(
    ref: EncoderRef,
    trained: DenseModel,
    config: TrainConfig,
    start: Start | None,
    concepts: torch.Tensor,
    device: torch.device,
    *,
    run_dir: Path | None,
    baselines: bool,
) -> Opened:
    encoder = _dense(TRAINED, trained, device)
    beside, missing = _baselines(config, start, device) if baselines else ([], {})
    compared = [Compared(encoder, TRAINED, "evaluated", ref.dim), *beside, *_raw()]
    return Opened(ref, encoder, compared, missing, concepts.detach().cpu().numpy(), run_dir)


def _dense(name: str, model: DenseModel, device: torch.device) -> Encoder:
    multiple = model.size_multiple
    return NetworkEncoder(name, model.eval(), stride=OUTPUT_STRIDE, size_multiple=multiple, device=device)


def _baselines(
    config: TrainConfig, start_of_run: Start | None, device: torch.device
) -> tuple[list[Compared], dict[str, str]]:
    """What a run started from: its encoder with all maps, the same reduced to the run's values, and the whole network.

    Returns:
        The baselines, and the names of those that cannot be built any more with the reason.
    """
    pretrained, dim = config.model.weights != "none", config.model.embedding_dim
    name, start = (FROZEN, STEP_0) if pretrained else (RANDOM, UNTRAINED)
    reduced = reduced_name(name, dim)
    compared, missing = [], {}
    try:
        levels = LevelsEncoder(name, BackboneMaps(backbone_of_run(config), device=device))
        common = {"levels": "all", "standardise": True}
        compared.append(Compared(levels, name, name, levels.dim, **common))
        if dim <= levels.dim:
            compared.append(Compared(levels, reduced, f"{name} reduced", dim, **common, dims=dim))
        else:
            missing[reduced] = f"its maps have only {levels.dim} values per cell"
    except InputError as error:
        missing |= dict.fromkeys((name, reduced), _reason(error))
    try:
        compared.append(Compared(_dense(start, step_zero(config, start_of_run), device), start, start, dim))
    except InputError as error:
        missing[start] = missing.get(name, _reason(error))
    return compared, missing


def _reason(error: InputError) -> str:
    return error.what if error.where is None else f"{error.what}: {error.where}"


def _raw() -> list[Compared]:
    encoders = {3: ColourEncoder(), 5: ColourPositionEncoder()}
    return [Compared(encoder, encoder.name, encoder.name, dim) for dim, encoder in sorted(encoders.items())[::-1]]


def _backbone(
    source: str,
    weights: str,
    output_stride: int,
    device: torch.device,
    untrained: bool,
    levels: Levels,
    dims: int | None,
) -> Opened:
    """A network of timm or torchvision, by all of its maps or by the last."""
    try:
        config = ModelConfig(encoder=source.removeprefix(TIMM), weights=weights, output_stride=output_stride)
    except ValidationError:
        raise InputError("no such stride", where=f"--output-stride {output_stride}", hint="8, 16 or 32") from None
    pretrained = weights != "none"
    encoder = _levels(TRAINED if pretrained else UNTRAINED, config, levels, device)
    check_dims(dims, encoder.dim)
    how = {"levels": levels, "standardise": levels == "all" or dims is not None, "dims": dims}
    dim = encoder.dim if dims is None else dims
    compared = [Compared(encoder, encoder.name, "evaluated", dim, **how)]
    if pretrained and untrained:
        random = _levels(UNTRAINED, config.model_copy(update={"weights": "none"}), levels, device)
        compared.append(Compared(random, UNTRAINED, "untrained", dim, **how))
    ref = EncoderRef(
        kind="timm" if source.startswith(TIMM) else "torchvision",
        name=source,
        sha256=_identity(source, config, levels, dims),
        dim=dim,
        stride=encoder.stride,
        weights=_weights_in_words(weights),
        levels=levels,
        dims=dims,
    )
    return Opened(ref, encoder, [*compared, *_raw()], {}, None, None)


def _weights_in_words(weights: str) -> str:
    named = {"none": "random", PACKAGED: "packaged (ImageNet labels)"}
    return named.get(weights, f"public or from a file: {weights}")


def _levels(name: str, config: ModelConfig, levels: Levels, device: torch.device) -> LevelsEncoder:
    return LevelsEncoder(name, BackboneMaps(build_backbone(config, levels=levels, seed=WEIGHT_SEED), device=device))


def _identity(source: str, config: ModelConfig, levels: Levels, dims: int | None) -> str:
    """Fingerprint of all that decides a backbone's values; a last map keeps the one it had before there were others."""
    file = weights_file(config.encoder, config.weights)
    content = {
        "encoder": source,
        "weights": sha256_file(file) if file else config.weights,
        "output_stride": config.output_stride,
        "seed": WEIGHT_SEED,
    }
    mean, std = normalisation(config.encoder, config.weights)
    if (mean, std) != (tuple(IMAGE_MEAN), tuple(IMAGE_STD)):
        content["normalisation"] = [mean, std]
    if (levels, dims) != ("last", None):
        content |= {"levels": levels, "dims": dims}
    return fingerprint(content)


def _python(source: str, *, baselines: bool) -> Opened:
    found = load_object(source)
    if baselines and found.encoder.name in BASELINES:
        what = f"its name {found.encoder.name!r} is that of a baseline"
        raise InputError(what, where=source, hint="give it another `name`")
    ref = EncoderRef(
        kind="python",
        name=source,
        sha256=fingerprint(found.identity),
        dim=found.encoder.dim,
        stride=found.encoder.stride,
        weights="as the object has them",
    )
    encoder = found.encoder
    return Opened(ref, encoder, [Compared(encoder, encoder.name, "evaluated", encoder.dim), *_raw()], {}, None, None)
