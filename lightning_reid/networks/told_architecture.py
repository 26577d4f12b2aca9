"""What a file may say of the network that is to be built for it: plain options within bounds, and nothing that loads or fetches more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_reid.arguments import checked_image_size, shown
from lightning_reid.networks.told_tensors import check_told_tensors

DEPTHS = ("depth", "depths", "layers")
WIDTHS = ("base_width", "block_args", "channels", "cardinality", "dims", "embed_dim", "in_chans", "num_heads")
OTHERS = (
    *("act_layer", "aa_layer", "attn_drop_rate", "avg_down", "bn_eps", "bn_momentum", "class_token", "drop_block_rate", "drop_path_rate"),
    *("drop_rate", "dynamic_img_size", "img_size", "last_stride", "mlp_ratio", "no_embed_class", "norm_layer", "output_stride"),
    *("patch_size", "pre_norm", "proj_drop_rate", "qkv_bias", "qk_norm", "stem_type", "stem_width"),
)
OPTIONS = frozenset((*DEPTHS, *WIDTHS, *OTHERS))
"""Of timm's networks, that a checkpoint may tell."""
NOT_FROM_FILES = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
"""Options of timm that read a file or fetch one: weights are given by ``weights`` or ``pretrained``."""
LARGEST = 16384
"""Of any number among the options: the widest networks have a few thousand channels."""
DEEPEST = 256
"""Of any number of layers."""
_MOST_NUMBERS = 64
_OLD_NAMES = ("hparams", "module_arguments")
"""Under which Lightning looks for arguments, too."""


def check_told_options(options: Mapping[str, Any], path: str | Path) -> None:
    """Check the options of a network that a file tells.

    Args:
        options: By name.
        path: The file, for the message.

    Raises:
        ValueError: One is not in ``OPTIONS``, is no plain value, or is larger than any network is.
    """
    for name, value in options.items():
        if name not in OPTIONS:
            raise ValueError(
                f"{path} asks for the option {name!r} of its network, which no file may give: build the network yourself, and load the"
                " weights into it"
            )
        most = DEEPEST if name in DEPTHS else LARGEST
        if not _is_plain(value, most):
            raise ValueError(
                f"{path} asks for a network with {name}={shown(value)}: expected plain values, numbers up to {most:,} and at most"
                f" {_MOST_NUMBERS} of them"
            )


def check_told_checkpoint(content: Mapping[str, Any], path: str | Path) -> None:
    """Check what a checkpoint asks to be built, before Lightning builds it.

    Raises:
        ValueError: It tells its arguments under an old name, which Lightning would add to those that are checked; they are no dictionary;
            it has no weights by name, or tensors that are none; or see ``check_told_module``.
    """
    old = [name for name in _OLD_NAMES if name in content]
    if old:
        raise ValueError(f"{path} tells its arguments under {old[0]!r}, as very old versions of Lightning did: it is not to be trusted")
    hyperparameters = content.get("hyper_parameters", {})
    if not isinstance(hyperparameters, Mapping) or not all(isinstance(name, str) for name in hyperparameters):
        raise ValueError(f"{path} tells its arguments as a {type(hyperparameters).__name__}: expected them by name")
    for name in ("state_dict", "pytorch-lightning_version"):
        if name not in content:
            raise ValueError(f"{path} has no {name!r}: expected a checkpoint that Lightning's Trainer saved")
    if not isinstance(content["state_dict"], Mapping):
        raise ValueError(f"{path} holds {shown(content['state_dict'])} as 'state_dict': expected tensors by name")
    check_told_tensors(content["state_dict"], path)
    check_told_module(hyperparameters, path)


def check_told_module(hyperparameters: Mapping[str, Any], path: str | Path) -> None:
    """Check the arguments that a module is to be built with, as a checkpoint tells them.

    Raises:
        ValueError: They name files or weights to load, or see ``check_told_options``.
    """
    if not isinstance(hyperparameters.get("backbone", ""), str):
        raise ValueError(f"{path} names its backbone {shown(hyperparameters['backbone'])}: expected one of timm's names")
    for name in ("weights", "pretrained"):
        if hyperparameters.get(name):
            told = f"{name}={shown(hyperparameters[name])}"
            raise ValueError(f"{path} asks for {told}: a checkpoint brings its own weights, this one is not to be trusted")
    for name in ("backbone_options", "network_options", "teacher_options"):
        given = hyperparameters.get(name)
        if given is not None and not isinstance(given, Mapping):
            raise ValueError(f"{path} asks for {name}={shown(given)}: expected options by name")
        options = dict(given or {})
        if name == "network_options":  # of a network of clips: what it is made of has options of its own
            reads = [one for one in NOT_FROM_FILES if one in options]
            wrong = reads or [one for one, value in options.items() if not _is_plain(value, DEEPEST if one in DEPTHS else LARGEST)]
            if wrong:
                raise ValueError(f"{path} asks for a network with {wrong[0]}={shown(options[wrong[0]])}, which no file may give")
        else:
            check_told_options(options, path)


def check_told_size(size: Any, path: str | Path) -> tuple[int, int]:
    """The (height, width) in pixels that a file says its network was trained with.

    Raises:
        ValueError: It is no such pair, or larger than any image of a person.
    """
    return checked_image_size(f"{path} was trained with images of a size that cannot be: image_size", size)


def _is_plain(value: Any, most: float, depth: int = 0) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) <= _MOST_NUMBERS and depth < 2 and all(_is_plain(one, most, depth + 1) for one in value)
    if isinstance(value, str):
        return len(value) <= _MOST_NUMBERS and not set(value) & set("/\\:")
    return value is None or isinstance(value, bool) or (isinstance(value, (int, float)) and abs(value) <= most)
