"""Gradients of the stages are there once: those of the step before are gone when one begins, and new ones are handed over, not copied."""

from __future__ import annotations

import weakref

import pytest
import torch
from pipelined import built, fitted
from torch import nn

from lightning_reid.pipeline import PipelineStrategy
from lightning_reid.pipeline.training_step import carried


def left_at_the_losses(accumulate: int) -> list[int]:
    """Of how many parameters the gradients of the step before are still there when the loss of a step is asked for."""
    module, left = built("baseline").double(), list[int]()
    before: list[weakref.ref] = []
    compute = module.training_step

    def training_step(batch, batch_idx):
        left.append(sum(one() is not None for one in before))
        return compute(batch, batch_idx)

    def remember(*_):
        before[:] = [weakref.ref(one.grad.untyped_storage()) for one in module.network.backbone.parameters() if one.grad is not None]

    module.training_step, module.on_train_batch_end = training_step, remember
    fitted(module, PipelineStrategy(stage_costs="equal"), 2, steps=4, accumulate_grad_batches=accumulate)
    return left


def test_gradients_of_the_step_before_are_gone_unless_they_are_added_to(two_processes):
    for alone, added_to in zip(two_processes(left_at_the_losses, 1), two_processes(left_at_the_losses, 2), strict=True):
        assert alone == [0, 0, 0, 0]
        assert [count > 0 for count in added_to] == [False, True, False, True]


def test_gradients_are_handed_over_times_what_the_loss_is_multiplied_by_and_once():
    parameter, weight = nn.Parameter(torch.zeros(3)), torch.tensor(2.0, requires_grad=True)
    gradient = torch.tensor([1.0, 2.0, 3.0])
    place = gradient.data_ptr()
    loss = carried(3 * weight, [parameter], [gradient]) / 2
    del gradient
    loss.backward(retain_graph=True)
    assert parameter.grad is not None
    assert (parameter.grad.tolist(), parameter.grad.data_ptr()) == ([0.5, 1.0, 1.5], place)
    assert weight.grad == 1.5
    with pytest.raises(RuntimeError, match="a step has one backward pass"):
        loss.backward()
