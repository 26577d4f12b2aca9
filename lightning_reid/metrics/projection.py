"""A map of embeddings, so that one sees which lie together."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from sklearn.manifold import TSNE
from torch import Tensor

from lightning_reid.arguments import require_choice, require_seed
from lightning_reid.metrics.similarity import checked_embeddings

MapMethod = Literal["tsne", "pca"]
FEWEST_POINTS = 3
"""That t-SNE places."""


def embedding_map(embeddings: Tensor, *, method: MapMethod = "tsne", seed: int = 0) -> Tensor:
    """Place embeddings in the plane.

    ``"tsne"`` keeps neighbors together and says nothing of how far groups lie apart (van der Maaten and Hinton 2008, perplexity 20, less
    for few points; about a second for 300). ``"pca"`` is the projection on the two directions of largest variance, where distances are
    what is left of the true ones.

    Args:
        embeddings: ``[n, D]`` float, n at least 3.
        method: ``"tsne"`` or ``"pca"``.
        seed: Of t-SNE; PCA draws nothing.

    Returns:
        ``[n, 2]`` float32 on the CPU.

    Raises:
        ValueError: Fewer than three embeddings, NaN or infinite ones, or an unknown method.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import embedding_map
        >>> embedding_map(torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 1.0], [4.0, 0.0, 1.0]]), method="pca")[:, 0].abs()
        tensor([2., 0., 2.])
    """
    require_choice("method", method, get_args(MapMethod))
    require_seed("seed", seed)
    embeddings = checked_embeddings(embeddings, "map").float().cpu()
    if len(embeddings) < FEWEST_POINTS:
        raise ValueError(f"a map wants {FEWEST_POINTS} embeddings or more, got {len(embeddings)}")
    if method == "pca":
        return _principal_components(embeddings)
    perplexity = min(20.0, (len(embeddings) - 1) / 3)
    return torch.from_numpy(TSNE(perplexity=perplexity, random_state=seed, init="random").fit_transform(embeddings.numpy()))


def _principal_components(embeddings: Tensor) -> Tensor:
    centered = embeddings.double() - embeddings.double().mean(0)
    _, _, directions = torch.linalg.svd(centered, full_matrices=False)
    points = torch.zeros(len(embeddings), 2, dtype=torch.float64)
    for axis, direction in enumerate(directions[:2]):
        largest = direction[direction.abs().argmax()]
        points[:, axis] = centered @ (direction * largest.sign())  # which end is which is no matter of chance
    return points.float()
