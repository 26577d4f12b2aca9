"""Which channels go together, what a network costs without them, and that masks and surgery give the same network."""

from __future__ import annotations

import copy

import pytest
import torch
from prunable_networks import CLIP, IMAGE, NETWORKS, random_plan, trained
from torch import Tensor, nn

from lightning_reid.networks import CFAAN, ChannelPlan, count_multiply_adds, materialize
from lightning_reid.networks.channels.costs import ChannelCosts
from lightning_reid.networks.channels.groups import find_channel_groups, first_tensor
from lightning_reid.networks.channels.plan import ChannelMasks


@torch.no_grad()
def output(network: nn.Module, shape: tuple[int, ...]) -> Tensor:
    return first_tensor(network(torch.randn(2, *shape[1:], generator=torch.Generator().manual_seed(9))))


@pytest.mark.parametrize("name", NETWORKS)
def test_masked_silenced_and_materialized_networks_give_the_same_and_cost_what_is_counted(name):
    network, shape = trained(name)
    full, groups, plan = output(network, shape), find_channel_groups(network, shape), random_plan(network, shape, 1)
    costs, masks = ChannelCosts(network, groups, shape), ChannelMasks(network, groups)
    masks.set(plan.keep)
    masked = output(network, shape)
    assert not torch.allclose(masked, full, rtol=1e-3)
    smaller = materialize(network, plan).eval()
    torch.testing.assert_close(output(smaller, shape), masked, rtol=1e-4, atol=1e-5 * float(masked.abs().max()))
    counted = costs({group: int(keep.sum()) for group, keep in plan.keep.items()})
    assert counted["flops"] == count_multiply_adds(smaller, shape).total
    assert counted["params"] == sum(parameter.numel() for parameter in smaller.parameters())
    whole = costs(costs.full)
    assert whole["flops"] == count_multiply_adds(network, shape).total
    assert whole["params"] == sum(parameter.numel() for parameter in network.parameters())
    masks.silence()
    masks.stop()
    torch.testing.assert_close(output(network, shape), masked, rtol=1e-4, atol=1e-5 * float(masked.abs().max()))


@pytest.mark.parametrize("name", ["ResNet bottlenecks of timm", "STE-NVAN"])
def test_each_channel_frees_what_is_counted_for_it(name):
    network, shape = trained(name)
    groups = find_channel_groups(network, shape)
    costs = ChannelCosts(network, groups, shape)
    for group in groups[::3]:
        keep = torch.arange(group.size) != group.size // 2
        smaller = materialize(network, ChannelPlan(shape, {group.name: keep}))
        expected = {"flops": count_multiply_adds(smaller, shape).total, "params": sum(p.numel() for p in smaller.parameters())}
        assert costs(costs.full | {group.name: group.size - 1}) == expected, group.name


def test_residual_sums_depthwise_convolutions_and_attention_tie_layers_together_and_outputs_stay_free():
    resnet = {group.name: group for group in find_channel_groups(*trained("ResNet bottlenecks of timm"))}
    stem = resnet["conv1"]
    assert {gate.name for gate in stem.gates} == {"bn1"}
    shortcut = resnet["layer2.0.downsample.0"]
    assert {gate.name for gate in shortcut.gates} == {"layer2.0.downsample.1", "layer2.0.bn3", "layer2.1.bn3"}
    assert not any("fc" in {layer.name for layer in group.outputs} for group in resnet.values())
    mobile = find_channel_groups(*trained("MobileNetV2 of timm"))
    depthwise = next(group for group in mobile if "blocks.1.0.conv_dw" in {layer.name for layer in group.outputs})
    assert {gate.name for gate in depthwise.gates} == {"blocks.1.0.bn1", "blocks.1.0.bn2"}
    video = find_channel_groups(*trained("STE-NVAN"))
    attention = next(group for group in video if "attention.stage2.0.theta" in {layer.name for layer in group.outputs})
    assert {gate.name for gate in attention.gates} == {f"attention.stage2.0.{name}" for name in ("theta", "phi", "g")}
    assert not any("neck" in {layer.name for layer in group.outputs} for group in video)  # embeddings keep their width


def test_no_gradient_reaches_what_is_masked_and_copies_are_not_masked():
    network, shape = trained("ResNet, GeM, BNNeck")
    groups = find_channel_groups(network, shape)
    masks = ChannelMasks(network, groups)
    keep = torch.arange(groups[0].size) > 3
    masks.set({groups[0].name: keep})
    network.train()
    first_tensor(network(torch.randn(4, 3, 64, 32))).square().sum().backward()
    gate = network.get_submodule(groups[0].gates[0].name)
    assert (gate.weight.grad[~keep] == 0).all()
    assert (gate.weight.grad[keep] != 0).any()
    copied = copy.deepcopy(network).eval()
    masks.stop()
    torch.testing.assert_close(output(copied, shape), output(network.eval(), shape))


def test_a_plan_is_tensors_and_plain_values_and_comes_back(tmp_path):
    network, shape = trained("ResNet, GeM, BNNeck")
    plan = random_plan(network, shape, 2)
    torch.save(plan.as_tensors(), tmp_path / "plan.pt")
    again = ChannelPlan.from_tensors(torch.load(tmp_path / "plan.pt", weights_only=True))
    assert again.input_shape == plan.input_shape
    assert torch.equal(output(materialize(network, again), shape), output(materialize(network, plan), shape))


@pytest.mark.parametrize(
    ("keep", "match"),
    [
        ({"layer9.conv": torch.ones(3, dtype=torch.bool)}, r"layer9\.conv, the network has no such convolution"),
        ({"backbone.trunk.conv1": torch.arange(3) > 0}, r"2 of 3 channels of backbone\.trunk\.conv1, the network has 64 output channels"),
        ({"backbone.trunk.conv1": torch.zeros(64, dtype=torch.bool)}, "0 of 64 channels .* a layer must keep a channel"),
    ],
)
def test_a_plan_of_another_network_is_refused_by_name(keep, match):
    network, shape = trained("ResNet, GeM, BNNeck")
    with pytest.raises(ValueError, match=match):
        materialize(network, ChannelPlan(shape, keep))


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, images):
        return self.second(self.first(images).detach()).mean((2, 3))


def test_what_cannot_be_traced_is_refused_by_name():
    with pytest.raises(ValueError, match=r"cannot trace first \(Conv2d\): the forward pass does not reach it"):
        find_channel_groups(Detached(), IMAGE)
    with pytest.raises(ValueError, match="conv is a convolution in 2 groups"):
        find_channel_groups(Grouped(), IMAGE)
    cfaan = CFAAN("resnet18", image_size=(64, 32), channels=[16, 16, 32, 32], layers=[1, 2, 2, 1])
    with pytest.raises(ValueError, match=r"its parameter .* belongs to no convolution, linear layer or BatchNorm"):
        find_channel_groups(cfaan, CLIP)


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, groups=2)


class TakenApart(nn.Module):
    """Half of a map goes through a convolution, and is added to the other half."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.whole, self.half, self.head = way, nn.Conv2d(3, 8, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.whole(images)
        halves = {
            "chunk": lambda: maps.chunk(2, 1),
            "split": lambda: torch.split(maps, 4, 1),
            "getitem": lambda: (maps[:, :4], maps[:, 4:]),
        }
        first, second = halves[self.way]()
        return self.head((self.half(first) + second).mean((2, 3)))


@pytest.mark.parametrize("way", ["chunk", "split", "getitem"])
def test_a_map_whose_channels_are_taken_apart_is_refused_as_other_channels_would_go_than_are_masked(way):
    with pytest.raises(ValueError, match=rf"takes a map of 8 channels apart \({way}\)"):
        find_channel_groups(TakenApart(way), (1, 3, 8, 8))


class OfOneChannel(nn.Module):
    """All channels are weighted by one of them; or all images are the first."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.whole, self.next, self.head = way, nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.whole(images)
        ways = {
            "getitem": lambda: maps * maps[:, 0].unsqueeze(1),
            "select": lambda: maps * maps.select(1, 0).unsqueeze(1),
            "unbind": lambda: maps * maps.unbind(1)[0].unsqueeze(1),
            "first image": lambda: maps[0].unsqueeze(0),
            "first row": lambda: maps[:, :, 0].unsqueeze(2),
        }
        return self.head(self.next(ways[self.way]()).mean((2, 3)))


@pytest.mark.parametrize("way", ["getitem", "select", "unbind"])
def test_a_map_of_which_one_channel_is_taken_is_refused_too(way):
    with pytest.raises(ValueError, match=rf"takes a map of 8 channels apart \({way}\)"):
        find_channel_groups(OfOneChannel(way), (1, 3, 8, 8))


@pytest.mark.parametrize("way", ["first image", "first row"])
def test_a_map_of_which_an_image_or_a_row_is_taken_keeps_its_channels(way):
    assert {group.size for group in find_channel_groups(OfOneChannel(way), (1, 3, 8, 8))} == {8, 4}
