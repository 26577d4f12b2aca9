from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_reid.losses import soft_target_cross_entropy


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_loss_equals_hand_computed_value():
    # probabilities 3/4 and 1/4 against 1/2 and 1/2: (ln(4/3) + ln 4) / 2
    logits, targets = torch.tensor([[3.0, 1.0]]).log(), torch.tensor([[0.5, 0.5]])
    assert soft_target_cross_entropy(logits, targets).item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2, abs=1e-6)


@given(seed=st.integers(0, 99))
@settings(max_examples=20)
def test_one_hot_targets_give_plain_cross_entropy_and_the_loss_is_least_at_the_targets_own_logits(seed):
    logits, pids = draw(seed, 6, 5), torch.arange(6) % 5
    torch.testing.assert_close(soft_target_cross_entropy(logits, F.one_hot(pids, 5).double()), F.cross_entropy(logits, pids))
    targets = draw(seed + 1000, 6, 5).softmax(1)
    assert soft_target_cross_entropy(targets.log(), targets) <= soft_target_cross_entropy(logits, targets)


def test_gradient_is_that_of_finite_differences_and_none_reaches_the_targets():
    logits, targets = draw(0, 4, 3).requires_grad_(), draw(1, 4, 3).softmax(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: soft_target_cross_entropy(x, targets.detach()), logits)
    soft_target_cross_entropy(logits, targets).backward()
    assert targets.grad is None


def test_an_empty_batch_gives_zero_that_can_be_propagated_back():
    logits = torch.empty(0, 3, requires_grad=True)
    value = soft_target_cross_entropy(logits, torch.empty(0, 3))
    value.backward()
    assert value.item() == 0


def test_half_precision_gives_the_float32_loss_also_under_autocast():
    logits, targets = draw(2, 4, 9).bfloat16(), draw(3, 4, 9).softmax(1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = soft_target_cross_entropy(logits, targets)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, soft_target_cross_entropy(logits.float(), targets))


def test_class_numbers_and_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"got \(4, 3\) and torch.int64 \(4, 3\); class numbers go to label_smoothed"):
        soft_target_cross_entropy(draw(4, 4, 3), torch.zeros(4, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"got \(4, 3\) and torch.float64 \(4, 2\)"):
        soft_target_cross_entropy(draw(4, 4, 3), draw(5, 4, 2))
