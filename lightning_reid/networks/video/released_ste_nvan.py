"""The parameter names of the released baseline, NVAN and STE-NVAN, in ours; CF-AAN's own baseline and non-local network too."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

WRAPPERS = ("module.", "base.", "features.", "backbone.")
"""What the released training wraps around its residual network, outermost first (CF-AAN's: ``base.``); each may be absent."""

RESIDUAL_NETWORK = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")

NON_LOCAL_NAME = re.compile(r"NL_(?P<stage>[1-4])\.(?P<number>\d+)\.(?P<part>theta|phi|g|W\.0|W\.1)\.(?P<tensor>\w+)")
NON_LOCAL_PARTS = {"theta": "theta", "phi": "phi", "g": "g", "W.0": "w_z", "W.1": "bn"}


def renamed_ste_nvan(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a released checkpoint under the names and shapes of ``VideoNetwork``; those unknown there keep their names.

    The 1 x 1 x 1 convolutions ``[C_out, C_in, 1, 1, 1]`` of the attention become 1 x 1 convolutions ``[C_out, C_in, 1, 1]``.
    """
    return {released_ste_nvan_name(name): tensor.squeeze(-1) if tensor.ndim == 5 else tensor for name, tensor in state_dict.items()}


def released_ste_nvan_name(name: str) -> str:
    """The name here of a released parameter: ``features.backbone.NL_2.0.W.0.weight`` is ``attention.stage2.0.w_z.weight``.

    ``conv1.*``, ``bn1.*`` and ``layer1.*`` to ``layer4.*`` are the residual network's, ``bottleneck.*`` the neck's. The wrappers
    ``module.``, ``base.`` (what was released with CF-AAN), ``features.`` and ``backbone.`` may stand in front. Other names are returned as
    they are.
    """
    bare = _without_wrappers(name)
    if match := NON_LOCAL_NAME.fullmatch(bare):
        return f"attention.stage{match['stage']}.{match['number']}.{NON_LOCAL_PARTS[match['part']]}.{match['tensor']}"
    if bare.startswith("bottleneck."):
        return "neck." + bare.removeprefix("bottleneck.")
    if bare.startswith(RESIDUAL_NETWORK):
        return f"backbone.trunk.{bare}"
    return name


def is_of_residual_network(name: str) -> bool:
    """Whether a released name is of the residual network itself, not of attention, neck or classifier."""
    return _without_wrappers(name).startswith(RESIDUAL_NETWORK)


def _without_wrappers(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return name
