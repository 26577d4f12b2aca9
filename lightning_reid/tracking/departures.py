"""Who leaves at the edge of a picture hands the track to whoever comes in there, unless somebody watches the edges."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

_AT_THE_EDGE = 0.45
"""Depth, in heights, of somebody who has come to the edge: hardly more than a person is wide."""
_WENT = 0.4
"""So much deeper, in heights, they were before: they went there."""
_BACK = 0.1
"""So much deeper, in heights, than theirs was is the box of somebody who comes in: more than arms and legs that swing."""
_LEFT_SECONDS, _KEPT_SECONDS = 1.0, 2.0
"""How long ago somebody came to the edge who is leaving; how long ago they were deeper in the picture."""


class Departures:
    """Notices who leaves at the left or right edge of the picture, whose track must not take the box of somebody who comes in there.

    By overlap alone it would: where one goes out while another comes in, the two boxes cut by the edge are nearly the same. What tells them
    apart is where they go. How deep somebody is in the picture is measured at the inner side of the box, from each edge, in heights of the
    box. A track that went to an edge within the last second takes no box that is deeper again. Who turns back there gets another track.
    ``CameraTracker`` asks it of sure boxes alone, as it does of appearance: an unsure one is still taken by overlap.

    Example:
        >>> import numpy as np
        >>> from lightning_reid.tracking.departures import Departures
        >>> edges = Departures()
        >>> for number, right in enumerate((90, 60, 40, 25)):  # somebody walks out at the left
        ...     edges.see([7], np.array([[max(right - 40, 0), 0, right, 100.0]]), width=400, seconds=number / 5)
        >>> edges.barred([7], np.array([[0, 0, 22.0, 100], [10, 0, 50.0, 100]]), width=400, seconds=0.8).tolist()
        [[False, True]]
    """

    def __init__(self) -> None:
        self._depths: dict[int, deque[tuple[float, float, float]]] = {}  # seconds, depth from the left and from the right edge

    def barred(self, tracks: Sequence[int], boxes: NDArray[np.float64], width: float, seconds: float) -> NDArray[np.bool_]:
        """Which boxes cannot be of which tracks.

        Args:
            tracks: T ids; those that were never seen are of nobody who leaves.
            boxes: ``[K, 4]`` x0, y0, x1, y1 in pixels, of area.
            width: Of the picture, in pixels.
            seconds: When it was captured.

        Returns:
            ``[T, K]`` bool.
        """
        deepest = np.array([[self._deepest(track, side, seconds) for side in (1, 2)] for track in tracks]).reshape(-1, 1, 2)
        deeper: NDArray[np.bool_] = _depths(boxes, width) > deepest
        return deeper[..., 0] | deeper[..., 1]

    def see(self, tracks: Sequence[int], boxes: NDArray[np.float64], width: float, seconds: float) -> None:
        """Tell which boxes ``[K, 4]`` the K tracks have got."""
        for track, (left, right) in zip(tracks, _depths(boxes, width).tolist(), strict=True):
            known = self._depths.setdefault(track, deque())
            known.append((seconds, left, right))
            while seconds - known[0][0] > _KEPT_SECONDS:
                known.popleft()

    def keep(self, tracks: Iterable[int]) -> None:
        """Forget all other tracks."""
        alive = set(tracks)
        self._depths = {track: known for track, known in self._depths.items() if track in alive}

    def _deepest(self, track: int, side: int, seconds: float) -> float:
        """How deep from an edge (1 left, 2 right) a track's next box may be; infinite for who does not leave there."""
        known = self._depths.get(track, ())
        shallow = min((one[side] for one in known if seconds - one[0] <= _LEFT_SECONDS), default=np.inf)
        if shallow > _AT_THE_EDGE:
            return np.inf
        depths = [one[side] for one in known]
        last = len(depths) - 1 - depths[::-1].index(min(depths))  # the last time that it was at its shallowest
        return shallow + _BACK if max(depths[: last + 1]) - shallow >= _WENT else np.inf


def _depths(boxes: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """From the left edge to the right side of each box, and from the right edge to its left side ``[K, 2]``, in its heights."""
    found: NDArray[np.float64] = np.stack([boxes[:, 2], width - boxes[:, 0]], 1) / (boxes[:, 3:] - boxes[:, 1:2])
    return found
