"""Inter-camera mining (ICM): who looks most alike in another camera, and how right that is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_reid.clustering.neighbors import nearest_neighbors
from lightning_reid.records import InterCameraPairs


def inter_camera_pairs(embeddings: Tensor, camids: Tensor, k: int = 10, *, with_noise: bool = False) -> InterCameraPairs:
    """The ``k`` nearest images of other cameras for every image, and which of these pairs are mutual.

    Images of the same camera are taken out first, then the nearest ``k`` of the others are listed, by Euclidean distance.

    Args:
        embeddings: ``[N, D]`` float.
        camids: ``[N]`` int64.
        k: Length of the lists, at least 1.
        with_noise: Kept in the result, for whoever draws from it: Algorithm 1 pairs all images, whether they were clustered or not.

    Returns:
        The lists ``Rank(i)`` (padded with -1) and whether i stands in the list of each of its entries.

    Raises:
        ValueError: All images are of one camera, the lengths differ, or embeddings are not finite.

    Source: HSR, section 4.3.2, Algorithm 1.

    Example:
        >>> import torch
        >>> from lightning_reid.clustering import inter_camera_pairs
        >>> embeddings, camids = torch.tensor([[0.0], [0.2], [0.08], [0.9]]), torch.tensor([1, 1, 2, 2])
        >>> pairs = inter_camera_pairs(embeddings, camids, k=1)
        >>> pairs.ranked.flatten().tolist(), pairs.mutual.flatten().tolist()
        ([2, 2, 0, 1], [True, False, True, False])
    """
    if len(camids) and bool((camids == camids[0]).all()):
        raise ValueError(
            f"inter-camera mining needs images of at least two cameras, all {len(camids)} have camid {int(camids[0])}:"
            " check the camera ids, or leave inter-camera mining out"
        )
    ranked, _ = nearest_neighbors(embeddings, k, groups=camids)
    own = torch.arange(len(ranked), device=ranked.device)[:, None, None]
    mutual = (ranked[ranked.clamp(min=0)] == own).any(dim=2) & (ranked >= 0)
    return InterCameraPairs(ranked=ranked, mutual=mutual, with_noise=with_noise)


@dataclass(frozen=True)
class PairStatistics:
    """How right the mined pairs are; a share of no pairs at all is NaN.

    Attributes:
        num_mutual: Mutual pairs, each counted once.
        rank_precision: Share of the entries of all rank lists that show the same person (the thesis reports up to 0.82).
        rank_hard_positive_fraction: Share of these entries that show the same person and were not put into the same cluster (up to 0.17).
        mutual_precision: ``rank_precision`` of the mutual pairs alone.
        mutual_hard_positive_fraction: ``rank_hard_positive_fraction`` of the mutual pairs alone.
    """

    num_mutual: int
    rank_precision: float
    rank_hard_positive_fraction: float
    mutual_precision: float
    mutual_hard_positive_fraction: float


def pair_statistics(pairs: InterCameraPairs, labels: Tensor, pids: Tensor) -> PairStatistics:
    """Compare the mined pairs with the true identities and with the clustering.

    An image that the clustering left as noise shares a cluster with nobody: every true pair it is part of is a hard positive.
    Entries with an image of unknown identity (negative pid) count in ``num_mutual`` but in no share.

    Args:
        pairs: Lists of N images.
        labels: ``[N]`` int64 pseudo-labels, -1 noise.
        pids: ``[N]`` int64 true identities.

    Raises:
        ValueError: ``labels`` or ``pids`` do not hold N numbers.

    Source: HSR, section 4.4.4.
    """
    ranked, mutual = pairs.ranked, pairs.mutual
    total = len(ranked)
    if labels.shape != (total,) or pids.shape != (total,):
        raise ValueError(f"the pairs are of {total} images, got labels {tuple(labels.shape)} and pids {tuple(pids.shape)}")
    other = ranked.clamp(min=0)
    known = (ranked >= 0) & (pids >= 0)[:, None] & (pids[other] >= 0)
    true = pids[other] == pids[:, None]
    hard = true & ((labels[other] != labels[:, None]) | (labels < 0)[:, None])

    def share(of: Tensor, among: Tensor) -> float:
        return (of & among).sum().item() / count if (count := int(among.sum())) else float("nan")

    return PairStatistics(
        num_mutual=int(mutual.sum()) // 2,
        rank_precision=share(true, known),
        rank_hard_positive_fraction=share(hard, known),
        mutual_precision=share(true, known & mutual),
        mutual_hard_positive_fraction=share(hard, known & mutual),
    )
