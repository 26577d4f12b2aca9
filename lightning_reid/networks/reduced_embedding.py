"""Networks whose embedding is made of the pooled features by one more layer, as torchreid's OSNets end."""

from __future__ import annotations

from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.networks.backbones import Backbone
from lightning_reid.networks.embedding_network import EmbeddingNetwork
from lightning_reid.networks.pooling import GlobalAveragePooling, part_pooling

REDUCED = 512
"""Numbers of an embedding, whatever the width of the network."""


class ReducedPooling(GlobalAveragePooling):
    """Mean over all positions, a linear layer, BatchNorm and ReLU: ``[B, C, h, w]`` to ``[B, 512]``, all of it at least 0.

    Source: Zhou et al. 2019 (arXiv:1905.00953), table 1, the layer ``fc``.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(channels, REDUCED), nn.BatchNorm1d(REDUCED), nn.ReLU())

    @override
    def forward(self, feature_map: Tensor) -> Tensor:
        reduced: Tensor = self.fc(super().forward(feature_map))
        return reduced


class ReducedEmbeddingNetwork(EmbeddingNetwork):
    """Backbone, average pooling and a layer of 512 numbers: what torchreid's OSNets embed with, once their classifier is gone.

    ``before_bnneck`` and ``embedding`` of its output are the same ``[B, 512]``; ``parts`` are ``[B, 2, 512]``, upper and lower half pooled
    and put through the same layer. Made by ``load_embedding_network``.

    Args:
        backbone: Gives the feature map ``[B, C, h, w]``.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone, neck="none")
        self.pooling_name = "reduced"
        self.pooling = ReducedPooling(backbone.num_features)

    @property
    @override
    def num_features(self) -> int:
        """The length of an embedding, 512."""
        return REDUCED

    @override
    def parts(self, maps: Tensor, rows: int) -> Tensor:
        halves = part_pooling(maps)
        reduced: Tensor = self.get_submodule("pooling.fc")(halves.flatten(0, 1))
        return reduced.view(*halves.shape[:2], REDUCED)
