"""Affinity propagation over the nearest neighbors only, for sets whose N x N similarity does not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_reid.clustering.affinity_propagation import (
    ENTRIES_AT_A_TIME,
    AffinityPropagation,
    break_ties,
    check_options,
    preferences_of,
    report_convergence,
)
from lightning_reid.clustering.message_passing import ExemplarWatch, Outcome
from lightning_reid.clustering.neighbors import nearest_neighbors


@dataclass(frozen=True)
class SimilarityGraph:
    """Similarities of E ordered pairs of N points: every pair in both directions, no diagonal, sorted by row and then by column.

    Attributes:
        starts: ``[N + 1]`` int64: the pairs of row i are ``starts[i]:starts[i + 1]``, at least one.
        columns: ``[E]`` int64.
        similarities: ``[E]`` float, equal in both directions.
        reverse: ``[E]`` int64, where the pair (j, i) of the pair (i, j) is.
    """

    starts: Tensor
    columns: Tensor
    similarities: Tensor
    reverse: Tensor

    @property
    def total(self) -> int:
        """N, the number of points of the graph."""
        return len(self.starts) - 1

    @property
    def rows(self) -> Tensor:
        """The row i of each pair (i, j), as ``columns`` holds j: ``[E]`` int64."""
        return torch.arange(self.total, device=self.starts.device).repeat_interleave(self.starts.diff())


@torch.no_grad()
def similarity_graph(embeddings: Tensor, k: int) -> SimilarityGraph:
    """Minus the squared Euclidean distances between every point and its ``k`` nearest, and back: at most ``2 k N`` pairs.

    Args:
        embeddings: ``[N, D]`` float; 16-bit floats are compared in float32.
        k: Neighbors of a point, at least 1; from N - 1 on the graph is complete.

    Raises:
        ValueError: ``k`` below 1, fewer than two points, or embeddings that are not finite.
    """
    total = len(embeddings)
    if k < 1 or total < 2:
        raise ValueError(f"a similarity graph needs two points and k >= 1, got {total} points and k = {k}")
    neighbors, distances = nearest_neighbors(embeddings, min(k + 1, total))
    return _graph_of_lists(neighbors[:, 1:], -distances[:, 1:])


@torch.no_grad()
def graph_of_similarity(similarity: Tensor, k: int) -> SimilarityGraph:
    """The graph of the ``k`` largest similarities of every point in a dense matrix.

    Args:
        similarity: ``[N, N]`` float, symmetric, N at least 2; the diagonal is not used.
        k: Neighbors of a point, at least 1; from N - 1 on the graph is complete.
    """
    total, k = len(similarity), min(k, len(similarity) - 1)
    largest, places = similarity.new_empty(total, k), torch.empty(total, k, dtype=torch.int64, device=similarity.device)
    rows = max(1, ENTRIES_AT_A_TIME // total)
    for start in range(0, total, rows):
        block = similarity[start : start + rows].clone()
        block[:, start : start + rows].diagonal().fill_(-torch.inf)
        found = block.topk(k, dim=1)
        largest[start : start + rows], places[start : start + rows] = found.values, found.indices
    return _graph_of_lists(places, largest)


def _graph_of_lists(neighbors: Tensor, similarities: Tensor) -> SimilarityGraph:
    """Of ``[N, k]`` lists of neighbors, none of them the point itself."""
    total = len(neighbors)
    here = torch.arange(total, device=neighbors.device).unsqueeze(1)
    low, order = (torch.minimum(here, neighbors) * total + torch.maximum(here, neighbors)).flatten().sort(stable=True)
    first = torch.ones_like(low, dtype=torch.bool)
    first[1:] = low[1:] != low[:-1]  # both points may list the pair; rounding must not make it two similarities
    low, listed = low[first], similarities.flatten()[order[first]]
    keys, order = torch.cat([low, low % total * total + low // total]).sort()
    rows, columns = keys // total, keys % total
    starts = torch.searchsorted(rows, torch.arange(total + 1, device=rows.device))
    return SimilarityGraph(starts, columns, listed.repeat(2)[order], torch.searchsorted(keys, columns * total + rows))


@torch.no_grad()
def sparse_affinity_propagation(
    graph: SimilarityGraph,
    preference: float | Tensor,
    *,
    damping: float = 0.5,
    max_iter: int = 200,
    convergence_iter: int = 15,
    unconverged: Literal["keep", "refuse"] = "keep",
) -> AffinityPropagation:
    """``affinity_propagation`` with messages between neighbors in the graph only; the same result where the graph is complete.

    Needs about 90 bytes a pair in float32. A point can only join an exemplar among its neighbors; one that finds none there is an
    exemplar itself. In the choice of a cluster's best member absent pairs count as the lowest similarity present. Duplicates with few
    neighbors besides each other can stand still as exemplars, all of them, for longer than ``convergence_iter`` before one wins, most of
    all in float64 with much damping: raise it there.

    Args:
        graph: As ``similarity_graph`` makes it.
        preference: A number, or ``[N]``.
        damping: Share of the old message in the new, in [0.5, 1).
        max_iter: Iterations at most, at least 1.
        convergence_iter: Iterations without a change of the exemplars after which the run has converged, at least 1.
        unconverged: ``"keep"`` warns and returns the last state, ``"refuse"`` raises.

    Raises:
        ValueError: An option out of range, or similarities or preferences that are not finite.
        RuntimeError: No convergence, and ``unconverged="refuse"``.

    Source: Frey and Dueck 2007, Science 315:972, whose messages over absent pairs are those of a similarity of minus infinity.

    Example:
        >>> import torch
        >>> from lightning_reid.clustering import sparse_affinity_propagation
        >>> from lightning_reid.clustering.sparse_affinity_propagation import similarity_graph
        >>> points = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
        >>> found = sparse_affinity_propagation(similarity_graph(points, k=2), preference=-20.0)
        >>> found.labels.tolist(), found.exemplars.tolist()
        ([0, 0, 0, 1, 1, 1], [1, 4])
    """
    check_options(damping, max_iter, convergence_iter, unconverged)
    largest = graph.similarities.abs().max().item()
    if not largest < torch.inf:
        raise ValueError("the similarities of the graph hold NaN or infinity: look for a diverged network before clustering")
    preferences = preferences_of(preference, graph.similarities.new_empty(graph.total))
    if _all_equal(graph, preferences):
        return _of_equal_points(graph, preferences)
    messages = _EdgeMessages(graph, break_ties(preferences, largest), damping)
    watch, converged = ExemplarWatch(convergence_iter), False
    for iteration in range(max_iter):
        is_exemplar = messages.iterate()
        converged = watch.settled(is_exemplar, iteration)
        if converged:
            break
    outcome = Outcome(is_exemplar, iteration + 1, converged)
    report_convergence(outcome, unconverged)
    return _clusters_around(graph, preferences, outcome)


class _EdgeMessages:
    """Both messages of every pair and of every point to itself."""

    def __init__(self, graph: SimilarityGraph, preferences: Tensor, damping: float) -> None:
        self.graph, self.rows, self.preferences, self.keep = graph, graph.rows, preferences, 1 - damping
        self.availability, self.responsibility = torch.zeros_like(graph.similarities), torch.zeros_like(graph.similarities)
        self.self_availability, self.self_responsibility = torch.zeros_like(preferences), torch.zeros_like(preferences)

    def iterate(self) -> Tensor:
        """One round of messages; ``[N]`` bool, who is an exemplar after it."""
        sums, own = self.availability + self.graph.similarities, self.self_availability + self.preferences
        best = torch.maximum(_by_row(sums, self.graph, "max"), own)
        is_best, own_is_best = sums == best[self.rows], own == best
        lower = _by_row(sums.masked_fill_(is_best, -torch.inf), self.graph, "max")
        second = torch.maximum(lower, own.masked_fill(own_is_best, -torch.inf))
        shared = _by_row(is_best.to(sums.dtype), self.graph, "sum") + own_is_best > 1
        second = torch.where(shared, best, second)
        rival = torch.where(is_best, second[self.rows], best[self.rows])
        self.responsibility.lerp_(self.graph.similarities - rival, self.keep)
        self.self_responsibility.lerp_(self.preferences - torch.where(own_is_best, second, best), self.keep)
        positive = self.responsibility.clamp(min=0)
        arriving = _by_row(positive[self.graph.reverse], self.graph, "sum")
        support = self.self_responsibility + arriving
        self.availability.lerp_((support[self.graph.columns] - positive).clamp_(max=0), self.keep)
        self.self_availability.lerp_(arriving, self.keep)
        return self.self_availability + self.self_responsibility > 0


def _by_row(values: Tensor, graph: SimilarityGraph, reduce: str) -> Tensor:
    return torch.segment_reduce(values, reduce, offsets=graph.starts, unsafe=True)


def _clusters_around(graph: SimilarityGraph, preferences: Tensor, outcome: Outcome) -> AffinityPropagation:
    if not bool(outcome.is_exemplar.any()):
        nobody = torch.full_like(outcome.is_exemplar, -1, dtype=torch.int64)
        return AffinityPropagation(nobody, nobody[:0], outcome.iterations, False)
    every = torch.arange(graph.total, device=graph.columns.device)
    joined = _nearest_exemplar(graph, outcome.is_exemplar, otherwise=every)
    best = _best_member(graph, preferences, joined)
    joined = _nearest_exemplar(graph, best[joined] == every, otherwise=best[joined])
    exemplars, labels = joined.unique(return_inverse=True)
    return AffinityPropagation(labels, exemplars, outcome.iterations, outcome.converged)


def _nearest_exemplar(graph: SimilarityGraph, is_exemplar: Tensor, otherwise: Tensor) -> Tensor:
    """``[N]`` the exemplar that each point joins, its own where it is one; ``otherwise`` where no neighbor is one."""
    reach = graph.similarities.masked_fill(~is_exemplar[graph.columns], -torch.inf)
    best = _by_row(reach, graph, "max")
    at_best = (reach == best[graph.rows]) & reach.isfinite()
    # similarities are sorted by column within a row: the lowest index among equals comes first
    first = torch.where(at_best, graph.columns, graph.total)
    nearest = torch.full_like(otherwise, graph.total).scatter_reduce_(0, graph.rows, first, "amin")
    joined = torch.where(nearest < graph.total, nearest, otherwise)
    return torch.where(is_exemplar, torch.arange(graph.total, device=joined.device), joined)


def _best_member(graph: SimilarityGraph, preferences: Tensor, joined: Tensor) -> Tensor:
    """``[N]``, at every exemplar: the member that its cluster is most similar to in sum, the lowest index among equals."""
    lowest = graph.similarities.min()
    together = joined[graph.rows] == joined[graph.columns]
    # measured from the lowest similarity, so that a pair that is absent adds nothing
    fit = _by_row((graph.similarities - lowest) * together, graph, "sum") + (preferences - lowest)
    highest = torch.full_like(fit, -torch.inf).scatter_reduce_(0, joined, fit, "amax")
    member = torch.where(fit == highest[joined], torch.arange(graph.total, device=joined.device), graph.total)
    return torch.full_like(joined, graph.total).scatter_reduce_(0, joined, member, "amin")


def _all_equal(graph: SimilarityGraph, preferences: Tensor) -> bool:
    complete = len(graph.columns) == graph.total * (graph.total - 1)
    return complete and bool((graph.similarities == graph.similarities[0]).all()) and bool((preferences == preferences[0]).all())


def _of_equal_points(graph: SimilarityGraph, preferences: Tensor) -> AffinityPropagation:
    every = torch.arange(graph.total, device=graph.columns.device)
    if bool(preferences[0] > graph.similarities[0]):
        return AffinityPropagation(every, every.clone(), iterations=0, converged=True)
    return AffinityPropagation(torch.zeros_like(every), every[:1].clone(), iterations=0, converged=True)
