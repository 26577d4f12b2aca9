"""Pairs of labeled embeddings, of one person and of two, in which each person weighs the same; and intervals over people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.metrics.similarity import checked_embeddings

MOST_PAIRS = 200_000
"""Of a kind that are looked at; of more, about as many are drawn."""
_ROWS = 2**13
"""Pairs whose embeddings are held at a time."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of images: all of one person each, or all of two. Tensors are on the CPU.

    Attributes:
        similarities: ``[M]`` float64 cosines in [-1, 1].
        left: ``[M]`` int64, the number of the person on one side, ``0..P-1`` in the order of their pids.
        right: ``[M]`` int64, of the other; equal to ``left`` in pairs of one person.
        weights: ``[M]`` float64 with sum 1: each person, or each two, weigh the same, however many pairs there are of them.
        total: How many pairs there are, of which M were looked at.
    """

    similarities: Tensor
    left: Tensor
    right: Tensor
    weights: Tensor
    total: int

    def weights_of_draw(self, times: Tensor) -> Tensor:
        """``[M]`` weights where person p is there ``times[p]`` times, float64; a person and their copy are not two people."""
        weights = self.weights * times[self.left]
        return torch.where(self.left == self.right, weights, weights * times[self.right])

    def at(self, rows: Tensor) -> Pairs:
        """The pairs in another order."""
        return Pairs(self.similarities[rows], self.left[rows], self.right[rows], self.weights[rows], self.total)


@torch.no_grad()
def labeled_pairs(
    embeddings: Tensor, pids: Tensor, camids: Tensor | None = None, *, most: int = MOST_PAIRS, seed: int = 0
) -> tuple[Pairs, Pairs]:
    """Pairs of images of one person, and pairs of two people. The order of the rows changes nothing.

    No more than ``most`` of a kind are looked at. Of one person: of each person images are drawn, from their cameras in turn, as many as
    ``most`` allows. Of two people: two people are drawn, each two as likely as any others, then an image of each.

    Args:
        embeddings: ``[N, D]`` float, finite and not zero.
        pids: ``[N]`` int64.
        camids: ``[N]`` int64: pairs within a camera are left out, for people are to be found again in another. ``None`` keeps them.
        most: Pairs of a kind; memory is that of the embeddings and some hundred bytes a pair.
        seed: Of what is drawn.

    Raises:
        ValueError: Shapes that do not fit, an embedding that has no direction, or no pair of either kind.
    """
    embeddings = checked_embeddings(embeddings, "labeled").cpu()
    if any(one.shape != embeddings.shape[:1] for one in (pids, *(() if camids is None else (camids,)))):
        shapes = [tuple(one.shape) for one in (pids, camids) if one is not None]
        raise ValueError(f"need a pid and a camid for each embedding, got {shapes} for {tuple(embeddings.shape)}")
    if not bool(embeddings.any(1).all()):
        raise ValueError(f"{int((~embeddings.any(1)).sum())} of {len(embeddings)} embeddings are zero and have no cosine")
    directions, person, cameras = _in_order(F.normalize(embeddings, dim=1), pids.cpu(), None if camids is None else camids.cpu())
    generator = torch.Generator().manual_seed(seed)
    genuine, impostor = _of_one(person, cameras, most, generator), _of_two(person, most, generator)
    within, overall = _count(person, cameras), _count(torch.zeros_like(person), cameras)
    kinds = []
    for (left, right), total in ((genuine, within), (impostor, overall - within)):
        apart = cameras[left] != cameras[right]
        if not bool(apart.any()):
            there = "" if camids is None else " in different cameras"
            raise ValueError(f"need pairs of one person and of two{there}, got {within} and {overall - within} of {len(person)} images")
        kinds.append(_weighed(directions, person, left[apart], right[apart], total))
    return kinds[0], kinds[1]


def people_interval(
    pairs: Pairs, statistic: Callable[[Tensor], Tensor], *, confidence: float = 0.95, num_resamples: int = 500, seed: int = 0
) -> Tensor:
    """Percentile interval of statistics of pairs when other people had come: people are drawn with replacement, not pairs.

    Pairs that have a person in common rise and fall together, so that each person is drawn with all pairs that they are in; a pair of two
    people counts as often as the product of their draws, and a person makes no pair of two people with their copy.

    Source: Snijders & Borgatti 1999, Non-parametric standard errors and tests for network statistics (the vertex bootstrap).

    Args:
        pairs: Of two or more people.
        statistic: From ``[M]`` weights, not of sum 1, to ``[K]`` numbers.
        confidence: Coverage in (0, 1).
        num_resamples: Draws of as many people as there are.
        seed: Of the draws.

    Returns:
        ``[K, 2]`` float64, the lower and upper ends.
    """
    num_people = int(torch.cat([pairs.left, pairs.right]).max()) + 1
    if num_people < 2:
        raise ValueError("an interval over people needs two people or more, all pairs are of one")
    generator, found = torch.Generator().manual_seed(seed), list[Tensor]()
    while len(found) < num_resamples:
        drawn = torch.randint(num_people, (num_people,), generator=generator)
        weights = pairs.weights_of_draw(drawn.bincount(minlength=num_people).double())
        if bool((weights > 0).any()):  # of two people one may be drawn twice, and nothing is left to look at
            found.append(statistic(weights))
    tail = (1 - confidence) / 2
    return torch.stack(found).double().quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0).T


def _in_order(directions: Tensor, pids: Tensor, camids: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Rows by person, camera and look, whatever their order was; without cameras each image is in one of its own."""
    person = pids.unique(return_inverse=True)[1]
    cameras = None if camids is None else camids.unique(return_inverse=True)[1]
    look = directions @ torch.randn(directions.shape[1], generator=torch.Generator().manual_seed(0)).to(directions)
    keys = [look, *(() if cameras is None else (cameras,)), person]
    order = torch.from_numpy(np.lexsort([key.numpy() for key in keys]))
    return directions[order], person[order], torch.arange(len(order)) if cameras is None else cameras[order]


def _of_one(person: Tensor, cameras: Tensor, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of pairs of one person, of so many images each that there are at most ``most`` (but two images of each)."""
    share = most // (int(person[-1]) + 1)
    images = max(2, int((1 + (1 + 8 * share) ** 0.5) / 2))
    shuffled = torch.randperm(len(person), generator=generator)
    turn = torch.empty_like(person)
    turn[shuffled] = _places((person * (int(cameras.max()) + 1) + cameras)[shuffled])
    by_turn = torch.from_numpy(np.lexsort([turn[shuffled].numpy(), person[shuffled].numpy()]))
    rows = shuffled[by_turn]
    rows = rows[_places(person[rows]) < images].sort().values
    left, right = _runs(torch.arange(len(rows)) + 1, torch.searchsorted(person[rows], person[rows], right=True))
    return rows[left], rows[right]


def _of_two(person: Tensor, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of pairs of two people: all, or ``most`` that are drawn, each two people as likely as any others."""
    ends = torch.searchsorted(person, person, right=True)
    if int((len(person) - ends).sum()) <= most:
        return _runs(ends, torch.full_like(ends, len(person)))
    counts = person.bincount()
    starts, num_people = counts.cumsum(0) - counts, len(counts)
    one = torch.randint(num_people, (most,), generator=generator)
    other = (one + 1 + torch.randint(num_people - 1, (most,), generator=generator)) % num_people
    rows = [starts[who] + (torch.rand(most, generator=generator, dtype=torch.float64) * counts[who]).long() for who in (one, other)]
    drawn = torch.stack(rows).sort(0).values.unique(dim=1)
    return drawn[0], drawn[1]


def _runs(first: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Each row i with each of ``first[i]..end[i]-1``."""
    counts = end - first
    left = torch.repeat_interleave(counts)
    return left, torch.arange(len(left)) - (counts.cumsum(0) - counts)[left] + first[left]


def _places(groups: Tensor) -> Tensor:
    """How many of the same group stand before each."""
    order = groups.argsort(stable=True)
    counts = groups.unique(return_counts=True)[1]
    places = torch.empty_like(groups)
    places[order] = torch.arange(len(groups)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    return places


def _count(groups: Tensor, cameras: Tensor) -> int:
    """Pairs of a group in two cameras."""
    of = [groups.unique(return_counts=True)[1], torch.stack([groups, cameras]).unique(dim=1, return_counts=True)[1]]
    together, in_one_camera = (int((counts * (counts - 1) // 2).sum()) for counts in of)
    return together - in_one_camera


def _weighed(directions: Tensor, person: Tensor, left: Tensor, right: Tensor, total: int) -> Pairs:
    chunks = zip(left.split(_ROWS), right.split(_ROWS), strict=True)
    similarities = torch.cat([(directions[a].double() * directions[b].double()).sum(1) for a, b in chunks]).clamp(-1, 1)
    one, other = person[left], person[right]
    _, which, counts = (one * (int(person[-1]) + 1) + other).unique(return_inverse=True, return_counts=True)
    weights = 1 / counts[which].double()
    return Pairs(similarities, one, other, weights / weights.sum(), total)
