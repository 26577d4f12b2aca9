"""The repelled loss and its table against the public code's numbers, and row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_reid.losses import repelled_loss
from lightning_reid.losses.repelled import updated_table

GOLDEN = {name: torch.from_numpy(array) for name, array in np.load(Path(__file__).parents[1] / "goldens" / "memory_losses.npz").items()}


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_loss_gradient_and_table_are_those_of_the_public_code():
    x = GOLDEN["x"].clone().requires_grad_()
    loss = repelled_loss(x, GOLDEN["y"], GOLDEN["V_before"])
    loss.backward()
    torch.testing.assert_close(loss.detach(), GOLDEN["loss"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(x.grad, GOLDEN["grad_x"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(updated_table(GOLDEN["V_before"], GOLDEN["x"], GOLDEN["y"]), GOLDEN["V_after"], rtol=1e-5, atol=1e-6)


@given(seed=st.integers(0, 999), rows=st.integers(0, 12), clusters=st.integers(1, 5), momentum=st.floats(0, 0.95))
@settings(max_examples=40)
def test_the_table_moves_image_by_image_in_the_order_of_the_batch(seed, rows, clusters, momentum):
    table, embeddings = draw(seed, clusters, 3), F.normalize(draw(seed + 1, rows, 3), dim=1)
    labels = torch.randint(0, clusters, (rows,), generator=torch.Generator().manual_seed(seed))
    before, slow = table.clone(), table.clone()
    for embedding, label in zip(embeddings, labels.tolist()):
        slow[label] = F.normalize(momentum * slow[label] + (1 - momentum) * embedding, dim=0)
    torch.testing.assert_close(updated_table(table, embeddings, labels, momentum), slow)
    assert torch.equal(table, before)


def test_gradients_are_those_of_finite_differences_and_none_reaches_the_table():
    table = draw(0, 4, 3).requires_grad_()
    x, labels = draw(1, 3, 3).requires_grad_(), torch.tensor([0, 3, 3])
    assert torch.autograd.gradcheck(lambda v: repelled_loss(v, labels, table), x)
    repelled_loss(x, labels, table).backward()
    assert table.grad is None


def test_an_image_at_its_own_row_of_a_table_of_zeros_is_pulled_by_nothing():
    x = F.normalize(draw(2, 2, 4), dim=1).requires_grad_()
    loss = repelled_loss(x, torch.tensor([0, 1]), torch.zeros(5, 4, dtype=torch.float64))
    loss.backward()
    assert loss.item() == pytest.approx(np.log(5))
    assert not x.grad.any()
    assert repelled_loss(x[:0], torch.empty(0, dtype=torch.int64), torch.zeros(5, 4)).item() == 0


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"a table \[K, D\], got \(2, 3\), \(2,\) and \(5, 4\)"):
        repelled_loss(draw(0, 2, 3), torch.zeros(2, dtype=torch.int64), draw(1, 5, 4))
    with pytest.raises(ValueError, match=r"temperature must be a number in \(0, .* got -1"):
        repelled_loss(draw(0, 2, 3), torch.zeros(2, dtype=torch.int64), draw(1, 5, 3), -1)
    with pytest.raises(ValueError, match=r"momentum must be a number in \[0, 1\), got 1"):
        updated_table(draw(1, 5, 3), draw(0, 2, 3), torch.zeros(2, dtype=torch.int64), 1)
