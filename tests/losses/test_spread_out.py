"""The loss that keeps class proxies apart, against a loop over pairs."""

from __future__ import annotations

import pytest
import torch

from lightning_reid.losses.spread_out import spread_out_loss


def slow(proxies: torch.Tensor, margin: float) -> torch.Tensor:
    unit = [row / row.norm() for row in proxies]
    total = torch.zeros((), dtype=proxies.dtype)
    for i, left in enumerate(unit):
        for j, right in enumerate(unit):
            if i != j:
                total = total + max(0.0, margin - float((left - right).norm())) ** 2
    return total


@pytest.mark.parametrize("margin", [0.3, 0.7, 1.9])
def test_it_is_the_sum_over_ordered_pairs(margin):
    proxies = torch.randn(9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
    torch.testing.assert_close(spread_out_loss(proxies, margin), slow(proxies, margin))
    assert torch.autograd.gradcheck(lambda rows: spread_out_loss(rows, margin), proxies.requires_grad_())


def test_lengths_do_not_count_and_the_far_and_the_alone_are_left_in_peace():
    proxies = torch.eye(4, dtype=torch.float64)
    assert float(spread_out_loss(proxies)) == 0
    assert float(spread_out_loss(proxies[:1])) == float(spread_out_loss(proxies[:0])) == 0
    near = torch.tensor([[1.0, 0.0], [1.0, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(spread_out_loss(near), spread_out_loss(near * torch.tensor([[3.0], [0.2]])))


def test_equal_proxies_cost_the_most_and_give_finite_gradients():
    same = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    loss = spread_out_loss(same, 0.5)
    assert float(loss) == pytest.approx(6 * 0.25)
    loss.backward()
    assert bool(same.grad.isfinite().all())


def test_margins_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"margin must be a number in \(0, 2\), got 2"):
        spread_out_loss(torch.eye(2), 2.0)
