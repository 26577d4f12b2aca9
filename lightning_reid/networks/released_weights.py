"""Loading the weights that the papers released for their video networks: baseline, NVAN, STE-NVAN and CF-AAN."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from lightning_reid.networks.video.network import VideoNetwork
from lightning_reid.networks.video.released_cfaan import rename_released_cfaan
from lightning_reid.networks.video.released_ste_nvan import is_of_residual_network, renamed_ste_nvan

logger = logging.getLogger(__name__)

OPTIONAL = ("neck.", "attention.")
"""Parts of a network that released weights may lack, each as a whole."""


class LoadedWeights(NamedTuple):
    """What loading left over on either side.

    Attributes:
        missing: Names here of parameters and buffers that kept their values: the whole neck, the whole attention, or none.
        left_over: Names there of tensors that found no place: those of a classifier, or none.
    """

    missing: tuple[str, ...]
    left_over: tuple[str, ...]


def load_released_weights(network: VideoNetwork, state_dict: Mapping[str, Tensor]) -> LoadedWeights:
    """Load the released weights of a video network, all of them or none; only a classifier has no place here.

    The released baseline, NVAN and STE-NVAN have no ReLU after the first BatchNorm, and attention within pairs of frames where both
    reductions are on: ``VideoResNet50(stem_relu=False)``, ``NVAN(stem_relu=False)``, ``STENVAN(stem_relu=False, pairwise=True)``. So have
    the baseline and the non-local network that were released with CF-AAN; CF-AAN itself is ``CFAAN()``. STE-NVAN's tensors are those of
    NVAN by name and shape: which of the two they are nobody can tell but who downloaded them.

    Args:
        network: Changed in place; untouched where an error is raised. Its neck may be missing as a whole, in weights of the residual
            network alone, and so may its attention, in weights of a baseline to start from: a fresh one is the identity. Both are logged
            as a warning.
        state_dict: Tensors by their released names, see ``released_ste_nvan_name`` and ``rename_released_cfaan``.

    Raises:
        ValueError: No tensor fits by name, or one fits by name and not by shape; tensors other than a classifier's are left over, or the
            network's are missing beyond a whole part; or the released network has no ReLU after the first BatchNorm and this one has.

    Example:
        >>> from lightning_reid.networks import VideoResNet50, load_released_weights
        >>> network = VideoResNet50("resnet18", stem_relu=False, channels=[8, 8, 16, 16], layers=[1, 1, 1, 1])
        >>> released = {f"module.features.{name}": tensor for name, tensor in network.backbone.trunk.state_dict().items()}
        >>> load_released_weights(network, released).missing  # a residual network alone: the neck stays fresh
        ('neck.weight', 'neck.bias', 'neck.running_mean', 'neck.running_var')
    """
    own, renamed = network.state_dict(), _renamed(state_dict)
    fitting = {ours: tensor for ours, tensor in renamed.values() if ours in own}
    if not fitting:
        first = ", ".join(list(state_dict)[:3]) or "nothing"
        known = "NL_2.0.theta.weight (NVAN, STE-NVAN) or base.layer1.0.conv1.weight (CF-AAN)"
        raise ValueError(f"no tensor of the state dict fits the network: expected names such as {known}, got {first}")
    for name, tensor in fitting.items():
        if tensor.shape != own[name].shape:
            raise ValueError(f"the released weights are of another network: {name} is {list(tensor.shape)}, not {list(own[name].shape)}")
    # old files count no batches, and nothing here reads the count
    missing = tuple(name for name in own if name not in fitting and not name.endswith("num_batches_tracked"))
    left_over = tuple(theirs for theirs, (ours, _) in renamed.items() if ours not in own)
    _refuse_left_over(network, left_over)
    _refuse_missing(network, missing, fitting)
    _refuse_another_stem(network, list(state_dict))
    network.load_state_dict({**own, **fitting})
    logger.log(
        logging.WARNING if missing else logging.INFO,
        "loaded %d released tensors, %d of the network's missing (%s), %d left over (%s)",
        len(fitting),
        *(part for names in (missing, left_over) for part in (len(names), _first(names) or "none")),
    )
    return LoadedWeights(missing, left_over)


def _refuse_left_over(network: VideoNetwork, names: Sequence[str]) -> None:
    lost = [name for name in names if "classifier" not in name.split(".")]
    if lost:
        raise ValueError(
            f"{len(lost)} released tensors find no place in this {type(network).__name__} (the first are {_first(lost)}), which without "
            f"them is another network: {_what_to_build(lost)}"
        )


def _refuse_missing(network: VideoNetwork, missing: Sequence[str], found: Iterable[str]) -> None:
    whole = tuple(part for part in OPTIONAL if not any(name.startswith(part) for name in found))
    half = [name for name in missing if not name.startswith(whole)]
    if half:
        raise ValueError(
            f"{len(half)} tensors of this {type(network).__name__} are not among the released ones (the first are {_first(half)}): half a "
            "network embeds nothing of use. Load the whole file, or build the network with as many blocks and attention modules as it has"
        )


def _refuse_another_stem(network: VideoNetwork, released: Sequence[str]) -> None:
    """Whether a ReLU follows the first BatchNorm stands in no file, and makes other embeddings of the same weights."""
    axial = any(".axial_gran." in name for name in released)  # CF-AAN itself has the ReLU
    bare = any("NL_" in name or name.removeprefix("module.").startswith(("features.", "base.")) for name in released)
    if bare and not axial and isinstance(getattr(network.backbone.trunk, "act1", None), nn.ReLU):
        raise ValueError(
            f"the released baseline, NVAN and STE-NVAN have no ReLU after the first BatchNorm, this {type(network).__name__} has one and "
            "would embed otherwise: build VideoResNet50, NVAN or STENVAN with stem_relu=False"
        )


def _what_to_build(lost: Sequence[str]) -> str:
    if any(".axial_gran." in name or ".conv_up." in name for name in lost):
        return "they are of CF-AAN's axial attention: build CFAAN(), with the scales, heads and position of that network"
    if any("NL_" in name for name in lost):
        return (
            "they are of non-local blocks: build NVAN(stem_relu=False), or STENVAN(stem_relu=False, pairwise=True) if they are STE-NVAN's"
        )
    if all(is_of_residual_network(name) for name in lost):
        return "they are of a residual network: build this one on the backbone that was released (resnet50)"
    return "take the tensors of the network alone out of the file, under the names that were released"


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3])


def _renamed(state_dict: Mapping[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """By released name: the name here and the tensor in the shape it has here."""
    if any(".axial_gran." in name for name in state_dict):
        bare = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
        theirs = [name for name in state_dict if not name.endswith("flatten_index")]  # no parameter: a table of indices
        return dict(zip(theirs, rename_released_cfaan(bare).items(), strict=True))
    return dict(zip(state_dict, renamed_ste_nvan(state_dict).items(), strict=True))
