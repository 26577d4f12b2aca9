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
        self._depths: dict[int, deque[tuple[float, NDArray[np.float64]]]] = {}

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
        deepest = np.array([self._deepest_of(track, seconds) for track in tracks]).reshape(-1, 1, 2)
        deeper: NDArray[np.bool_] = _depths(boxes, width) > deepest
        return deeper[..., 0] | deeper[..., 1]

    def see(self, tracks: Sequence[int], boxes: NDArray[np.float64], width: float, seconds: float) -> None:
        """Tell which boxes ``[K, 4]`` the K tracks have got."""
        for track, depths in zip(tracks, _depths(boxes, width), strict=True):
            known = self._depths.setdefault(track, deque())
            known.append((seconds, depths))
            while seconds - known[0][0] > _KEPT_SECONDS:
                known.popleft()

    def keep(self, tracks: Iterable[int]) -> None:
        """Forget all other tracks."""
        alive = set(tracks)
        self._depths = {track: known for track, known in self._depths.items() if track in alive}

    def _deepest_of(self, track: int, seconds: float) -> NDArray[np.float64]:
        """How deep from the left and from the right edge ``[2]`` a track's next box may be; infinite for who does not leave there."""
        known = self._depths.get(track, ())
        lately = [one for when, one in known if seconds - when <= _LEFT_SECONDS]
        if not lately:
            return np.full(2, np.inf)
        all_depths = np.stack([one for _, one in known])
        shallow = np.stack(lately).min(0)
        when = len(known) - 1 - all_depths[::-1].argmin(0)  # the last time that it was at its shallowest
        before = np.array([all_depths[: last + 1, side].max() for side, last in enumerate(when)])
        leaving = (shallow <= _AT_THE_EDGE) & (before - shallow >= _WENT)
        return np.where(leaving, shallow + _BACK, np.inf)


def _depths(boxes: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """From the left edge to the right side of each box, and from the right edge to its left side ``[K, 2]``, in its heights."""
    found: NDArray[np.float64] = np.stack([boxes[:, 2], width - boxes[:, 0]], 1) / (boxes[:, 3:] - boxes[:, 1:2])
    return found
