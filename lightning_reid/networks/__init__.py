"""Networks that turn person crops, or clips of them, into embeddings: timm backbones, attention, pooling, BNNeck, batch statistics."""

from lightning_reid.networks.backbones import Backbone, build_backbone
from lightning_reid.networks.batch_norm import GroupedBatchNorm, group_batch_norm
from lightning_reid.networks.channels.costs import ChannelCosts
from lightning_reid.networks.channels.groups import ChannelGroup, CoupledLayer, find_channel_groups, first_tensor
from lightning_reid.networks.channels.latency import interpolated_latency, measure_latencies, network_latency
from lightning_reid.networks.channels.plan import ChannelMasks, ChannelPlan, materialize
from lightning_reid.networks.embedding_network import EmbeddingNetwork, EmbeddingOutput
from lightning_reid.networks.evaluating import evaluating
from lightning_reid.networks.foreign import load_embedding_network, load_foreign_state_dict, trained_image_size
from lightning_reid.networks.memory_layout import in_fast_layout
from lightning_reid.networks.multiply_adds import MultiplyAdds, count_multiply_adds
from lightning_reid.networks.pooling import GeneralizedMeanPooling, GlobalAveragePooling, mask_pooling, part_pooling
from lightning_reid.networks.released_weights import LoadedWeights, load_released_weights
from lightning_reid.networks.teacher import RememberedTeacher, Teacher, TeacherOutput, load_teacher
from lightning_reid.networks.video.axial_attention import AxialAttention
from lightning_reid.networks.video.cfaan import CFAAN
from lightning_reid.networks.video.coarse_to_fine import CoarseToFineAxialAttention
from lightning_reid.networks.video.network import VideoNetwork
from lightning_reid.networks.video.non_local import NonLocalBlock
from lightning_reid.networks.video.resnet import NVAN, STENVAN, VideoResNet50

__all__ = [
    "CFAAN",
    "NVAN",
    "STENVAN",
    "AxialAttention",
    "Backbone",
    "ChannelCosts",
    "ChannelGroup",
    "ChannelMasks",
    "ChannelPlan",
    "CoarseToFineAxialAttention",
    "CoupledLayer",
    "EmbeddingNetwork",
    "EmbeddingOutput",
    "GeneralizedMeanPooling",
    "GlobalAveragePooling",
    "GroupedBatchNorm",
    "LoadedWeights",
    "MultiplyAdds",
    "NonLocalBlock",
    "RememberedTeacher",
    "Teacher",
    "TeacherOutput",
    "VideoNetwork",
    "VideoResNet50",
    "build_backbone",
    "count_multiply_adds",
    "evaluating",
    "find_channel_groups",
    "first_tensor",
    "group_batch_norm",
    "in_fast_layout",
    "interpolated_latency",
    "load_embedding_network",
    "load_foreign_state_dict",
    "load_released_weights",
    "load_teacher",
    "mask_pooling",
    "materialize",
    "measure_latencies",
    "network_latency",
    "part_pooling",
    "trained_image_size",
]
