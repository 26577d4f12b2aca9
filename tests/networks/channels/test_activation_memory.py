"""The peak of activations under a channel plan, against a really smaller network whose live tensors are counted while it runs."""

from __future__ import annotations

import pytest
import torch
from live_tensors import CountedTensors
from prunable_networks import IMAGE, random_plan, trained
from torch import Tensor, nn

from lightning_reid.networks import materialize
from lightning_reid.networks.channels.activation_memory import ActivationMemory, peak_activation_bytes
from lightning_reid.networks.channels.groups import find_channel_groups


def counted_peak(network: nn.Module, shape: tuple[int, ...]) -> int:
    images = torch.randn(*shape)
    with torch.no_grad(), CountedTensors(network, images) as counted:
        network(images)
    return counted.peak


SLOW = ("ResNet bottlenecks of timm", "MobileNetV2 of timm", "STE-NVAN")
QUICK = ("VGG without normalization", "ResNet, GeM, BNNeck")


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_the_peak_of_a_plan_is_what_the_materialized_network_holds_at_most_while_it_runs(name):
    network, shape = trained(name)
    groups = find_channel_groups(network, shape)
    memory = ActivationMemory(network, groups, shape)
    assert memory({group.name: group.size for group in groups}) == counted_peak(network, shape)
    plan = random_plan(network, shape, 1)
    left = {group: int(mask.sum()) for group, mask in plan.keep.items()}
    assert memory(left) == counted_peak(materialize(network, plan).eval(), shape)


class TwoBranches(nn.Module):
    """A shortcut that stays alive through a convolution; 4 channels, then 2, both at the images' size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)
        self.head = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        features = features + self.second(self.first(features))
        return self.head(features.mean((2, 3)))


def test_a_shortcut_is_held_through_its_block_as_worked_out_by_hand():
    network, shape = TwoBranches().eval(), (1, 3, 5, 5)
    groups = find_channel_groups(network, shape)
    memory = ActivationMemory(network, groups, shape)
    a_map = 5 * 5 * 4  # bytes of a channel
    # at the sum: images 3, the shortcut 4, what the second convolution gave 4, the sum 4; at the second convolution 3 + 4 + 2 + 4
    assert memory({"stem": 4, "first": 2}) == 15 * a_map
    assert memory({"stem": 2, "first": 2}) == 9 * a_map  # 3 + 2 + 2 + 2 at both: a tie
    assert memory.of_a_channel({"stem": 4, "first": 2}) == {"stem": 3 * a_map, "first": 0}
    assert memory.of_a_channel({"stem": 2, "first": 2}) == {"stem": 2.5 * a_map, "first": 0.5 * a_map}
    assert memory({"stem": 1, "first": 2}) == 7 * a_map  # the second convolution: 3 + 1 + 2 + 1


def test_what_a_channel_holds_at_the_peak_is_what_the_peak_loses_with_it_where_no_other_moment_is_as_high():
    network, shape = trained("ResNet, GeM, BNNeck")
    groups = find_channel_groups(network, shape)
    memory = ActivationMemory(network, groups, shape)
    # the residual sum of stage 1 is wider than all that follows
    left = {group.name: group.size // (1 if group.name == "backbone.trunk.conv1" else 4) for group in groups}
    held = memory.of_a_channel(left)
    assert held["backbone.trunk.conv1"] > 0 == held["backbone.trunk.layer4.0.conv1"]
    for name, count in left.items():
        assert memory(left) - memory(left | {name: count - 1}) == held[name], name


class Squares(nn.Module):
    """Holds C x C numbers for C channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1), nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        rows = self.conv(self.stem(images)).flatten(2)
        gram = rows @ rows.transpose(1, 2)
        return self.head((gram @ rows).mean(2))


def test_a_network_whose_tensors_do_not_grow_with_their_channels_is_refused():
    network = Squares().eval()
    with pytest.raises(ValueError, match="activations do not shrink by a share for each channel"):
        ActivationMemory(network, find_channel_groups(network, IMAGE), IMAGE)


def test_activations_have_the_type_of_the_weights():
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU())
    assert peak_activation_bytes(network.double(), (1, 3, 10, 10)) == 2 * peak_activation_bytes(network.float(), (1, 3, 10, 10))


class Gated(nn.Module):
    """Takes a way that its numbers choose."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        return maps if maps.sum() > 0 else -maps


class ByNumPy(Gated):
    """Leaves torch on its way."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.conv(images).numpy())


@pytest.mark.parametrize(("network", "shape"), [(Gated(), (1, 3, 4, 4)), (ByNumPy(), (1, 3, 4, 4)), (nn.Conv2d(3, 4, 1), (1, 5, 4, 4))])
def test_a_pass_that_shapes_alone_do_not_tell_is_refused(network, shape):
    with pytest.raises(ValueError, match=rf"the memory of {type(network).__name__} cannot be counted: .* \[1, [35], 4, 4\], and ended in"):
        peak_activation_bytes(network, shape)
