"""Affinity propagation: clusters around exemplars, as many as the preferences ask for."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from lightning_reid.clustering.message_passing import MessagePassing, Outcome

ENTRIES_AT_A_TIME = 1 << 20
GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class AffinityPropagation:
    """Clusters of N points, each around one of them.

    Attributes:
        labels: ``[N]`` int64 in ``0..C-1``; all -1 where no exemplar emerged.
        exemplars: ``[C]`` int64, ascending; ``labels[exemplars]`` is ``0..C-1``.
        iterations: How many were run; 0 where all similarities are equal and none was needed.
        converged: Whether the exemplars stood still; if not, the rest describes the last state.
    """

    labels: Tensor
    exemplars: Tensor
    iterations: int
    converged: bool


@torch.no_grad()
def affinity_propagation(
    similarity: Tensor,
    preference: float | Tensor,
    *,
    damping: float = 0.5,
    max_iter: int = 200,
    convergence_iter: int = 15,
    asymmetric: bool = False,
    unconverged: Literal["keep", "refuse"] = "keep",
    start: MessagePassing | None = None,
) -> AffinityPropagation:
    """Exemplars and clusters by affinity propagation, as scikit-learn's ``AffinityPropagation(affinity="precomputed")`` finds them.

    Needs one more matrix of the similarity's size, and computes in its dtype. Ties are broken by a rule instead of noise: every
    preference is raised by a fixed, different amount of at most 64 units of rounding (of the largest number given), so that duplicates do
    not send each other the same messages for ever. Two points that fit their cluster equally well (always so in a symmetric cluster of two
    with one preference): the lower index is the exemplar, where scikit-learn's noise decides. If all similarities are equal and all
    preferences too, every point is an exemplar where the preference exceeds the similarity, else point 0 is the only one. One point is its
    own cluster.

    Args:
        similarity: ``[N, N]`` float32 or float64 on any device, large is near, not changed; its diagonal is not used but must be finite.
        preference: A number, or ``[N]``: stands on the diagonal; the larger, the more exemplars.
        damping: Share of the old message in the new, in [0.5, 1). Raise it where a run oscillates and does not converge.
        max_iter: Iterations at most, at least 1.
        convergence_iter: The run has converged when the exemplars have not changed for so many iterations, at least 1.
        asymmetric: Take a similarity with ``s(i, j) != s(j, i)``; without it that is an error, because distances are symmetric.
        unconverged: ``"keep"`` warns and returns the last state, ``"refuse"`` raises. No exemplar at all counts as not converged.
        start: Messages of an earlier run on this very similarity, ``MessagePassing(similarity)`` for the first: this run starts from them
            and leaves its own there, the one argument that changes.

    Raises:
        ValueError: The similarity is not square, floating, finite or symmetric; a preference of another length or not finite; an option out
            of range; ``start`` belongs to another similarity.
        RuntimeError: No convergence, and ``unconverged="refuse"``.

    Source: Frey and Dueck 2007, Science 315:972; SGC-DPL, eq. 3.1.

    Example:
        >>> import torch
        >>> from lightning_reid.clustering import affinity_propagation
        >>> points = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
        >>> found = affinity_propagation(-torch.cdist(points, points) ** 2, preference=-20.0)
        >>> found.labels.tolist(), found.exemplars.tolist()
        ([0, 0, 0, 1, 1, 1], [1, 4])
    """
    check_options(damping, max_iter, convergence_iter, unconverged)
    largest = largest_similarity(similarity)
    preferences = preferences_of(preference, similarity)
    if start is not None and start.similarity is not similarity:
        raise ValueError("start holds the messages of another similarity: make a new MessagePassing(similarity)")
    if not asymmetric:
        require_symmetric(similarity, largest)
    if _all_equal(similarity, preferences):
        return _of_equal_points(similarity, preferences)
    outcome = (start or MessagePassing(similarity)).run(
        break_ties(preferences, largest), damping=damping, max_iter=max_iter, convergence_iter=convergence_iter
    )
    report_convergence(outcome, unconverged)
    return clusters_around(similarity, preferences, outcome)


def check_options(damping: float, max_iter: int, convergence_iter: int, unconverged: str) -> None:
    """The options that the dense and the sparse variant share."""
    if not 0.5 <= damping < 1:
        raise ValueError(f"damping must be in [0.5, 1), got {damping}")
    if max_iter < 1 or convergence_iter < 1:
        raise ValueError(f"max_iter and convergence_iter must be at least 1, got {max_iter} and {convergence_iter}")
    if unconverged not in ("keep", "refuse"):
        raise ValueError(f'unconverged must be "keep" or "refuse", got {unconverged!r}')


def largest_similarity(similarity: Tensor) -> float:
    """Largest magnitude in a similarity, after making sure that it is ``[N, N]``, float32 or float64, and finite."""
    if similarity.ndim != 2 or similarity.shape[0] != similarity.shape[1] or not len(similarity):
        raise ValueError(f"similarity must be [N, N] of N >= 1 points, got shape {tuple(similarity.shape)}")
    if similarity.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"similarity must be float32 or float64, got {similarity.dtype}")
    by_row = torch.maximum(similarity.amax(1), -similarity.amin(1))
    bad = (~by_row.isfinite()).nonzero().flatten()
    if len(bad):
        raise ValueError(
            f"similarity holds NaN or infinity in {len(bad)} of {len(similarity)} rows, the first is row {int(bad[0])}:"
            " look for a diverged network before clustering"
        )
    return by_row.max().item()


def preferences_of(preference: float | Tensor, similarity: Tensor) -> Tensor:
    """``[N]`` preferences in the dtype and on the device of ``similarity [N, ...]``, finite."""
    given = torch.as_tensor(preference, dtype=similarity.dtype, device=similarity.device)
    if given.ndim and given.shape != similarity.shape[:1]:
        raise ValueError(f"preference must be a number or one for each of the {len(similarity)} points, got shape {tuple(given.shape)}")
    if not bool(given.isfinite().all()):
        raise ValueError(f"preference holds NaN or infinity: {int((~given.isfinite()).sum())} of {given.numel()}")
    return given.expand(len(similarity)).contiguous()


def break_ties(preferences: Tensor, largest: float) -> Tensor:
    """Preferences raised by amounts that differ for any two points, up to 64 units of rounding."""
    places = torch.arange(len(preferences), dtype=torch.float64, device=preferences.device)
    amount = (places * GOLDEN % 1).to(preferences.dtype)  # multiples of the golden ratio keep their distance from each other
    return preferences + 64 * torch.finfo(preferences.dtype).eps * (preferences.abs() + largest) * amount


def report_convergence(outcome: Outcome, unconverged: str) -> None:
    """Warn or raise where the messages did not settle."""
    if outcome.converged:
        return
    found = int(outcome.is_exemplar.sum())
    message = (
        f"affinity propagation did not converge in {outcome.iterations} iterations, its last state has {found} exemplars of"
        f" {len(outcome.is_exemplar)} points: raise damping (0.9) if it oscillates, or max_iter"
    )
    if unconverged == "refuse":
        raise RuntimeError(message)
    warnings.warn(message, ConvergenceWarning, stacklevel=3)


def clusters_around(similarity: Tensor, preferences: Tensor, outcome: Outcome) -> AffinityPropagation:
    """Every point with its nearest exemplar; each cluster's best member its exemplar; then the nearest again."""
    exemplars = outcome.is_exemplar.nonzero().flatten()
    if not len(exemplars):
        return AffinityPropagation(torch.full_like(outcome.is_exemplar, -1, dtype=torch.int64), exemplars, outcome.iterations, False)
    joined = _nearest_exemplar(similarity, exemplars)
    groups = joined.argsort(stable=True).split(joined.bincount(minlength=len(exemplars)).tolist())
    best = torch.stack([members[_fit(similarity, preferences, members).argmax()] for members in groups])
    exemplars = best.sort().values
    return AffinityPropagation(_nearest_exemplar(similarity, exemplars), exemplars, outcome.iterations, outcome.converged)


def _nearest_exemplar(similarity: Tensor, exemplars: Tensor) -> Tensor:
    rows = max(1, ENTRIES_AT_A_TIME // len(exemplars))
    joined = torch.cat([part[:, exemplars].argmax(1) for part in similarity.split(rows)])
    joined[exemplars] = torch.arange(len(exemplars), device=joined.device)
    return joined


def _fit(similarity: Tensor, preferences: Tensor, members: Tensor) -> Tensor:
    """How similar the others of its cluster are to each of ``members [M]``, in sum, its preference added."""
    sums, start = torch.zeros_like(preferences[members]), 0
    for part in members.split(max(1, ENTRIES_AT_A_TIME // len(members))):
        inner = similarity[part[:, None], members]
        inner[:, start : start + len(part)].diagonal().zero_()
        sums += inner.sum(0)
        start += len(part)
    return sums + preferences[members]


def require_symmetric(similarity: Tensor, largest: float) -> None:
    """Refuse a similarity ``[N, N]`` whose two halves differ by more than rounding of its ``largest`` magnitude."""
    allowed = 1000 * torch.finfo(similarity.dtype).eps * largest  # squared distances from matrix products differ by as much
    rows = max(1, ENTRIES_AT_A_TIME // len(similarity))
    for start in range(0, len(similarity), rows):
        block = slice(start, start + rows)
        apart = (similarity[block, start:] - similarity[start:, block].T).abs_()
        if float(apart.max()) > allowed:
            i, j = divmod(int(apart.argmax()), apart.shape[1])
            i, j = i + start, j + start
            raise ValueError(
                f"similarity must be symmetric: entry ({i}, {j}) is {similarity[i, j].item():g} and ({j}, {i}) is"
                f" {similarity[j, i].item():g}; pass asymmetric=True if that is meant"
            )


def _all_equal(similarity: Tensor, preferences: Tensor) -> bool:
    total = len(similarity)
    if total == 1:
        return True
    if not bool((preferences == preferences[0]).all()) or not bool((similarity[0, 1:] == similarity[0, 1]).all()):
        return False
    others = sum(int((part != similarity[0, 1]).sum()) for part in similarity.split(max(1, ENTRIES_AT_A_TIME // total)))
    return others == int((similarity.diagonal() != similarity[0, 1]).sum())


def _of_equal_points(similarity: Tensor, preferences: Tensor) -> AffinityPropagation:
    every = torch.arange(len(similarity), device=similarity.device)
    if len(every) == 1 or bool(preferences[0] > similarity[0, 1]):
        return AffinityPropagation(every, every.clone(), iterations=0, converged=True)
    return AffinityPropagation(torch.zeros_like(every), every[:1].clone(), iterations=0, converged=True)
