"""From what a command line says to the encoders of an evaluation: the one asked for, and those it stands beside."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from pydantic import ValidationError

from vice.data_specs.errors import InputError
from vice.data_specs.fingerprint import fingerprint, sha256_file
from vice.data_specs.results import EncoderRef
from vice.evaluate.encoders.network import LastMap, NetworkEncoder
from vice.evaluate.encoders.protocol import Encoder
from vice.evaluate.encoders.python_object import load_object
from vice.evaluate.encoders.raw import ColourEncoder, ColourPositionEncoder
from vice.evaluate.names import TRAINED, UNTRAINED
from vice.train.config import ModelConfig, TrainConfig
from vice.train.export import (
    DESCRIPTION_FILE,
    WEIGHTS_FILE,
    export_config,
    export_start,
    load_export,
    read_description,
)
from vice.train.network.encoders import build_encoder
from vice.train.network.model import OUTPUT_STRIDE, DenseModel
from vice.train.network.packaged_weights import PACKAGED
from vice.train.network.public_weights import normalisation
from vice.train.network.torchvision_maps import TORCHVISION
from vice.train.network.weight_source import initial_weights_in_words, weights_file
from vice.train.network.weights import initialise
from vice.train.records.checkpoint import CHECKPOINT_FOLDER, LAST, initial_model, load_region_model, read_checkpoint

TIMM = "timm/"
WEIGHT_SEED = 0
"""Of the random weights of a network that is not ours."""


class Opened(NamedTuple):
    """An encoder with all that an evaluation wants of it."""

    ref: EncoderRef
    encoder: Encoder
    untrained: Encoder | None
    """The same network as its training began; None where that is not known."""
    concepts: Float32[np.ndarray, "k d"] | None
    """Unit vectors that it was trained with; None for networks that have none."""
    run_dir: Path | None
    """The run's folder of a checkpoint, with its metrics."""

    @property
    def beside_baselines(self) -> list[Encoder]:
        """The encoders of an evaluation: this one, the same untrained, colour and position, colour."""
        own = [self.encoder] if self.untrained is None else [self.encoder, self.untrained]
        return [*own, ColourPositionEncoder(), ColourEncoder()]


def open_encoder(
    source: str, *, device: torch.device, weights: str = "none", output_stride: int = 32, untrained: bool = True
) -> Opened:
    """Open an encoder of any origin.

    Args:
        source: a checkpoint, a run's folder (its last checkpoint), a folder of `vice-train export`, `timm/NAME`,
            `torchvision/NAME`, or a Python object as `module:object` or `file.py:object`.
        device: where to run it.
        weights: of timm's and torchvision's networks: `none`, `packaged`, a public name (`default`), or a file.
        output_stride: picture pixels per cell of their last map: 8, 16 or 32.
        untrained: also build the network as its training began, where that is known.

    Raises:
        InputError: there is no such encoder, or it cannot be built.
    """
    if source.startswith((TIMM, TORCHVISION)):
        return _backbone(source, weights, output_stride, device, untrained)
    if weights != "none":
        raise InputError("only networks of timm and torchvision take weights", where=f"--weights {weights}")
    path = Path(source)
    if path.is_dir() and (path / DESCRIPTION_FILE).is_file():
        return _export(path, device, untrained)
    if ":" in source and not path.exists():
        return _python(source)
    last = path / CHECKPOINT_FOLDER / LAST
    return _checkpoint(last if path.is_dir() else path, device, untrained)


def _checkpoint(path: Path, device: torch.device, untrained: bool) -> Opened:
    checkpoint = read_checkpoint(path)
    model = load_region_model(checkpoint)
    start = initial_model(checkpoint.config, checkpoint.start) if untrained else None
    ref = EncoderRef(
        kind="checkpoint",
        sha256=sha256_file(path),
        dim=model.dense.embedding_dim,
        stride=OUTPUT_STRIDE,
        weights=_trained_from(checkpoint.config),
        **checkpoint.info._asdict(),
    )
    return _of_models(ref, model.dense, start, model.concepts, device, run_dir=path.parent.parent)


def _export(folder: Path, device: torch.device, untrained: bool) -> Opened:
    description = read_description(folder)
    config = export_config(folder)
    model = load_export(folder)
    start = initial_model(config, export_start(folder)) if untrained else None
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
    return _of_models(ref, model.dense, start, model.concepts, device, run_dir=None)


def _trained_from(config: TrainConfig) -> str:
    return f"trained from {initial_weights_in_words(config.model.weights)}"


def _of_models(
    ref: EncoderRef,
    trained: DenseModel,
    untrained: DenseModel | None,
    concepts: torch.Tensor,
    device: torch.device,
    *,
    run_dir: Path | None,
) -> Opened:
    def of(name: str, model: DenseModel) -> Encoder:
        multiple = trained.size_multiple
        return NetworkEncoder(name, model.eval(), stride=OUTPUT_STRIDE, size_multiple=multiple, device=device)

    start = None if untrained is None else of(UNTRAINED, untrained)
    return Opened(ref, of(TRAINED, trained), start, concepts.detach().cpu().numpy(), run_dir)


def _backbone(source: str, weights: str, output_stride: int, device: torch.device, untrained: bool) -> Opened:
    """A network of timm or torchvision, by its last map."""
    try:
        config = ModelConfig(encoder=source.removeprefix(TIMM), weights=weights, output_stride=output_stride)
    except ValidationError:
        raise InputError("no such stride", where=f"--output-stride {output_stride}", hint="8, 16 or 32") from None
    file = weights_file(config.encoder, weights)
    models = [_last_map(config) for _ in range(1 if weights == "none" or not untrained else 2)]
    if weights != "none":
        initialise(models[0].backbone, config)
    content = {"encoder": source, "weights": sha256_file(file) if file else weights, "output_stride": output_stride}
    if weights != "none":
        content["normalisation"] = normalisation(config.encoder, weights)
    encoders = [
        NetworkEncoder(
            name,
            model.eval(),
            stride=model.backbone.strides[-1],
            size_multiple=model.backbone.size_multiple,
            device=device,
        )
        for name, model in zip((UNTRAINED,) if weights == "none" else (TRAINED, UNTRAINED), models, strict=False)
    ]
    ref = EncoderRef(
        kind="timm" if source.startswith(TIMM) else "torchvision",
        name=source,
        sha256=fingerprint(content | {"seed": WEIGHT_SEED}),
        dim=models[0].backbone.channels[-1],
        stride=encoders[0].stride,
        weights=_weights_in_words(weights),
    )
    return Opened(ref, encoders[0], encoders[1] if len(encoders) > 1 else None, None, None)


def _weights_in_words(weights: str) -> str:
    named = {"none": "random", PACKAGED: "packaged (ImageNet labels)"}
    return named.get(weights, f"public or from a file: {weights}")


def _last_map(config: ModelConfig) -> LastMap:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(WEIGHT_SEED)
        backbone = build_encoder(config, levels=(3,))
    backbone.normalise_as(*normalisation(config.encoder, config.weights))
    backbone.leave_out_pyramid()
    return LastMap(backbone)


def _python(source: str) -> Opened:
    found = load_object(source)
    content = {"object": source, "source": found.sha256}
    ref = EncoderRef(
        kind="python",
        name=source,
        sha256=fingerprint(content),
        dim=found.dim,
        stride=found.encoder.stride,
        weights="as the object has them",
    )
    return Opened(ref, found.encoder, None, None, None)
