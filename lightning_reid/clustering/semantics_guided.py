"""Semantics-guided affinity propagation (SG-AP): unlabeled images clustered as finely as labeled ones have identities."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from lightning_reid.clustering.affinity_propagation import (
    AffinityPropagation,
    affinity_propagation,
    check_options,
    largest_similarity,
    require_symmetric,
)
from lightning_reid.clustering.distances import in_full_precision, negative_squared_distances, squared_norms
from lightning_reid.clustering.message_passing import MessagePassing
from lightning_reid.clustering.preference_search import OnProbe, PreferenceSearch, search_preference
from lightning_reid.clustering.similarity_ranking import embedding_ranking, similarity_ranking
from lightning_reid.clustering.sparse_affinity_propagation import (
    SimilarityGraph,
    graph_of_similarity,
    similarity_graph,
    sparse_affinity_propagation,
)

ESTIMATE_MAX_ITER, ESTIMATE_CONVERGENCE_ITER = 30, 8
"""Of the runs that estimate a count: from cold messages the exemplars are nearly those of the end after a dozen iterations."""
LEAST_NEIGHBORS = 32
"""Of the graph that estimates are made on; twice the largest labeled identity where that is more."""


@dataclass(frozen=True)
class SemanticsGuidedClusters:
    """Clusters of the unlabeled points, or of all, and the search for the preference that made them."""

    clusters: AffinityPropagation
    search: PreferenceSearch


@torch.no_grad()
def semantics_guided_affinity_propagation(
    labeled: Tensor,
    labels: Tensor,
    unlabeled: Tensor,
    *,
    with_labeled: bool = False,
    neighbors: int | None = None,
    damping: float = 0.5,
    max_iter: int = 200,
    convergence_iter: int = 15,
    unconverged: Literal["keep", "refuse"] = "keep",
    on_probe: OnProbe | None = None,
) -> SemanticsGuidedClusters:
    """SG-AP: search p* on labeled and unlabeled points together, then cluster the unlabeled alone with it, from cold messages.

    Needs twice ``(N_l + N_u)^2`` numbers of the embeddings' dtype: 1.3 GB in float32 for the 12,936 images of Market-1501, 8.5 GB for the
    32,621 of MSMT17; with ``neighbors`` memory grows with N times their number and with ``N_l^2``.

    Args:
        labeled: ``[N_l, D]`` float embeddings; 16-bit floats are compared in float32.
        labels: ``[N_l]`` int64 their identities.
        unlabeled: ``[N_u, D]`` float, N_u at least 1.
        with_labeled: Whether to cluster the labeled points with the unlabeled ones at the end, too: for labeled people who are some of
            those to be clustered (ours). The clusters are then those of the search at p*.
        neighbors: Pass messages between so many nearest neighbors only (``sparse_affinity_propagation``), at least 1, well above the
            images an identity has; ``None`` between all points.
        damping: As for ``affinity_propagation``.
        max_iter: As for ``affinity_propagation``.
        convergence_iter: As for ``affinity_propagation``.
        unconverged: As for ``affinity_propagation``, for the unlabeled points; the search only notes it in its history.
        on_probe: Called with every probe of the search and the clusters of all points that it found, in the order they are made.

    Returns:
        The clusters of the unlabeled points, or ``with_labeled`` of all, the labeled first; and the search.

    Raises:
        ValueError: No unlabeled points, widths that differ, embeddings that are not finite, or labels that do not fit.
        RuntimeError: No convergence on the unlabeled points, and ``unconverged="refuse"``.

    Source: SGC-DPL, section 3.3.4.

    Example:
        >>> import torch
        >>> from lightning_reid.clustering import semantics_guided_affinity_propagation
        >>> labeled, labels = torch.tensor([[0.0], [1.0], [2.0], [30.0], [31.0], [32.0]]), torch.tensor([0, 0, 0, 1, 1, 1])
        >>> unlabeled = torch.tensor([[60.0], [61.0], [62.0], [90.0], [91.0], [92.0]])
        >>> found = semantics_guided_affinity_propagation(labeled, labels, unlabeled)
        >>> found.clusters.labels.tolist(), found.search.preference < 0
        ([0, 0, 0, 1, 1, 1], True)
    """
    if not len(unlabeled):
        raise ValueError("there are no unlabeled points to cluster: SG-AP needs at least one")
    if labels.shape != labeled.shape[:1] or labeled.shape[1:] != unlabeled.shape[1:]:
        shapes = ", ".join(str(tuple(part.shape)) for part in (labeled, labels, unlabeled))
        raise ValueError(f"labeled, labels and unlabeled must be [N_l, D], [N_l] and [N_u, D], got {shapes}")
    if neighbors is not None and neighbors < 1:
        raise ValueError(f"neighbors must be None or at least 1, got {neighbors}")
    squared_norms(in_full_precision(labeled), "labeled")
    squared_norms(in_full_precision(unlabeled), "unlabeled")
    check_options(damping, max_iter, convergence_iter, unconverged)
    options: dict[str, Any] = {"damping": damping, "max_iter": max_iter, "convergence_iter": convergence_iter}
    if neighbors is not None:
        return _among_neighbors(
            labeled, labels, unlabeled, neighbors, with_labeled=with_labeled, unconverged=unconverged, on_probe=on_probe, **options
        )
    everybody = negative_squared_distances(torch.cat([labeled, unlabeled]))
    search = semantics_guided_preference(everybody, labels, on_probe=on_probe, **options)
    if with_labeled:
        similarity = everybody
    else:
        del everybody
        similarity = negative_squared_distances(unlabeled)
    clusters = affinity_propagation(similarity, similarity_ranking(similarity) * search.preference, unconverged=unconverged, **options)
    return SemanticsGuidedClusters(clusters, search)


def _among_neighbors(
    labeled: Tensor,
    labels: Tensor,
    unlabeled: Tensor,
    neighbors: int,
    *,
    with_labeled: bool,
    unconverged: Literal["keep", "refuse"],
    on_probe: OnProbe | None,
    **options: Any,
) -> SemanticsGuidedClusters:
    """SG-AP with messages between nearest neighbors only, in the search and in the clustering that follows it."""
    everybody = torch.cat([labeled, unlabeled])
    num_labeled = _check_labels(labels, len(everybody))
    runs = _GraphRuns(similarity_graph(everybody, neighbors), embedding_ranking(everybody), **options)
    levels = _labeled_similarities(negative_squared_distances(labeled), num_labeled)
    search = search_preference(levels, len(labels.unique()), num_labeled, runs.exact, runs.estimate, on_probe=on_probe)
    clustered = everybody if with_labeled else unlabeled
    if len(clustered) == 1:
        return SemanticsGuidedClusters(affinity_propagation(unlabeled.new_zeros(1, 1), search.preference), search)
    clusters = sparse_affinity_propagation(
        similarity_graph(clustered, neighbors), embedding_ranking(clustered) * search.preference, unconverged=unconverged, **options
    )
    return SemanticsGuidedClusters(clusters, search)


@torch.no_grad()
def semantics_guided_preference(
    similarity: Tensor,
    labels: Tensor,
    *,
    damping: float = 0.5,
    max_iter: int = 200,
    convergence_iter: int = 15,
    max_probes: int = 20,
    max_exact: int = 2,
    on_probe: OnProbe | None = None,
) -> PreferenceSearch:
    """p* with which the labeled among all points have as many exemplars as identities, ``s(i, i) = SR(i) p``.

    ``search_preference`` over the similarities of labeled pairs. Its estimates are runs on the graph of each point's nearest neighbors,
    stopped early; exact are runs of ``affinity_propagation``. All start from cold messages: those of another preference remember its
    exemplars, and counts would depend on the order of the probes.

    Args:
        similarity: ``[N, N]`` float32 or float64, minus squared distances, the ``N_l`` labeled points first.
        labels: ``[N_l]`` int64 identities, at least 0; a single identity, or one with a single point, is allowed.
        damping: As for ``affinity_propagation``.
        max_iter: As for ``affinity_propagation``.
        convergence_iter: As for ``affinity_propagation``.
        max_probes: Estimates at most.
        max_exact: Exact runs at most.
        on_probe: Called with every probe and the clusters it found, in the order they are made.

    Raises:
        ValueError: Fewer than two labeled points, more labels than points, negative labels, or a similarity out of range.

    Source: SGC-DPL, section 3.3.4, eq. 3.3.
    """
    check_options(damping, max_iter, convergence_iter, "keep")
    num_labeled = _check_labels(labels, len(similarity))
    require_symmetric(similarity, largest_similarity(similarity))
    ranking, levels = similarity_ranking(similarity), _labeled_similarities(similarity, num_labeled)
    neighbors = max(LEAST_NEIGHBORS, 2 * int(labels.unique(return_counts=True)[1].max()))
    options: dict[str, Any] = {"damping": damping, "max_iter": max_iter, "convergence_iter": convergence_iter}
    on_graph = _GraphRuns(graph_of_similarity(similarity, neighbors), ranking, **options)
    messages = MessagePassing(similarity)

    def exact(preference: float) -> AffinityPropagation:
        messages.reset()
        with _unconverged_is_noted():
            return affinity_propagation(similarity, ranking * preference, start=messages, asymmetric=True, **options)

    return search_preference(
        levels,
        len(labels.unique()),
        num_labeled,
        exact,
        on_graph.estimate,
        max_probes=max_probes,
        max_exact=max_exact,
        on_probe=on_probe,
    )


class _GraphRuns:
    """Affinity propagation on one graph of all points, to the end or stopped early."""

    def __init__(self, graph: SimilarityGraph, ranking: Tensor, *, damping: float, max_iter: int, convergence_iter: int) -> None:
        self.graph, self.ranking = graph, ranking
        self.damping, self.max_iter, self.convergence_iter = damping, max_iter, convergence_iter

    def exact(self, preference: float) -> AffinityPropagation:
        return self._run(preference, self.max_iter, self.convergence_iter)

    def estimate(self, preference: float) -> AffinityPropagation:
        early = min(self.max_iter, ESTIMATE_MAX_ITER), min(self.convergence_iter, ESTIMATE_CONVERGENCE_ITER)
        return self._run(preference, *early)

    def _run(self, preference: float, max_iter: int, convergence_iter: int) -> AffinityPropagation:
        with _unconverged_is_noted():
            return sparse_affinity_propagation(
                self.graph, self.ranking * preference, damping=self.damping, max_iter=max_iter, convergence_iter=convergence_iter
            )


def _unconverged_is_noted() -> warnings.catch_warnings:
    """Probes that did not settle are in the history of the search; a warning is for the clusters that are used."""
    return warnings.catch_warnings(action="ignore", category=ConvergenceWarning)


def _check_labels(labels: Tensor, total: int) -> int:
    if labels.ndim != 1 or not 2 <= len(labels) <= total:
        raise ValueError(f"need labels of two or more of the {total} points, the first ones, got shape {tuple(labels.shape)}")
    if bool((labels < 0).any()):
        raise ValueError(f"labels must be identities from 0 on, {int((labels < 0).sum())} of {len(labels)} are negative")
    return len(labels)


def _labeled_similarities(similarity: Tensor, num_labeled: int) -> Tensor:
    """The different similarities of pairs of labeled points, ascending."""
    levels: Tensor = torch.cat([similarity[row, row + 1 : num_labeled] for row in range(num_labeled - 1)]).unique()
    return levels
