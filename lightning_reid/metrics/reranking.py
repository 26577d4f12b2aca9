"""k-reciprocal re-ranking: images that keep each other's company rank higher."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from lightning_reid.metrics.similarity import checked_embeddings, default_chunk_size


@torch.no_grad()
def k_reciprocal_rerank(
    query: Tensor, gallery: Tensor, k1: int = 20, k2: int = 6, lambda_value: float = 0.3, *, chunk_size: int | None = None
) -> Iterator[Tensor]:
    """Distances ``(1 - lambda) * Jaccard + lambda * scaled squared Euclidean``, some queries at a time.

    Source: Zhong et al. 2017 (arXiv:1701.08398), eq. 4-12, as the authors' code computes it: lists hold the image itself and its k1
    nearest others; a squared distance is divided by the largest one of its row; neighbors weigh ``exp(-scaled distance)``.
    Query and gallery together form one set of N = Q + G images. Memory is O(N k1) and two chunks of rows, time O(N^2 D).

    Args:
        query: ``[Q, D]`` embeddings, usually L2-normalized (this function does not).
        gallery: ``[G, D]`` embeddings, same dtype and device.
        k1: Length of the neighbor lists, from 1; cut to N - 1 in smaller sets.
        k2: Nearest images, with the image itself, whose neighbor weights are averaged (local query expansion); 1 leaves it out.
        lambda_value: Weight of the original distance in [0, 1]; 1 keeps the original ranking of every query.
        chunk_size: Rows handled at a time; ``None`` takes what fills about 64 MiB on the CPU, 256 MiB elsewhere.

    Yields:
        ``[c, G]`` distances in [0, 1] of the next c queries, on the device of the embeddings, small = near.
        ``torch.cat(list(...))`` is the whole ``[Q, G]`` matrix.

    Raises:
        ValueError: An option out of range, embeddings that do not fit together, or NaN or infinite ones; on the first chunk.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import k_reciprocal_rerank
        >>> query, gallery = torch.tensor([[0.0]]), torch.tensor([[4.0], [0.1], [0.2]])
        >>> distances = torch.cat(list(k_reciprocal_rerank(query, gallery, k1=2, k2=1)))
        >>> distances.argsort().tolist(), distances.shape
        ([[1, 2, 0]], torch.Size([1, 3]))
    """
    from lightning_reid.clustering.jaccard import neighbor_matrix  # its package takes scikit-learn and seconds, which other metrics do not

    if k1 < 1 or k2 < 1 or not 0 <= lambda_value <= 1:
        raise ValueError(f"need k1 >= 1, k2 >= 1 and 0 <= lambda_value <= 1, got {k1}, {k2} and {lambda_value}")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    query, gallery = checked_embeddings(query, "query"), checked_embeddings(gallery, "gallery")
    if query.shape[1] != gallery.shape[1] or query.dtype != gallery.dtype or query.device != gallery.device:
        here, there = (f"width {x.shape[1]}, {x.dtype} on {x.device}" for x in (query, gallery))
        raise ValueError(f"query and gallery embeddings must be alike, got {here} and {there}")
    embeddings = torch.cat([query, gallery])
    rows = chunk_size or default_chunk_size(len(embeddings), embeddings.device)
    neighbors, largest = _neighbors(embeddings, min(max(k1 + 1, k2), len(embeddings)), rows)
    weights = _neighbor_weights(embeddings, neighbors[:, : k1 + 1], largest, k1)
    if k2 > 1:
        weights = neighbor_matrix(neighbors[:, :k2]) @ weights / min(k2, neighbors.shape[1])
    by_neighbor = weights[len(query) :].T.tocsr()
    for start in range(0, len(query), rows):
        stop = min(start + rows, len(query))
        original = _squared_distances(embeddings[start:stop], gallery) / largest[start:stop, None]
        jaccard = _jaccard(weights[start:stop], by_neighbor)
        yield original.mul_(lambda_value).add_(torch.from_numpy(jaccard).to(original), alpha=1 - lambda_value)


def _squared_distances(rows: Tensor, columns: Tensor) -> Tensor:
    row_squares, column_squares = (torch.einsum("nd,nd->n", side, side) for side in (rows, columns))
    return torch.addmm(column_squares, rows, columns.T, alpha=-2).add_(row_squares[:, None]).clamp_min_(0)


def _neighbors(embeddings: Tensor, k: int, chunk_rows: int) -> tuple[NDArray[np.int32], Tensor]:
    """``[N, k]`` nearest images, the image itself first, and ``[N]`` the largest squared distance of each."""
    neighbors, largest = [], []
    for start in range(0, len(embeddings), chunk_rows):
        distances = _squared_distances(embeddings[start : start + chunk_rows], embeddings)
        largest.append(distances.max(1).values)
        distances.diagonal(start).fill_(-1)  # ahead of its duplicates
        neighbors.append(distances.topk(k, largest=False).indices.cpu())
    return torch.cat(neighbors).int().numpy(), torch.cat(largest).clamp_min(torch.finfo(embeddings.dtype).tiny)


def _neighbor_weights(embeddings: Tensor, lists: NDArray[np.int32], largest: Tensor, k1: int) -> sparse.csr_matrix:
    """``[N, N]`` weights over the expanded k-reciprocal neighbors of each image; rows add up to 1 (eq. 4, 5 and 7)."""
    from lightning_reid.clustering.jaccard import expanded_sets

    members = expanded_sets(lists, half=round(k1 / 2) + 1).tocoo()
    scales = largest[torch.from_numpy(members.row).to(largest.device)]
    weights = np.exp(-(_pair_distances(embeddings, members.row, members.col) / scales).cpu().double().numpy())
    weights /= np.bincount(members.row, weights)[members.row]
    return sparse.csr_matrix((weights.astype(np.float32), (members.row, members.col)), shape=members.shape)


def _pair_distances(embeddings: Tensor, left: NDArray[np.int32], right: NDArray[np.int32], block: int = 2**14) -> Tensor:
    pairs = torch.from_numpy(np.stack([left, right])).long().to(embeddings.device)
    return torch.cat([(embeddings[i] - embeddings[j]).square().sum(1) for i, j in zip(*(side.split(block) for side in pairs), strict=True)])


def _jaccard(weights: sparse.csr_matrix, by_neighbor: sparse.csr_matrix) -> NDArray[np.float64]:
    """``[c, G]`` Jaccard distances ``1 - S / (2 - S)``, S the sum of the smaller weights (eq. 10)."""
    overlap = np.empty((weights.shape[0], by_neighbor.shape[1]))
    for row in range(len(overlap)):
        span = slice(weights.indptr[row], weights.indptr[row + 1])
        holders = by_neighbor[weights.indices[span]]
        shared = np.minimum(holders.data, np.repeat(weights.data[span], np.diff(holders.indptr)))
        overlap[row] = np.bincount(holders.indices, shared, minlength=overlap.shape[1])
    return 1 - overlap / (2 - overlap)
