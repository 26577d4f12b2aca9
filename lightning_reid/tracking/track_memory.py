"""The memory of tracks that a live track is looked for in: of one size for ever, and nothing in it outlives its time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from lightning_reid.arguments import require_choice, require_count, require_number
from lightning_reid.tracking.record_fields import LATEST, TrackKey

Mode = Literal["left", "live"]
"""Whom a search finds: ``left`` those that have left other cameras, as in the text; ``live`` those that are still seen there too."""
FREE = -1
"""The camera of a place that holds nobody."""
_ROWS_AT_ONCE = 4096
_DTYPES = (torch.float16, torch.float32)


class Candidate(NamedTuple):
    """A track that a search found.

    Attributes:
        key: Which track.
        similarity: Cosine of its feature and the query's.
    """

    key: TrackKey
    similarity: float


class TrackMemory:
    """The features of the latest tracks, in a ring: a new track takes the place of the oldest, in constant time and memory.

    A live track may be overwritten by 10,000 later ones as well; it is back with its next feature.

    Args:
        feature_size: D, numbers of a feature.
        capacity: Most tracks.
        keep_for: Seconds after which a track that told nothing more is forgotten: features are biometric data.
        dtype: Of the stored features: ``torch.float16`` (10,000 of 1,280 numbers are 26 MB) or ``torch.float32``.

    Attributes:
        cameras: ``[capacity]`` int64, number of each place's camera (see ``camera_names``), -1 where the place is free.
        entered: ``[capacity]`` float64, when each track was seen first, in seconds.
        seen_until: ``[capacity]`` float64, when it was seen last.
        ended: ``[capacity]`` bool, whether it has left.
        camera_names: Names of the cameras by number.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> import torch
        >>> from lightning_reid.tracking import TrackKey, TrackMemory
        >>> memory, gone = TrackMemory(feature_size=2), TrackKey("door", 0, 7)
        >>> memory.put(gone, torch.tensor([1.0, 0.0]), entered=0.0, seen_until=9.0, ended=True)
        >>> here = TrackKey("hall", 0, 3)
        >>> memory.search(torch.tensor([[0.6, 0.8]]), [here], mode="left")[0][0].key
        TrackKey(camera='door', epoch=0, track_id=7)
    """

    def __init__(self, feature_size: int, capacity: int = 10_000, keep_for: float = 3600.0, dtype: torch.dtype = torch.float16) -> None:
        require_count("feature_size", feature_size, high=2**16)
        require_count("capacity", capacity, high=10**7)
        require_number("keep_for", keep_for, above=0)
        if dtype not in _DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(map(str, _DTYPES))}, got {dtype}")
        self.capacity, self.keep_for = capacity, keep_for
        self.cameras = torch.full((capacity,), FREE)
        self.entered, self.seen_until = torch.zeros(2, capacity, dtype=torch.float64).unbind()
        self.ended = torch.zeros(capacity, dtype=torch.bool)
        self.camera_names: list[str] = []
        self._camera_numbers: dict[str, int] = {}
        self._features = torch.zeros(capacity, feature_size, dtype=dtype)
        self._places: dict[TrackKey, int] = {}
        self._keys: list[TrackKey | None] = [None] * capacity
        self._next = 0

    def __len__(self) -> int:
        """Tracks that it holds."""
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        """Whether it holds this track."""
        return key in self._places

    def put(self, key: TrackKey, feature: Tensor, *, entered: float, seen_until: float, ended: bool) -> TrackKey | None:
        """Remember a track, or what is newly known of it.

        Args:
            key: Which track.
            feature: ``[D]`` float of length 1.
            entered: When it was seen first, in seconds.
            seen_until: When it was seen last, not before.
            ended: Whether it has left its camera.

        Returns:
            The track that had to go for it; ``None`` if there was room.

        Raises:
            ValueError: The feature is of another size or not finite, or a time is none; nothing is changed.
        """
        self._check(feature[None])
        require_number("entered", entered, low=0, high=LATEST)
        require_number("seen_until", seen_until, low=entered, high=LATEST)
        gone, place = None, self._places.get(key)
        if place is None:
            place, self._next = self._next, (self._next + 1) % self.capacity
            gone = self._keys[place]
            if gone is not None:
                del self._places[gone]
            self._places[key], self._keys[place] = place, key
        self._features[place] = feature
        self.cameras[place] = self._number_of(key.camera)
        self.entered[place], self.seen_until[place], self.ended[place] = entered, seen_until, ended
        return gone

    def expire(self, now: float) -> list[TrackKey]:
        """Forget the tracks that were seen last more than ``keep_for`` seconds before ``now``.

        Returns:
            Which, in the order of their places.

        Raises:
            ValueError: ``now`` is no time.
        """
        require_number("now", now, low=0, high=LATEST)
        old = (self.cameras != FREE) & (self.seen_until < now - self.keep_for)
        return self._free(old.nonzero().flatten().tolist())

    def forget(self, keys: Iterable[TrackKey]) -> list[TrackKey]:
        """Forget these tracks; their features are overwritten.

        Returns:
            Those of them that it held.
        """
        return self._free([self._places[key] for key in keys if key in self._places])

    def similarity(self, key: TrackKey, feature: Tensor) -> float | None:
        """The cosine of a remembered track and a feature ``[D]`` of length 1; ``None`` where the track is not remembered.

        Raises:
            ValueError: The feature is of another size, or not finite.
        """
        self._check(feature[None])
        place = self._places.get(key)
        return None if place is None else (self._features[place].float() @ feature.float()).item()

    def search(
        self,
        features: Tensor,
        queries: Sequence[TrackKey],
        *,
        mode: Mode = "left",
        k: int = 10,
        allowed: Tensor | None = None,
        own_camera: bool = False,
    ) -> list[list[Candidate]]:
        """The nearest tracks of other cameras than a query's own, and of that too if ``own_camera``.

        Args:
            features: ``[Q, D]`` float of length 1.
            queries: The Q tracks that they are of.
            mode: ``"left"`` finds tracks that ended, ``"live"`` the others too.
            k: Most tracks a query.
            allowed: ``[Q, capacity]`` bool, which places may be found by which query; ``None`` for all.
            own_camera: Whether tracks that ended in a query's own camera are found too.

        Returns:
            For each query up to k candidates, nearest first; of equally near ones the smaller key first.

        Raises:
            ValueError: A shape, number or word is not as described.
        """
        require_choice("mode", mode, get_args(Mode))
        require_count("k", k)
        self._check(features)
        if len(features) != len(queries) or (allowed is not None and allowed.shape != (len(queries), self.capacity)):
            told = None if allowed is None else list(allowed.shape)
            raise ValueError(f"expected as many features as queries and allowed [Q, capacity], got {len(features)}, {len(queries)}, {told}")
        own = torch.tensor([self._camera_numbers.get(key.camera, FREE) for key in queries], dtype=torch.int64)
        found = self._nearest(features.float(), own, mode, k, allowed, own_camera)
        return [sorted(candidates, key=lambda one: (-one.similarity, one.key)) for candidates in found]

    def _nearest(
        self, features: Tensor, own: Tensor, mode: Mode, k: int, allowed: Tensor | None, own_camera: bool
    ) -> list[list[Candidate]]:
        best = torch.full((len(features), 0), 0.0)
        places = torch.full((len(features), 0), 0)
        for start in range(0, self.capacity if self._places else 0, _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            may = (self.cameras[rows] != FREE) & (self.ended[rows] | (mode == "live"))
            if not may.any():
                continue
            elsewhere = (self.cameras[rows] != own[:, None]) | (self.ended[rows] & own_camera)
            pairs = may & elsewhere & (True if allowed is None else allowed[:, rows])
            similarities = (features @ self._features[rows].float().T).masked_fill(~pairs, -torch.inf)
            numbers = torch.arange(start, start + len(may)).expand_as(similarities)
            best, places = torch.cat([best, similarities], 1), torch.cat([places, numbers], 1)
            best, order = best.topk(min(k, best.shape[1]), dim=1)
            places = places.gather(1, order)
        return [
            [Candidate(self._key_at(place), value) for place, value in zip(*row) if value > -torch.inf]
            for row in zip(places.tolist(), best.tolist())
        ]

    def _free(self, places: list[int]) -> list[TrackKey]:
        keys = [self._key_at(place) for place in places]
        self._features[places] = 0
        self.cameras[places] = FREE
        for place, key in zip(places, keys):
            del self._places[key]
            self._keys[place] = None
        return keys

    def _key_at(self, place: int) -> TrackKey:
        key = self._keys[place]
        assert key is not None
        return key

    def _number_of(self, camera: str) -> int:
        if camera not in self._camera_numbers:
            self._camera_numbers[camera] = len(self.camera_names)
            self.camera_names.append(camera)
        return self._camera_numbers[camera]

    def _check(self, features: Tensor) -> None:
        size = self._features.shape[1]
        if features.ndim != 2 or features.shape[1] != size:
            raise ValueError(f"expected features of {size} numbers, got {list(features.shape)}: do all nodes use one network?")
        if not features.isfinite().all():
            raise ValueError("a feature holds NaN or infinite numbers: the weights are of a diverged training")
