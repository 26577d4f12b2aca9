"""Which process holds which tensors of a network that is cut into stages, and how a cut network becomes whole again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lightning_reid.networks.units import Unit


class Placement:
    """Where the tensors of a module lie whose network is cut: each with one process of a pipeline, or with all of them.

    Args:
        module: Holds the network under ``prefix``, and what else every process has: a classifier.
        prefix: Of the network's names among the module's, ``"network."``.
        stages: The units of each stage.
        owner: Stage number to the rank, within the pipeline's group, that computes it.
        group: The processes of one pipeline.

    Attributes:
        owners: Name of a tensor of the module's state to the rank within the group that holds it. Those that all hold are not in it.
        rank: This process, within the group.
    """

    def __init__(
        self, module: nn.Module, prefix: str, stages: Sequence[Sequence[Unit]], owner: Sequence[int], group: dist.ProcessGroup
    ) -> None:
        self.module, self.group, self.rank = module, group, dist.get_rank(group)
        self.owners = dict(_owners(module, prefix, stages, owner))
        self._cut = False

    def mine(self, name: str) -> bool:
        """Whether this process holds the tensor."""
        return self.owners.get(name, self.rank) == self.rank

    def is_shared(self, name: str) -> bool:
        """Whether every process of the pipeline holds the tensor."""
        return name not in self.owners

    def cut(self) -> None:
        """Give up the tensors of other stages: they stay, under their names, on torch's meta device, without memory."""
        for name, tensor in _tensors(self.module):
            if not self.mine(name):
                _put(self.module, name, tensor, tensor.detach().to("meta"))
        self._cut = True

    def make_whole(self) -> None:
        """Get them back from the processes that hold them; every process of the pipeline calls it."""
        if not self._cut:
            return
        for name, tensor in _tensors(self.module):
            if not self.is_shared(name):
                there = torch.empty(tensor.shape, dtype=tensor.dtype, device=self._device())  # a broadcast fills one piece of memory
                value = tensor.detach().contiguous() if self.mine(name) else there
                dist.broadcast(value, self.global_rank(self.owners[name]), group=self.group)
                if not self.mine(name):
                    like = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=value.device)
                    _put(self.module, name, tensor, like.copy_(value))
        self._cut = False

    def gathered(self, mine: Mapping[Any, Any]) -> dict[Any, Any] | None:
        """What all processes hold by key, on the first of the pipeline; ``None`` on the others. Each key is told by one process only."""
        gathered: list[Mapping[Any, Any]] | None = [{}] * dist.get_world_size(self.group) if self.rank == 0 else None
        dist.gather_object(mine, gathered, self.global_rank(0), group=self.group)
        return None if gathered is None else {key: value for one in gathered for key, value in one.items()}

    def global_rank(self, rank: int) -> int:
        """The process's rank among all, by its rank within the pipeline."""
        return dist.get_global_rank(self.group, rank)

    def _device(self) -> torch.device:
        return next(tensor.device for _, tensor in _tensors(self.module) if not tensor.is_meta)


def _owners(module: nn.Module, prefix: str, stages: Sequence[Sequence[Unit]], owner: Sequence[int]) -> Iterable[tuple[str, int]]:
    names = [name for name, _ in _tensors(module)]
    for units, rank in zip(stages, owner, strict=True):
        inside = tuple(f"{prefix}{name}." for unit in units for name in unit.modules)
        yield from ((name, rank) for name in names if name.startswith(inside))


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _put(module: nn.Module, name: str, before: Tensor, value: Tensor) -> None:
    path, _, attribute = name.rpartition(".")
    is_parameter = isinstance(before, nn.Parameter)
    new = nn.Parameter(value, requires_grad=before.requires_grad) if is_parameter else value
    setattr(module.get_submodule(path), attribute, new)
