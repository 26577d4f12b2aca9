"""Networks that tests of channels prune, with statistics as after a training, and plans for them."""

from __future__ import annotations

import timm
import torch
import torchvision
from torch import nn

from lightning_reid.networks import NVAN, STENVAN, ChannelPlan, EmbeddingNetwork, build_backbone, group_batch_norm
from lightning_reid.networks.channels.groups import find_channel_groups

NARROW = {"channels": [8, 8, 16, 16], "layers": [1, 2, 2, 1]}
IMAGE, CLIP = (1, 3, 64, 32), (1, 4, 3, 64, 32)


def vgg_without_norms() -> nn.Module:
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4), nn.Conv2d(6, 5, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d((2, 2)), nn.Flatten(), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 4))


NETWORKS = {
    "VGG without normalization": (vgg_without_norms, IMAGE),
    "ResNet-18 of torchvision": (lambda: torchvision.models.resnet18(num_classes=5), IMAGE),
    "ResNet, GeM, BNNeck": (lambda: EmbeddingNetwork(build_backbone("resnet18", **NARROW), pooling="gem"), IMAGE),
    "ResNet bottlenecks of timm": (lambda: timm.create_model("resnet26", num_classes=5), IMAGE),
    "MobileNetV2 of timm": (lambda: timm.create_model("mobilenetv2_035", num_classes=5), IMAGE),
    "OSNet": (lambda: EmbeddingNetwork(build_backbone("osnet_x1_0", channels=[8, 64, 96, 128]), neck="none"), IMAGE),
    "grouped statistics": (lambda: group_batch_norm(EmbeddingNetwork(build_backbone("resnet18", **NARROW)), 2), IMAGE),
    "NVAN": (lambda: NVAN("resnet18", **NARROW), CLIP),
    "STE-NVAN": (lambda: STENVAN("resnet18", stripes=4, **NARROW), CLIP),
}


def trained(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A network whose normalizations have statistics, scales and shifts as after a training, in evaluation mode."""
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    return random_statistics(make()), shape


def random_statistics(network: nn.Module) -> nn.Module:
    """In evaluation mode, with normalizations as after a training."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.weight, mean=1, std=0.3), nn.init.normal_(module.bias, std=0.3)
            module.running_mean.normal_(std=0.3), module.running_var.uniform_(0.5, 2)
    return network.eval()


def random_plan(network: nn.Module, shape: tuple[int, ...], seed: int) -> ChannelPlan:
    generator = torch.Generator().manual_seed(seed)
    keep = {group.name: torch.rand(group.size, generator=generator) < 0.6 for group in find_channel_groups(network, shape)}
    for mask in keep.values():
        mask[0] = True
    return ChannelPlan(shape, keep)
