"""The norm of gradients that lie with several processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer


def clip_norm_over_stages(optimizer: Optimizer, most: float, of_stages: Sequence[nn.Parameter], group: dist.ProcessGroup) -> None:
    """Scale gradients so that their norm over all stages is at most ``most``.

    Args:
        optimizer: Whose parameters they are of.
        most: Largest norm.
        of_stages: Parameters of the stages here, at least one. Others every process has, and their gradients count once.
        group: The processes of one pipeline.
    """
    mine = {id(parameter) for parameter in of_stages}
    device = next(one.device for one in of_stages)
    parameters = [one for options in optimizer.param_groups for one in options["params"] if one.grad is not None]
    norms = [get_total_norm([one.grad for one in parameters if (id(one) in mine) == here]).to(device) for here in (True, False)]
    stages, shared = (norm.double() ** 2 for norm in norms)
    dist.all_reduce(stages, group=group)  # also by a process whose stages the optimizer leaves alone: the others wait for it
    if parameters:
        clip_grads_with_norm_(parameters, most, torch.sqrt(stages + shared).to(parameters[0].grad.dtype))
