import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_reid.networks.released_ste_nvan import released_ste_nvan_name, renamed_ste_nvan
from lightning_reid.networks.released_weights import load_released_weights
from lightning_reid.networks.video_resnet import NVAN, STENVAN, VideoResNet50

NARROW = {"channels": [4, 8, 16, 32]}


def released_state() -> dict[str, Tensor]:
    """The residual network and attention of a released STE-NVAN, narrow."""
    with np.load(Path(__file__).parents[1] / "goldens" / "ste_nvan_narrow.npz") as arrays:
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
    network = STENVAN(stripes=4, stem_relu=False, pairwise=True, **NARROW)
    with caplog.at_level(logging.INFO):
        missing, left_over = load_released_weights(network, whole_checkpoint())
    assert missing == ()
    assert left_over == ("module.classifier.weight",)
    assert network.neck.running_var.tolist() == [2.0] * 128
    assert [record.levelno for record in caplog.records if "released" in record.message] == [logging.INFO]


def test_what_a_checkpoint_lacks_is_named_and_keeps_its_values(caplog):
    network = NVAN(**NARROW)
    theta = network.attention_after(2)[0].theta.weight.clone()
    state = {name: tensor for name, tensor in whole_checkpoint().items() if "NL_2.0.theta" not in name}
    with caplog.at_level(logging.WARNING):
        missing, _ = load_released_weights(network, state)
    assert missing == ("attention.stage2.0.theta.weight", "attention.stage2.0.theta.bias")
    assert torch.equal(network.attention_after(2)[0].theta.weight, theta)
    assert "2 of the network's missing (attention.stage2.0.theta.weight, attention.stage2.0.theta.bias)" in caplog.text


def test_attention_that_the_network_has_not_is_left_over(caplog):
    state = released_state()
    with caplog.at_level(logging.WARNING):
        _, left_over = load_released_weights(VideoResNet50(**NARROW), state)
    assert left_over == tuple(name for name in state if name.startswith("NL_"))
    assert "60 left over (NL_2.0" in caplog.text


def test_weights_of_a_wider_network_are_refused_and_the_network_stays_as_it_was():
    network = NVAN(channels=[4, 8, 16, 40])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"of another network: backbone.trunk.layer4.0.conv1.weight is \[32, 64, 1, 1\], not \[40, 64, 1, 1\]"
    ):
        load_released_weights(network, released_state())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(("state", "told"), [({}, "nothing"), ({"blocks.0.weight": torch.zeros(1)}, "blocks.0.weight")])
def test_a_state_dict_of_something_else_is_refused(state, told):
    with pytest.raises(ValueError, match=f"no tensor of the state dict fits the network: .* got {told}"):
        load_released_weights(VideoResNet50(**NARROW), state)
