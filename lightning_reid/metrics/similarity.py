"""Similarities of queries and gallery, some queries at a time, so that the whole matrix never exists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

MetricName = Literal["cosine", "euclidean"]

_CHUNK_ELEMENTS_ON_CPU = 2**24  # 64 MiB of float32: larger gains nothing, smaller starves the matrix product
_CHUNK_ELEMENTS_ON_ACCELERATOR = 2**26  # 256 MiB: fewer kernel launches
_FEWEST_ROWS = 16
"""Products of fewer rows take other paths in BLAS libraries, on which copies of one gallery image get unequal similarities."""


def default_chunk_size(num_gallery: int, device: torch.device) -> int:
    """Number of queries whose similarities to the whole gallery fill one buffer of moderate size (64 MiB on the CPU)."""
    elements = _CHUNK_ELEMENTS_ON_CPU if device.type == "cpu" else _CHUNK_ELEMENTS_ON_ACCELERATOR
    return max(1, elements // max(1, num_gallery))


def checked_embeddings(embeddings: Tensor, name: str) -> Tensor:
    """Embeddings fit for scoring: a non-empty finite matrix, without gradient, at least float32.

    Args:
        embeddings: ``[N, D]``, any floating dtype; half precision is widened to float32, float64 stays.
        name: What to call them in an error, ``"query"`` or ``"gallery"``.

    Raises:
        ValueError: No matrix, no rows, no columns, no floating dtype, NaN or infinite entries, or rows so long that products overflow.
    """
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise ValueError(f"{name} must be a non-empty matrix of embeddings [N, D], got shape {tuple(embeddings.shape)}")
    if not embeddings.is_floating_point():
        raise ValueError(f"{name} must hold floating-point embeddings, got {embeddings.dtype}")
    embeddings = embeddings.detach()
    if embeddings.dtype in (torch.float16, torch.bfloat16):
        embeddings = embeddings.float()
    # A NaN or inf spoils its row's sum, and sums are far cheaper than a mask; finite rows may overflow too, hence the second look.
    suspects = (~embeddings.sum(1).isfinite()).nonzero().flatten()
    broken = suspects[~embeddings[suspects].isfinite().all(1)]
    if len(broken):
        raise ValueError(
            f"{len(broken)} of {len(embeddings)} {name} embeddings hold NaN or infinite values, the first is row {int(broken[0])}: "
            "look at that image and at the training loss (a diverged network, or an overflow in half precision)"
        )
    # 8: both sides may double in length when they are centerd, and the squared distance takes twice their product.
    if not bool((8 * torch.linalg.vector_norm(embeddings, dim=1).square()).isfinite().all()):
        raise ValueError(f"the squared norms of the {name} embeddings overflow {embeddings.dtype}: divide all embeddings by one constant")
    return embeddings


def similarity_chunks(query: Tensor, gallery: Tensor, metric: MetricName = "cosine", chunk_size: int | None = None) -> Iterator[Tensor]:
    """Rows of a similarity matrix that ranks the gallery of each query as ``metric`` does, nearest = largest.

    Only the order within a row is promised: ``euclidean`` gives ``q.g - |g|^2 / 2`` (of embeddings moved close to the gallery's mean),
    half the negative squared distance up to a constant per query.

    Args:
        query: ``[Q, D]`` float32 or float64, finite (see ``checked_embeddings``).
        gallery: ``[G, D]``, same dtype and device.
        metric: ``"cosine"`` or ``"euclidean"``. An embedding of zeros has cosine 0 to everything.
        chunk_size: Queries in a chunk; ``None`` takes what fills about 64 MiB on the CPU, 256 MiB elsewhere.

    Yields:
        ``[c, G]`` similarities of the next c queries. One buffer serves all chunks: the consumer may overwrite it, and must
        be done with it before it asks for the next.

    Raises:
        ValueError: Unknown metric, chunk size below 1, or embeddings of unequal width, dtype or device.
    """
    if metric not in get_args(MetricName):
        raise ValueError(f"metric must be one of {get_args(MetricName)}, got {metric!r}")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(f"query and gallery embeddings must be of one width, got {query.shape[1]} and {gallery.shape[1]}")
    if query.dtype != gallery.dtype or query.device != gallery.device:
        here, there = f"{query.dtype} on {query.device}", f"{gallery.dtype} on {gallery.device}"
        raise ValueError(f"query and gallery must share dtype and device, got {here} and {there}: move one with .to()")
    return _chunks(query, gallery, metric, chunk_size or default_chunk_size(len(gallery), gallery.device))


@torch.no_grad()
def _chunks(query: Tensor, gallery: Tensor, metric: MetricName, chunk_size: int) -> Iterator[Tensor]:
    if metric == "cosine":
        # Scaling the chunks instead would spare two copies, but round otherwise than the textbook does: near ties would swap.
        query, gallery, offset = F.normalize(query), F.normalize(gallery), None
    else:
        # Embeddings far from the origin would lose the digits of q.g - |g|^2 / 2 by cancellation. Rounded, because whole numbers then
        # stay whole, so that equal distances stay exactly equal; and ordinary embeddings lie within 1/2 and need no copy.
        center = gallery.mean(0).round()
        if bool(center.any()):
            query, gallery = query - center, gallery - center
        offset = torch.einsum("gd,gd->g", gallery, gallery) / -2
    buffer = query.new_empty(max(min(chunk_size, len(query)), _FEWEST_ROWS), len(gallery))
    for rows in query.split(chunk_size):
        num_rows = len(rows)
        rows = F.pad(rows, (0, 0, 0, max(0, _FEWEST_ROWS - num_rows)))
        chunk = buffer[: len(rows)]
        if offset is None:
            torch.mm(rows, gallery.T, out=chunk)
        else:
            torch.addmm(offset, rows, gallery.T, out=chunk)
        yield chunk[:num_rows]
