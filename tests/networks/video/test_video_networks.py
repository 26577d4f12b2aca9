import copy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_reid.networks import EmbeddingNetwork, build_backbone, group_batch_norm
from lightning_reid.networks.backbones import Backbone
from lightning_reid.networks.pooling import part_pooling
from lightning_reid.networks.released_weights import load_released_weights
from lightning_reid.networks.video.network import VideoNetwork, VideoResNet50
from lightning_reid.networks.video.non_local import NVAN, STENVAN

GOLDENS = Path(__file__).parents[2] / "goldens"
NARROW = {"channels": [4, 8, 16, 32]}  # of a resnet50: 16, 32, 64 and 128 channels
TINY = {"channels": [4, 8, 8, 16]}

RELEASED = {
    "resnet_baseline": lambda: VideoResNet50(narrow_resnet50(), stem_relu=False),
    "nvan": lambda: NVAN(narrow_resnet50(), stem_relu=False),
    "nvan_spatial": lambda: STENVAN(narrow_resnet50(), stripes=4, temporal_reduction=False, stem_relu=False),
    "nvan_temporal": lambda: STENVAN(narrow_resnet50(), stripes=None, stem_relu=False),
    "ste_nvan": lambda: STENVAN(narrow_resnet50(), stripes=4, stem_relu=False, pairwise=True),
}


def random_clips(batch: int = 2, length: int = 4, height: int = 64, width: int = 32, seed: int = 0) -> Tensor:
    return torch.randn(batch, length, 3, height, width, generator=torch.Generator().manual_seed(seed))


@cache
def built(name: str, seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    return build_backbone(name, **(TINY if name == "resnet18" else NARROW))


def narrow_resnet50() -> Backbone:
    return copy.deepcopy(built("resnet50"))  # a copy takes a hundredth of the time that examining a new backbone does


def tiny(kind: type[VideoNetwork], seed: int = 0, **options) -> VideoNetwork:
    backbone = copy.deepcopy(built("resnet18", seed))
    torch.manual_seed(seed)
    return kind(backbone, **options)


def awake(network: VideoNetwork) -> VideoNetwork:
    """With non-local blocks that are no identities any more."""
    generator = torch.Generator().manual_seed(9)
    for name, parameter in network.attention.named_parameters():
        if name.endswith(("bn.weight", "bn.bias")):
            torch.nn.init.normal_(parameter, generator=generator)
    return network


@pytest.mark.parametrize("name", RELEASED)
def test_a_network_equals_the_released_code(name):
    with np.load(GOLDENS / f"{name}_narrow.npz") as arrays:
        state = {key.removeprefix("sd/"): torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith("sd/")}
        clips, expected = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["feature_map"])
    if clips.ndim == 4:  # the baseline's golden holds single frames
        clips, expected = clips.unflatten(0, (2, 8)), expected.unflatten(0, (2, 8)).transpose(1, 2)
    network = RELEASED[name]().eval()
    assert all(missing.startswith("neck.") for missing in load_released_weights(network, state).missing)
    with torch.no_grad():
        feature_map, output = network.feature_map(clips).transpose(1, 2), network(clips)
    torch.testing.assert_close(feature_map, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    torch.testing.assert_close(output.before_bnneck, expected.mean((2, 3, 4)), rtol=1e-4, atol=1e-5)


def test_every_network_builds_without_arguments_and_has_the_parameters_of_the_paper():
    counts = {}
    for kind in (VideoResNet50, NVAN, STENVAN):
        with torch.device("meta"):
            network = kind()
        counts[kind] = sum(parameter.numel() for name, parameter in network.named_parameters() if not name.startswith("neck."))
        assert network.num_features == 2048
    assert counts == {VideoResNet50: 23_508_032, NVAN: 30_866_496, STENVAN: 30_866_496}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"non_local_blocks": (1, 1, 1, 1)}])
def test_a_fresh_nvan_equals_its_backbone_alone_exactly(training, options):
    clips, nvan = random_clips(), tiny(NVAN, **options).train(training)
    baseline = tiny(VideoResNet50).train(training)
    baseline.load_state_dict({name: tensor for name, tensor in nvan.state_dict().items() if not name.startswith("attention.")})
    assert torch.equal(nvan(clips).before_bnneck, baseline(clips).before_bnneck)


def test_the_baseline_is_the_mean_of_an_image_network_over_the_frames():
    clips, video = random_clips(), tiny(VideoResNet50).eval()
    image = EmbeddingNetwork(build_backbone("resnet18", **TINY)).eval()
    image.load_state_dict(video.state_dict())
    framewise = image(clips.flatten(0, 1), with_parts=True)
    output = video(clips, with_parts=True)
    torch.testing.assert_close(output.before_bnneck, framewise.before_bnneck.unflatten(0, (2, 4)).mean(1))
    torch.testing.assert_close(output.embedding, framewise.embedding.unflatten(0, (2, 4)).mean(1))
    torch.testing.assert_close(output.parts, framewise.parts.unflatten(0, (2, 4)).mean(1))


def test_max_pooling_takes_the_maximum_over_space_and_time():
    clips, network = random_clips(), tiny(VideoResNet50, pooling="max").eval()
    torch.testing.assert_close(network(clips).before_bnneck, network.feature_map(clips).amax((1, 3, 4)))


@pytest.mark.parametrize(
    ("backbone", "options", "expected"),
    [
        ("resnet50", {**NARROW}, [0, 2, 3, 0]),
        ("resnet18", {}, [0, 2, 2, 0]),
        ("resnet18", {"non_local_blocks": (0, 0, 1, 0)}, [0, 0, 1, 0]),
        ("convnext_atto", {}, [0, 2, 3, 0]),
    ],
)
def test_non_local_blocks_stand_in_the_stages_of_the_text(backbone, options, expected):
    network = NVAN(backbone, **options)
    assert [len(network.attention_after(stage)) for stage in (1, 2, 3, 4)] == expected


def test_the_non_local_blocks_follow_the_last_residual_blocks_of_their_stage():
    network = NVAN(narrow_resnet50()).eval()
    called = []
    for name, module in network.named_modules():
        if name.count(".") == 3 - name.startswith("attention"):
            module.register_forward_hook(lambda *_, name=name: called.append(name.removeprefix("backbone.trunk.")))
    network(random_clips(1, 1))
    middle = [name for name in called if name.startswith(("layer2", "layer3", "attention"))]
    conv3 = ["layer2.0", "layer2.1", "layer2.2", "attention.stage2.0", "layer2.3", "attention.stage2.1"]
    conv4 = ["layer3.0", "layer3.1", "layer3.2", "layer3.3", "attention.stage3.0", "layer3.4", "attention.stage3.1"]
    assert middle == [*conv3, *conv4, "layer3.5", "attention.stage3.2"]


@pytest.mark.parametrize(
    ("reduction", "frames"), [(True, [8, 8, 4, 2]), (False, [8, 8, 8, 8]), ((3,), [8, 8, 8, 4]), ((1, 2, 3), [8, 4, 2, 1])]
)
def test_frames_are_halved_after_the_stages_asked_for(reduction, frames):
    network, seen = tiny(STENVAN, stripes=2, temporal_reduction=reduction), []
    for layer in (
        network.backbone.trunk.layer1,
        network.backbone.trunk.layer2,
        network.backbone.trunk.layer3,
        network.backbone.trunk.layer4,
    ):
        layer[0].register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0]) // 2))
    feature_map = network.feature_map(random_clips(2, 8))
    assert seen == frames
    assert feature_map.shape == (2, frames[-1], 16, 4, 2)


def test_without_both_reductions_ste_nvan_is_nvan():
    clips, nvan = random_clips(), awake(tiny(NVAN)).eval()
    plain = tiny(STENVAN, seed=1, stripes=None, temporal_reduction=False).eval()
    plain.load_state_dict(nvan.state_dict())
    assert torch.equal(plain(clips).embedding, nvan(clips).embedding)


def test_one_stripe_a_row_of_one_column_is_no_reduction():
    clips = random_clips(width=8)  # one column at stride 8 and at stride 16
    nvan = awake(tiny(NVAN, non_local_blocks=(0, 2, 0, 0))).eval()
    striped = tiny(STENVAN, stripes=8, temporal_reduction=False, non_local_blocks=(0, 2, 0, 0)).eval()
    striped.load_state_dict(nvan.state_dict())
    torch.testing.assert_close(striped(clips).embedding, nvan(clips).embedding)


def test_attention_over_all_frames_mixes_what_pairwise_attention_keeps_apart():
    clips = random_clips(1, 4)
    other = clips.clone()
    other[:, 2:] = random_clips(1, 2, seed=1)
    for pairwise in (True, False):
        network = awake(tiny(STENVAN, stripes=2, temporal_reduction=(2,), pairwise=pairwise, non_local_blocks=(0, 2, 0, 0))).eval()
        same = torch.equal(network.feature_map(clips)[:, 0], network.feature_map(other)[:, 0])
        assert same == pairwise


@settings(max_examples=3)
@given(seed=st.integers(0, 99), pairwise=st.booleans())
def test_a_clip_is_embedded_alone_as_in_a_batch(seed, pairwise):
    network = awake(tiny(STENVAN, stripes=2, pairwise=pairwise)).eval()
    clips = random_clips(3, 4, seed=seed)
    together = network(clips).embedding
    for clip, embedding in zip(clips, together):
        torch.testing.assert_close(network(clip[None]).embedding[0], embedding, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnest14d", "convnext_atto"])
def test_other_backbones_carry_the_blocks(name):
    network = awake(STENVAN(name, stripes=2)).eval()
    before = network(random_clips(1, 4)).before_bnneck
    assert before.shape == (1, network.backbone.num_features)
    assert before.isfinite().all()
    plain = VideoResNet50(network.backbone).eval()
    assert not torch.equal(plain(random_clips(1, 4)).before_bnneck, before)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_a_clip_of_one_frame_is_an_image(pooling):
    network = tiny(VideoResNet50, pooling=pooling).eval()
    assert network(random_clips(2, 1), with_parts=True).parts.shape == part_pooling(torch.zeros(2, 16, 4, 2)).shape


def test_every_parameter_that_learns_gets_a_gradient():
    network = awake(tiny(STENVAN, stripes=2))
    network(random_clips()).embedding.square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None] == []
    assert not network.neck.bias.requires_grad


def test_a_fresh_network_lets_the_blocks_wake_up():
    network = tiny(NVAN)
    network(random_clips()).embedding.pow(3).sum().backward()
    assert all(block.bn.weight.grad.abs().sum() > 0 for stage in (2, 3) for block in network.attention_after(stage))


def test_a_layer_of_the_trunk_that_was_replaced_is_the_one_that_is_called():
    network = group_batch_norm(tiny(NVAN), 2)
    with pytest.raises(ValueError, match="a batch of 3 cannot be cut into groups of 2"):
        network(random_clips(1, 3))


def test_the_networks_compile_without_a_graph_break_and_take_channels_last():
    # one block a stage: tracing takes seconds; attention between positions compiles in the block's own tests
    clips, network = random_clips(), awake(STENVAN("resnet18", layers=[1, 1, 1, 1], stripes=2, **TINY)).eval()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    expected = network(clips, with_parts=True)
    frames = clips.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    got = compiled(frames.unflatten(0, (2, 4)), with_parts=True)
    torch.testing.assert_close(tuple(got), tuple(expected), atol=1e-5, rtol=1e-4)


def test_channels_last_reaches_the_last_feature_map():
    network = awake(tiny(STENVAN, stripes=2)).eval().to(memory_format=torch.channels_last)
    frames = random_clips().flatten(0, 1).contiguous(memory_format=torch.channels_last)
    feature_map = network.feature_map(frames.unflatten(0, (2, 4)))
    assert feature_map.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_bf16_autocast_gives_nearly_the_float32_embedding():
    network, clips = awake(tiny(STENVAN, stripes=2)).eval(), random_clips()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(clips)
    assert torch.nn.functional.cosine_similarity(output.embedding.float(), network(clips).embedding).min() > 0.99


def test_backbone_weights_come_from_a_file(tmp_path):
    theirs = build_backbone("resnet18", **TINY)
    torch.save(theirs.trunk.state_dict(), tmp_path / "resnet18.pth")
    network = NVAN("resnet18", weights=str(tmp_path / "resnet18.pth"), **TINY)
    assert torch.equal(network.backbone.trunk.conv1.weight, theirs.trunk.conv1.weight)


def test_stripes_that_do_not_divide_the_feature_maps_are_refused_with_those_that_would():
    with pytest.raises(ValueError, match=r"stripes=16 does not divide feature maps of 24 and 12 rows: choose of \[1, 2, 3, 4, 6, 12\]"):
        tiny(STENVAN)(random_clips(1, 4, height=192))
    with pytest.raises(ValueError, match=r"stripes=4 does not divide feature maps of 9 rows: choose of \[1, 3, 9\]"):
        tiny(STENVAN, stripes=4)(random_clips(1, 4, height=68))  # no multiple of the strides: the block itself says it


def test_last_stride_1_counts_in_the_rows_of_the_last_stage():
    network = tiny(STENVAN, stripes=4, non_local_blocks=(0, 0, 0, 1), temporal_reduction=False)
    assert network.feature_map(random_clips(1, 2)).shape == (1, 2, 16, 4, 2)


def test_clips_of_a_length_that_cannot_be_halved_twice_are_refused():
    with pytest.raises(ValueError, match="clips of 6 frames cannot be halved 2 times: sample a multiple of 4 frames"):
        tiny(STENVAN, stripes=2)(random_clips(1, 6))


def test_images_instead_of_clips_are_refused():
    for kind in (VideoResNet50, STENVAN):
        with pytest.raises(ValueError, match=r"clips must be \[B, T, 3, H, W\] with T >= 1, got \[4, 3, 64, 32\]"):
            tiny(kind)(random_clips(1, 4)[0])


def test_clips_without_frames_are_refused_and_a_batch_without_clips_has_no_embeddings():
    network = tiny(STENVAN, stripes=2).eval()
    with pytest.raises(ValueError, match=r"with T >= 1, got \[2, 0, 3, 64, 32\]"):
        network(random_clips(2, 0))
    assert network(random_clips(0, 4)).embedding.shape == (0, 16)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: tiny(NVAN, non_local_blocks=(0, 3, 0, 0)), "stage 2 of resnet18 has 2 blocks, too few for 3 attention modules"),
        (lambda: tiny(NVAN, non_local_blocks=(1, 1)), r"must hold a number, at least 0, for each of 4 stages, got \[1, 1\]"),
        (lambda: tiny(STENVAN, temporal_reduction=(5,)), "stages are numbered 1 to 4, got 5"),
        (lambda: tiny(VideoResNet50, pooling="gem"), r"pooling must be one of 'avg', 'max', got 'gem'"),
        (lambda: VideoResNet50("convnext_atto", stem_relu=False), "convnext_atto has no ReLU after the first BatchNorm"),
        (lambda: NVAN("mobilenetv2_050"), "cannot tell the stages of a EfficientNet"),
        (lambda: NVAN(build_backbone("resnet18", **TINY), pretrained=True), "resnet18 is built already: give pretrained to build_backbone"),
    ],
)
def test_an_impossible_network_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
