"""How much the loss changes when a channel is removed, by first-order Taylor expansion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

CoupledImpact = Literal["square of sum", "sum of squares"]
DECAY = 0.9
"""Of the running average (section 6.4.1)."""


def batch_norm_score(weight: Tensor, bias: Tensor, weight_gradient: Tensor, bias_gradient: Tensor) -> Tensor:
    """``gamma dL/dgamma + beta dL/dbeta``, ``[C]``: minus the first-order change of the loss when a channel's normalized output is zeroed.

    It is the gradient with respect to a gate of 1 behind the layer. Source: thesis, section 6.4.1, after Molchanov et al. 2019
    (arXiv:1906.10771), eq. 8.

    Example:
        >>> import torch
        >>> from lightning_reid.pruning import batch_norm_score
        >>> weight, bias = torch.tensor([2.0, 1.0]), torch.tensor([1.0, 0.0])
        >>> batch_norm_score(weight, bias, torch.tensor([0.5, 3.0]), torch.tensor([4.0, 9.0]))  # 2 * 0.5 + 1 * 4, and 1 * 3 + 0 * 9
        tensor([5., 3.])
    """
    return (weight * weight_gradient + bias * bias_gradient).detach()


def filter_score(weight: Tensor, bias: Tensor | None, weight_gradient: Tensor, bias_gradient: Tensor | None) -> Tensor:
    """``batch_norm_score`` of a layer without normalization, ``[N]``: weight times gradient summed over each filter ``[N, C, ...]``."""
    score = (weight * weight_gradient).flatten(1).sum(1)
    return (score if bias is None or bias_gradient is None else score + bias * bias_gradient).detach()


def layer_score(layer: nn.Module) -> Tensor:
    """``batch_norm_score`` or ``filter_score`` of a layer, with the gradients that it holds, ``[N]``.

    Raises:
        ValueError: It has no weight and bias, or no gradient.
    """
    weight, bias = layer.weight, layer.bias if isinstance(layer.bias, Tensor) else None
    if not isinstance(weight, Tensor) or (bias is None and isinstance(layer, _BatchNorm)):
        raise ValueError(f"{layer} has no weight and bias whose importance could be estimated: make it with affine=True")
    if weight.grad is None:
        raise ValueError(
            f"{type(layer).__name__} of shape {list(weight.shape)} has no gradient: a frozen layer cannot be pruned by its loss"
        )
    if isinstance(layer, _BatchNorm) and bias is not None:
        return batch_norm_score(weight, bias, weight.grad, torch.zeros_like(bias) if bias.grad is None else bias.grad)
    return filter_score(weight, bias, weight.grad, None if bias is None else bias.grad)


def loss_impact(scores: Sequence[Tensor], coupled: CoupledImpact = "square of sum") -> Tensor:
    """``l(f)``, ``[C]``, at least 0: squared change of the loss when a channel is removed from all layers that share it.

    Args:
        scores: Signed ``[C]`` of each coupled layer, at least one.
        coupled: ``"square of sum"`` squares the sum of the signed scores, which is the first-order change when all are removed
            together, as in the public code; ``"sum of squares"`` adds the layers' impacts, as in the text.

    Source: thesis, section 6.4.1.

    Raises:
        ValueError: There are no scores, their lengths differ, or ``coupled`` is unknown.

    Example:
        >>> import torch
        >>> from lightning_reid.pruning import loss_impact
        >>> scores = [torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 3.0])]  # of two layers that share two channels
        >>> loss_impact(scores).tolist(), loss_impact(scores, coupled="sum of squares").tolist()
        ([0.0, 25.0], [2.0, 13.0])
    """
    if coupled not in get_args(CoupledImpact):
        raise ValueError(f"coupled must be one of {get_args(CoupledImpact)}, got {coupled!r}")
    if not scores or len({score.shape for score in scores}) != 1:
        raise ValueError(f"need scores of one length, got {[tuple(score.shape) for score in scores]}")
    together = torch.stack(list(scores))
    return together.sum(0).square() if coupled == "square of sum" else together.square().sum(0)


class RunningImpact:
    """Impacts averaged over batches, ``e = 0.9 e + 0.1 new`` from the first value on; restarted at each pruning step.

    Source: thesis, section 6.4.1.
    """

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}
        self.num_batches = 0

    def update(self, impacts: Mapping[str, Tensor]) -> None:
        """Take in the impacts ``[C]`` of every group of channels, by its name, of one batch.

        Raises:
            FloatingPointError: An impact is not finite; the message names the group.
        """
        for name, impact in impacts.items():
            if not impact.isfinite().all():
                raise FloatingPointError(
                    f"the gradients at {name} are NaN or infinite: importance cannot be estimated from them. Lower the learning rate, or"
                    " leave half precision"
                )
        for name, impact in impacts.items():
            old = self.values.get(name)
            self.values[name] = impact.clone() if old is None else DECAY * old + (1 - DECAY) * impact
        self.num_batches += 1

    def restart(self) -> None:
        """Forget the impacts and how many batches they are of."""
        self.values, self.num_batches = {}, 0
