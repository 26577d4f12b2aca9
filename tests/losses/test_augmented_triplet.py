from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_reid.losses import augmented_triplet_loss, batch_hard_triplet_loss

ROWS = torch.tensor([4, 4, -1, -1, 7, 7, -1, -1])


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def slow_loss(embeddings: Tensor, rows: Tensor, margin: float | None, negatives: str) -> float:
    """Section 3.3.1 view by view, with Python's own exp and log."""
    points, images = embeddings.tolist(), rows.tolist()
    losses, turn = [], 0
    for a, image in enumerate(images):
        far = [math.dist(points[a], points[b]) for b, other in enumerate(images) if other == image >= 0 and b != a]
        near = [math.dist(points[a], points[b]) for b, other in enumerate(images) if other < 0]
        own_turn, turn = turn, turn + (image >= 0)
        if image >= 0 and far and near:
            gap = max(far) - (min(near) if negatives == "hardest" else near[own_turn % len(near)])
            losses.append(math.log1p(math.exp(gap)) if margin is None else max(0.0, margin + gap))
    return sum(losses) / max(1, len(losses))


def test_loss_equals_hand_computed_value():
    # On a line: views of one image at 0 and 1, labeled images at 3 and 9. Hardest: view 0 sees 1 - 3, view 1 sees 1 - 2.
    embeddings, rows = torch.tensor([[0.0], [1.0], [3.0], [9.0]]), torch.tensor([5, 5, -1, -1])
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert augmented_triplet_loss(embeddings, rows, negatives="hardest").item() == pytest.approx(expected, abs=1e-6)
    assert augmented_triplet_loss(embeddings, rows, negatives="hardest", margin=1.5).item() == pytest.approx((0 + 0.5) / 2, abs=1e-6)
    # In turn: view 0 against the image at 3, view 1 against the one at 9.
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-7))) / 2
    assert augmented_triplet_loss(embeddings, rows).item() == pytest.approx(expected, abs=1e-6)


@given(seed=st.integers(0, 999), margin=st.sampled_from([None, 0.3]), negatives=st.sampled_from(["random", "hardest"]))
@settings(max_examples=60)
def test_loss_equals_the_slow_version(seed, margin, negatives):
    rows = torch.randint(-1, 4, (9,), generator=torch.Generator().manual_seed(seed))
    embeddings = draw(seed, 9, 3)
    expected = slow_loss(embeddings, rows, margin, negatives)
    assert augmented_triplet_loss(embeddings, rows, negatives=negatives, margin=margin).item() == pytest.approx(expected, abs=1e-12)


def test_two_unlabeled_images_are_never_pushed_apart():
    embeddings = draw(0, 8, 3).requires_grad_()
    moved = embeddings.detach().clone()
    moved[4:6] = embeddings.detach()[:2]  # the second image looks like the first: were they negatives, this would be the hardest
    alone = augmented_triplet_loss(embeddings[:4], ROWS[:4], negatives="hardest")
    both = augmented_triplet_loss(moved[[0, 1, 4, 5, 2, 3]], ROWS[[0, 1, 4, 5, 2, 3]], negatives="hardest")
    assert both.item() == pytest.approx(alone.item(), abs=1e-12)


def test_gradient_is_that_of_the_batch_hard_loss_where_both_mine_the_same_pairs():
    # one image in two views against labeled images of different people: no labeled anchor has a positive
    embeddings, rows, labels = draw(1, 5, 3).requires_grad_(), torch.tensor([0, 0, -1, -1, -1]), torch.tensor([0, 0, 1, 2, 3])
    losses = augmented_triplet_loss(embeddings, rows, negatives="hardest"), batch_hard_triplet_loss(embeddings, labels)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, embeddings)[0] for loss in losses))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("group_size", [None, 4])
@pytest.mark.parametrize("negatives", ["random", "hardest"])
def test_gradient_is_that_of_finite_differences(distance, group_size, negatives):
    embeddings = draw(2, 8, 3).requires_grad_()
    options = {"distance": distance, "group_size": group_size, "negatives": negatives}
    assert torch.autograd.gradcheck(lambda x: augmented_triplet_loss(x, ROWS, **options), embeddings)


@pytest.mark.parametrize("negatives", ["random", "hardest"])
def test_groups_in_one_batch_equal_the_mean_over_separate_batches(negatives):
    embeddings, options = draw(3, 8, 3), {"negatives": negatives}
    separate = torch.stack([augmented_triplet_loss(embeddings[part], ROWS[part], **options) for part in (slice(0, 4), slice(4, 8))]).mean()
    torch.testing.assert_close(augmented_triplet_loss(embeddings, ROWS, group_size=4, **options), separate)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([-1, -1, -1], id="no-unlabeled"),
        pytest.param([0, 0, 1, 1], id="no-labeled"),
        pytest.param([0, 1, -1], id="one-view-each"),
        pytest.param([], id="empty"),
    ],
)
def test_a_batch_without_triplets_gives_zero_that_can_be_propagated_back(rows):
    embeddings = draw(4, len(rows), 3).requires_grad_()
    value = augmented_triplet_loss(embeddings, torch.tensor(rows, dtype=torch.int64))
    value.backward()
    assert value.item() == 0
    assert embeddings.grad is not None
    assert embeddings.grad.abs().sum() == 0


def test_identical_huge_and_nan_embeddings_are_neither_inflated_nor_hidden():
    same = torch.ones(8, 3, requires_grad=True)
    value = augmented_triplet_loss(same, ROWS)
    value.backward()
    assert value.item() == pytest.approx(math.log(2), abs=1e-6)
    assert same.grad is not None
    assert same.grad.isfinite().all()
    assert augmented_triplet_loss((1e12 * draw(5, 8, 3)).float(), ROWS).isfinite()
    broken = draw(5, 8, 3)
    broken[2, 0] = torch.nan
    assert augmented_triplet_loss(broken, ROWS).isnan()


def test_wrong_arguments_are_refused_with_what_came():
    with pytest.raises(ValueError, match=r"one row number per embedding, got rows \(7,\) for embeddings \(8, 3\)"):
        augmented_triplet_loss(draw(6, 8, 3), ROWS[:7])
    with pytest.raises(ValueError, match="a batch of 8 cannot be cut into groups of 3"):
        augmented_triplet_loss(draw(6, 8, 3), ROWS, group_size=3)
    with pytest.raises(ValueError, match="negatives must be one of"):
        augmented_triplet_loss(draw(6, 8, 3), ROWS, negatives="easy")
    with pytest.raises(ValueError, match="margin must be a number"):
        augmented_triplet_loss(draw(6, 8, 3), ROWS, margin=-1.0)
