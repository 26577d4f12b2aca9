"""Last stride 1: a feature map of twice the height and width from the same weights."""

from __future__ import annotations

from typing import Any, NamedTuple

from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from lightning_reid.networks.dry_run import DryRun, dry_run


class Halving(NamedTuple):
    """A layer that halves its input's height and width."""

    name: str
    before: tuple[int, ...]
    after: tuple[int, ...]


def remove_last_stride(network: nn.Module, image_size: tuple[int, int]) -> tuple[list[str], DryRun]:
    """Take the stride out of the layers that halve the feature map for the last time, in place.

    Source: Luo et al. 2019 (arXiv:1903.07071), section 3.4, for any convolutional network: in ResNets the first block of the last
    stage (convolution and shortcut), in MobileNets and EfficientNets the last depthwise convolution of stride 2. Unlike timm's
    ``output_stride`` nothing is dilated afterwards: later layers see the finer map through the same small windows. Convolutions get
    stride 1 (and same padding, where theirs would shrink the map), pooling layers are taken out.

    Args:
        network: From images to ``[B, C, h, w]``.
        image_size: Height and width of the images it takes.

    Returns:
        Names of the changed layers, empty for a network without a layer that halves the map (vision transformers); and what a dry run
        of the network tells as it is now.

    Raises:
        ValueError: A strided layer is of a kind that cannot be changed, or the map did not double.
    """
    last, told = _last_halvings(network, image_size)
    for layer in last:
        _unstride(network, layer.name)
    names = [layer.name for layer in last]
    if not last:
        return names, told
    try:
        told = dry_run(network, image_size)
    except RuntimeError as error:  # shapes that no longer fit each other
        raise ValueError(f"the network does not run with last stride 1 in {', '.join(names)}: use last_stride=2") from error
    size = told.shape[2:]
    if size != last[0].before:
        raise ValueError(f"last stride 1 in {', '.join(names)} gives a map of {[*size]}, not {[*last[0].before]}: use last_stride=2")
    return names, told


def _last_halvings(network: nn.Module, image_size: tuple[int, int]) -> tuple[list[Halving], DryRun]:
    """The halving layers, strided as such, from whose output size the network's output does not differ any more, and the dry run."""
    found: list[Halving] = []

    def watch(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            before, after = tuple(inputs[0].shape[2:]), tuple(output.shape[2:])
            if before != after and tuple((side + 1) // 2 for side in before) == after:
                found.append(Halving(name, before, after))

        return hook

    handles = [layer.register_forward_hook(watch(name)) for name, layer in network.named_modules() if hasattr(layer, "kernel_size")]
    try:
        told = dry_run(network, image_size)
    finally:
        for handle in handles:
            handle.remove()
    return [layer for layer in found if layer.after == told.shape[2:]], told


def _unstride(network: nn.Module, name: str) -> None:
    layer = network.get_submodule(name)
    if isinstance(layer, nn.Conv2d):
        layer.stride = (1, 1)
        padding = layer.padding if isinstance(layer.padding, tuple) else ()
        keeps_size = [2 * pad for pad in padding] == [reach * (size - 1) for reach, size in zip(layer.dilation, layer.kernel_size)]
        if not isinstance(layer, Conv2dSame) and not keeps_size:  # Conv2dSame pads as its stride needs
            layer.padding = "same"
    elif isinstance(layer, nn.AvgPool2d | nn.MaxPool2d):
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, nn.Identity())
    else:
        raise ValueError(f"cannot take the last stride out of {name}, a {type(layer).__name__}: use last_stride=2")
