"""Loading the weights that the papers released for their video networks: baseline, NVAN, STE-NVAN and CF-AAN."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from lightning_reid.networks.released_cfaan import rename_released_cfaan
from lightning_reid.networks.released_ste_nvan import renamed_ste_nvan
from lightning_reid.networks.video_network import VideoNetwork

logger = logging.getLogger(__name__)


class LoadedWeights(NamedTuple):
    """What loading left over on either side.

    Attributes:
        missing: Names here of parameters and buffers that kept their values.
        left_over: Names there of tensors that found no place.
    """

    missing: tuple[str, ...]
    left_over: tuple[str, ...]


def load_released_weights(network: VideoNetwork, state_dict: Mapping[str, Tensor]) -> LoadedWeights:
    """Load the released weights of a video network, and say (``logging`` too) which are missing or left over.

    The released baseline, NVAN and STE-NVAN have no ReLU after the first BatchNorm, and attention within pairs of frames where both
    reductions are on: ``VideoResNet50(stem_relu=False)``, ``NVAN(stem_relu=False)``, ``STENVAN(stem_relu=False, pairwise=True)``.
    CF-AAN's are those of ``CFAAN()``.

    Args:
        network: Changed in place; untouched where an error is raised. ``missing`` holds its neck for weights of the residual network
            alone, its attention for weights without any.
        state_dict: Tensors by their released names, see ``released_ste_nvan_name`` and ``rename_released_cfaan``. A classifier is always
            left over.

    Raises:
        ValueError: No tensor fits by name, or one fits by name and not by shape.
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
    network.load_state_dict({**own, **fitting})
    surprising = missing or [name for name in left_over if "classifier." not in name]
    logger.log(
        logging.WARNING if surprising else logging.INFO,
        "loaded %d released tensors, %d of the network's missing (%s), %d left over (%s)",
        len(fitting),
        *(part for names in (missing, left_over) for part in (len(names), ", ".join(names[:3]) or "none")),
    )
    return LoadedWeights(missing, left_over)


def _renamed(state_dict: Mapping[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """By released name: the name here and the tensor in the shape it has here."""
    bare = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    if any(name.startswith("base.") for name in bare):
        theirs = [name for name in state_dict if not name.endswith("flatten_index")]  # no parameter: a table of indices
        return dict(zip(theirs, rename_released_cfaan(bare).items(), strict=True))
    return dict(zip(state_dict, renamed_ste_nvan(state_dict).items(), strict=True))
