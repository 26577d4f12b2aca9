import copy
import re
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lightning_reid.networks import build_backbone
from lightning_reid.networks.backbones import Backbone
from lightning_reid.networks.pooling import mask_pooling
from lightning_reid.networks.video.cfaan import CFAAN

BASELINE = 24_319_623_168
"""Multiply-adds of ResNet-50 with last stride 1 on a clip of 6 frames of 256 x 128."""


@cache
def built(name: str) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(name, channels=[8, 16, 32, 64])


def small_network(name: str = "resnet18", **options) -> CFAAN:
    backbone = copy.deepcopy(built(name))
    torch.manual_seed(0)
    size = {"heads": 4, "scales": 2, "clip_length": 3, "image_size": (64, 32)}
    return CFAAN(backbone, **size | options)


def awake(network: CFAAN) -> CFAAN:
    """The network with its attention at work, which a fresh one's last normalizations hold at zero."""
    for modules in network.attention.values():
        for module in modules:
            nn.init.ones_(module.norm.weight)
    return network


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    return torch.randn(2, 3, 3, 64, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> CFAAN:
    return awake(small_network()).eval()


@pytest.fixture(scope="module")
def resnet50() -> Backbone:
    with torch.device("meta"):
        return build_backbone("resnet50").eval()


@cache
def full_size(resnet50: Backbone, **options) -> CFAAN:
    with torch.device("meta"):
        return CFAAN(resnet50, **options).eval()


def multiply_adds(network: nn.Module, *shape: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(*shape, device="meta"))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("training", [True, False])
def test_a_fresh_network_embeds_exactly_as_its_backbone(clips, name, training):
    network = small_network(name).train(training)
    output = network(clips)
    maps = network.backbone(clips.flatten(0, 1))
    assert torch.equal(output.before_bnneck, maps.mean((2, 3)).unflatten(0, (2, 3)).mean(1))
    assert output.embedding.shape == output.before_bnneck.shape == (2, network.num_features)
    assert not torch.equal(awake(network)(clips).before_bnneck, output.before_bnneck)


def test_modules_stand_behind_the_last_two_and_the_last_three_blocks_of_the_middle_stages(resnet50):
    network, called = full_size(resnet50), []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in network.named_modules()
        if re.fullmatch(r"(backbone\.trunk\.layer|attention\.stage)[23]\.\d", name)
    ]
    network(torch.empty(1, 6, 3, 256, 128, device="meta"))
    for hook in hooks:
        hook.remove()
    first, second = "backbone.trunk.layer2.{}", "backbone.trunk.layer3.{}"
    assert called == [
        *(first.format(0), first.format(1), first.format(2), "attention.stage2.0", first.format(3), "attention.stage2.1"),
        *(second.format(0), second.format(1), second.format(2), second.format(3), "attention.stage3.0"),
        *(second.format(4), "attention.stage3.1", second.format(5), "attention.stage3.2"),
    ]


def test_the_relative_positions_are_as_long_as_the_axes_of_each_scale(resnet50):
    attention = full_size(resnet50).attention
    assert [[axis.length for axis in scale.axes] for scale in attention["stage2"][1].scales] == [
        [32, 16, 6],
        [16, 8, 6],
        [8, 4, 6],
        [4, 2, 6],
    ]
    assert [axis.length for axis in attention["stage3"][2].scales[3].axes] == [2, 1, 6]


def test_a_stage_of_two_blocks_gets_two_modules(network):
    assert [len(network.attention_after(stage)) for stage in (1, 2, 3, 4)] == [0, 2, 2, 0]


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({"heads": 1, "scales": 1, "position": None}, 49_280_094),
        ({"heads": 8, "scales": 1, "position": None}, 49_280_304),
        ({"heads": 8, "scales": 1, "position": "sinusoidal"}, 49_280_304),
        ({"heads": 8, "scales": 1, "position": "relative_query"}, 49_298_208),
        ({"heads": 8, "scales": 1}, 49_376_016),
        ({"heads": 8, "scales": 2}, 38_405_904),
        ({}, 32_942_352),
    ],
)
def test_the_parameters_are_as_many_as_the_released_networks(resnet50, options, parameters):
    network = full_size(resnet50, **options)
    assert sum(p.numel() for part in (network.backbone, network.attention) for p in part.parameters()) == parameters


@pytest.mark.parametrize(
    ("options", "increase"),
    [
        ({"heads": 1, "scales": 1, "position": None}, 28.547e9),
        ({"heads": 8, "scales": 1, "position": None}, 28.547e9),
        ({"heads": 8, "scales": 1, "position": "sinusoidal"}, 28.547e9),
        ({"heads": 8, "scales": 1, "position": "relative_query"}, 28.667e9),
        ({"heads": 8, "scales": 1}, 29.028e9),
        ({"heads": 8, "scales": 2}, 12.057e9),
        ({}, 6.278e9),
    ],
)
def test_the_multiply_adds_are_those_of_every_row_of_the_ablation(resnet50, options, increase):
    total = multiply_adds(full_size(resnet50, **options), 1, 6, 3, 256, 128)
    assert total == pytest.approx(BASELINE + increase, rel=1e-3)
    # to the last printed digit of the increase: the attention's share would drown in a tolerance of the total
    assert total - BASELINE == pytest.approx(increase, abs=1e6)


def test_the_multiply_adds_of_the_backbone_are_exact(resnet50):
    assert multiply_adds(resnet50, 6, 3, 256, 128) == BASELINE


def test_with_channels_reduced_by_eight_the_attention_costs_under_one_per_cent(resnet50):
    extra = multiply_adds(full_size(resnet50, channel_reduction=8), 1, 6, 3, 256, 128) - BASELINE
    assert 0 < extra < 0.01 * BASELINE


def test_with_no_argument_it_is_a_resnet50_for_six_frames_of_256_by_128():
    with torch.device("meta"):
        network = CFAAN().eval()
        assert network(torch.empty(1, 6, 3, 256, 128)).embedding.shape == (1, 2048)
    assert (network.backbone.name, network.num_features) == ("resnet50", 2048)


def test_pooling_is_the_mean_over_cells_that_are_at_least_half_picture():
    feature_map = torch.tensor([[[[1.0, 2.0], [4.0, 8.0]]]])
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    mask[0, :2, 2:] = False  # the cell of 2: all padding
    mask[0, 2:, 1] = False  # half of the cell of 4
    mask[0, 2:, 3] = False
    mask[0, 3, 2] = False  # three quarters of the cell of 8
    assert mask_pooling(feature_map, mask).tolist() == [[2.5]]


def test_a_frame_without_picture_is_averaged_whole():
    feature_map = torch.tensor([[[[1.0, 2.0], [4.0, 9.0]]]])
    assert mask_pooling(feature_map, torch.zeros(1, 4, 4, dtype=torch.bool)).tolist() == [[4.0]]


def test_what_lies_under_the_padding_does_not_matter_not_even_infinity():
    feature_map = torch.tensor([[[[1.0, torch.inf], [3.0, torch.nan]]]], requires_grad=True)
    mask = torch.tensor([[[True, False], [True, False]]])
    pooled = mask_pooling(feature_map, mask)
    pooled.sum().backward()
    assert pooled.tolist() == [[2.0]]
    assert feature_map.grad.tolist() == [[[[0.5, 0.0], [0.5, 0.0]]]]


@given(seed=st.integers(0, 999), share=st.floats(0, 1))
def test_a_masked_mean_lies_within_the_values_and_of_a_constant_map_is_the_constant(seed, share):
    generator = torch.Generator().manual_seed(seed)
    feature_map = torch.randn(3, 2, 4, 2, dtype=torch.float64, generator=generator)
    masks = torch.rand(3, 16, 8, generator=generator) < share
    pooled = mask_pooling(feature_map, masks)
    assert ((feature_map.amin((2, 3)) - 1e-12 <= pooled) & (pooled <= feature_map.amax((2, 3)) + 1e-12)).all()
    torch.testing.assert_close(mask_pooling(torch.full_like(feature_map, 7.0), masks), torch.full((3, 2), 7.0, dtype=torch.float64))


def test_masks_of_all_ones_equal_no_masks(network, clips):
    with_masks = network(clips, torch.ones(2, 3, 64, 32, dtype=torch.bool))
    torch.testing.assert_close(tuple(with_masks)[:2], tuple(network(clips))[:2])


def test_frames_weigh_the_same_however_much_of_them_is_padding(clips):
    network = small_network().eval()  # fresh: every frame by itself
    masks = torch.ones(2, 3, 64, 32, dtype=torch.bool)
    masks[:, 1, :, :16] = False
    frames = network.backbone(clips.flatten(0, 1)).unflatten(0, (2, 3))
    expected = (frames[:, 0].mean((2, 3)) + frames[:, 1, :, :, 1:].mean((2, 3)) + frames[:, 2].mean((2, 3))) / 3
    torch.testing.assert_close(network(clips, masks).before_bnneck, expected)


def test_a_clip_of_nothing_but_padding_is_embedded_without_masks(network, clips):
    nothing = network(clips, torch.zeros(2, 3, 64, 32, dtype=torch.bool))
    assert nothing.embedding.isfinite().all()
    torch.testing.assert_close(nothing.embedding, network(clips).embedding)


def test_the_bias_of_the_neck_stays_zero_and_every_other_parameter_learns(clips):
    network = awake(small_network())
    (network(clips).embedding * torch.arange(128.0).view(2, 64)).sum().backward()
    still = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert still == ["neck.bias"]


@pytest.mark.parametrize("position", [None, "sinusoidal"])
def test_without_relative_positions_clips_of_any_length_and_size_are_taken(position):
    network = awake(small_network(position=position)).eval()
    assert network(torch.zeros(1, 5, 3, 96, 32)).embedding.shape == (1, 64)


@pytest.mark.parametrize("shape", [(1, 4, 3, 64, 32), (1, 3, 3, 64, 48)])
def test_clips_of_another_length_or_size_than_the_relative_positions_are_refused(network, shape):
    got = f"got {shape[1]} frames of 64 x {shape[4]}.*build CFAAN with clip_length={shape[1]}, image_size=.64, {shape[4]}."
    with pytest.raises(ValueError, match=f"made for clips of 3 frames of 64 x 32 pixels, {got}"):
        network(torch.zeros(shape))


@pytest.mark.parametrize("masks", [torch.ones(2, 3, 64, 32), torch.ones(2, 3, 4, 2, dtype=torch.bool)])
def test_masks_of_another_type_or_size_are_refused(network, clips, masks):
    with pytest.raises(ValueError, match=r"expected masks bool \[2, 3, 64, 32\] for clips \[2, 3, 3, 64, 32\], got torch"):
        network(clips, masks)


def test_parts_are_pooled_when_asked_for_and_refused_with_masks(network, clips):
    output = network(clips, with_parts=True)
    torch.testing.assert_close(output.parts.mean(1), output.before_bnneck)
    with pytest.raises(ValueError, match="give masks or with_parts=True, not both"):
        network(clips, torch.ones(2, 3, 64, 32, dtype=torch.bool), with_parts=True)


def test_images_instead_of_clips_are_refused(network, clips):
    with pytest.raises(ValueError, match=r"expected clips \[B, T, 3, H, W\], got \[2, 3, 64, 32\]"):
        network(clips[:, 0])


def test_a_backbone_that_is_no_resnet_is_refused():
    with pytest.raises(ValueError, match="cannot tell the stages of a EfficientNet"):
        CFAAN(build_backbone("mobilenetv2_050"))


def test_options_for_a_backbone_that_is_built_already_are_refused(resnet50):
    with pytest.raises(ValueError, match="resnet50 is built already: give last_stride to build_backbone"):
        CFAAN(resnet50, last_stride=2)


def test_heads_that_the_backbone_cannot_carry_are_refused():
    with pytest.raises(ValueError, match="16 channels cannot be cut into 4 scales with 16 heads"):
        small_network(heads=16, scales=4)


@pytest.mark.parametrize("name", ["resnet34", "seresnet18", "resnest14d"])
def test_other_resnets_of_timm_carry_the_modules(name):
    with torch.device("meta"):
        network = CFAAN(name, image_size=(128, 64)).eval()
        assert network(torch.empty(2, 6, 3, 128, 64)).embedding.shape == (2, network.num_features)


@pytest.mark.slow
def test_the_network_compiles_without_a_graph_break_and_takes_channels_last(clips):
    network = awake(small_network(scales=1)).eval()
    masks = torch.ones(2, 3, 64, 32, dtype=torch.bool)
    masks[:, :, :, 20:] = False
    strided = clips.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (2, 3))
    got = torch.compile(network, backend="eager", fullgraph=True)(strided, masks)
    torch.testing.assert_close(got.embedding, network(clips, masks).embedding, rtol=1e-4, atol=1e-5)


def test_bf16_autocast_gives_nearly_the_float32_embedding(network, clips):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(clips, torch.ones(2, 3, 64, 32, dtype=torch.bool))
    assert nn.functional.cosine_similarity(output.embedding.float(), network(clips).embedding).min() > 0.99
