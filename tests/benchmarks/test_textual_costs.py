from functools import cache

import pytest
import torch
from textual_costs import (
    axial_products,
    cost_in_table_2_1,
    cost_in_table_2_8,
    cost_in_table_2_10,
    increase_in_table_2_8,
    non_local_products,
)
from torch import nn

from lightning_reid.networks import CFAAN, NVAN, STENVAN, VideoResNet50, build_backbone
from lightning_reid.networks.backbones import Backbone
from lightning_reid.networks.multiply_adds import count_multiply_adds
from lightning_reid.networks.video.cfaan import CoarseToFineAxialAttention
from lightning_reid.networks.video.non_local import NonLocalBlock

EIGHT, SIX = (1, 8, 3, 256, 128), (1, 6, 3, 256, 128)
RESNET50_FRAME = 4_053_270_528


@pytest.fixture(scope="module")
def resnet50() -> Backbone:
    with torch.device("meta"):
        return build_backbone("resnet50").eval()


@cache
def on_meta(kind, resnet50: Backbone, **options):
    with torch.device("meta"):
        return kind(resnet50, **options)


def test_products_of_a_non_local_block_equal_those_counted_by_hand():
    # a clip of 2 x 3 x 4 = 24 positions: 24 x 24 pairs, in 4 channels of queries and keys and 8 of values; two clips
    assert non_local_products((2, 2, 8, 3, 4)) == 2 * 24 * 24 * (4 + 8)


@pytest.mark.parametrize(
    ("position", "operations_an_entry"),
    [(None, 4 + 8), ("sinusoidal", 4 + 8), ("relative", (4 + 4 + 4 + 8 + 8) / 2), ("relative_query", 4 + 4 + 8)],
)
@pytest.mark.parametrize(("dim", "length"), [(1, 5), (3, 3), (4, 4)])
def test_products_of_an_axis_equal_those_counted_by_hand(position, operations_an_entry, dim, length):
    # 5 x 3 x 4 = 60 positions, each looks at the positions of its line, in 8 channels of values and 4 of queries and keys
    additions = 60 * 8 if position == "sinusoidal" else 0
    assert axial_products((1, 5, 8, 3, 4), dim, position) == 60 * length * operations_an_entry + additions


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ({"heads": 1, "scales": 1, "position": None}, 360_972_288),
        ({"scales": 1, "position": None}, 360_972_288),
        ({"scales": 1, "position": "sinusoidal"}, 377_487_360),
    ],
)
def test_axial_rows_of_table_2_8_without_relative_positions_are_exact(resnet50, options, printed):
    assert increase_in_table_2_8(on_meta(CFAAN, resnet50, **options), SIX) == printed


@pytest.mark.parametrize(
    ("scales", "half_of_the_products", "printed", "off"),
    [(1, 842_268_672 // 2, 0.424, -0.007), (2, 481_001_472 // 2, 0.245, -0.018), (4, 245_952_000 // 2, 0.126, -0.024)],
)
def test_relative_rows_of_table_2_8_come_out_lower_than_printed_by_what_the_notes_say(resnet50, scales, half_of_the_products, printed, off):
    counted = increase_in_table_2_8(on_meta(CFAAN, resnet50, scales=scales), SIX)
    assert counted == half_of_the_products
    assert counted / 1e9 / printed - 1 == pytest.approx(off, abs=5e-4)


def test_the_non_local_row_of_table_2_8_is_exact_with_values_of_all_channels(resnet50):
    network = on_meta(NVAN, resnet50)
    assert increase_in_table_2_8(network, SIX) == 17_213_423_616
    assert cost_in_table_2_8(network, SIX) == 24_319_623_168 + 17_213_423_616
    assert count_multiply_adds(network, SIX).attention * 3 == 17_213_423_616 * 2


def test_table_2_10_is_table_2_8_over_a_backbone_with_normalization_and_pooling(resnet50):
    backbone = 24_319_623_168 + 4 * 49_741_824 + 129 * 2048 * 6
    assert cost_in_table_2_10(on_meta(VideoResNet50, resnet50), SIX) == backbone
    assert cost_in_table_2_10(on_meta(CFAAN, resnet50, scales=1, position=None), SIX) == backbone + 360_972_288


@pytest.mark.parametrize(
    ("kind", "options", "in_g"),
    [
        (VideoResNet50, {}, 30.45),
        (NVAN, {}, 59.49),
        (STENVAN, {"temporal_reduction": False}, 31.39),
        (STENVAN, {"stripes": None}, 39.93),
        (STENVAN, {"pairwise": True}, 16.66),
    ],
)
def test_networks_of_table_2_1_by_its_rule(resnet50, kind, options, in_g):
    assert cost_in_table_2_1(on_meta(kind, resnet50, **options), EIGHT) / 2**30 == pytest.approx(in_g, abs=0.005)


def test_the_rule_of_table_2_1_equals_a_count_by_hand():
    # frames of 8 x 4 pixels; the blocks keep the size, so that every map has 32 positions, or 64 in a clip of two frames
    network = _Trunk()
    convolution, block = 64 * 3 * 4 * 9, 4 * 64 * 4 * 2 + 2 * 64 * 64 * 2  # four 1x1 convolutions, then two products in 2 channels
    bias = 64 * (3 * 2 + 4)  # theta, phi, g, w_z; the first convolution has none
    normalized = 64 * (4 + 4)
    pooling = 64 * 4 + 2 * 4
    assert cost_in_table_2_1(network, (1, 2, 3, 8, 4)) == convolution + block + bias + 4 * normalized + pooling


class _Trunk(nn.Module):
    """What ``cost_in_table_2_1`` asks of a network: one convolution, its normalization, one non-local block."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.block = NonLocalBlock(4)

    def feature_map(self, clips):
        return self.block(self.norm(self.convolution(clips.flatten(0, 1))).unflatten(0, clips.shape[:2]))

    forward = feature_map


@pytest.mark.parametrize("stripes", [4, 8, 16])
def test_each_stripe_adds_what_its_projections_and_its_pairs_cost(resnet50, stripes):
    projections = 8 * stripes * (2 * 2 * 512**2 + 3 * 2 * 1024**2)  # four 1x1 convolutions between C and C/2 a block
    pairs = (8 * stripes) ** 2 * (2 * 512 + 3 * 1024)
    counted = count_multiply_adds(on_meta(STENVAN, resnet50, stripes=stripes, temporal_reduction=False), EIGHT)
    assert counted == (8 * RESNET50_FRAME + projections, pairs)


@pytest.mark.parametrize(("frames", "in_conv3", "in_conv4"), [(4, 2, 3), (6, 2, 3), (8, 2, 3), (8, 0, 1), (8, 1, 2)])
def test_each_non_local_block_adds_what_its_projections_and_its_pairs_cost(resnet50, frames, in_conv3, in_conv4):
    fine, coarse = frames * 32 * 16, frames * 16 * 8  # positions in conv3 and conv4
    projections = in_conv3 * fine * 2 * 512**2 + in_conv4 * coarse * 2 * 1024**2
    pairs = in_conv3 * fine**2 * 512 + in_conv4 * coarse**2 * 1024
    network = on_meta(NVAN, resnet50, non_local_blocks=(0, in_conv3, in_conv4, 0))
    assert count_multiply_adds(network, (1, frames, 3, 256, 128)) == (frames * RESNET50_FRAME + projections, pairs)


def test_a_module_with_reduced_channels_is_counted_by_its_own_channels():
    shape, r = (1, 2, 64, 4, 4), 4
    reduced = CoarseToFineAxialAttention(64, (2, 4, 4), heads=1, scales=1, position=None, channel_reduction=r)
    network = _Carrier(reduced)
    assert increase_in_table_2_8(network, shape) == (2 * 16 * (4 + 4 + 2)) * (64 // r) * 3 // 2


@pytest.mark.parametrize("options", [{"stripes": 2}, {"frames_per_group": 2}, {"subsample": True}])
def test_non_local_blocks_that_table_2_8_does_not_have_are_refused(options):
    with pytest.raises(ValueError, match=r"Table 2\.8 has non-local blocks between all positions of a clip, got NonLocalBlock"):
        increase_in_table_2_8(_Carrier(NonLocalBlock(8, **options)), (1, 2, 8, 4, 4))


class _Carrier(nn.Module):
    """A feature map that is one attention module."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def feature_map(self, clips):
        return self.attention(clips)


def test_counting_leaves_network_and_hooks_as_they_were():
    network = NVAN("resnet18", channels=[4, 8, 8, 16])
    cost_in_table_2_1(network, (1, 2, 3, 64, 32))
    cost_in_table_2_8(network, (1, 2, 3, 64, 32))
    assert network.training
    assert next(network.parameters()).device.type == "cpu"
    assert not any(module._forward_hooks for module in network.modules())
