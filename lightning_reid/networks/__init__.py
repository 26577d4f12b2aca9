"""Networks that turn person crops into embeddings: timm backbones, pooling, BNNeck, and the batch statistics they train with."""

from lightning_reid.networks.backbones import Backbone, build_backbone
from lightning_reid.networks.batch_norm import GroupedBatchNorm, group_batch_norm
from lightning_reid.networks.embedding_network import EmbeddingNetwork, EmbeddingOutput
from lightning_reid.networks.foreign import load_embedding_network, load_foreign_state_dict, trained_image_size
from lightning_reid.networks.pooling import GeneralizedMeanPooling, GlobalAveragePooling, part_pooling

__all__ = [
    "Backbone",
    "EmbeddingNetwork",
    "EmbeddingOutput",
    "GeneralizedMeanPooling",
    "GlobalAveragePooling",
    "GroupedBatchNorm",
    "build_backbone",
    "group_batch_norm",
    "load_embedding_network",
    "load_foreign_state_dict",
    "part_pooling",
    "trained_image_size",
]
