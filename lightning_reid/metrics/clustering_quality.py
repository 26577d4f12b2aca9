"""How well embeddings fall into clusters by identity."""

from __future__ import annotations

import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor


def clustering_nmi(embeddings: Tensor, pids: Tensor, *, seed: int = 0) -> float:
    """Normalized mutual information of identities and of as many k-means clusters, ``2 I / (H + H)``, in [0, 1].

    Embeddings are L2-normalized first, as cosine distances compare them.

    Args:
        embeddings: ``[N, D]`` float.
        pids: ``[N]`` int64 identities.
        seed: Of the starts of k-means.

    Raises:
        ValueError: The lengths differ, there are no points, or an embedding is not finite.

    Source: the usual measure of image retrieval on CUB-200-2011; SGC-DPL, Table 3.6.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import clustering_nmi
        >>> embeddings, pids = torch.eye(2)[[0, 0, 1, 1]], torch.tensor([5, 5, 9, 9])
        >>> round(clustering_nmi(embeddings, pids), 3)  # k-means finds the two people
        1.0
    """
    if pids.shape != embeddings.shape[:1] or not len(pids):
        raise ValueError(f"need one pid for each of N >= 1 embeddings, got {tuple(pids.shape)} for {tuple(embeddings.shape)}")
    if not bool(embeddings.isfinite().all()):
        raise ValueError("embeddings hold NaN or infinity: look for a diverged network")
    points = F.normalize(embeddings.detach().float(), dim=1).cpu().numpy()
    found = KMeans(n_clusters=len(pids.unique()), n_init=1, random_state=seed).fit_predict(points)
    return float(normalized_mutual_info_score(pids.cpu().numpy(), found))
