"""A network cut into units: run one after another they are the network, and each of its tensors is of one of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_reid.networks import CFAAN, NVAN, STENVAN, EmbeddingNetwork, VideoResNet50, build_backbone, group_batch_norm
from lightning_reid.networks.units import blocks_of
from lightning_reid.networks.video.network import VideoNetwork

NARROW = {"channels": [8, 8, 16, 16], "layers": [1, 2, 3, 1]}


def image_network(name: str, **options) -> EmbeddingNetwork:
    return EmbeddingNetwork(build_backbone(name, **options), pooling="gem")


NETWORKS = {
    "resnet": lambda: image_network("resnet18", **NARROW),
    "mobilenetv2": lambda: image_network("mobilenetv2_050"),
    "osnet": lambda: image_network("osnet_x0_25"),
    "osnet-ain": lambda: image_network("osnet_ain_x1_0", channels=[8, 32, 32, 64]),
    "baseline": lambda: VideoResNet50("resnet18", **NARROW),
    "max pooling": lambda: VideoResNet50("resnet18", pooling="max", **NARROW),
    "nvan": lambda: NVAN("resnet18", **NARROW),
    "stenvan": lambda: STENVAN("resnet18", stripes=4, **NARROW),
    "cfaan": lambda: CFAAN(
        "resnet18", heads=4, scales=2, clip_length=4, image_size=(64, 32), channels=[16, 16, 32, 32], layers=[1, 2, 3, 1]
    ),
    "convnext": lambda: NVAN("convnext_atto", depths=[1, 1, 2, 1], dims=[8, 16, 24, 32]),
}


@pytest.fixture(params=NETWORKS)
def network(request) -> EmbeddingNetwork:
    torch.manual_seed(0)
    built = NETWORKS[request.param]().eval()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.endswith(("bn.weight", "norm.weight")):
                parameter.uniform_()  # attention starts as the identity, which would hide it
    return built


def inputs_of(network: EmbeddingNetwork) -> torch.Tensor:
    shape = (2, 4, 3, 64, 32) if isinstance(network, VideoNetwork) else (2, 3, 64, 32)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def run(network: EmbeddingNetwork, inputs: torch.Tensor, masks: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """What the last unit is given, and what it gives."""
    maps = inputs
    *before, last = network.units(inputs)
    for unit in before:
        maps = unit.run(maps)
    return maps, last.run(maps, masks) if last.takes_masks else last.run(maps)


@torch.no_grad()
def test_units_one_after_another_are_the_network(network):
    inputs = inputs_of(network)
    maps, pooled = run(network, inputs)
    whole = network(inputs, with_parts=True)
    assert torch.equal(pooled, whole.before_bnneck)
    assert torch.equal(network.parts(maps, len(inputs)), whole.parts)


@torch.no_grad()
@pytest.mark.parametrize("name", ["max pooling", "stenvan", "cfaan"])
def test_the_last_unit_of_clips_pools_what_is_picture(name):
    network = NETWORKS[name]().eval()
    clips = inputs_of(network)
    masks = torch.zeros(2, 4, 64, 32, dtype=torch.bool)
    masks[:, :, 16:48] = True
    assert torch.equal(run(network, clips, masks)[1], network(clips, masks).before_bnneck)


def test_every_tensor_that_learns_before_the_neck_is_of_exactly_one_unit(network):
    units = network.units(inputs_of(network))
    learning = [name for name, parameter in network.named_parameters() if parameter.requires_grad]  # others are behind the feature map
    for name in [*learning, *(name for name, _ in network.named_buffers())]:
        holders = [unit.name for unit in units if name.startswith(tuple(f"{module}." for module in unit.modules))]
        assert len(holders) == (0 if name.startswith("neck.") else 1), (name, holders)


def test_nvan_of_a_resnet50_has_23_units_in_the_order_of_the_text():
    names = [unit.name for unit in NVAN("resnet50").units(torch.empty(1, 4, 3, 64, 32))]
    assert len(names) == 23  # a stem, 16 blocks, 5 non-local ones, the pooling
    assert names[:1] == ["stem"]
    assert names[-1] == "pooling"
    third = names.index("layer2.2")  # conv3_3 and conv3_4 of the text, each with a non-local block behind it
    assert names[third : third + 4] == ["layer2.2", "attention.stage2.0", "layer2.3", "attention.stage2.1"]


def test_frames_are_halved_between_units_of_their_own():
    names = [unit.name for unit in NETWORKS["stenvan"]().units(torch.empty(1, 4, 3, 64, 32))]
    assert [name for name in names if name.startswith("halving")] == ["halving after stage 2", "halving after stage 3"]


def test_a_layer_that_was_replaced_is_the_one_that_runs():
    network = image_network("resnet18", **NARROW).train()
    inputs = torch.randn(4, 3, 64, 32)
    units = network.units(inputs)  # made before
    group_batch_norm(network, 2)
    assert torch.equal(_through(units, inputs), network(inputs).before_bnneck)


def _through(units, inputs):
    for unit in units:
        inputs = unit.run(inputs)
    return inputs


def test_clips_that_the_network_has_no_place_for_are_refused_before_they_are_cut():
    with pytest.raises(ValueError, match="clips of 3 frames cannot be halved 2 times"):
        NETWORKS["stenvan"]().units(torch.empty(1, 3, 3, 64, 32))
    with pytest.raises(ValueError, match="made for clips of 4 frames of 64 x 32"):
        NETWORKS["cfaan"]().units(torch.empty(1, 4, 3, 32, 32))


def test_a_network_of_another_kind_is_refused_by_name():
    with pytest.raises(ValueError, match="cannot cut a VisionTransformer into units"):
        image_network("vit_tiny_patch16_224").units(torch.empty(1, 3, 224, 224))
    with pytest.raises(ValueError, match="cannot cut a Linear"):
        blocks_of(nn.Linear(1, 1))
