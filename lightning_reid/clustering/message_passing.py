"""The messages of affinity propagation on a dense similarity: one stored matrix, one pass over memory an iteration."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ENTRIES_AT_A_TIME = {"cpu": 1 << 19, "cuda": 1 << 25}
"""Entries of the rows worked on together: few enough for a processor's caches, enough to keep a GPU busy."""

LANES = 32
"""A power of two: a row's maximum is sought in so many interleaved parts at once, and its place costs a 32nd of a plain ``argmax``."""


class Outcome(NamedTuple):
    """Who is an exemplar when the messages stopped: ``is_exemplar [N]`` bool."""

    is_exemplar: Tensor
    iterations: int
    converged: bool


class ExemplarWatch:
    """Says when the set of exemplars, not empty, has stood still for ``convergence_iter`` iterations, as scikit-learn counts them."""

    def __init__(self, convergence_iter: int) -> None:
        self.convergence_iter = convergence_iter
        self._last: Tensor | None = None
        self._unchanged = 0

    def settled(self, is_exemplar: Tensor, iteration: int) -> bool:
        """Take in the exemplars after ``iteration`` (from 0); True when the run may stop."""
        same = self._last is not None and torch.equal(is_exemplar, self._last)
        self._unchanged = self._unchanged + 1 if same else 1
        self._last = is_exemplar
        return min(iteration, self._unchanged) >= self.convergence_iter and bool(is_exemplar.any())


class MessagePassing:
    """Responsibilities and availabilities of N points; ``run`` again, with other preferences, is a warm start.

    Only the availabilities ``[N, N]`` are stored. A responsibility ``r(i, k) = s(i, k) - max_{k' != k}(a + s)`` subtracts one number a row
    from everything but the row's best column, and damping averages linearly: after t iterations
    ``r(i, k) = w s(i, k) - level(i) + bonus(i, k)``, with ``w = 1 - damping^t``, a running mean ``level`` of the rows' maxima, and a bonus
    that is not zero only where k has been the best of row i. It is computed again where it is needed.

    The availabilities of iteration t and the responsibilities of t + 1 are made in one pass over blocks of rows. It reads s and a and
    writes a, ``3 N^2`` numbers an iteration, the floor where damped messages are stored: at 4,000 points 192 MB in float32 and 384 MB in
    float64. The dozen operations on a block find it in the cache.

    Source: Frey and Dueck 2007, Science 315:972; its eq. 1-3.
    """

    def __init__(self, similarity: Tensor) -> None:
        self.similarity = similarity
        self.availability = torch.empty_like(similarity, memory_format=torch.contiguous_format)
        total = len(similarity)
        self._rows = max(1, ENTRIES_AT_A_TIME.get(similarity.device.type, 1 << 19) // total)
        width = -(-total // LANES) * LANES
        self._buffer = similarity.new_full((min(self._rows, total), width), -torch.inf)  # beyond column N it stays -inf
        self.reset()

    def reset(self) -> None:
        """All messages zero: the next run starts cold."""
        total = len(self.similarity)
        self.availability.zero_()
        self._self_availability = self.similarity.new_zeros(total)
        self._self_responsibility = self.similarity.new_zeros(total)
        self._support = self.similarity.new_zeros(total)
        self._level = self.similarity.new_zeros(total)
        self._weight = 0.0
        self._best = torch.zeros(total, 8, dtype=torch.int64, device=self.similarity.device)
        self._bonus = self.similarity.new_zeros(total, 8)

    @torch.no_grad()
    def run(self, preference: Tensor, *, damping: float, max_iter: int, convergence_iter: int) -> Outcome:
        """Pass messages until the exemplars stand still, from where the last run ended.

        Args:
            preference: ``[N]``, stands for the diagonal of the similarity, which is not read.
            damping: Share of the old message in the new, in [0.5, 1).
            max_iter: Iterations at most, at least 1.
            convergence_iter: Iterations without a change of the exemplars after which the run has converged.
        """
        watch = ExemplarWatch(convergence_iter)
        for iteration in range(max_iter):
            self._iterate(preference, damping)
            is_exemplar = self._self_availability + self._self_responsibility > 0
            if watch.settled(is_exemplar, iteration):
                return Outcome(is_exemplar, iteration + 1, converged=True)
        return Outcome(is_exemplar, max_iter, converged=False)

    def _iterate(self, preference: Tensor, damping: float) -> None:
        total = len(self.similarity)
        weight = damping * self._weight + 1 - damping
        no_more = self._support.clamp(max=0)
        arriving = torch.zeros_like(preference)
        for start in range(0, total, self._rows):
            rows = slice(start, min(start + self._rows, total))
            buffer = self._buffer[: rows.stop - start]
            self._update_availability(rows, buffer[:, :total], no_more, damping)
            best, where, second = self._two_best(rows, buffer, preference)
            self._update_responsibility(rows, best, where, second, preference, damping)
            responsibility = self._responsibility(rows, buffer[:, :total], weight)
            responsibility[:, rows].diagonal().zero_()
            arriving += responsibility.clamp_(min=0).sum(0)
        self._weight = weight
        self._support = self._self_responsibility + arriving
        self._self_availability.lerp_(arriving, 1 - damping)

    def _responsibility(self, rows: slice, out: Tensor, weight: float) -> Tensor:
        torch.add(-self._level[rows, None], self.similarity[rows], alpha=weight, out=out)
        return out.scatter_add_(1, self._best[rows], self._bonus[rows])

    def _update_availability(self, rows: slice, out: Tensor, no_more: Tensor, damping: float) -> None:
        """``a <- min(0, support - max(0, r))``, damped, as ``min(support - r, min(support, 0))``: one operation less."""
        torch.sub(self._support, self._responsibility(rows, out, self._weight), out=out)
        torch.minimum(out, no_more, out=out)
        self.availability[rows].lerp_(out, 1 - damping)

    def _two_best(self, rows: slice, buffer: Tensor, preference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Largest ``a + s`` of every row, its column, and the second largest."""
        sums = buffer[:, : len(preference)]
        torch.add(self.availability[rows], self.similarity[rows], out=sums)
        sums[:, rows].diagonal().copy_(self._self_availability[rows] + preference[rows])
        lanes = buffer.view(len(buffer), LANES, -1)
        tops = lanes
        while tops.shape[1] > 1:  # halves against each other: several times faster than amax over the middle of three dimensions
            tops = torch.maximum(*tops.chunk(2, dim=1))
        tops = tops.squeeze(1)
        best, lane = tops.max(1, keepdim=True)
        candidates = lanes.gather(2, lane[:, None].expand(-1, LANES, 1)).squeeze(2)
        depth = candidates.argmax(1, keepdim=True)
        tops.scatter_(1, lane, candidates.scatter_(1, depth, -torch.inf).amax(1, keepdim=True))
        return best.squeeze(1), (depth * lanes.shape[2] + lane).squeeze(1), tops.amax(1)

    def _update_responsibility(self, rows: slice, best: Tensor, where: Tensor, second: Tensor, preference: Tensor, damping: float) -> None:
        own = where == torch.arange(rows.start, rows.stop, device=where.device)
        self._self_responsibility[rows].lerp_(preference[rows] - torch.where(own, second, best), 1 - damping)
        self._level[rows].lerp_(best, 1 - damping)
        self._bonus[rows] *= damping
        # the diagonal has a vector of its own: no bonus there
        self._add_bonus(rows, where[:, None], ((1 - damping) * (best - second)).masked_fill(own, 0)[:, None], best)

    def _add_bonus(self, rows: slice, where: Tensor, gain: Tensor, size: Tensor) -> None:
        """Add ``gain`` to the bonus of column ``where``, in the place of the smallest if the row does not hold that column yet."""
        known = self._best[rows] == where
        held = known.any(1, keepdim=True)
        smallest, spare = self._bonus[rows].min(1, keepdim=True)
        lost = ~held & (gain > 0) & (smallest > torch.finfo(gain.dtype).eps / 4 * size[:, None].abs())
        if bool(lost.any()):
            self._best = torch.cat([self._best, torch.zeros_like(self._best)], dim=1)
            self._bonus = torch.cat([self._bonus, torch.zeros_like(self._bonus)], dim=1)
            self._add_bonus(rows, where, gain, size)
            return
        place = torch.where(held, known.int().argmax(1, keepdim=True), spare)
        gain = gain + self._bonus[rows].gather(1, place) * held
        self._best[rows] = self._best[rows].scatter(1, place, where)
        self._bonus[rows] = self._bonus[rows].scatter(1, place, gain)
