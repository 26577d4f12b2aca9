"""How well pseudo-labels agree with the true identities."""

from __future__ import annotations

from dataclasses import dataclass

from sklearn.metrics import homogeneity_completeness_v_measure
from torch import Tensor


@dataclass(frozen=True)
class ClusteringAgreement:
    """Agreement of a clustering with the true identities; scores in [0, 1], NaN when nothing was clustered.

    Attributes:
        homogeneity: 1 when no cluster holds two identities.
        completeness: 1 when no identity is spread over two clusters.
        v_measure: Harmonic mean of the two.
        noise_fraction: Share of all points that no cluster holds.
        num_clusters: Clusters, noise not counted.
    """

    homogeneity: float
    completeness: float
    v_measure: float
    noise_fraction: float
    num_clusters: int


def clustering_agreement(labels: Tensor, pids: Tensor) -> ClusteringAgreement:
    """Homogeneity, completeness and V-measure of the clustered points, and how many were not clustered.

    Noise is left out of the three scores: it takes no part in training, and as one big cluster it would drown every difference. Read
    them together with ``noise_fraction``. Points of unknown identity (negative pid) are left out of the three scores too.

    Args:
        labels: ``[N]`` int64 pseudo-labels, -1 noise.
        pids: ``[N]`` int64 true identities.

    Raises:
        ValueError: The lengths differ, or there are no points.

    Source: Rosenberg and Hirschberg 2007; HSR, Fig. 4.5.

    Example:
        >>> import torch
        >>> from lightning_reid.clustering import clustering_agreement
        >>> labels, pids = torch.tensor([0, 0, 1, 1, 1, -1]), torch.tensor([5, 5, 6, 6, 6, 7])
        >>> agreement = clustering_agreement(labels, pids)
        >>> agreement.v_measure, round(agreement.noise_fraction, 3)
        (1.0, 0.167)
    """
    if labels.ndim != 1 or labels.shape != pids.shape or not len(labels):
        raise ValueError(f"need labels and pids of the same N >= 1 points, got shapes {tuple(labels.shape)} and {tuple(pids.shape)}")
    clustered, scored = labels >= 0, (labels >= 0) & (pids >= 0)
    homogeneity = completeness = v_measure = float("nan")
    if bool(scored.any()):
        true, found = pids[scored].cpu().numpy(), labels[scored].cpu().numpy()
        homogeneity, completeness, v_measure = (float(score) for score in homogeneity_completeness_v_measure(true, found))
    return ClusteringAgreement(
        homogeneity=homogeneity,
        completeness=completeness,
        v_measure=v_measure,
        noise_fraction=1 - clustered.double().mean().item(),
        num_clusters=len(labels[clustered].unique()),
    )
