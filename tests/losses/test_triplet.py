import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_reid.losses import batch_hard_triplet_loss, masked_weighted_triplet_loss, weighted_triplet_loss

GOLDENS = Path(__file__).parents[1] / "goldens"
each_loss = pytest.mark.parametrize(
    "loss",
    [
        pytest.param(batch_hard_triplet_loss, id="batch-hard"),
        pytest.param(weighted_triplet_loss, id="weighted"),
        pytest.param(lambda *args, **kwargs: weighted_triplet_loss(*args, form="triple", **kwargs), id="weighted-triples"),
    ],
)
LOSSES = {"batch-hard": batch_hard_triplet_loss, "weighted": weighted_triplet_loss}
LABELS = torch.tensor([0, 0, 1, 1, 1, 2, 2, 0])


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def golden_batch(name: str, dtype: torch.dtype = torch.float32) -> tuple[np.lib.npyio.NpzFile, Tensor, Tensor]:
    golden = np.load(GOLDENS / name)
    return golden, torch.from_numpy(golden["feat"]).to(dtype).requires_grad_(), torch.from_numpy(golden["labels"])


def assert_loss_and_gradient(loss: Tensor, embeddings: Tensor, value: np.ndarray, gradient: np.ndarray, tolerance: float) -> None:
    assert loss.item() == pytest.approx(value.item(), abs=tolerance)
    (got,) = torch.autograd.grad(loss, embeddings)
    torch.testing.assert_close(got, torch.from_numpy(gradient).to(got.dtype), atol=tolerance, rtol=0)


def slow_weighted(embeddings: Tensor, positives: Tensor, negatives: Tensor, *, form: str = "anchor", margin: float | None = None) -> float:
    """Eq. 4.2 entry by entry in float64, with Python's own exp and log."""

    def penalty(x: float) -> float:
        return math.log1p(math.exp(x)) if margin is None else max(0.0, margin + x)

    per_anchor = []
    for a, x in enumerate(embeddings):
        far = [math.dist(x.tolist(), embeddings[p].tolist()) for p in positives[a].nonzero()[:, 0]]
        near = [math.dist(x.tolist(), embeddings[n].tolist()) for n in negatives[a].nonzero()[:, 0]]
        if not far or not near:
            continue
        far = [math.exp(d) / sum(map(math.exp, far)) * d for d in far]
        near = [math.exp(-d) / sum(math.exp(-e) for e in near) * d for d in near]
        if form == "anchor":
            per_anchor.append(penalty(sum(far) - sum(near)))
        else:
            per_anchor.append(sum(penalty(p - n) for p in far for n in near))
    return sum(per_anchor) / len(per_anchor)


def masks_of(labels: Tensor) -> tuple[Tensor, Tensor]:
    same = labels[:, None] == labels
    return same & ~torch.eye(len(labels), dtype=torch.bool), ~same


# --- batch hard


@pytest.mark.parametrize(("key", "name", "margin"), [("ste_soft_eu", "mean", None), ("cf_soft", "loss", None), ("cf_m03", "loss", 0.3)])
def test_batch_hard_loss_and_gradient_equal_the_golden_numbers(key, name, margin):
    golden, embeddings, labels = golden_batch("triplet_losses.npz")
    loss = batch_hard_triplet_loss(embeddings, labels, margin=margin)
    assert_loss_and_gradient(loss, embeddings, golden[f"{key}/{name}"], golden[f"{key}/grad"], 1e-6)


def test_batch_hard_loss_of_normalized_embeddings_equals_the_golden_number():
    golden, embeddings, labels = golden_batch("triplet_losses.npz")
    loss = batch_hard_triplet_loss(F.normalize(embeddings, dim=1), labels)
    assert loss.item() == pytest.approx(golden["ste_soft_cdist/mean"].item(), abs=1e-6)


def test_batch_hard_cosine_loss_is_half_of_fastreids_whose_distance_is_twice_ours():
    golden, embeddings, labels = golden_batch("triplet_weighted_fastreid.npz")
    loss = 2 * batch_hard_triplet_loss(embeddings, labels, margin=0.15, distance="cosine")
    assert_loss_and_gradient(loss, embeddings, golden["norm1_m0.3_hard1/loss"], golden["norm1_m0.3_hard1/grad"], 3e-6)


def test_batch_hard_loss_equals_hand_computed_value():
    # On a line at 0, 1, 3 with ids 0, 0, 1: anchors 0 and 1 see (1 - 3) and (1 - 2); anchor 2 has no positive.
    embeddings, labels = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([0, 0, 1])
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert batch_hard_triplet_loss(embeddings, labels).item() == pytest.approx(expected, abs=1e-6)
    assert batch_hard_triplet_loss(embeddings, labels, margin=1.5).item() == pytest.approx((0 + 0.5) / 2, abs=1e-6)


# --- weighted


@pytest.mark.parametrize("form", ["anchor", "triple"])
@pytest.mark.parametrize("margin", [None, 0.3])
def test_weighted_loss_equals_the_slow_version(form, margin):
    embeddings = draw(0, 8, 5)
    expected = slow_weighted(embeddings, *masks_of(LABELS), form=form, margin=margin)
    assert weighted_triplet_loss(embeddings, LABELS, form=form, margin=margin).item() == pytest.approx(expected, abs=1e-12)


def test_weighted_loss_equals_hand_computed_value():
    # Anchor 0 at 0, positives at 1 and 2, negatives at 3 and 5; e/(e + e^2) = 0.268941 and e^-3/(e^-3 + e^-5) = 0.880797.
    embeddings = torch.tensor([[0.0], [1.0], [2.0], [3.0], [5.0]])
    positives, negatives = torch.tensor([[False, True, True, False, False]]), torch.tensor([[False, False, False, True, True]])
    far = 0.268941 * 1 + 0.731059 * 2
    near = 0.880797 * 3 + 0.119203 * 5
    loss = masked_weighted_triplet_loss(embeddings, positives, negatives, anchors=torch.tensor([0]))
    assert loss.item() == pytest.approx(math.log1p(math.exp(far - near)), abs=1e-6)


@pytest.mark.parametrize("margin", [None, 0.3])
def test_weighted_loss_equals_fastreids_up_to_its_epsilon(margin):
    # Its positives hold the anchor itself, and it adds 1e-6 to denominators of about 0.05: hence 2e-4, see the next test.
    golden, embeddings, labels = golden_batch("triplet_weighted_fastreid.npz")
    key = f"norm0_m{margin or 0.0}_hard0"
    same = labels[:, None] == labels
    loss = masked_weighted_triplet_loss(embeddings, same, ~same, margin=margin)
    assert_loss_and_gradient(loss, embeddings, golden[f"{key}/loss"], golden[f"{key}/grad"], 2e-4)


@pytest.mark.parametrize("margin", [None, 0.3])
def test_fastreids_formula_is_the_golden_number_with_its_epsilon_and_ours_without(margin):
    golden, embeddings, labels = golden_batch("triplet_weighted_fastreid.npz", torch.float64)
    same = labels[:, None] == labels
    distances = torch.cdist(embeddings, embeddings)

    def fastreid(epsilon: float) -> Tensor:
        def weighted_sum(sign: int, mask: Tensor) -> Tensor:
            top = (sign * distances * mask).amax(1, keepdim=True)
            raised = (sign * distances - top).exp() * mask
            return (raised / (raised.sum(1, keepdim=True) + epsilon) * distances).sum(1)

        gap = weighted_sum(1, same) - weighted_sum(-1, ~same)
        return (F.softplus(gap) if margin is None else (gap + margin).relu()).mean()

    key = f"norm0_m{margin or 0.0}_hard0"
    assert_loss_and_gradient(fastreid(1e-6), embeddings, golden[f"{key}/loss"], golden[f"{key}/grad"], 3e-6)
    ours = masked_weighted_triplet_loss(embeddings, same, ~same, margin=margin)
    torch.testing.assert_close(ours, fastreid(0.0), atol=1e-12, rtol=0)


def test_detached_weights_change_the_gradient_and_not_the_value():
    embeddings = draw(1, 8, 5).requires_grad_()
    through, detached = (weighted_triplet_loss(embeddings, LABELS, detach_weights=detach) for detach in (False, True))
    assert through.item() == detached.item()
    assert not torch.allclose(*(torch.autograd.grad(loss, embeddings)[0] for loss in (through, detached)))


def test_given_masks_and_anchors_pick_the_pairs():
    embeddings, generator = draw(2, 9, 4), torch.Generator().manual_seed(0)
    positives = torch.rand(9, 9, generator=generator) < 0.3
    negatives = (torch.rand(9, 9, generator=generator) < 0.5) & ~positives
    anchors = torch.tensor([7, 0, 4])
    for form in ("anchor", "triple"):
        chosen = torch.zeros(9, 9, dtype=torch.bool)
        chosen[anchors] = True
        expected = slow_weighted(embeddings, positives & chosen, negatives & chosen, form=form)
        got = masked_weighted_triplet_loss(embeddings, positives[anchors], negatives[anchors], anchors=anchors, form=form)
        assert got.item() == pytest.approx(expected, abs=1e-12)


# --- what holds for all


@each_loss
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("group_size", [None, 4])
def test_gradient_is_that_of_finite_differences(loss, distance, group_size):
    embeddings = draw(3, 8, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, LABELS, distance=distance, group_size=group_size), embeddings)


@each_loss
@given(seed=st.integers(0, 999))
@settings(max_examples=25)
def test_order_of_the_batch_and_names_of_the_ids_do_not_matter(loss, seed):
    generator = torch.Generator().manual_seed(seed)
    embeddings, labels = draw(seed, 10, 3), torch.randint(0, 4, (10,), generator=generator)
    order, names = torch.randperm(10, generator=generator), torch.randperm(4, generator=generator)
    torch.testing.assert_close(loss(embeddings[order], names[labels][order]), loss(embeddings, labels))


@each_loss
@given(seed=st.integers(0, 999), shift=st.floats(-100, 100))
@settings(max_examples=25)
def test_a_shift_of_all_embeddings_does_not_matter(loss, seed, shift):
    embeddings = draw(seed, 8, 3)
    torch.testing.assert_close(loss(embeddings + shift, LABELS), loss(embeddings, LABELS), atol=1e-9, rtol=0)


@each_loss
def test_noise_takes_no_part(loss):
    embeddings, noise = draw(4, 8, 3), torch.tensor([-1, -1, -1])
    with_noise = loss(torch.cat([draw(5, 3, 3), embeddings]), torch.cat([noise, LABELS]))
    torch.testing.assert_close(with_noise, loss(embeddings, LABELS))


@each_loss
def test_groups_in_one_batch_equal_the_mean_over_separate_batches(loss):
    embeddings, labels = draw(6, 12, 3).requires_grad_(), torch.tensor([0, 0, 1, 1, 2, 2, 1, 1, 0, 0, 0, 3])
    separate = torch.stack([loss(part, names) for part, names in zip(embeddings.split(4), labels.split(4), strict=True)]).mean()
    together = loss(embeddings, labels, group_size=4)
    torch.testing.assert_close(together, separate)
    torch.testing.assert_close(*(torch.autograd.grad(value, embeddings)[0] for value in (together, separate)))


def test_groups_with_given_anchors_equal_the_mean_over_separate_batches():
    embeddings, labels = draw(7, 8, 3), torch.tensor([0, 0, 1, 1, 0, 0, 1, 2])
    positives, negatives = masks_of(labels)
    anchors = torch.tensor([6, 0, 4, 5, 1, 3])  # three of each group, 6 has no positive in its own
    separate = [
        masked_weighted_triplet_loss(embeddings[g : g + 4], *(m[:, g : g + 4][rows] for m in (positives, negatives)), anchors=rows - g)
        for g, rows in ((0, torch.tensor([0, 1, 3])), (4, torch.tensor([4, 5, 6])))
    ]
    got = masked_weighted_triplet_loss(embeddings, positives[anchors], negatives[anchors], anchors=anchors, group_size=4)
    torch.testing.assert_close(got, torch.stack(separate).mean())


@each_loss
@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(torch.zeros(6, dtype=torch.int64), id="one-id"),
        pytest.param(torch.arange(6), id="all-different"),
        pytest.param(torch.full((6,), -1), id="all-noise"),
        pytest.param(torch.zeros(0, dtype=torch.int64), id="empty"),
        pytest.param(torch.zeros(1, dtype=torch.int64), id="one-row"),
    ],
)
def test_a_batch_without_triplets_gives_zero_that_can_be_propagated_back(loss, labels):
    embeddings = draw(8, len(labels), 3).requires_grad_()
    value = loss(embeddings, labels)
    value.backward()
    assert value.item() == 0
    assert embeddings.grad is not None
    assert embeddings.grad.abs().sum() == 0


@each_loss
def test_identical_embeddings_give_the_penalty_of_zero_and_a_finite_gradient(loss):
    embeddings = torch.ones(4, 3, requires_grad=True)
    value = loss(embeddings, torch.tensor([0, 0, 1, 1]))
    value.backward()
    triples = 1 if loss in LOSSES.values() else 2  # one positive and two negatives an anchor
    assert value.item() == pytest.approx(triples * math.log(2), abs=1e-6)
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()


@each_loss
def test_huge_embeddings_give_a_finite_loss_and_gradient(loss):
    embeddings = (1e12 * draw(9, 8, 3)).float().requires_grad_()
    value = loss(embeddings, LABELS)
    value.backward()
    assert value.isfinite()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()


@each_loss
def test_nan_embeddings_are_not_hidden(loss):
    embeddings = draw(10, 8, 3)
    embeddings[0, 0] = torch.nan
    assert loss(embeddings, LABELS).isnan()


@each_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_the_float32_loss_also_under_autocast(loss, dtype):
    embeddings = draw(11, 8, 64).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(embeddings, LABELS)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(embeddings.float(), LABELS))


@each_loss
def test_the_arguments_stay_unchanged(loss):
    embeddings, labels = draw(12, 8, 3), LABELS.clone()
    before = embeddings.clone()
    loss(embeddings, labels, group_size=4)
    assert torch.equal(embeddings, before)
    assert torch.equal(labels, LABELS)


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_compiles_without_a_graph_break(name):
    embeddings = draw(13, 8, 3)
    compiled = torch.compile(LOSSES[name], backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(embeddings, LABELS, group_size=4), LOSSES[name](embeddings, LABELS, group_size=4))


# --- wrong input


@each_loss
def test_wrong_arguments_are_refused_with_what_came(loss):
    embeddings = draw(14, 8, 3)
    with pytest.raises(ValueError, match=r"one label per embedding, got labels \(7,\) for embeddings \(8, 3\)"):
        loss(embeddings, LABELS[:7])
    with pytest.raises(ValueError, match=r"margin must be a number in \[0, .* got -0\.1"):
        loss(embeddings, LABELS, margin=-0.1)
    with pytest.raises(ValueError, match=r"margin must be a number in \[0, .* got nan"):
        loss(embeddings, LABELS, margin=float("nan"))
    with pytest.raises(ValueError, match="a batch of 8 cannot be cut into groups of 3"):
        loss(embeddings, LABELS, group_size=3)


def test_an_unknown_form_or_a_mask_of_the_wrong_kind_is_refused():
    embeddings, (positives, negatives) = draw(15, 8, 3), masks_of(LABELS)
    with pytest.raises(ValueError, match=r"form must be one of 'anchor', 'triple', got 'pair'"):
        weighted_triplet_loss(embeddings, LABELS, form="pair")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"negatives must be bool \[8, 8\] .*, got torch.int64 \[8, 8\]"):
        masked_weighted_triplet_loss(embeddings, positives, negatives.long())
    with pytest.raises(ValueError, match=r"positives must be bool \[2, 8\] .*, got torch.bool \[8, 8\]"):
        masked_weighted_triplet_loss(embeddings, positives, negatives, anchors=torch.tensor([0, 1]))
