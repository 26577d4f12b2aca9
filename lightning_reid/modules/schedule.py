"""How the learning rate goes from epoch to epoch."""

from __future__ import annotations

from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from typing_extensions import override


class EpochFactor(LambdaLR):
    """The learning rate times a factor of the epoch, of the groups that the optimizer began with.

    Groups that come later have their own: ``BackboneFinetuning`` adds one when it unfreezes, and sets its rate itself.
    """

    @override
    def get_lr(self) -> list[float | Tensor]:
        rates = super().get_lr()
        return [*rates, *(group["lr"] for group in self.optimizer.param_groups[len(rates) :])]
