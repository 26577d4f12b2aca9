"""Where timm's pretrained weights come from, and a quick, clear refusal when the hub is out of reach."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import timm
from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache
from torch import nn

WAY_ON = "give a file of weights (--model.weights FILE), or start from random ones (pretrained=False)"


def create_pretrained(name: str, **options: Any) -> tuple[nn.Module, str]:
    """A timm network with its pretrained weights, and where they came from.

    Raises:
        ValueError: timm has no weights for this network.
        RuntimeError: The weights are out of reach, or the download broke off.
    """
    source, overlay = pretrained_source(name)
    try:
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options), source
    except OSError as error:  # what the hub's own errors and those of a broken connection have in common
        raise RuntimeError(f"could not load the pretrained weights of {name} from {source} ({error}): try again, {WAY_ON}") from error


def pretrained_source(name: str, timeout: float = 5.0) -> tuple[str, dict[str, Any]]:
    """Find timm's weights for ``name``: in the hub's local cache, else on the hub, provided it answers within ``timeout`` seconds.

    Left to itself, timm asks an unreachable hub again and again for most of a minute and ends in an error that names no way on.

    Returns:
        A description for the log, and the changes to timm's ``pretrained_cfg`` that make it load from there.

    Raises:
        ValueError: timm has no weights for this network.
        RuntimeError: Nothing is cached and the hub is not reachable, or switched off by ``HF_HUB_OFFLINE``.
    """
    config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    if config is None or (config.hf_hub_id is None and config.url is None):
        raise ValueError(f"timm has no pretrained weights for {name}: {WAY_ON}")
    if config.hf_hub_id is None:
        url = config.url[0] if isinstance(config.url, tuple) else str(config.url)
        _require_answer(name, url, timeout)
        return url, {}
    repository, _, revision = config.hf_hub_id.partition("@")
    filename = config.hf_hub_filename or "model.safetensors"
    cached = try_to_load_from_cache(repository, filename, revision=revision or None)
    if isinstance(cached, str):
        return f"the local cache of {config.hf_hub_id} ({cached})", {"file": cached}
    if constants.HF_HUB_OFFLINE:
        raise RuntimeError(
            f"pretrained weights of {name} ({config.hf_hub_id}) are not cached and HF_HUB_OFFLINE is set: unset it, {WAY_ON}"
        )
    _require_answer(name, hf_hub_url(repository, filename, revision=revision or None), timeout)
    return config.hf_hub_id, {}


def no_answer(url: str, timeout: float) -> Exception | None:
    """Why nobody answers at an address within ``timeout`` seconds; ``None`` where somebody does, whatever the answer."""
    try:
        urlopen(Request(url, method="HEAD"), timeout=timeout).close()
    except HTTPError:
        return None  # someone is there; what the answer means is for the download to say
    except (URLError, TimeoutError) as error:
        reachable = isinstance(getattr(error, "reason", None), ssl.SSLError)  # the download has its own certificates
        return None if reachable else error
    return None


def _require_answer(name: str, url: str, timeout: float) -> None:
    silent = no_answer(url, timeout)
    if silent is not None:
        raise RuntimeError(f"no answer from {url} for the pretrained weights of {name} ({silent}): connect, {WAY_ON}") from silent
