"""Batch statistics that do not depend on how many processes share the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from lightning_reid.arguments import require_count

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Network = TypeVar("Network", bound=nn.Module)
Layer = TypeVar("Layer", bound="GroupedBatchNorm")
PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d)


def group_batch_norm(module: Network, group_size: int | None = None, *, num_groups: int | None = None) -> Network:
    """Replace every BatchNorm in ``module`` by one that normalizes over consecutive groups of samples in training.

    With ``group_size`` one process with a batch of 64 and groups of 16 has the losses, gradients and running statistics of four DDP
    processes with a batch of 16 each. With ``num_groups`` every layer cuts its rows into so many equal groups, whatever their number:
    in a video network one layer sees B T frames, the next B T / 2 and the last B clips, and a group is the same clips in all of them.

    Evaluation is unchanged, and so are the names and values of parameters and buffers: state dicts fit both ways. The parameters are
    shared with ``module``, whose children are replaced in place; a BatchNorm given directly is returned replaced. A second call changes
    the groups.

    Args:
        module: Network with BatchNorm layers of torch, or timm's BatchNorm with activation.
        group_size: Samples that share their statistics, at least 2.
        num_groups: Groups of a batch, at least 1; in place of ``group_size``.

    Returns:
        ``module``, or its replacement where it is itself a BatchNorm.

    Raises:
        ValueError: Neither or both are given, or one is too small, or a layer is a BatchNorm of another kind (SyncBatchNorm spans the
            processes and contradicts groups). When called in training: the groups do not divide the batch, or have one value a channel.

    Example:
        >>> import torch
        >>> from lightning_reid.networks import group_batch_norm
        >>> layer = group_batch_norm(torch.nn.BatchNorm1d(1), group_size=2)
        >>> layer(torch.tensor([[0.0], [2.0], [10.0], [14.0]])).flatten().round(decimals=2).tolist()  # each pair by its own mean
        [-1.0, 1.0, -1.0, 1.0]
        >>> group_batch_norm(layer, num_groups=2)(torch.arange(6.0)[:, None]).detach().flatten()  # 0 to 2, and 3 to 5
        tensor([-1.2247,  0.0000,  1.2247, -1.2247,  0.0000,  1.2247])
    """
    _require_one(group_size, num_groups)
    places = places_of_batch_norm(module)
    twins = {layer: _grouped(layer, group_size, num_groups) for layer in places.values()}
    if isinstance(module, _BatchNorm):
        return twins[module]  # type: ignore[return-value]  # only a BatchNorm changes its class
    put_in_place(module, {name: twins[layer] for name, layer in places.items()})
    return module


class GroupedBatchNorm(_BatchNorm):
    """BatchNorm over consecutive groups of samples in training (also "ghost" batch normalization, arXiv:1705.08741).

    Input ``[B, C]`` or ``[B, C, ...]``, in training B a multiple of ``group_size``, or of ``num_groups``. The running statistics take the
    mean over groups of each group's mean and unbiased variance; with ``torch.distributed`` initialized also over the processes (one
    all-reduce of 2 C numbers a layer, without gradient), so that they stay equal on all ranks and equal to those of one process with all
    groups. What follows the normalization in timm's ``BatchNormAct2d`` is kept in ``drop`` and ``act``.

    Attributes:
        group_size: Samples of a group, or ``None`` where their number is given.
        num_groups: Groups of a batch, or ``None`` where their size is given.
        process_group: Processes that hold this same layer, over which the running statistics are averaged; ``None`` is the default group,
            all of them. To be set where ranks hold different layers: else each would wait for the statistics of another's layer, or take
            them. This process must belong to it.
    """

    def __init__(
        self,
        num_features: int,
        group_size: int | None = None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        num_groups: int | None = None,
    ) -> None:
        _require_one(group_size, num_groups)
        super().__init__(num_features, eps=eps, momentum=momentum, affine=affine)
        self.group_size, self.num_groups = group_size, num_groups
        self.process_group: ProcessGroup | None = None
        self.drop: nn.Module = nn.Identity()
        self.act: nn.Module = nn.Identity()

    @override
    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return self.act(self.drop(super().forward(input)))  # type: ignore[no-any-return]
        self._check_input_dim(input)
        groups = self._groups(input)
        statistics = torch.zeros(2, len(groups), self.num_features, dtype=self._statistics_dtype(input), device=input.device)
        # momentum 1 makes the kernel write each group's own mean and unbiased variance into the rows, at no cost
        outputs = [
            F.batch_norm(group, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
            for group, mean, variance in zip(groups, *statistics, strict=True)
        ]
        self._take(statistics)
        output = outputs[0] if len(outputs) == 1 else torch.cat(outputs)  # which would copy a single one
        return self.act(self.drop(output))  # type: ignore[no-any-return]

    def move_running(self, statistics: Tensor) -> None:
        """Let the running statistics follow means and unbiased variances ``[2, C]`` once, by ``momentum``."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        factor = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(statistics[0], factor)
        self.running_var.lerp_(statistics[1], factor)

    @torch.no_grad()
    def _take(self, statistics: Tensor) -> None:
        """What becomes of the groups' means and unbiased variances ``[2, G, C]``."""
        if self.running_mean is None:
            return
        mean = statistics.mean(1)
        if dist.is_available() and dist.is_initialized():
            mean = mean_over_processes(mean, self.process_group)
        self.move_running(mean)

    def _groups(self, input: Tensor) -> Sequence[Tensor]:
        size, rows = self.group_size, len(input)
        if size is not None and rows % size:
            raise ValueError(
                f"a batch of {rows} cannot be cut into groups of {size}: make the batch size a multiple of bn_group, "
                "and drop the last incomplete batch"
            )
        if self.num_groups is not None:
            if rows % self.num_groups:
                raise ValueError(
                    f"{rows} rows cannot be cut into {self.num_groups} equal groups: make the batch size a multiple of {self.num_groups}, "
                    "and drop the last incomplete batch"
                )
            size = rows // self.num_groups
        if not rows or not size or size * input.shape[2:].numel() < 2:
            raise ValueError(
                f"a group of {rows and size} of the rows of {list(input.shape)} has no variance: each needs two values a channel or more, "
                "take fewer groups or a larger batch"
            )
        groups: Sequence[Tensor] = input.split(size)
        return groups

    def _statistics_dtype(self, input: Tensor) -> torch.dtype:
        return input.dtype if self.running_mean is None else self.running_mean.dtype

    @override
    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected [B, C, ...], got {list(input.shape)}")

    @override
    def extra_repr(self) -> str:
        groups = f"group_size={self.group_size}" if self.num_groups is None else f"num_groups={self.num_groups}"
        return f"{super().extra_repr()}, {groups}"


def mean_over_processes(numbers: Tensor, process_group: ProcessGroup | None) -> Tensor:
    """Mean over the processes of a group of what each of them has; ``None`` is the default group. ``numbers`` are overwritten.

    Raises:
        ValueError: This process does not belong to the group.
    """
    num_processes = dist.get_world_size(process_group)
    if num_processes < 1:
        raise ValueError("running statistics cannot be averaged over a process group that this process does not belong to")
    dist.all_reduce(numbers, group=process_group)
    return numbers / num_processes


def places_of_batch_norm(module: nn.Module) -> dict[str, _BatchNorm]:
    """Every place below ``module`` that holds a BatchNorm, by name; a layer that is used twice has two. ``""`` is ``module`` itself."""
    return {name: layer for name, layer in module.named_modules(remove_duplicate=False) if isinstance(layer, _BatchNorm)}


def put_in_place(module: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    """Put layers into places below ``module``, by name."""
    for name, layer in layers.items():
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, layer)


def around_the_same(layer: _BatchNorm, twin: Layer) -> Layer:
    """Give ``twin`` the very parameters, buffers, parts and mode of ``layer``."""
    for name, child in layer.named_children():
        setattr(twin, name, child)
    hand_over(layer, twin)
    return twin


def hand_over(layer: _BatchNorm, other: _BatchNorm) -> None:
    """Give ``other`` the parameters, buffers and mode that ``layer`` has now."""
    for name, parameter in layer.named_parameters(recurse=False):
        setattr(other, name, parameter)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        setattr(other, name, getattr(layer, name))
    other.track_running_stats = layer.track_running_stats
    other.train(layer.training)


def _grouped(layer: _BatchNorm, group_size: int | None, num_groups: int | None) -> GroupedBatchNorm:
    if type(layer) not in (*PLAIN, GroupedBatchNorm):
        raise ValueError(f"cannot normalize a {type(layer).__name__} over groups, only {', '.join(kind.__name__ for kind in PLAIN)}")
    grouped = GroupedBatchNorm(layer.num_features, group_size, layer.eps, layer.momentum, layer.affine, num_groups=num_groups)
    if isinstance(layer, GroupedBatchNorm):
        grouped.process_group = layer.process_group
    return around_the_same(layer, grouped)


def _require_one(group_size: int | None, num_groups: int | None) -> None:
    if (group_size is None) == (num_groups is None):
        raise ValueError(f"give either group_size or num_groups, got {group_size} and {num_groups}")
    if group_size is not None:
        require_count("group_size", group_size, low=2)  # one sample has no variance
    else:
        require_count("num_groups", num_groups)
