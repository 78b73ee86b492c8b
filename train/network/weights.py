"""Pretrained weights of an encoder: read, taken out of what wraps them, checked key by key, put in."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vice.data_specs.errors import InputError
from vice.train.config import ModelConfig
from vice.train.network.decoders import LEVELS
from vice.train.network.efficientnet_names import is_efficientnet_pytorch, timm_names
from vice.train.network.encoders import Encoder, build_encoder
from vice.train.network.packaged_weights import PACKAGED, PACKAGED_ORIGIN
from vice.train.network.public_weights import fetch, public_weights
from vice.train.network.torchvision_maps import TORCHVISION, whole_network
from vice.train.network.weight_source import weights_file

_WRAPPERS = ("state_dict", "model_state_dict", "model", "teacher", "student")
"""Keys under which checkpoints keep their weights."""
_PREFIXES = (
    *("module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder.", "base_encoder.", "encoder_q."),
    *("momentum_encoder.", "student.", "teacher.", "visual.", "trunk."),
)
"""What wrapping modules put before an encoder's keys."""
_OWN = "dense.encoder."
"""Prefix of an encoder in checkpoints and exports of vice-train."""


class Fit(NamedTuple):
    """An encoder's weights as found in a file."""

    tensors: dict[str, Tensor]
    """By the encoder's own keys."""
    unused: list[str]
    """Keys of the file that feature maps need not: the classifier, and what lies outside the encoder."""


def initialise(encoder: Encoder, config: ModelConfig) -> Fit | None:
    """Put the configured pretrained weights into an encoder; None where it keeps its random ones.

    Raises:
        InputError: they cannot be had, not be read, or do not fit; names what is missing.
    """
    if config.weights == "none":
        return None
    path = weights_file(config.encoder, config.weights)
    found = fit(encoder, config.encoder, read_weights(path or fetch(public_weights(config.encoder, config.weights))))
    encoder.load_state_dict(found.tensors, strict=False)
    return found


def prepare(config: ModelConfig) -> str | None:
    """Build the encoder once before any process starts, and fetch and check its pretrained weights.

    Returns:
        One line on the weights that are used; None for random ones.

    Raises:
        InputError: see `build_encoder` and `initialise`.
    """
    with torch.random.fork_rng(devices=[]):
        found = initialise(build_encoder(config, LEVELS[config.decoder]), config)
    if found is None:
        return None
    source = f"its package ({PACKAGED_ORIGIN})" if config.weights == PACKAGED else config.weights
    line = f"weights: {len(found.tensors)} tensors of {config.encoder} from {source}"
    return f"{line}; not used: {_some(found.unused)}" if found.unused else line


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, without what common checkpoints wrap them in.

    Raises:
        InputError: no such file, or not one of tensors only.
    """
    if not path.is_file():
        raise InputError("no such file of weights", where=path, hint="give --weights PATH")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        hint = "save its state_dict alone, or as .safetensors"
        raise InputError("it holds more than tensors, or is damaged", where=path, hint=hint) from None
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, IndexError, safetensors.SafetensorError):
        raise InputError("not readable as weights", where=path, hint="fetch the file again") from None
    while isinstance(content, Mapping) and (key := next((k for k in _WRAPPERS if _is_mapping(content, k)), None)):
        content = content[key]
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)} if _maps(content) else {}
    if not tensors:
        raise InputError("no tensors in it", where=path, hint="save a state_dict")
    return tensors


def fit(encoder: Encoder, name: str, tensors: dict[str, Tensor]) -> Fit:
    """Find an encoder's weights among a file's tensors.

    Args:
        encoder: of `build_encoder`.
        name: of its configuration.
        tensors: of `read_weights`.

    Raises:
        InputError: keys are missing, unknown or of another shape; names some and counts them.
    """
    wanted = {f"network.{key}": value for key, value in encoder.network.state_dict().items()}
    if any(key.startswith(_OWN) for key in tensors):
        return _checked(*_own(encoder, wanted, tensors), name)
    whole = _whole(name)
    if is_efficientnet_pytorch(tensors):
        tensors = timm_names(tensors, whole, name)
    known = {_plain(key): key for key in wanted}
    inner, outside = _without_prefix(tensors, known)
    found = _named(inner, known)
    if not _fits(found, wanted):
        converter = getattr(sys.modules[type(whole).__module__], "checkpoint_filter_fn", None)
        found = _named(_converted(converter, inner, whole), known)
    heads = {key for key in found if key not in wanted and key in whole.state_dict()}
    found = {key: value for key, value in found.items() if key not in heads}
    return _checked(wanted, found, sorted(heads) + outside, name)


def _own(
    encoder: Encoder, wanted: dict[str, Tensor], tensors: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """What is wanted, found and unused of a file that vice-train wrote; a pyramid of another decoder is unused too."""
    found = {key.removeprefix(_OWN): value for key, value in tensors.items() if key.startswith(_OWN)}
    if _fits(found, encoder.state_dict()):
        wanted = encoder.state_dict()
    else:
        found = {key: value for key, value in found.items() if not key.startswith("pyramid.")}
    unused = [key for key in tensors if key.removeprefix(_OWN) not in found]
    return wanted, found, unused


def _whole(name: str) -> nn.Module:
    """The network with its classifier: what a public checkpoint holds."""
    with torch.random.fork_rng(devices=[]):
        return whole_network(name) if name.startswith(TORCHVISION) else timm.create_model(name)


def _plain(key: str) -> str:
    """A key without what timm's wrappers of feature maps change: `model.` before it, `stages_0` for `stages.0`."""
    return key.removeprefix("network.").removeprefix("model.").removeprefix("body.").replace(".", "_")


def _named(tensors: Mapping[str, Tensor], known: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors by the encoder's keys where it has them, by their own otherwise."""
    return {known.get(_plain(key), key): value for key, value in tensors.items()}


def _without_prefix(tensors: dict[str, Tensor], known: Mapping[str, str]) -> tuple[dict[str, Tensor], list[str]]:
    """Cut wrapping modules' prefixes off as long as more keys become known; the rest of the keys are left out."""
    outside: list[str] = []
    while True:
        matches = sum(_plain(key) in known for key in tensors)
        for prefix in _PREFIXES:
            inner = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            deeper = any(key.startswith(_PREFIXES) for key in inner) and not matches
            if sum(_plain(key) in known for key in inner) > matches or (inner and deeper):
                outside += [key for key in tensors if not key.startswith(prefix)]
                tensors = inner
                break
        else:
            return tensors, outside


def _converted(converter, tensors: dict[str, Tensor], whole: nn.Module) -> dict[str, Tensor]:
    """Weights in the form in which an architecture's authors published them, as timm names and shapes them."""
    if converter is None:
        return tensors
    try:
        return converter(dict(tensors), whole)
    except (KeyError, RuntimeError, AttributeError, TypeError, ValueError, AssertionError):
        return tensors


def _fits(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    return all(key in found and found[key].shape == value.shape for key, value in wanted.items() if _needed(key))


def _checked(wanted: Mapping[str, Tensor], found: dict[str, Tensor], unused: list[str], name: str) -> Fit:
    """A fit, or the error that names what is missing, of another shape, or unknown."""
    missing = [key for key in wanted if key not in found and _needed(key)]
    unknown = [key for key in found if key not in wanted]
    shapes = [
        f"{key} {tuple(found[key].shape)}, not {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in found and found[key].shape != value.shape
    ]
    problems = ((missing, "missing"), (shapes, "of another shape"), (unknown, "unknown"))
    told = [f"{len(keys)} {how} ({_some(keys)})" for keys, how in problems if keys]
    if told:
        hint = "take weights of this very network"
        raise InputError(f"the weights do not fit the encoder: {', '.join(told)}", where=name, hint=hint)
    return Fit(found, unused)


def _needed(key: str) -> bool:
    """Old checkpoints do not count batches; nothing depends on the count."""
    return not key.endswith("num_batches_tracked")


def _some(keys: list[str]) -> str:
    return ", ".join(key.removeprefix("network.") for key in keys[:3]) + (", ..." if len(keys) > 3 else "")


def _maps(content: object) -> bool:
    return isinstance(content, Mapping)


def _is_mapping(content: Mapping, key: str) -> bool:
    return isinstance(content.get(key), Mapping)
