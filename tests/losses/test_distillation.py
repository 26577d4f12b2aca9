from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_reid.losses import distillation_loss, embedding_cosine_loss, relational_distance_loss
from lightning_reid.losses.distillation import softened_divergence


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def slow_divergence(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """T^2 KL(teacher || student), class by class."""
    total = 0.0
    for mine, theirs in zip(student.tolist(), teacher.tolist()):
        p, q = (softmax([value / temperature for value in row]) for row in (mine, theirs))
        total += sum(b * (math.log(b) - math.log(a)) for a, b in zip(p, q))
    return temperature**2 * total / len(student)


def softmax(row: list[float]) -> list[float]:
    weights = [math.exp(value) for value in row]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize("temperature", [0.5, 1, 2, 5, 10])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 1.0])
def test_loss_is_eq_3_computed_class_by_class(temperature, alpha):
    student, teacher, labels = draw(0, 6, 5), draw(1, 6, 5), torch.tensor([0, 1, 2, 3, 4, 0])
    loss, divergence, ce = distillation_loss(student, teacher, labels, temperature=temperature, alpha=alpha)
    slow_ce = -sum(math.log(softmax(row)[label]) for row, label in zip(student.tolist(), labels.tolist())) / 6
    assert divergence.item() == pytest.approx(slow_divergence(student, teacher, temperature), rel=1e-10)
    assert ce.item() == pytest.approx(slow_ce, rel=1e-10)
    assert loss.item() == pytest.approx(alpha * divergence.item() + (1 - alpha) * slow_ce, rel=1e-10)


def test_divergence_is_that_of_the_teacher_from_the_student_and_not_the_other_way_round():
    student, teacher = draw(2, 3, 4), draw(3, 3, 4)
    forward = F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="batchmean")  # torch's order, which the text writes
    torch.testing.assert_close(softened_divergence(student, teacher, 1), forward)
    assert not torch.isclose(forward, softened_divergence(teacher, student, 1))


@given(seed=st.integers(0, 99), temperature=st.floats(0.5, 20))
@settings(max_examples=20)
def test_divergence_is_least_and_zero_at_the_teachers_logits_whatever_is_added_to_all_of_them(seed, temperature):
    student, teacher = draw(seed, 4, 6), draw(seed + 1000, 4, 6)
    assert softened_divergence(teacher + 7, teacher, temperature).item() == pytest.approx(0, abs=1e-10)
    assert softened_divergence(student, teacher, temperature) > 0


def test_high_temperatures_compare_logits_themselves():
    # Hinton et al. 2015, section 2.1: T^2 KL goes to the mean squared difference of centerd logits, over 2 C
    student, teacher = draw(4, 8, 10), draw(5, 8, 10)
    centerd = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    limit = centerd.square().sum(1).mean() / (2 * 10)
    torch.testing.assert_close(softened_divergence(student, teacher, 1e4), limit, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "loss",
    [
        lambda student, teacher: softened_divergence(student, teacher, 3.0),
        embedding_cosine_loss,
        relational_distance_loss,
    ],
    ids=["divergence", "cosine", "relational"],
)
def test_gradients_are_those_of_finite_differences_and_none_reaches_the_teacher(loss):
    student, teacher = draw(6, 5, 4).requires_grad_(), draw(7, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher.detach()), student)
    loss(student, teacher).backward()
    assert teacher.grad is None


def test_cosine_loss_is_zero_for_any_positive_multiple_and_two_for_the_opposite():
    teacher = draw(8, 5, 3)
    assert embedding_cosine_loss(4 * teacher, teacher).item() == pytest.approx(0, abs=1e-12)
    assert embedding_cosine_loss(-teacher, teacher).item() == pytest.approx(2)


def test_relational_loss_equals_a_loop_over_pairs_of_different_images():
    student, teacher = draw(9, 5, 3), draw(10, 5, 7)

    def distances(rows: Tensor) -> list[float]:
        pairs = [math.dist(a, b) for i, a in enumerate(rows.tolist()) for j, b in enumerate(rows.tolist()) if i != j]
        return [distance / (sum(pairs) / len(pairs)) for distance in pairs]

    def huber(x: float) -> float:
        return x * x / 2 if abs(x) <= 1 else abs(x) - 0.5

    slow = [huber(a - b) for a, b in zip(distances(student), distances(teacher))]
    assert relational_distance_loss(student, teacher).item() == pytest.approx(sum(slow) / len(slow), rel=1e-9)


def test_relational_loss_does_not_see_rotation_or_scale_of_the_students_space():
    teacher, rotation = draw(11, 6, 4), torch.linalg.qr(draw(12, 4, 4))[0]
    assert relational_distance_loss(3 * teacher @ rotation, teacher).item() == pytest.approx(0, abs=1e-12)


def test_groups_compare_within_themselves_only():
    student, teacher = draw(20, 6, 4), draw(21, 6, 5)
    halves = [relational_distance_loss(mine, theirs) for mine, theirs in zip(student.split(3), teacher.split(3))]
    torch.testing.assert_close(relational_distance_loss(student, teacher, group_size=3), torch.stack(halves).mean())
    for wrong in (1, 4):
        with pytest.raises(ValueError, match=f"group_size must .* got {wrong}"):
            relational_distance_loss(student, teacher, group_size=wrong)


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_images_have_no_relations_and_none_has_no_loss(rows):
    student = draw(13, rows, 4).requires_grad_()
    for value in (relational_distance_loss(student, draw(14, rows, 4)), softened_divergence(student, student.detach(), 2)):
        value.backward()
        assert value.item() == 0
    assert embedding_cosine_loss(student, student.detach()).item() == pytest.approx(0, abs=1e-12)


def test_a_student_that_embeds_everything_alike_has_finite_gradients():
    student = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    relational_distance_loss(student, draw(15, 4, 3)).backward()
    assert student.grad.isfinite().all()


def test_huge_logits_give_a_finite_loss():
    loss = softened_divergence(torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1e4]]), 5)
    assert loss.item() == pytest.approx(25 * 2000)


def test_half_precision_is_computed_in_float32_also_under_autocast():
    student, teacher = draw(16, 4, 9).bfloat16(), draw(17, 4, 9).bfloat16()
    for loss in (lambda a, b: softened_divergence(a, b, 5), embedding_cosine_loss, relational_distance_loss):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(student, teacher)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, loss(student.float(), teacher.float()))


def test_numbers_out_of_range_and_shapes_that_do_not_fit_are_refused_with_their_values():
    logits, labels = draw(18, 2, 3), torch.tensor([0, 1])
    for temperature in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"temperature must be a number in \(0, 1e\+09\], got {temperature}"):
            distillation_loss(logits, logits, labels, temperature=temperature)
    for alpha in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=rf"alpha must be a number in \[0, 1\], got {alpha}"):
            distillation_loss(logits, logits, labels, alpha=alpha)
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(2, 4\)"):
        softened_divergence(logits, draw(19, 2, 4))
    with pytest.raises(ValueError, match=r"got \(2, 3\) of the student and \(2, 4\) of the teacher: take the relational loss"):
        embedding_cosine_loss(logits, draw(19, 2, 4))
    with pytest.raises(ValueError, match=r"must embed the same images, got \(2, 3\) and \(3, 3\)"):
        relational_distance_loss(logits, draw(19, 3, 3))
