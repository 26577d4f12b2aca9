"""Clips of tracks in, their features out: the half of a node that holds the network of re-ID, and may lag behind the frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_reid.arguments import require_text
from lightning_reid.tracking.record_fields import TrackKey
from lightning_reid.tracking.records import TrackEnded, TrackFeature
from lightning_reid.tracking.track_embedding import TrackEmbedding

EmbedCrops = Callable[[Sequence[Tensor]], Tensor]
"""Crops ``[3, h, w]`` uint8 RGB of any sizes to embeddings ``[n, D]`` of length 1."""
EmbedClip = Callable[[Sequence[Tensor]], Tensor]
"""The T crops of a clip to one embedding ``[D]``."""


class Look(NamedTuple):
    """How a person looks in a frame.

    Attributes:
        crop: ``[3, h, w]`` uint8 RGB.
        embedding: ``[D]`` of it, where the repair has asked the network of crops already; else ``None``.
    """

    crop: Tensor
    embedding: Tensor | None = None


class DueClip(NamedTuple):
    """What a track's next feature is made of.

    Attributes:
        key: The track.
        looks: T, in order of time.
        seen_from: ``captured_utc`` of the first frame of the track.
        seen_until: ``captured_utc`` of the frame of the last look.
    """

    key: TrackKey
    looks: Sequence[Look]
    seen_from: float
    seen_until: float


class DueWork(NamedTuple):
    """What is to be told after a frame, beside who is in it.

    Attributes:
        epoch: Of the tracker; once it is larger, all tracks before are over, with or without ends.
        clips: Of which features are to be made first; whoever lags may leave them out.
        ends: Of tracks, told afterwards; never to be left out.
    """

    epoch: int
    clips: tuple[DueClip, ...] = ()
    ends: tuple[TrackEnded, ...] = ()


class TrackFeatures:
    """Gives each track of a camera a feature that grows with it. It shares nothing with the tracker, so it may run in another thread.

    Args:
        embed: Network of crops, of which a clip's feature is the mean.
        model: Name or digest of the network that makes features.
        embed_clip: Network of clips, in place of that of crops.

    Attributes:
        num_embedded: Crops embedded since it was made.
    """

    def __init__(self, embed: EmbedCrops, *, model: str, embed_clip: EmbedClip | None = None) -> None:
        require_text("model", model)
        self.model, self.num_embedded = model, 0
        self._embed, self._embed_clip, self._epoch = embed, embed_clip, 0
        self._embeddings: dict[TrackKey, TrackEmbedding] = {}

    def step(self, work: DueWork) -> list[TrackFeature | TrackEnded]:
        """Embed the clips of a frame, and let go of tracks that are over.

        Args:
            work: In the order of the frames.

        Returns:
            A feature for each clip, then the ends.

        Raises:
            ValueError: An embedding is no vector, not finite, or zero.
        """
        if work.epoch != self._epoch:
            self._epoch = work.epoch
            self._embeddings.clear()
        features = [self._feature(clip) for clip in work.clips]
        for end in work.ends:
            self._embeddings.pop(end.key, None)
        return [*features, *work.ends]

    def _feature(self, clip: DueClip) -> TrackFeature:
        feature, known = self._embedding(clip.looks), self._embeddings.get(clip.key)
        self._embeddings[clip.key] = mean = TrackEmbedding.of(feature) if known is None else known.with_feature(feature)
        return TrackFeature(*clip.key, mean.feature, mean.num_features, clip.seen_from, clip.seen_until, self.model)

    def _embedding(self, looks: Sequence[Look]) -> Tensor:
        """Of a clip; no crop is embedded twice."""
        crops = [one.crop for one in looks if self._embed_clip is not None or one.embedding is None]
        self.num_embedded += len(crops)
        if self._embed_clip is not None:
            return self._embed_clip(crops)
        known = [one.embedding for one in looks if one.embedding is not None]
        return torch.cat([*([self._embed(crops).cpu()] if crops else []), *([torch.stack(known)] if known else [])]).mean(0)
