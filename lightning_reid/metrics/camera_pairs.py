"""Between which cameras people are not found again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_reid.metrics.judged_rows import JudgedRows, judged_rows
from lightning_reid.metrics.matching import Matching
from lightning_reid.metrics.similarity import MetricName


@dataclass(frozen=True, eq=False)
class CameraPairs:
    """Failures by the camera of the query (A rows) and a camera of the gallery (B columns). Tensors are int64 on the CPU.

    Attributes:
        query_cameras: ``[A]`` camids, ascending.
        gallery_cameras: ``[B]`` camids, ascending.
        asked: ``[A, B]`` queries of camera a that have a match in camera b.
        missed: ``[A, B]`` those of them to which, among the images of camera b alone, somebody else is nearest.
        misled: ``[A, B]`` queries of camera a that have a match anywhere, and whose nearest answer of all is somebody else, seen by
            camera b. Their sum over b is what rank-1 lacks.
        scored: ``[A]`` queries of camera a that have a match.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import camera_pair_failures
        >>> from lightning_reid.metrics.matching import Matching
        >>> matching = Matching(torch.tensor([1]), torch.tensor([2, 1, 1]), torch.tensor([1]), torch.tensor([2, 2, 3]), "market")
        >>> query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.1], [1.0, 0.2], [1.0, 0.3]])
        >>> pairs = camera_pair_failures(query, gallery, matching)  # in camera 2 a stranger is nearest, in camera 3 there is none
        >>> pairs.gallery_cameras.tolist(), pairs.asked.tolist(), pairs.missed.tolist(), pairs.misled.tolist()
        ([2, 3], [[1, 1]], [[1, 0]], [[1, 0]])
    """

    query_cameras: Tensor
    gallery_cameras: Tensor
    asked: Tensor
    missed: Tensor
    misled: Tensor
    scored: Tensor


def camera_pair_failures(
    query: Tensor, gallery: Tensor, matching: Matching, *, metric: MetricName = "cosine", rerank: bool = False
) -> CameraPairs:
    """Count, for each pair of cameras, the queries that are not answered rightly; junk and what the protocol takes out do not count.

    Args:
        query: ``[Q, D]`` embeddings.
        gallery: ``[G, D]`` embeddings, same dtype and device.
        matching: Of these Q queries and G images with their camids, under the protocol that scores.
        metric: ``"cosine"`` or ``"euclidean"``.
        rerank: Rank by ``k_reciprocal_rerank``.

    Raises:
        ValueError: As ``retrieval_scores``, of the embeddings; or ``matching`` is of other images, or knows no cameras.

    Example:
        See ``CameraPairs``, which it gives.

        >>> import torch
        >>> from lightning_reid.metrics import camera_pair_failures
        >>> from lightning_reid.metrics.matching import Matching
        >>> matching = Matching(torch.tensor([1]), torch.tensor([1]), torch.tensor([4]), torch.tensor([5]), "market")
        >>> camera_pair_failures(torch.ones(1, 2), torch.ones(1, 2), matching).missed.tolist()
        [[0]]
    """
    if matching.query_camids is None or matching.gallery_camids is None:
        raise ValueError("failures by camera need the camids of queries and gallery: give them to Matching")
    query_cameras, of_query = matching.query_camids.unique(return_inverse=True)
    gallery_cameras, of_gallery = matching.gallery_camids.unique(return_inverse=True)
    asked, missed, misled = (torch.zeros(len(query_cameras), len(gallery_cameras), dtype=torch.int64) for _ in range(3))
    scored = torch.zeros(len(query_cameras), dtype=torch.int64)
    columns_of = [(of_gallery == camera).nonzero().flatten() for camera in range(len(gallery_cameras))]
    for rows in judged_rows(query, gallery, matching, metric=metric, rerank=rerank):
        here = of_query[rows.start : rows.start + len(rows.similarity)]
        with_match = rows.right.any(1)
        nearest = rows.similarity.argmax(1)  # the first of equals, as in a stable sort
        wrong = with_match & ~rows.right.gather(1, nearest[:, None])[:, 0]
        scored += _counted(here[with_match], len(query_cameras))
        for camera, columns in enumerate(columns_of):
            asks, misses = _of_camera(rows, columns)
            asked[:, camera] += _counted(here[asks], len(query_cameras))
            missed[:, camera] += _counted(here[misses], len(query_cameras))
            misled[:, camera] += _counted(here[wrong & (of_gallery[nearest] == camera)], len(query_cameras))
    return CameraPairs(query_cameras.cpu(), gallery_cameras.cpu(), asked, missed, misled, scored)


def _of_camera(rows: JudgedRows, columns: Tensor) -> tuple[Tensor, Tensor]:
    """``[c]`` bool: who has a match among these columns, and who of them is led to somebody else."""
    right = rows.right[:, columns]
    asks = right.any(1)
    nearest = rows.similarity[:, columns].argmax(1)
    return asks, asks & ~right.gather(1, nearest[:, None])[:, 0]


def _counted(places: Tensor, size: int) -> Tensor:
    return torch.bincount(places, minlength=size).cpu()
