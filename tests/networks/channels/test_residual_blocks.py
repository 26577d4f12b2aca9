"""Chapter 5's rule for residual blocks: who loses channels, and that masks and zero-padded shortcuts give the same network."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from prunable_networks import CLIP, IMAGE, NARROW, random_statistics, trained
from torch import Tensor, nn

from lightning_reid.networks import STENVAN, ChannelPlan, EmbeddingNetwork, build_backbone, count_multiply_adds, materialize
from lightning_reid.networks.channels.costs import ChannelCosts
from lightning_reid.networks.channels.groups import first_tensor
from lightning_reid.networks.channels.plan import ChannelMasks
from lightning_reid.networks.channels.prunable import deciding_makers
from lightning_reid.networks.channels.residual_blocks import ZeroPaddedShortcut, zero_padded_groups


def basic_blocks() -> nn.Module:
    """Stage 1 of identity blocks, stage 2 a projected block alone, stages 3 and 4 a projected one and identity blocks behind it."""
    return random_statistics(EmbeddingNetwork(build_backbone("resnet18", channels=[64, 8, 16, 16], layers=[2, 1, 3, 2])))


def bottlenecks() -> nn.Module:
    return random_statistics(timm.create_model("resnet50", channels=[8, 8, 16, 16], layers=[2, 2, 1, 1], num_classes=5))


def groups_by_name(network: nn.Module) -> dict[str, set[str]]:
    groups, _ = zero_padded_groups(network, IMAGE)
    return {group.name: {layer.name for layer in group.outputs if "conv" in layer.name or "downsample.0" in layer.name} for group in groups}


def test_the_last_convolution_of_an_identity_block_is_left_alone_and_a_projection_takes_its_blocks_along():
    trunk = "backbone.trunk."
    found = {name.removeprefix(trunk): {one.removeprefix(trunk) for one in made} for name, made in groups_by_name(basic_blocks()).items()}
    first = {f"layer{stage}.{block}.conv1" for stage, blocks in enumerate((2, 1, 3, 2), start=1) for block in range(blocks)}
    projected = {f"layer{stage}.0.downsample.0": {f"layer{stage}.0.downsample.0", f"layer{stage}.0.conv2"} for stage in (2, 3, 4)}
    assert found == {name: {name} for name in first} | projected  # and not conv1, the network's first


def test_of_a_bottleneck_both_inner_convolutions_are_free_and_a_shortcut_whose_channels_the_head_reads_is_not():
    found = groups_by_name(bottlenecks())
    blocks = [f"layer{stage}.{block}" for stage, count in enumerate((2, 2, 1, 1), start=1) for block in range(count)]
    inner = {f"{block}.conv{n}" for block in blocks for n in (1, 2)}
    projected = {f"layer{stage}.0.downsample.0": {f"layer{stage}.0.downsample.0", f"layer{stage}.0.conv3"} for stage in (1, 2, 3)}
    assert found == {name: {name} for name in inner} | projected  # and not layer4.0's


@torch.no_grad()
def output(network: nn.Module) -> Tensor:
    return first_tensor(network.eval()(torch.randn(2, *IMAGE[1:], generator=torch.Generator().manual_seed(9))))


def squeezed() -> nn.Module:
    """With a squeeze and excitation in each block, whose convolutions read and make the channels of a block too."""
    blocks = {"block_args": {"attn_layer": "se"}, "channels": [8, 16, 16, 16], "layers": [2, 1, 2, 1]}
    return random_statistics(timm.create_model("resnet18", num_classes=5, **blocks))


def of_torchvision() -> nn.Module:
    return random_statistics(torchvision.models.resnet18(num_classes=5))


@pytest.mark.parametrize(
    "make", [basic_blocks, bottlenecks, *(pytest.param(make, marks=pytest.mark.slow) for make in (squeezed, of_torchvision))]
)
def test_masked_silenced_and_zero_padded_networks_give_the_same_and_cost_what_is_counted(make):
    network = make()
    groups, padded = zero_padded_groups(network, IMAGE)
    generator = torch.Generator().manual_seed(1)
    keep = {group.name: torch.rand(group.size, generator=generator) < 0.6 for group in groups}
    for mask in keep.values():
        mask[0] = True
    full, costs, masks = output(network), ChannelCosts(network, groups, IMAGE), ChannelMasks(network, groups)
    masks.set(keep)
    masked = output(network)
    assert not torch.allclose(masked, full, rtol=1e-3)
    smaller = materialize(network, ChannelPlan(IMAGE, keep, "zero-padded"))
    torch.testing.assert_close(output(smaller), masked, rtol=1e-4, atol=1e-5 * float(masked.abs().max()))
    counted = costs({name: int(mask.sum()) for name, mask in keep.items()})
    assert counted["flops"] == count_multiply_adds(smaller, IMAGE).total
    assert counted["params"] == sum(parameter.numel() for parameter in smaller.parameters())
    assert len(padded) == (3 if make is of_torchvision else 2)
    assert all(isinstance(smaller.get_submodule(block).downsample, ZeroPaddedShortcut) for block in padded.values())
    masks.silence()
    masks.stop()
    torch.testing.assert_close(output(network), masked, rtol=1e-4, atol=1e-5 * float(masked.abs().max()))


def test_a_projection_is_judged_by_its_own_filters_alone():
    network = basic_blocks()
    groups = {group.name.removeprefix("backbone.trunk."): group for group in zero_padded_groups(network, IMAGE)[0]}
    ((decides, channels),) = deciding_makers(network, groups["layer3.0.downsample.0"])
    assert decides is network.backbone.trunk.layer3[0].downsample[0]
    assert channels.flatten().tolist() == list(range(16))


def test_a_padded_shortcut_has_zeros_where_channels_went():
    features = torch.randn(2, 3, 4, 5)
    padded = ZeroPaddedShortcut(torch.tensor([True, False, True, True, False]))(features)
    assert torch.equal(padded[:, [0, 2, 3]], features)
    assert (padded[:, [1, 4]] == 0).all()


def test_a_plan_tells_its_rule_when_it_comes_back_and_an_older_one_is_coupled():
    plan = ChannelPlan(IMAGE, {"layer2.0.downsample.0": torch.arange(32) < 20}, "zero-padded")
    tensors = plan.as_tensors()
    assert ChannelPlan.from_tensors(tensors).residual_blocks == "zero-padded"
    del tensors["residual_blocks"]
    assert ChannelPlan.from_tensors(tensors).residual_blocks == "coupled"
    with pytest.raises(ValueError, match="residual_blocks of the channel plan must be one of"):
        ChannelPlan.from_tensors(tensors | {"residual_blocks": "inner"})
    with pytest.raises(ValueError, match=r"drops channels of layer1\.0\.conv3, which residual_blocks='zero-padded' leaves alone"):
        materialize(bottlenecks(), ChannelPlan(IMAGE, {"layer1.0.conv3": torch.arange(32) < 20}, "zero-padded"))


def test_networks_that_the_rule_says_nothing_of_are_refused_by_name():
    network, shape = trained("VGG without normalization")
    with pytest.raises(ValueError, match="a rule for the blocks of ResNets, and Sequential has none: take 'coupled'"):
        zero_padded_groups(network, shape)
    attention = STENVAN("resnet18", stripes=4, **NARROW)
    with pytest.raises(ValueError, match=r"the identity block behind backbone\.trunk\.layer2\.0, .* read by .* outside of blocks"):
        zero_padded_groups(attention, CLIP)
