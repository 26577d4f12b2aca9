"""Batch statistics that do not depend on how many processes share the batch."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from lightning_reid.arguments import require_count

Network = TypeVar("Network", bound=nn.Module)
PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d)


def group_batch_norm(module: Network, group_size: int) -> Network:
    """Replace every BatchNorm in ``module`` by one that normalizes over consecutive groups of ``group_size`` samples in training.

    With it, one process with a batch of 64 and ``group_size=16`` has the losses, gradients and running statistics of four DDP
    processes with a batch of 16 each. Evaluation is unchanged, and so are the names and values of parameters and buffers: state
    dicts fit both ways. The parameters are shared with ``module``, whose children are replaced in place; a BatchNorm given directly
    is returned replaced. A second call changes the group size.

    Args:
        module: Network with BatchNorm layers of torch, or timm's BatchNorm with activation.
        group_size: Samples that share their statistics, at least 2.

    Returns:
        ``module``, or its replacement where it is itself a BatchNorm.

    Raises:
        ValueError: ``group_size`` is too small, or a layer is a BatchNorm of another kind (SyncBatchNorm spans the processes and
            contradicts groups).

    Example:
        >>> import torch
        >>> from lightning_reid.networks import group_batch_norm
        >>> layer = group_batch_norm(torch.nn.BatchNorm1d(1), group_size=2)
        >>> layer(torch.tensor([[0.0], [2.0], [10.0], [14.0]])).flatten().round(decimals=2).tolist()  # each pair by its own mean
        [-1.0, 1.0, -1.0, 1.0]
    """
    require_count("group_size", group_size, low=2)  # one sample has no variance
    replacement = _grouped(module, group_size) if isinstance(module, _BatchNorm) else module
    for name, child in list(replacement.named_children()):
        setattr(replacement, name, group_batch_norm(child, group_size))
    return replacement  # type: ignore[return-value]  # only a BatchNorm changes its class


class GroupedBatchNorm(_BatchNorm):
    """BatchNorm over consecutive groups of ``group_size`` samples in training (also "ghost" batch normalization, arXiv:1705.08741).

    Input ``[B, C]`` or ``[B, C, ...]``, B a multiple of ``group_size`` in training. The running statistics take the mean over groups
    of each group's mean and unbiased variance; with ``torch.distributed`` initialized also over the processes (one all-reduce of
    2 C numbers a layer, without gradient), so that they stay equal on all ranks and equal to those of one process with all groups.
    What follows the normalization in timm's ``BatchNormAct2d`` is kept in ``drop`` and ``act``.
    """

    def __init__(self, num_features: int, group_size: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum, affine=affine)
        self.group_size = group_size
        self.drop: nn.Module = nn.Identity()
        self.act: nn.Module = nn.Identity()

    @override
    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return self.act(self.drop(super().forward(input)))  # type: ignore[no-any-return]
        if len(input) % self.group_size:
            raise ValueError(
                f"a batch of {len(input)} cannot be cut into groups of {self.group_size}: make the batch size a multiple of bn_group, "
                "and drop the last incomplete batch"
            )
        groups = input.split(self.group_size)
        statistics = torch.zeros(2, len(groups), self.num_features, dtype=self._statistics_dtype(input), device=input.device)
        # momentum 1 makes the kernel write each group's own mean and unbiased variance into the rows, at no cost
        outputs = [
            F.batch_norm(group, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
            for group, mean, variance in zip(groups, *statistics, strict=True)
        ]
        self._update_running(statistics.mean(1))
        return self.act(self.drop(torch.cat(outputs)))  # type: ignore[no-any-return]

    def _statistics_dtype(self, input: Tensor) -> torch.dtype:
        return input.dtype if self.running_mean is None else self.running_mean.dtype

    @torch.no_grad()
    def _update_running(self, statistics: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(statistics)
            statistics = statistics / dist.get_world_size()
        self.num_batches_tracked.add_(1)
        factor = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(statistics[0], factor)
        self.running_var.lerp_(statistics[1], factor)

    @override
    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected [B, C, ...], got {list(input.shape)}")

    @override
    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, group_size={self.group_size}"


def _grouped(layer: _BatchNorm, group_size: int) -> GroupedBatchNorm:
    """The layer's twin around the same parameters, buffers and activation."""
    if type(layer) not in (*PLAIN, GroupedBatchNorm):
        raise ValueError(f"cannot normalize a {type(layer).__name__} over groups, only {', '.join(kind.__name__ for kind in PLAIN)}")
    grouped = GroupedBatchNorm(layer.num_features, group_size, layer.eps, layer.momentum, layer.affine)
    for name, parameter in layer.named_parameters(recurse=False):
        setattr(grouped, name, parameter)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        setattr(grouped, name, getattr(layer, name))
    for name, child in layer.named_children():
        setattr(grouped, name, child)
    grouped.track_running_stats = layer.track_running_stats
    return grouped.train(layer.training)
