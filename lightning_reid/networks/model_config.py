"""What ``config.json`` of a model folder may say: how a network is built, what its pixels go through before, and plain facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lightning_reid.arguments import require_count, require_text, shown
from lightning_reid.files import read_json
from lightning_reid.networks.told_architecture import LARGEST, check_told_module, check_told_size
from lightning_reid.normalization import IMAGENET_MEAN, IMAGENET_STD

ARCHITECTURE = ("backbone", "backbone_options", "network", "network_options", "first_pooling", "channel_plan")
"""Keys that say what is built."""
PARTS = ("pooling", "neck", "embedding")
"""Keys that the weights must agree with."""
PREPROCESSING: Mapping[str, Any] = {
    "normalization": "ImageNet",
    "mean": list(IMAGENET_MEAN),
    "std": list(IMAGENET_STD),
    "channel_order": "RGB",
    "interpolation": "bilinear, antialiased",
}
"""What pixels go through before any network here, beside the size; a folder that asks for something else is refused."""
SIZES = ("image_size", "clip_length")
FACTS = ("trained_on", "first_weights", "epochs")
"""Of a network's facts, those that are told here too, for programs; all of them stand in the card."""
_WORDS, _COUNTS = ("model", "trained_on", "first_weights", "lightning-reid"), ("epochs",)
KNOWN = frozenset(("model", *ARCHITECTURE, *PARTS, *PREPROCESSING, *SIZES, *_WORDS, *_COUNTS))
"""All keys that there are."""
MOST_BYTES = 4_000_000
"""Of a config, the masks of a pruned network included."""
MOST_FRAMES = 4096
"""Of a clip, that a file may tell."""
_MOST_LAYERS = 10_000
_WAY_ON = "fetch it again"


def model_config(
    model: str, architecture: Mapping[str, Any], image_size: tuple[int, int], clip_length: int | None, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of ``config.json``.

    Args:
        model: Name of the network, see ``network_name``.
        architecture: Of a network, with ``channel_plan`` as ``told_plan`` tells it where it was pruned.
        image_size: (height, width) in pixels.
        clip_length: T of clips; ``None`` of images, or where nobody knows.
        facts: Of ``FACTS``, those that are known.
    """
    frames = {"clip_length": clip_length} if "network" in architecture else {}
    sizes = {"image_size": list(image_size), **frames}
    return {"model": model, **architecture, **sizes, **PREPROCESSING, **facts, "lightning-reid": version("lightning-reid")}


def read_model_config(path: Path) -> dict[str, Any]:
    """Read and check ``config.json`` of a model folder.

    Returns:
        What a checkpoint of the same network would hold but for its weights: ``hyper_parameters``, ``image_size``, ``clip_length``,
        ``channel_plan`` of a pruned one; and ``model_parts``, the values of ``PARTS`` that are told, ``first_pooling``, and ``model_name``.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no such file, is larger than any, has a key that no config has, or asks for what no file may ask for.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{path} has {size:,} bytes, and a config has at most {MOST_BYTES:,}: {_WAY_ON}")
    needs: dict[str, Any] = {"image_size": list}
    of_clips = {"network": str, "network_options": dict}
    of_images = {"backbone": str, "backbone_options": (dict, type(None))}
    told = read_json(path, needs, way_on=_WAY_ON)
    read_json(path, of_clips if "network" in told else of_images, way_on=_WAY_ON)
    _check_keys(told, path)
    _check_preprocessing(told, path)
    built = {name: told[name] for name in (*of_clips, *of_images) if name in told}
    check_told_module(built, path)
    require_count(f"clip_length in {path}", told.get("clip_length"), high=MOST_FRAMES, optional=True)
    content = {
        "hyper_parameters": built,
        "image_size": check_told_size(told["image_size"], path),
        "clip_length": told.get("clip_length"),
        "model_parts": _parts(told, path),
        "first_pooling": told.get("first_pooling", "padded"),
        "model_name": told.get("model"),
    }
    return content | ({"channel_plan": _plan(told["channel_plan"], path)} if "channel_plan" in told else {})


def told_plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors and plain values of a channel plan (``ChannelPlan.as_tensors``) in plain values alone."""
    dropped = {name: {"of": len(mask), "dropped": (~mask).nonzero().flatten().tolist()} for name, mask in plan["keep"].items()}
    rule = {} if plan["residual_blocks"] == "coupled" else {"residual_blocks": plan["residual_blocks"]}
    return {"input_shape": list(plan["input_shape"]), "layers": dropped} | rule


def _check_keys(told: Mapping[str, Any], path: Path) -> None:
    unknown = [name for name in told if name not in KNOWN]
    if unknown:
        raise ValueError(
            f"{path} has the key {shown(unknown[0])}, which no config of a model folder has: it is of another library, or of a later"
            " version of this one"
        )
    if "network" in told and ("backbone" in told or "backbone_options" in told):
        raise ValueError(f"{path} tells a network of clips and one of images at once: {_WAY_ON}")
    for name in _WORDS:
        require_text(f"{name} in {path}", told.get(name, ""))
    for name in _COUNTS:
        require_count(f"{name} in {path}", told.get(name), low=0, optional=True)
    if told.get("first_pooling", "padded") not in ("padded", "unpadded"):
        raise ValueError(f"{path} asks for the first pooling {shown(told['first_pooling'])}, expected 'padded' or 'unpadded': {_WAY_ON}")


def _check_preprocessing(told: Mapping[str, Any], path: Path) -> None:
    for name, here in PREPROCESSING.items():
        if told.get(name, here) != here:
            usual = "ImageNet's" if name == "normalization" else shown(here)
            raise ValueError(f"{path} asks for the {name} {shown(told[name])}: networks here have {usual}")


def _parts(told: Mapping[str, Any], path: Path) -> dict[str, Any]:
    for name in ("pooling", "neck"):
        require_text(f"{name} in {path}", told.get(name, ""))
    require_count(f"embedding in {path}", told.get("embedding"), high=LARGEST, optional=True)
    return {name: told[name] for name in PARTS if told.get(name) is not None}


def _plan(told: Any, path: Path) -> dict[str, Any]:
    layers = told.get("layers") if isinstance(told, dict) else None
    known = {"input_shape", "layers"}
    if not isinstance(layers, dict) or not known <= set(told) <= known | {"residual_blocks"} or len(layers) > _MOST_LAYERS:
        raise ValueError(f"{path} has the channel plan {shown(told)}, expected an input_shape and layers: {_WAY_ON}")
    keep = {}
    for name, layer in layers.items():
        if not isinstance(layer, dict) or set(layer) != {"of", "dropped"} or not isinstance(layer["dropped"], Sequence):
            raise ValueError(f"{path} drops {shown(layer)} of the layer {shown(name)}, expected how many of how many: {_WAY_ON}")
        require_count(f"channels of {shown(name)} in {path}", layer["of"], high=LARGEST)
        for channel in layer["dropped"]:
            require_count(f"dropped channels of {shown(name)} in {path}", channel, low=0, high=layer["of"] - 1)
        keep[name] = torch.ones(layer["of"], dtype=torch.bool)
        keep[name][layer["dropped"]] = False
    return {"input_shape": told["input_shape"], "keep": keep, "residual_blocks": told.get("residual_blocks", "coupled")}
