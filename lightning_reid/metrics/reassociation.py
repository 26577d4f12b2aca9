"""Is somebody found again some frames later, among all who are seen then: re-identification within a tracked video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from lightning_reid.arguments import require_choice, require_count
from lightning_reid.metrics.ranks import ranks_in_chunk
from lightning_reid.metrics.scores import RetrievalScores, scores_from_ranks
from lightning_reid.metrics.similarity import MetricName, checked_embeddings, similarity_chunks


@dataclass(frozen=True, eq=False)
class ReassociationScores:
    """How well boxes found their own track again. Scores are fractions in [0, 1]; tensors are on the CPU.

    Attributes:
        gap: Frames between a query and its gallery.
        scores: Of the queries whose track is there again; each has one match. ``cmc[0]`` is the share of them whose nearest box is the
            right one, ``query_pids`` are their tracks, and those whose track is not there count as unmatched.
        gallery_sizes: ``[V]`` int64, for each of these queries the boxes of the later frame.
    """

    gap: int
    scores: RetrievalScores
    gallery_sizes: Tensor

    @property
    def chance(self) -> float:
        """Mean over the queries of 1 / boxes of the later frame: the ``cmc[0]`` of somebody who guesses."""
        return float((1 / self.gallery_sizes.double()).mean())

    @property
    def mean_gallery_size(self) -> float:
        """Boxes that a query is looked for among, in the mean."""
        return float(self.gallery_sizes.double().mean())


class Reassociation:
    """Collects the frames of a video in order, and compares each with those ``gaps`` frames before; it holds no older ones.

    A query is every box of a frame of which the frame ``gap`` later was told too, its gallery all boxes of that one. It is scored if its
    track is among them. Boxes of equal similarity rank in the order in which they were told.

    Args:
        gaps: In frames, each at least 1 and told once.
        metric: ``"cosine"`` or ``"euclidean"``.

    Raises:
        ValueError: A gap is no such number, comes twice, or there is none; or ``metric`` is unknown.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import Reassociation
        >>> video, tracks = Reassociation([2]), torch.tensor([7, 9])
        >>> for frame in range(5):
        ...     video.update(frame, torch.tensor([[1.0, 0.1 * frame], [0.0, 1.0]]), tracks)
        >>> found = video.scores(2)
        >>> found.scores.num_queries, float(found.scores.cmc[0]), found.chance
        (6, 1.0, 0.5)
    """

    def __init__(self, gaps: Sequence[int], metric: MetricName = "cosine") -> None:
        require_choice("metric", metric, get_args(MetricName))
        for gap in gaps:
            require_count("gap", gap)
        if not gaps or len(set(gaps)) < len(gaps):
            raise ValueError(f"need one or more gaps, each once, got {list(gaps)}")
        self.gaps, self.metric = tuple(gaps), metric
        self._window: dict[int, tuple[Tensor, Tensor]] = {}
        self._latest: int | None = None
        self._pairs: dict[int, list[_Pair]] = {gap: [] for gap in gaps}

    def update(self, frame: int, embeddings: Tensor, tracks: Tensor) -> None:
        """Take in the boxes of the next frame.

        Args:
            frame: Its number, larger than those before; frames that nobody tells of are nobody's gallery.
            embeddings: ``[n, D]`` float, one or more.
            tracks: ``[n]`` int64, all different.

        Raises:
            ValueError: Frames come in another order, the rows are not n each, a track has two boxes, or an embedding is not finite.
        """
        if self._latest is not None and frame <= self._latest:
            raise ValueError(f"frames must come in ascending order, got frame {frame} after {self._latest}")
        embeddings = checked_embeddings(embeddings, f"frame {frame}")
        if tracks.shape != embeddings.shape[:1] or len(tracks.unique()) < len(tracks):
            raise ValueError(f"frame {frame} needs a track of its own for each of {len(embeddings)} boxes, got {tracks.tolist()}")
        self._latest = frame
        self._window = {held: rows for held, rows in self._window.items() if held >= frame - max(self.gaps)}
        self._window[frame] = (embeddings, tracks)
        for gap in self.gaps:
            if frame - gap in self._window:
                self._pairs[gap].append(_pair(*self._window[frame - gap], embeddings, tracks, self.metric))

    def scores(self, gap: int) -> ReassociationScores:
        """What was found over one of the gaps so far.

        Raises:
            ValueError: It is none of the gaps, or no track was seen in two frames that far apart.
        """
        if gap not in self.gaps:
            raise ValueError(f"the gaps are {list(self.gaps)}, got {gap}")
        pairs = self._pairs[gap]
        if not any(len(pair.ranks) for pair in pairs):
            raise ValueError(f"nobody can be found again: no track has boxes in two frames that are {gap} apart. Give a shorter gap")
        starts = torch.tensor([0, *(len(pair.tracks) for pair in pairs)]).cumsum(0).tolist()
        queries = torch.cat([pair.queries + start for pair, start in zip(pairs, starts)])
        ranks, tracks = torch.cat([pair.ranks for pair in pairs]), torch.cat([pair.tracks for pair in pairs])
        sizes = torch.tensor([pair.num_gallery for pair in pairs]).repeat_interleave(torch.tensor([len(pair.ranks) for pair in pairs]))
        return ReassociationScores(gap, scores_from_ranks(queries, ranks, tracks, "step", max_rank=10), sizes)


def reassociation_scores(
    embeddings: Tensor, frames: Tensor, tracks: Tensor, gap: int, *, metric: MetricName = "cosine"
) -> ReassociationScores:
    """Score how well each box finds its own track among all boxes of the frame ``gap`` later.

    Args:
        embeddings: ``[N, D]`` float, of the boxes of one video, in any order.
        frames: ``[N]`` int64.
        tracks: ``[N]`` int64, at most one box a frame each.
        gap: In frames, at least 1.
        metric: ``"cosine"`` or ``"euclidean"``.

    Raises:
        ValueError: As ``Reassociation``.

    Example:
        >>> import torch
        >>> from lightning_reid.metrics import reassociation_scores
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [1.0, 0.0]])
        >>> found = reassociation_scores(embeddings, torch.tensor([1, 1, 2, 2]), torch.tensor([7, 9, 7, 9]), gap=1)
        >>> found.scores.first_match_rank.tolist(), found.scores.mAP  # 9 has put on 7's clothes
        ([2, 2], 0.5)
    """
    if embeddings.ndim != 2 or frames.shape != embeddings.shape[:1] or tracks.shape != embeddings.shape[:1]:
        told = [tuple(one.shape) for one in (embeddings, frames, tracks)]
        raise ValueError(f"need embeddings [N, D] and a frame and a track for each, got {told}")
    video = Reassociation([gap], metric)
    for frame in frames.unique().tolist():
        rows = (frames == frame).nonzero().flatten()
        video.update(frame, embeddings[rows], tracks[rows])
    return video.scores(gap)


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two frames: which queries were found, at which rank, who all queries are, and how many were looked among."""

    queries: Tensor
    ranks: Tensor
    tracks: Tensor
    num_gallery: int


@torch.no_grad()
def _pair(query: Tensor, query_tracks: Tensor, gallery: Tensor, gallery_tracks: Tensor, metric: MetricName) -> _Pair:
    rows, columns = (query_tracks[:, None] == gallery_tracks).nonzero(as_tuple=True)
    ranks = torch.empty(0, dtype=torch.int64)
    if len(rows):
        (similarity,) = similarity_chunks(query[rows], gallery, metric, chunk_size=len(rows))
        ranks = ranks_in_chunk(similarity, torch.arange(len(rows), device=rows.device), columns).cpu()
    return _Pair(rows.cpu(), ranks, query_tracks.cpu(), len(gallery))
