"""Weights from files: read without running code from them, and loaded completely or not at all."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lightning_reid.networks.archives import DamagedArchiveError, ForeignArchiveError, load_archive, require_file
from lightning_reid.networks.model_config import read_model_config
from lightning_reid.networks.shipped import located, shipped_names
from lightning_reid.networks.told_tensors import check_fitting, check_told_tensors

logger = logging.getLogger(__name__)

MODEL_WEIGHTS, MODEL_CONFIG = "model.safetensors", "config.json"
"""Files of a model folder: weights of an ``EmbeddingNetwork``, and how it is built."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a ``.safetensors`` file or a ``torch.save`` file holds, on the CPU. Only tensors and plain values are read, never code.

    Of a model folder, ``model.safetensors`` with ``config.json``, it is what a checkpoint of the same network would hold; the name of a
    network that comes with the library stands for its folder.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is cut short or damaged, of another format, needs its author's classes, or holds no dictionary.
    """
    path = located(path)
    if (path / MODEL_CONFIG).is_file():
        return _read_model_folder(path)
    if not path.exists():
        raise FileNotFoundError(
            f"no weights at {path}: expected a .safetensors, .pth, .pt, .tar or .ckpt file, a model folder, or the name of a network that"
            f" comes with the library: {', '.join(shipped_names())}"
        )
    require_file(path)
    try:
        content = load_file(path) if path.suffix.lower() == ".safetensors" else _load_pickled(path)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is no torch file, or holds more than tensors and plain values, which is not loaded as it could run code: "
            "save model.state_dict() alone from the code that made it"
        ) from error
    except ForeignArchiveError as error:
        raise ValueError(f"{path} is no file of weights, {error}: save model.state_dict() from the code that made it") from error
    except (SafetensorError, EOFError, RuntimeError, DamagedArchiveError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as weights, is it complete? {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a dictionary of tensors or a checkpoint with one")
    return content


def _read_model_folder(folder: Path) -> dict[str, Any]:
    content = read_model_config(folder / MODEL_CONFIG)
    if not (folder / MODEL_WEIGHTS).exists():
        others = sorted(file.name for file in folder.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"))
        instead = f", and {others[0]} in its place could run code, which is not read" if others else ""
        raise FileNotFoundError(f"{folder} lacks {MODEL_WEIGHTS}{instead}: fetch it again")
    require_file(folder / MODEL_WEIGHTS)
    from lightning_reid.networks.announced_weights import require_announced  # which builds networks, as what imports this module

    require_announced(folder / MODEL_WEIGHTS, content)
    return {"state_dict": read_checkpoint(folder / MODEL_WEIGHTS), **content}


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by name: a plain state dict, or the one under ``"state_dict"`` or ``"model"`` of a checkpoint.

    What wrappers leave in its names is removed, see ``unwrapped``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read, or holds no tensors.
    """
    return state_dict_of(read_checkpoint(path), path)


def state_dict_of(content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The state dict within a checkpoint's content, see ``read_state_dict``; ``path`` is named in errors."""
    for key in ("state_dict", "model"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    check_told_tensors(content, path)
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no tensors, only {_first(content)}: expected a state dict, or one under 'state_dict' or 'model'")
    return unwrapped(tensors)


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without what wrappers leave in its names: ``torch.compile``, ``DataParallel`` and DDP, however often.

    Counters of batches that were saved as ``[1]``, as some do, become scalars.
    """
    plain = {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}
    while plain and all(name.startswith("module.") for name in plain):
        plain = {name.removeprefix("module."): tensor for name, tensor in plain.items()}
    return {
        name: tensor.reshape(()) if name.endswith("num_batches_tracked") and tensor.numel() == 1 else tensor
        for name, tensor in plain.items()
    }


def load_all(network: nn.Module, state: Mapping[str, Tensor], *, source: str, ignored: tuple[str, ...] = ()) -> None:
    """Load ``state`` into ``network`` so that every parameter and buffer is set, and say what was loaded and what left out.

    Args:
        network: Changed in place; untouched where an error is raised.
        state: Tensors by name. ``num_batches_tracked``, which old files lack and only a cumulative BatchNorm reads, may be missing.
        source: Where the weights come from, for the message.
        ignored: Prefixes of names, such as the classifier's, that may be left over.

    Raises:
        ValueError: Names are missing or left over, or shapes differ; it names the first of each kind, counts them, and guesses the
            architecture the weights belong to.
    """
    own = network.state_dict()
    dropped = require_fitting(own, state, source=source, ignored=ignored)
    negative = [name for name in own if name.endswith("running_var") and name in state and bool((state[name] < 0).any())]
    if negative:
        raise ValueError(f"{source} holds a negative variance in {negative[0]}: it was changed, or its training diverged")
    network.load_state_dict({name: state.get(name, tensor) for name, tensor in own.items()})
    left_out = f", left out {_first(dropped)}" if dropped else ""
    logger.info("loaded %d tensors from %s%s", len(own), source, left_out)


def require_fitting(own: Mapping[str, Tensor], state: Mapping[str, Tensor], *, source: str, ignored: tuple[str, ...] = ()) -> list[str]:
    """Check names, kinds and shapes of tensors that are to be loaded into a network; no number of them is read.

    Args:
        own: Of the network.
        state: That are to be loaded; both may be of the device meta.
        source: See ``load_all``.
        ignored: See ``load_all``.

    Returns:
        Names of ``state`` that are left over, and may be.

    Raises:
        ValueError: See ``load_all``.
    """
    dropped = [name for name in state if name not in own and name.startswith(ignored)] if ignored else []
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own and name not in dropped]
    reshaped = [
        f"{name} {list(state[name].shape)} instead of {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if missing or unexpected or reshaped:
        faults = (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        told = "; ".join(f"{len(names)} {kind} ({_first(names)})" for kind, names in faults if names)
        raise ValueError(f"{source} does not fit the network: of {len(own)} entries {told}. {guess_architecture(state)}")
    check_fitting(own, state)
    return dropped


def guess_architecture(state: Mapping[str, Tensor]) -> str:
    """A sentence on what network such parameter names come from."""
    names = " ".join(state)
    hints = {
        "bn1.IN.": "a ResNet with instance normalization (IBN), which timm's resnet50 has not",
        "NL_2.": "a ResNet with non-local blocks",
        ".se.fc": "a ResNet with squeeze-and-excitation",
        "conv2.0.conv2a": "OSNet (torchreid)",
        "conv2.0.conv2.0.layers": "OSNet-AIN (torchreid)",
        "attn.qkv": "a vision transformer",
        "blocks.0.0.conv_dw": "a MobileNet or EfficientNet of timm",
        "features.0.0": "a MobileNet or EfficientNet of torchvision",
        "denseblock1": "a DenseNet",
        "layer3.22.conv3": "ResNet-101",
        "layer3.5.conv3": "ResNet-50",
        "layer3.5.conv2": "ResNet-34",
        "layer3.1.conv2": "ResNet-18",
    }
    for part, architecture in hints.items():
        if part in names:
            return f"The names look like {architecture}."
    return f"The names are of no architecture known here, the first are {_first(state)}."


def _load_pickled(path: Path) -> Any:
    # torchreid keeps its rank-1 score, a NumPy scalar, beside the weights; NumPy 1 and 2 call its maker differently
    scalar = np.float64(0).__reduce__()[0]
    makers = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    allowed: list[Any] = [*makers, np.dtype, type(np.dtype(np.float32)), type(np.dtype(np.float64))]
    with path.open("rb") as file, torch.serialization.safe_globals(allowed):
        return load_archive(file)


def _first(names: Iterable[str], count: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
