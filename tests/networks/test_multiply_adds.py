from functools import partial

import pytest
import torch
from torch import nn

from lightning_reid.networks.backbones import Backbone, build_backbone
from lightning_reid.networks.multiply_adds import MultiplyAdds, count_multiply_adds
from lightning_reid.networks.video.network import VideoResNet50
from lightning_reid.networks.video.non_local import NVAN, STENVAN, NonLocalBlock

CLIP = (1, 8, 3, 256, 128)


@pytest.fixture(scope="module")
def resnet50() -> Backbone:
    with torch.device("meta"):
        return build_backbone("resnet50")


@pytest.mark.parametrize(
    ("build", "layers", "attention"),
    [
        (VideoResNet50, 32_426_164_224, 0),
        (NVAN, 43_163_582_464, 20_401_094_656),
        (partial(STENVAN, temporal_reduction=False), 33_365_688_320, 67_108_864),
        (partial(STENVAN, stripes=None), 24_641_536_000, 17_985_175_552),
        (STENVAN, 17_662_214_144, 29_360_128),
        (partial(STENVAN, pairwise=True), 17_662_214_144, 10_485_760),
    ],
)
def test_the_networks_of_table_2_1_cost_exactly_what_their_layers_add_up_to(resnet50, build, layers, attention):
    with torch.device("meta"):
        network = build(resnet50)
    assert count_multiply_adds(network, CLIP) == MultiplyAdds(layers, attention)


def test_the_baseline_with_six_frames_costs_what_table_2_8_counts(resnet50):
    with torch.device("meta"):
        network = VideoResNet50(resnet50)
    assert count_multiply_adds(network, (1, 6, 3, 256, 128)).total == 24_319_623_168


@pytest.mark.parametrize(("stages", "expected"), [((3,), 52.07), ((2, 3), 39.70)])
def test_pooling_earlier_costs_what_the_layers_of_table_2_5_add_up_to(resnet50, stages, expected):
    with torch.device("meta"):
        network = STENVAN(resnet50, stripes=None, temporal_reduction=stages)
    assert count_multiply_adds(network, CLIP).total / 2**30 == pytest.approx(expected, abs=0.005)


def test_a_block_costs_what_is_counted_by_hand():
    # 2 x 3 x 4 x 2 = 48 positions, 24 a clip: four 1x1 convolutions between 8 and 4 channels, then 24 x 24 pairs twice in 4 channels
    assert count_multiply_adds(NonLocalBlock(8), (2, 3, 8, 4, 2)) == MultiplyAdds(layers=48 * 4 * 8 * 4, attention=2 * 2 * 24 * 24 * 4)


def test_linear_layers_count_as_layers_with_or_without_bias():
    network = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3, bias=False))
    assert count_multiply_adds(network, (2, 5)) == MultiplyAdds(layers=2 * (5 * 7 + 7 * 3), attention=0)


def test_counting_leaves_the_network_as_it_was():
    network = VideoResNet50("resnet18", channels=[4, 8, 8, 16])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    count_multiply_adds(network, (1, 2, 3, 64, 32))
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
