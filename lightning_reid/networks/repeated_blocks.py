"""The blocks that a network is a row of: what can be divided over processes, or computed anew, one at a time."""

from __future__ import annotations

from torch import nn

from lightning_reid.networks.embedding_network import EmbeddingNetwork
from lightning_reid.networks.omni_scale import OSBlock
from lightning_reid.networks.osnet import OSNet
from lightning_reid.networks.stages import stages_of


def repeated_blocks(network: EmbeddingNetwork) -> list[nn.Module]:
    """The blocks of a network's trunk, and what a video network has between them.

    Of a trunk without stages, a vision transformer or a MobileNet, they are what timm calls its ``blocks``.

    Raises:
        ValueError: The trunk has neither.
    """
    trunk = network.backbone.trunk
    row = getattr(trunk, "blocks", None)
    if isinstance(row, (nn.Sequential, nn.ModuleList)):
        blocks = list(row)
    elif isinstance(trunk, OSNet):
        blocks = [part for part in trunk.modules() if isinstance(part, OSBlock)]
    else:
        blocks = [trunk.get_submodule(name) for stage in stages_of(trunk).stages for name in stage.blocks]
    between = getattr(network, "attention", None)  # a VideoNetwork's, which imports this folder's other files
    return blocks if between is None else blocks + [module for stage in between.values() for module in stage]
