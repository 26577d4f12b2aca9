"""Networks that turn person crops, or clips of them, into embeddings: timm backbones, attention, pooling, BNNeck, batch statistics."""

from lightning_reid.networks.backbones import build_backbone
from lightning_reid.networks.batch_norm import group_batch_norm
from lightning_reid.networks.channels.plan import ChannelPlan, materialize
from lightning_reid.networks.embedding_network import EmbeddingNetwork
from lightning_reid.networks.foreign import load_embedding_network
from lightning_reid.networks.multiply_adds import count_multiply_adds
from lightning_reid.networks.pretrained import from_pretrained
from lightning_reid.networks.released_weights import load_released_weights
from lightning_reid.networks.shipped import shipped_names
from lightning_reid.networks.teacher import load_teacher
from lightning_reid.networks.video.cfaan import CFAAN
from lightning_reid.networks.video.network import VideoResNet50
from lightning_reid.networks.video.non_local import NVAN, STENVAN

__all__ = [
    "CFAAN",
    "NVAN",
    "STENVAN",
    "ChannelPlan",
    "EmbeddingNetwork",
    "VideoResNet50",
    "build_backbone",
    "count_multiply_adds",
    "from_pretrained",
    "group_batch_norm",
    "load_embedding_network",
    "load_released_weights",
    "load_teacher",
    "materialize",
    "shipped_names",
]
