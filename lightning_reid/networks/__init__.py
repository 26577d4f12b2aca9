"""Networks that turn person crops, or clips of them, into embeddings: timm backbones, attention, pooling, BNNeck, batch statistics.

They are imported on first use: the names of what comes with the library are known without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_reid.networks.activation_checkpoints import checkpoint_activations
    from lightning_reid.networks.backbones import build_backbone
    from lightning_reid.networks.batch_norm import group_batch_norm
    from lightning_reid.networks.channels.plan import ChannelPlan, materialize
    from lightning_reid.networks.embedding_network import EmbeddingNetwork
    from lightning_reid.networks.foreign import load_embedding_network
    from lightning_reid.networks.model_facts import MeasuredScores, ModelFacts
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
    "MeasuredScores",
    "ModelFacts",
    "VideoResNet50",
    "build_backbone",
    "checkpoint_activations",
    "count_multiply_adds",
    "from_pretrained",
    "group_batch_norm",
    "load_embedding_network",
    "load_released_weights",
    "load_teacher",
    "materialize",
    "shipped_names",
]

_HOMES = {
    "CFAAN": "video.cfaan",
    "NVAN": "video.non_local",
    "STENVAN": "video.non_local",
    "ChannelPlan": "channels.plan",
    "EmbeddingNetwork": "embedding_network",
    "MeasuredScores": "model_facts",
    "ModelFacts": "model_facts",
    "VideoResNet50": "video.network",
    "build_backbone": "backbones",
    "checkpoint_activations": "activation_checkpoints",
    "count_multiply_adds": "multiply_adds",
    "from_pretrained": "pretrained",
    "group_batch_norm": "batch_norm",
    "load_embedding_network": "foreign",
    "load_released_weights": "released_weights",
    "load_teacher": "teacher",
    "materialize": "channels.plan",
    "shipped_names": "shipped",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
