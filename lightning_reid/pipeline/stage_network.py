"""Some consecutive units of a network as one stage of a pipeline: what it is sent, what it computes, what it sends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from typing_extensions import override

from lightning_reid.networks.embedding_network import EmbeddingNetwork
from lightning_reid.networks.evaluating import evaluating
from lightning_reid.networks.units import Unit

Recomputing = Callable[[], AbstractContextManager[None]]


class StageNetwork(nn.Module):
    """Units of a network one after another: a micro-batch or its maps to the maps that the next stage is sent, or to embeddings.

    Its parameters are the network's own, which stay where they are and keep their names: nothing is registered here.

    Maps travel in one piece of memory in the order in which they lie, channels-last or not, and in the precision of the weights: what a
    network computes does not depend on where it was cut.

    Args:
        network: What the units are of.
        units: Its units of this stage.
        first: Whether the stage is given images or clips, and not another stage's maps.
        last: Whether it gives embeddings ``[m, D]``.
        parts: Whether the last stage gives ``[m, 3, D]`` instead: the whole person, the upper and the lower half.
        recomputing: What recomputation runs in; ``None`` keeps what the backward pass needs, and recomputes nothing.

    Attributes:
        masks: ``[m, T, H, W]`` bool of each micro-batch, by its number; empty where the batch has none.
        microbatch: Number of the one that is computed next.
        rows: Of a micro-batch, m.
    """

    def __init__(
        self,
        network: EmbeddingNetwork,
        units: Sequence[Unit],
        *,
        first: bool,
        last: bool,
        parts: bool = False,
        recomputing: Recomputing | None = None,
    ) -> None:
        super().__init__()
        self._network = (network,)  # in a tuple torch does not find it
        self.units, self.first, self.last, self.parts, self.recomputing = list(units), first, last, parts, recomputing
        self.masks: Sequence[Tensor] = ()
        self.microbatch, self.rows = 0, 1
        self._channels_last = is_channels_last(network)

    @override
    def forward(self, maps: Tensor) -> Tensor:
        masks = self.masks[self.microbatch] if len(self.masks) else None
        if not self.first:
            maps = received(maps, self._channels_last)
        if self.recomputing is None or not torch.is_grad_enabled():
            maps = self._run(maps, masks)
        else:
            maps = checkpoint(self._run, maps, masks, use_reentrant=False, context_fn=lambda: (nullcontext(), self.recomputing()))
        dtype = self._network[0].dtype
        return maps.to(dtype) if self.last else sent(maps, self._channels_last, dtype)

    def _run(self, maps: Tensor, masks: Tensor | None) -> Tensor:
        for unit in self.units[:-1]:
            maps = unit.run(maps)
        end = self.units[-1]
        output = end.run(maps, masks) if end.takes_masks else end.run(maps)
        if not (self.last and self.parts):
            return output
        return torch.cat([output[:, None], self._network[0].parts(maps, self.rows)], 1)


def is_channels_last(network: nn.Module) -> bool:
    """Whether the network's weights, and with them its maps, lie channels-last."""
    kernels = [weight for weight in network.parameters() if weight.ndim == 4]
    return any(not kernel.is_contiguous() and kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def sent(maps: Tensor, channels_last: bool, dtype: torch.dtype) -> Tensor:
    """Maps ``[N, C, h, w]`` as they travel, in one piece of memory: ``[N, h, w, C]`` where they lie channels-last."""
    return (maps.permute(0, 2, 3, 1) if channels_last else maps).to(dtype).contiguous()


def received(maps: Tensor, channels_last: bool) -> Tensor:
    """Maps as a network takes them, of what was ``sent``; nothing is copied."""
    return maps.permute(0, 3, 1, 2) if channels_last else maps


def boundaries(network: EmbeddingNetwork, inputs: Tensor) -> list[tuple[int, ...]]:
    """The shape of what each unit gives, for inputs of one row, computed on torch's meta device.

    Args:
        network: Any of its tensors may lie on the meta device, where nobody knows their values.
        inputs: ``[1, ...]`` images or clips.
    """
    state: dict[str, Any] = {f"network.{name}": tensor.detach().to("meta") for name, tensor in network.state_dict(keep_vars=True).items()}
    with evaluating(network), torch.no_grad():  # in training, batch normalization of one image would refuse a 1 x 1 map
        shapes: list[tuple[int, ...]] = torch.func.functional_call(_Shapes(network), state, (inputs.detach().to("meta"),))
    return shapes


class _Shapes(nn.Module):
    def __init__(self, network: EmbeddingNetwork) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, maps: Tensor) -> list[tuple[int, ...]]:
        shapes = []
        for unit in self.network.units(maps):
            maps = unit.run(maps)
            shapes.append(tuple(maps.shape))
        return shapes
