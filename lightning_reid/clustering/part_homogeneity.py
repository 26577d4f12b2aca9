"""Part-based homogeneity (PBH): split the clusters that hold together badly by what the upper and the lower body look like."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from lightning_reid.clustering.distances import in_full_precision, squared_norms
from lightning_reid.clustering.silhouette import silhouette_samples


@dataclass(frozen=True)
class HomogeneitySplit:
    """Pseudo-labels after part-based homogeneity.

    Attributes:
        labels: ``[N]`` int64; clusters that were not split keep their number, noise stays -1.
        silhouettes: ``[C]`` mean silhouette of every cluster before the split.
        threshold: Mean silhouettes below it are imperfect.
        imperfect: ``[num_imperfect]`` int64 numbers of the imperfect clusters, ascending.
        num_added: How many clusters the split added.
    """

    labels: Tensor
    silhouettes: Tensor
    threshold: float
    imperfect: Tensor
    num_added: int

    @property
    def num_imperfect(self) -> int:
        """How many clusters were imperfect; where it is 0, a comparison with and without PBH shows nothing."""
        return len(self.imperfect)


def part_based_homogeneity(
    labels: Tensor, embeddings: Tensor, upper: Tensor, lower: Tensor, *, num_std: float = 3.0, seed: int = 0
) -> HomogeneitySplit:
    """Split every cluster whose mean silhouette is below ``mean - num_std * std`` of all clusters' into up to four.

    2-means on the upper parts and, separately, on the lower parts give every image of such a cluster a pair of numbers; images with
    the same pair stay together. The first of them keep the cluster's number, the others get ``C, C + 1, ...``. Groups smaller than DBSCAN's
    ``min_samples`` are kept, as in the thesis. A part that looks the same on all images is not divided. The standard deviation is that of
    the population: among ten clusters or fewer none can lie more than 3 of them out.

    Args:
        labels: ``[N]`` int64, every number in ``0..C-1`` used, -1 noise.
        embeddings: ``[N, D]`` float, the space of the silhouette.
        upper: ``[N, P]`` float embeddings of the upper halves of the images.
        lower: ``[N, Q]`` float embeddings of the lower halves.
        num_std: Standard deviations below the mean at which a cluster is imperfect.
        seed: Of the starting points of 2-means; equal on every rank.

    Raises:
        ValueError: Fewer than two clusters, an unused number, lengths that differ, or rows that are not finite; the message names the step.

    Source: HSR, section 4.3.3; the threshold in section 4.4.2.

    Example:
        >>> import torch
        >>> from lightning_reid.clustering import part_based_homogeneity
        >>> halves = torch.tensor([[0.0, 0.0], [0.1, 0.0], [3.0, 3.0], [3.1, 3.0], [9.0, 9.0], [9.1, 9.0]])
        >>> labels, upper, lower = torch.tensor([0, 0, 0, 0, 1, 1]), halves[:, :1], halves[:, 1:]
        >>> split = part_based_homogeneity(labels, halves, upper, lower, num_std=0.5)
        >>> split.labels.tolist(), split.num_imperfect  # two people had shared cluster 0
        ([0, 0, 2, 2, 1, 1], 1)
    """
    if not labels.shape == embeddings.shape[:1] == upper.shape[:1] == lower.shape[:1]:
        shapes = ", ".join(str(tuple(part.shape)) for part in (labels, embeddings, upper, lower))
        raise ValueError(f"part-based homogeneity: labels, embeddings, upper and lower must be of the same N images, got {shapes}")
    parts = {"upper": in_full_precision(upper), "lower": in_full_precision(lower)}
    for name, part in parts.items():
        squared_norms(part, f"part-based homogeneity: {name} parts")
    silhouettes = _mean_by_cluster(silhouette_samples(embeddings, labels), labels)
    threshold = (silhouettes.mean() - num_std * silhouettes.std(correction=0)).item()
    imperfect = (silhouettes < threshold).nonzero().flatten()
    refined, num_clusters = labels.clone(), len(silhouettes)
    for number in imperfect.tolist():
        members = (labels == number).nonzero().flatten()
        pairs = 2 * _two_means(parts["upper"][members], seed) + _two_means(parts["lower"][members], seed)
        for other in [pair for pair in pairs.unique().tolist() if pair != int(pairs[0])]:
            refined[members[(pairs == other).to(members.device)]] = num_clusters
            num_clusters += 1
    return HomogeneitySplit(refined, silhouettes, threshold, imperfect, num_clusters - len(silhouettes))


def _mean_by_cluster(values: Tensor, labels: Tensor) -> Tensor:
    """``[C]`` means of ``values [N]`` over each label in ``0..C-1``."""
    clustered = labels >= 0
    sizes = torch.bincount(labels[clustered])
    if bool((sizes == 0).any()):
        raise ValueError(f"part-based homogeneity: labels must use every number in 0..{len(sizes) - 1}, {int(sizes.argmin())} is unused")
    return values.new_zeros(len(sizes)).index_add_(0, labels[clustered], values[clustered]) / sizes


def _two_means(points: Tensor, seed: int) -> Tensor:
    """0 or 1 for every point ``[M]``, on the CPU; all the same where there are no two points to tell apart."""
    if len(points) < 2:
        return torch.zeros(len(points), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer than two distinct points: no split, which is the right answer
        found = KMeans(n_clusters=2, n_init=10, random_state=seed).fit_predict(points.cpu().numpy())
    return torch.from_numpy(found).long()
