"""Groups of channels as searches for filters to prune see them."""

from __future__ import annotations

from torch import Tensor, nn

from lightning_reid.networks.channels.groups import ChannelGroup
from lightning_reid.pruning.filter_search import PrunableLayer


def makers_of(network: nn.Module, group: ChannelGroup) -> list[tuple[nn.Conv2d, Tensor]]:
    """The convolutions whose filters make a group's channels, and which of their filters, ``[C, m]``, each channel is of."""
    layers = [(network.get_submodule(layer.name), layer.channels) for layer in group.outputs]
    return [(module, channels) for module, channels in layers if isinstance(module, nn.Conv2d)]


def deciding_makers(network: nn.Module, group: ChannelGroup) -> list[tuple[nn.Conv2d, Tensor]]:
    """Those of ``makers_of`` by whose filters channels are chosen: all, or the one that decides for the group."""
    makers = makers_of(network, group)
    if group.decided_by is None:
        return makers
    decides = network.get_submodule(group.decided_by)
    return [(module, channels) for module, channels in makers if module is decides]


def prunable_layer(network: nn.Module, group: ChannelGroup, groups: dict[str, ChannelGroup]) -> PrunableLayer:
    """A group of channels as the search sees it; what it feeds are the groups whose filters read its channels."""
    size = sum(module.weight[0].numel() for module, _ in makers_of(network, group))
    feeds: dict[str, int] = {}
    for name, other in groups.items():
        made_by = {layer.name for layer in other.outputs}
        for layer in group.inputs:
            module = network.get_submodule(layer.name)
            if layer.name in made_by and isinstance(module, nn.Conv2d):
                feeds[name] = feeds.get(name, 0) + module.weight[0, 0].numel() * layer.channels.shape[1]
    return PrunableLayer(group.name, group.size, size, feeds)
