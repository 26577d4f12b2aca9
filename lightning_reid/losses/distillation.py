"""Losses that make a student network agree with a teacher network."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.arguments import require_count, require_number
from lightning_reid.losses.classification import label_smoothed_cross_entropy
from lightning_reid.losses.distances import pairwise_distances


def softened_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 5.0) -> Tensor:
    """``T^2 mean_i KL(softmax(teacher_i / T) || softmax(student_i / T))``, in nats: the first term of eq. 3.

    The text writes ``KL(p_2, q)`` with q the teacher's distribution, in the order in which ``torch.nn.functional.kl_div`` takes its
    arguments. Gradients of the divergence shrink with ``1 / T^2``, which the factor makes up for.

    Source: Liu et al. 2020 (knowledge distillation for fast re-ID), eq. 2 and 3; Hinton et al. 2015 (arXiv:1503.02531), section 2.

    Args:
        student_logits: ``[B, C]`` float, with gradient; half precision is computed in float32.
        teacher_logits: ``[B, C]`` float; no gradient flows into them.
        temperature: T, above 0. At 1 the distributions are compared as they are; above 1 the classes that are not the first count more.

    Returns:
        Scalar, at least 0 but for rounding, float32 or the dtype of ``student_logits`` if wider; 0 for a batch of 0 images.

    Raises:
        ValueError: The shapes differ, or the temperature is not positive.
    """
    check_distillation(temperature)
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student and teacher must give logits [B, C] of one shape, got {tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        )
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    with torch.autocast(student_logits.device.type, enabled=False):
        student = (student_logits.to(dtype) / temperature).log_softmax(1)
        teacher = (teacher_logits.detach().to(dtype) / temperature).log_softmax(1)
        divergence = F.kl_div(student, teacher, reduction="sum", log_target=True) / max(1, len(student))
        return divergence * temperature**2


class DistillationLoss(NamedTuple):
    """Eq. 3 and its two terms, scalars in nats.

    Attributes:
        loss: ``alpha divergence + (1 - alpha) cross_entropy``.
        divergence: ``T^2 KL`` to the teacher.
        cross_entropy: Against the labels, at temperature 1.
    """

    loss: Tensor
    divergence: Tensor
    cross_entropy: Tensor


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float = 5.0,
    alpha: float = 0.1,
    label_smoothing: float = 0.0,
) -> DistillationLoss:
    """``alpha T^2 KL(teacher_T || student_T) + (1 - alpha) CE(label, student_1)``.

    Source: Liu et al. 2020, eq. 3. ``alpha=0`` is plain cross-entropy.

    Args:
        student_logits: ``[B, C]`` float, with gradient; half precision is computed in float32.
        teacher_logits: ``[B, C]`` float; no gradient flows into them.
        labels: ``[B]`` int64 in ``0..C-1``.
        temperature: T, above 0.
        alpha: Share of the teacher, in [0, 1].
        label_smoothing: Of the cross-entropy, in [0, 1); the text has none.

    Raises:
        ValueError: A number is out of range, or shapes do not fit.

    Example:
        >>> import torch
        >>> from lightning_reid.losses import distillation_loss
        >>> logits, labels = torch.tensor([[0.0, 0.0]]), torch.tensor([0])
        >>> found = distillation_loss(logits, teacher_logits=logits, labels=labels, alpha=0.5)
        >>> found.divergence, found.cross_entropy, found.loss  # of two that agree: 0, log 2, and half of it
        (tensor(0.), tensor(0.6931), tensor(0.3466))
    """
    check_distillation(temperature, alpha)
    divergence = softened_divergence(student_logits, teacher_logits, temperature)
    cross_entropy = label_smoothed_cross_entropy(student_logits.to(divergence.dtype), labels, label_smoothing)
    return DistillationLoss(alpha * divergence + (1 - alpha) * cross_entropy, divergence, cross_entropy)


def embedding_cosine_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """``mean_i (1 - cos(student_i, teacher_i))``, in [0, 2]: each embedding is to point where the teacher's points.

    Args:
        student: ``[B, D]`` float, with gradient; a row of zeros counts 1 and gives no gradient.
        teacher: ``[B, D]`` float; no gradient flows into it.

    Raises:
        ValueError: The widths differ, which ``relational_distance_loss`` allows.

    Example:
        >>> import torch
        >>> from lightning_reid.losses import embedding_cosine_loss
        >>> student, teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [1.0, 0.0]])
        >>> embedding_cosine_loss(student, teacher)  # cosines 1 and 0
        tensor(0.5000)
    """
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(
            f"cosines need embeddings [B, D] of one width, got {tuple(student.shape)} of the student and {tuple(teacher.shape)} of the "
            "teacher: take the relational loss, which compares distances between images"
        )
    dtype = torch.promote_types(student.dtype, torch.float32)
    with torch.autocast(student.device.type, enabled=False):
        cosines = (F.normalize(student.to(dtype), dim=1) * F.normalize(teacher.detach().to(dtype), dim=1)).sum(1)
        return (1 - cosines).sum() / max(1, len(student))


def relational_distance_loss(student: Tensor, teacher: Tensor, group_size: int | None = None) -> Tensor:
    """Huber loss between the distances within the batch, each network's in units of their mean: the widths may differ.

    ``mean_{i != j} h(d^s_ij / mean d^s - d^t_ij / mean d^t)`` with ``h(x) = x^2 / 2`` up to 1 and ``|x| - 1/2`` beyond.

    Source: Park et al. 2019 (relational knowledge distillation, arXiv:1904.05068), eq. 4 to 6.

    Args:
        student: ``[B, D_s]`` float, with gradient. Where all rows are equal there is no unit: the student's distances count 0.
        teacher: ``[B, D_t]`` float; no gradient flows into it.
        group_size: Compare only within consecutive groups of so many images, a divisor of B, and take the mean over groups: the loss
            then does not depend on how many processes share a batch. ``None`` compares the whole batch.

    Returns:
        Scalar; 0 for fewer than two images.

    Raises:
        ValueError: The numbers of rows differ, or groups do not divide them.

    Example:
        >>> import torch
        >>> from lightning_reid.losses import relational_distance_loss
        >>> teacher = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
        >>> relational_distance_loss(student=2 * teacher, teacher=teacher)  # distances of one pattern, in units of their mean
        tensor(0.)
        >>> relational_distance_loss(student=torch.tensor([[0.0], [1.0], [1.0]]), teacher=teacher)  # the last two fall together
        tensor(0.1875)
    """
    if group_size is not None:
        require_count("group_size", group_size, low=2)
        if len(student) % group_size:
            raise ValueError(f"group_size must divide the batch of {len(student)} images, got {group_size}")
        groups = zip(student.split(group_size), teacher.split(group_size), strict=True)
        return torch.stack([relational_distance_loss(mine, theirs) for mine, theirs in groups]).mean()
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise ValueError(f"student and teacher must embed the same images, got {tuple(student.shape)} and {tuple(teacher.shape)}")
    if len(student) < 2:
        return student.to(torch.promote_types(student.dtype, torch.float32)).sum() * 0
    mine, theirs = _relative_distances(student), _relative_distances(teacher.detach())
    return F.smooth_l1_loss(mine, theirs.to(mine.dtype))


def _relative_distances(embeddings: Tensor) -> Tensor:
    """``[B (B - 1)]`` distances of different rows in units of their mean; zeros where that is 0."""
    distances = pairwise_distances(embeddings, embeddings)
    others = distances[~torch.eye(len(embeddings), dtype=torch.bool, device=embeddings.device)]
    return others / others.mean().clamp(min=torch.finfo(others.dtype).tiny)


def check_distillation(temperature: float, alpha: float = 0.0) -> None:
    """Check the two numbers of eq. 3.

    Raises:
        ValueError: The temperature is not positive and finite, or ``alpha`` lies outside [0, 1].
    """
    require_number("temperature", temperature, above=0)
    require_number("alpha", alpha, low=0, high=1)
