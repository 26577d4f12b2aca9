"""How many bytes of activations a network holds at once under a channel plan, without making the smaller network."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from lightning_reid.networks.channels.groups import ChannelGroup
from lightning_reid.networks.channels.removal import remove_channels


class ActivationMemory:
    """Peak of the bytes of activations during an inference forward pass, as a function of how many channels of each group are left.

    A moment of the pass is the return of a torch function. What PyTorch holds then counts: the network's input, which its caller keeps,
    the function's inputs and output, and whatever a block or its caller still refers to, as a shortcut. A tensor that is written in place
    counts once, a view not at all; weights, and what a kernel works with inside a function, do not count. At every moment the bytes grow
    in proportion to each group's channels, and the peak is the largest of them: exact, in microseconds.

    Args:
        network: At full width; unchanged. In the type of its weights, without autocast.
        groups: Of ``find_channel_groups``.
        input_shape: Of one input of the network, the first size 1.

    Raises:
        ValueError: The tensors of a pass do not grow in proportion to each group, the pass itself depends on widths or on values, or the
            network does not take such an input.
    """

    def __init__(self, network: nn.Module, groups: Sequence[ChannelGroup], input_shape: Sequence[int]) -> None:
        self.groups = list(groups)
        unreal = copy.deepcopy(network).to("meta").eval()
        full = _bytes_at_moments(unreal, input_shape)
        removable = [group for group in self.groups if group.size > 1]

        def lost(removed: Mapping[str, int]) -> Tensor:
            return full - _bytes_at_moments(_without(unreal, self.groups, removed), input_shape, like=full)

        columns = {group.name: lost({group.name: 1}) for group in removable}
        of_a_channel = torch.stack([columns.get(group.name, torch.zeros_like(full)) for group in self.groups], 1)
        halves = {group.name: group.size // 2 for group in self.groups}
        if not torch.equal(of_a_channel @ torch.tensor([*halves.values()], dtype=torch.int64), lost(halves)):
            raise ValueError("activations do not shrink by a share for each channel: the memory of such a network cannot be counted")
        moments = torch.cat([full[:, None], of_a_channel], 1).unique(dim=0)
        self._full, self._of_a_channel = moments[:, 0], moments[:, 1:]  # [M] and [M, G] int64 bytes
        self._sizes = torch.tensor([group.size for group in self.groups], dtype=torch.int64)

    def __call__(self, left: Mapping[str, int]) -> int:
        """Bytes at the peak, with ``left`` channels in each group."""
        return int(self._bytes(left).max())

    def of_a_channel(self, left: Mapping[str, int]) -> dict[str, float]:
        """By group, bytes at the peak that one of its channels holds: 0 for a group that is not alive then.

        Where several moments are as high, the mean over them: none of them alone would lower the peak.
        """
        held = self._bytes(left)
        mean = self._of_a_channel[held == held.max()].double().mean(0)
        return {group.name: float(bytes_held) for group, bytes_held in zip(self.groups, mean, strict=True)}

    def _bytes(self, left: Mapping[str, int]) -> Tensor:
        removed = self._sizes - torch.tensor([left[group.name] for group in self.groups], dtype=torch.int64)
        held: Tensor = self._full - self._of_a_channel @ removed
        return held


def peak_activation_bytes(network: nn.Module, input_shape: Sequence[int]) -> int:
    """The peak that ``ActivationMemory`` tells, of a network as it is: whole, or materialized. ``network`` stays unchanged.

    Raises:
        ValueError: The pass depends on the values of tensors, or the network does not take such an input.

    Example:
        >>> from torch import nn
        >>> from lightning_reid.networks.channels.activation_memory import peak_activation_bytes
        >>> peak_activation_bytes(nn.Conv2d(3, 8, kernel_size=1), (1, 3, 10, 10))  # 3 maps of the image and 8 of what comes of it
        4400
    """
    return int(_bytes_at_moments(copy.deepcopy(network).to("meta").eval(), input_shape).max())


def _without(network: nn.Module, groups: Sequence[ChannelGroup], removed: Mapping[str, int]) -> nn.Module:
    smaller = copy.deepcopy(network)
    gone = {group.name: torch.arange(group.size) < removed[group.name] for group in groups if group.name in removed}
    remove_channels(smaller, groups, gone)
    return smaller


def _bytes_at_moments(network: nn.Module, input_shape: Sequence[int], like: Tensor | None = None) -> Tensor:
    """``[M]`` int64: bytes of what is alive at each moment of a pass on the meta device."""
    weights = next(network.parameters(), None)
    images = torch.empty(*input_shape, device="meta", dtype=None if weights is None else weights.dtype)
    try:
        with torch.no_grad(), _LiveTensors(network, images) as live:
            network(images)
    except (RuntimeError, TypeError) as error:  # where a value is asked for; NumPy asks with a TypeError
        raise ValueError(
            f"the memory of {type(network).__name__} cannot be counted: its forward pass is followed by shapes alone, on an input of"
            f" {[*input_shape]}, and ended in: {error}"
        ) from error
    if like is not None and len(live.bytes) != len(like):
        raise ValueError("the forward pass takes other steps with fewer channels: the memory of such a network cannot be counted")
    return torch.tensor(live.bytes)


class _LiveTensors(TorchFunctionMode):
    """Bytes of all tensors that are alive after each function of a forward pass, with its arguments and what it returned."""

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.bytes: list[int] = []
        self._weights = {StorageWeakRef(tensor.untyped_storage()) for tensor in (*network.parameters(), *network.buffers())}
        self._alive = {StorageWeakRef(images.untyped_storage()): images.untyped_storage().nbytes()}

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        returned = list(tensors_in(output))
        for tensor in returned:
            storage = tensor.untyped_storage()
            reference = StorageWeakRef(storage)
            if reference not in self._weights:
                self._alive[reference] = storage.nbytes()
        if returned:
            self._alive = {reference: size for reference, size in self._alive.items() if not reference.expired()}
            self.bytes.append(sum(self._alive.values()))
        return output


def tensors_in(output: Any) -> Iterator[Tensor]:
    """The tensors among what a function takes or returns."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (list, tuple)):
        for part in output:
            yield from tensors_in(part)
