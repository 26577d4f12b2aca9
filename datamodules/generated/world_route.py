"""Itineraries through a generated world: who is where on the street at what time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_reid.datamodules.generated.streams import Stream, stream
from lightning_reid.datamodules.generated.world_camera import CODE, Street

PACE = 1.3
"""Meters a second at which a step has its usual length."""
TURN = 0.25
"""Seconds before and after a corner in which somebody turns."""

MeetingKind = Literal["turn_back", "crossing"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Meeting:
    """Two people who walk towards each other in the view of one camera; pedestrians who meet by chance are not told of.

    Attributes:
        kind: ``"turn_back"``: both go back to where they came from; ``"crossing"``: they pass each other.
        camid: Camera, from 1, in the middle of whose view they meet.
        seconds: When they are nearest to each other.
        pids: Who.
    """

    kind: MeetingKind
    camid: int
    seconds: float
    pids: tuple[int, int]


@dataclass
class Route:
    """Corners of a walk, which grows while it is drawn: ``(seconds, x, y)`` in meters, by time; two in one place are a stop."""

    speed: float
    corners: list[tuple[float, float, float]] = field(default_factory=list)

    def walk_to(self, x: float, y: float) -> None:
        """Go on to a place."""
        time, x0, y0 = self.corners[-1]
        self.corners.append((time + math.hypot(x - x0, y - y0) / self.speed, x, y))

    def stay(self, seconds: float) -> None:
        """Stand for a while."""
        time, x, y = self.corners[-1]
        self.corners.append((time + seconds, x, y))

    def arrive_at(self, seconds: float) -> None:
        """Move the whole walk in time, so that its last corner is reached then."""
        late = self.corners[-1][0] - seconds
        self.corners = [(time - late, x, y) for time, x, y in self.corners]


@dataclass(frozen=True)
class Steps:
    """A walk, frame by frame; each field is ``[num_frames]`` float64.

    Attributes:
        x: Along the street, meters.
        y: Across.
        heading: Direction of walking, radians.
        walked: Meters since the first corner.
        speed: Meters a second.
        under_way: 1 from the first corner to the last, else 0.
    """

    x: Floats
    y: Floats
    heading: Floats
    walked: Floats
    speed: Floats
    under_way: Floats


def steps_of(route: Route, times: Floats) -> Steps:
    """Sample a walk at ``times [num_frames]``, seconds."""
    corners = np.array(route.corners)
    at, lengths = corners[:, 0], np.hypot(*np.diff(corners[:, 1:], axis=0).T)
    leg = np.clip(np.searchsorted(at, times, side="right") - 1, 0, len(lengths) - 1)
    turns, headings = _turns(corners)
    return Steps(
        x=np.interp(times, at, corners[:, 1]),
        y=np.interp(times, at, corners[:, 2]),
        heading=np.interp(times, turns, headings),
        walked=np.interp(times, at, np.concatenate(([0.0], np.cumsum(lengths)))),
        speed=(lengths / np.maximum(np.diff(at), 1e-9))[leg],
        under_way=((times >= at[0]) & (times <= at[-1])).astype(np.float64),
    )


def _turns(corners: Floats) -> tuple[Floats, Floats]:
    """Times and directions between which a walker turns; who stands looks where they were going."""
    times, headings = [], []
    last = 0.0
    for (start, x0, y0), (stop, x1, y1) in pairwise(corners.tolist()):
        if math.hypot(x1 - x0, y1 - y0) > 1e-6:
            last += math.remainder(math.atan2(y1 - y0, x1 - x0) - last, math.tau)
        turn = min(TURN, (stop - start) / 2)
        times += [start + turn, stop - turn]
        headings += [last, last]
    return np.array(times), np.array(headings)


def draw_routes(
    seed: int, street: Street, num_people: int, seconds: float, *, encounters: int, crossings: int
) -> tuple[tuple[Route, ...], tuple[Meeting, ...]]:
    """Draw where everybody walks: all come from one end of the street, the first two people for the first encounter, and so on.

    Args:
        seed: Of everything.
        street: Where.
        num_people: How many, at least two for each meeting.
        seconds: How long the world lasts.
        encounters: How many meetings end with both turning back.
        crossings: How many end with both passing.
    """
    rng, total = stream(seed, CODE, Stream.MEETING), encounters + crossings
    routes: list[Route] = []
    meetings = []
    for number, slot in enumerate(rng.permutation(total).tolist()):
        kind: MeetingKind = "turn_back" if number < encounters else "crossing"
        when = 2.0 + (seconds - 5.0) * (slot + rng.uniform(0.2, 0.8)) / total
        camera, pids = (slot + seed) % len(street.cameras), (2 * number + 1, 2 * number + 2)
        pair = [stream(seed, CODE, Stream.ITINERARY, pid) for pid in pids]
        routes += _meet(rng, pair, street, camera, when, kind, seconds)
        meetings.append(Meeting(kind, camera + 1, when, pids))
    for pid in range(2 * total + 1, num_people + 1):
        routes.append(_pass_through(stream(seed, CODE, Stream.ITINERARY, pid), street, seconds))
    return tuple(routes), tuple(meetings)


def _begin(rng: np.random.Generator, street: Street, *, from_left: bool) -> Route:
    return Route(rng.uniform(1.1, 1.6), [(0.0, street.gaps[0 if from_left else -1], rng.uniform(*street.breadth))])


def _pass_through(rng: np.random.Generator, street: Street, seconds: float) -> Route:
    from_left = bool(rng.random() < 0.5)
    route = _begin(rng, street, from_left=from_left)
    route.arrive_at(rng.uniform(-(street.gaps[-1] - street.gaps[0]) / PACE, 0.4 * seconds))
    _wander(rng, route, street, 0 if from_left else len(street.cameras), 1 if from_left else -1, seconds)
    return route


def _meet(
    rng: np.random.Generator,
    pair: Sequence[np.random.Generator],
    street: Street,
    camera: int,
    when: float,
    kind: MeetingKind,
    seconds: float,
) -> list[Route]:
    """Two walks from the ends of the street to the middle of a view, and on."""
    low, high = street.views[camera]
    x, y = (low + high) / 2 + rng.uniform(-0.8, 0.8), rng.uniform(street.breadth[0] + 1.0, street.breadth[1] - 2.0)
    beside, behind = rng.uniform(0.0, 0.08), rng.choice((-0.15, 0.15))  # so near that each would be taken for who walks on
    routes = []
    for own, side in zip(pair, (-1, 1), strict=True):
        route = _begin(own, street, from_left=side < 0)
        before, after = (camera, camera + 1)[::-side]
        lane = y + side * behind
        route.walk_to(street.gaps[before], lane)
        route.walk_to(x + side * beside, lane)
        route.arrive_at(when)
        goal, direction = (before, side) if kind == "turn_back" else (after, -side)
        route.walk_to(street.gaps[goal], lane)
        _wander(own, route, street, goal, direction, seconds)
        routes.append(route)
    return routes


def _wander(rng: np.random.Generator, route: Route, street: Street, gap: int, direction: int, until: float) -> None:
    """Walk from gap to gap until the world ends: on, or back, with a stop here and there."""
    last = len(street.cameras)
    while route.corners[-1][0] < until:
        at_end = not 0 <= gap + direction <= last
        if at_end or (0 < gap < last and rng.random() < 0.15):
            route.stay(rng.uniform(1.5, 5.0))
            direction = -direction
        low, high = street.views[min(gap, gap + direction)]
        route.walk_to(low + rng.uniform(0.3, 0.7) * (high - low), rng.uniform(*street.breadth))
        if rng.random() < 0.15:
            route.stay(rng.uniform(1.0, 3.0))
        if rng.random() < 0.12:  # they have forgotten something
            direction = -direction
        else:
            gap += direction
        route.walk_to(street.gaps[gap] + rng.uniform(-0.4, 0.4), rng.uniform(*street.breadth))
