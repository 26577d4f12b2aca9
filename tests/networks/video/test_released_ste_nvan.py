import copy
import logging
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_reid.networks import build_backbone
from lightning_reid.networks.backbones import Backbone
from lightning_reid.networks.released_weights import load_released_weights
from lightning_reid.networks.video.network import VideoResNet50
from lightning_reid.networks.video.non_local import NVAN, STENVAN
from lightning_reid.networks.video.released_ste_nvan import released_ste_nvan_name, renamed_ste_nvan


@cache
def built() -> Backbone:
    return build_backbone("resnet50", channels=[4, 8, 16, 32])


def narrow_resnet50() -> Backbone:
    return copy.deepcopy(built())


def released_state() -> dict[str, Tensor]:
    """The residual network and attention of a released STE-NVAN, narrow."""
    with np.load(Path(__file__).parents[2] / "goldens" / "ste_nvan_narrow.npz") as arrays:
        return {name.removeprefix("sd/"): torch.from_numpy(arrays[name]) for name in arrays.files if name.startswith("sd/")}


def whole_checkpoint() -> dict[str, Tensor]:
    """With neck and classifier, and all that the released training wraps around."""
    state = {f"module.features.backbone.{name}": tensor for name, tensor in released_state().items()}
    neck = {f"module.bottleneck.{name}": torch.full((128,), 2.0) for name in ("weight", "bias", "running_mean", "running_var")}
    return {**state, **neck, "module.classifier.weight": torch.zeros(625, 128)}


@pytest.mark.parametrize(
    ("released", "ours"),
    [
        ("conv1.weight", "backbone.trunk.conv1.weight"),
        ("base.NL_2.0.theta.weight", "attention.stage2.0.theta.weight"),
        ("module.base.layer3.5.bn1.bias", "backbone.trunk.layer3.5.bn1.bias"),
        ("layer2.0.downsample.1.running_var", "backbone.trunk.layer2.0.downsample.1.running_var"),
        ("NL_2.1.theta.bias", "attention.stage2.1.theta.bias"),
        ("features.backbone.NL_3.2.W.0.weight", "attention.stage3.2.w_z.weight"),
        ("module.features.backbone.NL_3.0.W.1.num_batches_tracked", "attention.stage3.0.bn.num_batches_tracked"),
        ("bottleneck.running_mean", "neck.running_mean"),
        ("module.classifier.weight", "module.classifier.weight"),
        ("NL_2.0.W.2.weight", "NL_2.0.W.2.weight"),
    ],
)
def test_a_released_name_becomes_the_one_used_here(released, ours):
    assert released_ste_nvan_name(released) == ours


def test_renaming_leaves_the_state_dict_as_it_was_and_flattens_the_convolutions():
    state = released_state()
    shapes = {name: tensor.shape for name, tensor in state.items()}
    renamed = renamed_ste_nvan(state)
    assert {name: tensor.shape for name, tensor in state.items()} == shapes
    assert renamed["attention.stage2.0.g.weight"].shape == (16, 32, 1, 1)
    assert len(renamed) == len(state)


def test_a_whole_released_checkpoint_fills_the_whole_network(caplog):
    network = STENVAN(narrow_resnet50(), stripes=4, stem_relu=False, pairwise=True)
    with caplog.at_level(logging.INFO):
        missing, left_over = load_released_weights(network, whole_checkpoint())
    assert missing == ()
    assert left_over == ("module.classifier.weight",)
    assert network.neck.running_var.tolist() == [2.0] * 128
    assert [record.levelno for record in caplog.records if "released" in record.message] == [logging.INFO]


@pytest.mark.parametrize("part", ["neck", "attention"])
def test_a_neck_or_an_attention_that_a_checkpoint_lacks_as_a_whole_keeps_its_values_aloud(part, caplog):
    network = NVAN(narrow_resnet50(), stem_relu=False)
    theirs = {"neck": "bottleneck", "attention": "NL_"}[part]
    kept = {name: tensor.clone() for name, tensor in network.state_dict().items() if name.startswith(part)}
    with caplog.at_level(logging.WARNING):
        missing, _ = load_released_weights(network, {name: t for name, t in whole_checkpoint().items() if theirs not in name})
    assert missing == tuple(name for name in kept if not name.endswith("num_batches_tracked"))
    assert f"{len(missing)} of the network's missing ({part}." in caplog.text
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in kept.items())


@pytest.mark.parametrize(
    ("build", "lost", "told"),
    [
        (
            lambda: VideoResNet50(narrow_resnet50(), stem_relu=False),
            "nothing",
            r"60 released tensors find no place in this VideoResNet50 \(the first are module.features.backbone.NL_2.0.g.weight, .*: "
            r"they are of non-local blocks: build NVAN\(stem_relu=False\), or STENVAN\(stem_relu=False, pairwise=True\)",
        ),
        (
            lambda: NVAN(narrow_resnet50(), stem_relu=False, non_local_blocks=(0, 1, 2, 0)),
            "nothing",
            "24 released tensors find no place in this NVAN .* build NVAN",
        ),
        (
            lambda: NVAN(narrow_resnet50(), stem_relu=False),
            "NL_2.0.theta",
            "2 tensors of this NVAN are not among .*attention.stage2.0.theta.weight",
        ),
        (lambda: NVAN(narrow_resnet50(), stem_relu=False), "layer4.2", "15 tensors of this NVAN .* half a network embeds nothing of use"),
        (lambda: NVAN(narrow_resnet50(), stem_relu=False), "bottleneck.bias", r"1 tensors of this NVAN .*\(the first are neck.bias\)"),
        (
            lambda: NVAN(narrow_resnet50()),
            "nothing",
            "have no ReLU after the first BatchNorm, this NVAN has one and would embed otherwise: build",
        ),
        (
            lambda: NVAN(channels=[4, 8, 16, 40]),
            "nothing",
            r"of another network: backbone.trunk.layer4.0.conv1.weight is \[32, 64, 1, 1\], not \[40, 64, 1, 1\]",
        ),
    ],
)
def test_half_a_network_is_refused_with_what_to_build_and_stays_as_it_was(build, lost, told):
    network = build()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=told):
        load_released_weights(network, {name: tensor for name, tensor in whole_checkpoint().items() if lost not in name})
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_what_belongs_to_no_network_here_is_refused_by_its_name():
    state = whole_checkpoint() | {"module.centers": torch.zeros(3)}
    with pytest.raises(ValueError, match=r"1 released tensors find no place .* module.centers\), .* take the tensors of the network alone"):
        load_released_weights(NVAN(narrow_resnet50(), stem_relu=False), state)


@pytest.mark.parametrize(("state", "told"), [({}, "nothing"), ({"blocks.0.weight": torch.zeros(1)}, "blocks.0.weight")])
def test_a_state_dict_of_something_else_is_refused(state, told):
    with pytest.raises(ValueError, match=f"no tensor of the state dict fits the network: .* got {told}"):
        load_released_weights(VideoResNet50(narrow_resnet50()), state)
