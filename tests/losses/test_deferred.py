"""A loss over a whole batch that is asked for by micro-batches, beside the same loss of the batch in one piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_reid.losses import DeferredLoss, batch_hard_triplet_loss


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def deferred_over(rows: Tensor, sizes: Sequence[int], loss_of: Callable[[Tensor], Tensor]) -> tuple[DeferredLoss, list[Tensor]]:
    """What a schedule does that runs all forwards first: the deferred loss and every micro-batch's zero."""
    deferred, targets = DeferredLoss(len(sizes), loss_of), torch.arange(len(sizes)).split(1)
    return deferred, [deferred(part, index) for part, index in zip(rows.split(list(sizes)), targets, strict=True)]


@given(seed=st.integers(0, 999), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6), backwards=st.randoms(use_true_random=False))
def test_value_and_gradients_are_those_of_the_whole_batch_for_any_split_and_any_order_of_the_backwards(seed, sizes, backwards):
    pids = torch.randint(0, 3, (sum(sizes),), generator=torch.Generator().manual_seed(seed))

    def loss_of(embeddings: Tensor, head: Tensor) -> Tensor:
        return batch_hard_triplet_loss(embeddings, pids) + F.cross_entropy(embeddings @ head.T, pids)

    rows, head, alone = draw(seed, len(pids), 4), draw(seed + 1, 3, 4).requires_grad_(), draw(seed + 1, 3, 4).requires_grad_()
    rows, whole = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    expected = loss_of(whole, alone)
    expected.backward()

    deferred, zeros = deferred_over(rows, sizes, lambda embeddings: loss_of(embeddings, head))
    assert [zero.item() for zero in zeros] == [0] * len(sizes)
    backwards.shuffle(zeros)
    for zero in zeros:
        zero.backward()
    assert head.grad is None, "the micro-batches' backwards reach no head"
    deferred.loss.backward()
    torch.testing.assert_close(deferred.loss, expected, atol=1e-14, rtol=0)
    torch.testing.assert_close(rows.grad, whole.grad, atol=1e-14, rtol=0)
    torch.testing.assert_close(head.grad, alone.grad, atol=1e-14, rtol=0)


def test_pairs_of_different_micro_batches_are_mined_worked_by_hand():
    # A at 0 and B at 12, then A at 10 and B at -1: everybody's hardest positive and hardest negative is in the other micro-batch.
    # Margin 1 + positive - negative: 1 + 10 - 1 = 10, 1 + 13 - 2 = 12, 1 + 10 - 2 = 9, 1 + 13 - 1 = 13, on average 11.
    # As a function of the places 4 L = 4 + 2 (A2 - A1) + 2 (B1 - B2) - 2 (A1 - B2) - 2 (B1 - A2) = 4 + 4 A2 - 4 A1.
    rows, pids = torch.tensor([[0.0], [12.0], [10.0], [-1.0]], dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 0, 1])
    deferred, zeros = deferred_over(rows, [2, 2], lambda embeddings: batch_hard_triplet_loss(embeddings, pids, margin=1.0))
    sum(zeros).backward()
    assert deferred.loss.item() == pytest.approx(11, abs=1e-12)
    assert rows.grad.flatten().tolist() == pytest.approx([-1, 0, 1, 0], abs=1e-12)
    within = batch_hard_triplet_loss(rows, pids, margin=1.0, group_size=2)
    assert within.item() == 0, "no row has a positive within its micro-batch"


def test_mining_within_micro_batches_is_another_loss_worked_by_hand():
    # A, A, B at 0, 1, 9, then B, B, A at 11, 3, 2, margin 1; positive and negative of each in the whole batch:
    # 2 and 3, 1 and 2, 6 and 7, 8 and 9, 8 and 1, 2 and 1: losses 0, 0, 0, 0, 8, 2, on average 10 / 6.
    # Within the first only the As have a positive, 1 and 9, 1 and 8, losses 0 and 0; in the second the Bs, 8 and 9, 8 and 1, losses
    # 0 and 8, on average 4, and of both micro-batches 2.
    rows = torch.tensor([[0.0], [1.0], [9.0], [11.0], [3.0], [2.0]], dtype=torch.float64, requires_grad=True)
    pids = torch.tensor([0, 0, 1, 1, 1, 0])
    deferred, _ = deferred_over(rows, [3, 3], lambda embeddings: batch_hard_triplet_loss(embeddings, pids, margin=1.0))
    assert deferred.loss.item() == pytest.approx(10 / 6, abs=1e-12)
    assert batch_hard_triplet_loss(rows, pids, margin=1.0, group_size=3).item() == pytest.approx(2, abs=1e-12)


def test_gradients_are_those_of_finite_differences():
    pids = torch.tensor([0, 1, 0, 1, 2, 2])

    def value_with_the_gradient_of_the_zeros(rows: Tensor) -> Tensor:
        deferred, zeros = deferred_over(rows, [1, 3, 2], lambda embeddings: batch_hard_triplet_loss(embeddings, pids))
        return deferred.loss.detach() + sum(zeros)

    assert torch.autograd.gradcheck(value_with_the_gradient_of_the_zeros, draw(0, 6, 3).requires_grad_())


def test_the_incoming_gradient_scales_that_of_its_micro_batch_alone():
    rows = torch.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    _, (first, second) = deferred_over(rows, [1, 2], lambda embeddings: embeddings.square().sum())
    (5 * first + 2 * second).backward()
    assert rows.grad.flatten().tolist() == [10, 8, 12]


def test_the_loss_is_computed_once_from_all_rows_in_order_when_the_last_have_come():
    rows, seen = draw(1, 6, 2).requires_grad_(), []
    deferred = DeferredLoss(3, lambda embeddings: seen.append(embeddings.detach().clone()) or embeddings.sum())
    zeros = [deferred(rows[:2], 0), deferred(rows[2:4], 1)]
    assert seen == []
    zeros.append(deferred(rows[4:], 2))
    for zero in zeros:
        zero.backward()
    assert len(seen) == 1
    assert torch.equal(seen[0], rows.detach())
    assert torch.equal(deferred.embeddings, rows.detach())
    assert deferred.embeddings.is_leaf


def test_memory_that_is_used_again_after_a_call_does_no_harm():
    buffer, leaf = torch.zeros(1, 2), torch.ones(1, 2, requires_grad=True)
    deferred = DeferredLoss(2, lambda embeddings: embeddings.square().sum())
    first = buffer + leaf
    zero = deferred(first, 0)
    first.detach().fill_(7)  # no autograd node hears of it
    deferred(2 * leaf, 1)
    assert deferred.loss.item() == 2 * 1 + 2 * 4
    zero.backward()
    assert leaf.grad.tolist() == [[2, 2]]


def test_a_backward_before_the_last_forward_says_which_schedules_serve():
    rows = draw(0, 2, 3).requires_grad_()
    deferred = DeferredLoss(2, Tensor.sum)
    zero = deferred(rows, 0)
    with pytest.raises(RuntimeError, match=r"when 1 of 2 micro-batches have come: .* runs all forwards before the first backward"):
        zero.backward()


def test_neither_loss_nor_embeddings_are_there_before_the_last_micro_batch():
    deferred = DeferredLoss(2, Tensor.sum)
    deferred(draw(0, 2, 3).requires_grad_(), 0)
    for name in ("loss", "embeddings"):
        with pytest.raises(RuntimeError, match="there is no loss yet: 1 of 2 micro-batches have come"):
            getattr(deferred, name)


def test_micro_batches_out_of_order_or_repeated_are_refused():
    deferred, rows = DeferredLoss(3, Tensor.sum), draw(0, 2, 3).requires_grad_()
    with pytest.raises(RuntimeError, match="micro-batch 1 came where 0 is next"):
        deferred(rows, 1)
    deferred(rows, 0)
    with pytest.raises(RuntimeError, match="micro-batch 0 came where 1 is next"):
        deferred(rows, 0)


def test_a_second_step_needs_a_second_loss():
    deferred, _ = deferred_over(draw(0, 2, 3).requires_grad_(), [1, 1], Tensor.sum)
    with pytest.raises(RuntimeError, match="all 2 micro-batches have come: make a new DeferredLoss for the next step"):
        deferred(draw(0, 1, 3).requires_grad_(), 0)


@pytest.mark.parametrize("index", [-1, 2, 0.0, True, torch.tensor([0, 1]), torch.tensor([0.0]), torch.tensor([2])], ids=str)
def test_an_index_of_no_micro_batch_is_refused(index):
    with pytest.raises(ValueError, match="index must be"):
        DeferredLoss(2, Tensor.sum)(draw(0, 2, 3).requires_grad_(), index)


@pytest.mark.parametrize("number", [0, -1, 2.0, True, "4", None])
def test_a_number_of_micro_batches_that_cannot_be_is_refused(number):
    with pytest.raises(ValueError, match="num_microbatches must be a whole number of at least 1"):
        DeferredLoss(number, Tensor.sum)


def test_embeddings_without_a_graph_or_unlike_those_before_are_refused():
    deferred, rows = DeferredLoss(2, Tensor.sum), draw(0, 2, 3)
    with pytest.raises(ValueError, match=r"embeddings must be \[m, D\] with a graph, got \[2, 3\] without one"):
        deferred(rows, 0)
    with pytest.raises(ValueError, match=r"embeddings must be \[m, D\] with a graph, got \[3\] with one"):
        deferred(rows[0].clone().requires_grad_(), 0)
    with torch.no_grad(), pytest.raises(RuntimeError, match="gradients are off"):
        deferred(rows.requires_grad_(), 0)
    deferred(rows, 0)
    with pytest.raises(ValueError, match=r"embeddings must be torch.float64 \[m, 3\] as those before, got torch.float32 \[2, 3\]"):
        deferred(rows.float(), 1)


@pytest.mark.parametrize("loss_of", [lambda rows: rows.sum(1), lambda rows: rows.detach().sum()])
def test_what_is_no_scalar_with_a_graph_is_no_loss(loss_of):
    with pytest.raises(ValueError, match="loss_of must return a scalar that depends on the embeddings"):
        DeferredLoss(1, loss_of)(draw(0, 2, 3).requires_grad_(), 0)
