"""Scores of tracking as their definitions read: every assignment is tried, nothing comes from a library."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from math import sqrt
from typing import Any

from recordings import Row, rows_of

from lightning_reid.metrics import TrackedCamera

Frame = tuple[list[Any], list[Any], list[list[float]]]
"""True identities, shown identities, and the overlap of each with each."""


def overlap(one: float, other: float) -> float:
    """Intersection over union of two boxes 10 wide and as high as each other."""
    width = max(0.0, 10 - abs(one - other))
    return width / (20 - width)


def best(gain: list[list[float]], num_columns: int) -> dict[int, int]:
    """The rows that get a column of their own so that the sum is largest, of all ways to give them."""

    @cache
    def go(row: int, taken: int) -> tuple[float, tuple[tuple[int, int], ...]]:
        if row == len(gain):
            return 0.0, ()
        ways = [go(row + 1, taken)]
        for column in range(num_columns):
            if not taken >> column & 1:
                rest, pairs = go(row + 1, taken | 1 << column)
                ways.append((gain[row][column] + rest, ((row, column), *pairs)))
        return max(ways)

    return dict(go(0, 0)[1])


def coverage(one: TrackedCamera) -> dict[Row, Row]:
    """Which true box each shown box covers."""
    found: dict[Row, Row] = {}
    for frame in range(len(one.times)):
        true, shown = ([row for row in rows_of(part) if row.frame == frame] for part in (one.true, one.shown))
        gain = [[value if (value := overlap(ours.x, theirs.x)) >= 0.5 else -1.0 for theirs in shown] for ours in true]
        found |= {shown[column]: true[row] for row, column in best(gain, len(shown)).items()}
    return found


def frames_of(one: TrackedCamera, true_of: Callable[[Row], Any], shown_of: Callable[[Row], Any]) -> list[Frame]:
    found: list[Frame] = []
    for frame in range(len(one.times)):
        true, shown = ([row for row in rows_of(part) if row.frame == frame] for part in (one.true, one.shown))
        overlaps = [[overlap(ours.x, theirs.x) for theirs in shown] for ours in true]
        found.append(([true_of(row) for row in true], [shown_of(row) for row in shown], overlaps))
    return found


def idf1(frames: Sequence[Frame]) -> float:
    together: Counter = Counter()
    for true, shown, overlaps in frames:
        together.update((one, other) for one, row in zip(true, overlaps) for other, value in zip(shown, row) if value >= 0.5)
    people, labels = sorted({one for one, _ in together}), sorted({other for _, other in together}, key=str)
    gain = [[float(together[one, other]) for other in labels] for one in people]
    right = sum(gain[row][column] for row, column in best(gain, len(labels)).items())
    return 2 * right / sum(len(true) + len(shown) for true, shown, _ in frames)


def hota(frames: Sequence[Frame]) -> float:
    of_true = Counter(one for true, _, _ in frames for one in true)
    of_shown = Counter(one for _, shown, _ in frames for one in shown)
    alike: Counter = Counter()
    for true, shown, overlaps in frames:
        for i, one in enumerate(true):
            for j, other in enumerate(shown):
                either = sum(overlaps[i]) + sum(row[j] for row in overlaps) - overlaps[i][j]
                alike[one, other] += overlaps[i][j] / either if either > 0 else 0
    pairs = []
    for true, shown, overlaps in frames:
        gain = [
            [value * alike[one, other] / (of_true[one] + of_shown[other] - alike[one, other]) for other, value in zip(shown, row)]
            for one, row in zip(true, overlaps)
        ]
        pairs += [(true[i], shown[j], overlaps[i][j]) for i, j in best(gain, len(shown)).items()]
    scores = []
    for step in range(1, 20):
        hits = Counter((one, other) for one, other, value in pairs if value >= step * 0.05 - 1e-12)
        joined = sum(count * count / (of_true[one] + of_shown[other] - count) for (one, other), count in hits.items())
        scores.append(sqrt(joined / (of_true.total() + of_shown.total() - hits.total())) if hits else 0.0)
    return sum(scores) / len(scores)


def oracle(one: TrackedCamera) -> dict[Row, Any]:
    """The label of each shown box under perfect matching of the tracks."""
    covered, labels = coverage(one), {}
    shown = rows_of(one.shown)
    mostly: dict[int, tuple[int, int]] = {}
    for track in {row.number for row in shown}:
        people = Counter(covered[row].number for row in shown if row.number == track and row in covered)
        if people:
            mostly[track] = max((count, -pid) for pid, count in people.items())
    for row in shown:
        count, pid = mostly.get(row.number, (0, 0))
        rivals = [other for other in shown if other.frame == row.frame and mostly.get(other.number, (0, 1))[1] == pid]
        worth = [(other in covered and covered[other].number == -pid, mostly[other.number][0]) for other in rivals if count]
        first = count and rivals[worth.index(max(worth))] == row
        labels[row] = -pid if first else (one.name, row.number)
    return labels


def handovers(cameras: Sequence[TrackedCamera]) -> dict[str, Any]:
    """Delays of the handovers that were found (None of others), and whether each link was right."""
    seen = []  # time, camera, track, identity, person, visit
    visits = defaultdict(set)
    for number, one in enumerate(cameras):
        covered, times, shown = coverage(one), one.times.tolist(), rows_of(one.shown)
        for row in rows_of(one.true):
            begin = min(times[other.frame] for other in rows_of(one.true) if other.second == row.second)
            visits[row.number].add((begin, number, row.second))
        for row in shown:
            track = [other for other in shown if other.number == row.number and other in covered]
            before = [other for other in track if other.frame <= row.frame]
            after = [other for other in track if other.frame > row.frame]
            nearest = max(before, key=lambda other: other.frame) if before else min(after, key=lambda other: other.frame, default=None)
            person = covered[nearest].number if nearest else None
            visit = covered[row].second if row in covered else None
            seen.append((times[row.frame], number, row.number, row.second, person, visit))
    seen = sorted((one for one in seen if one[3] >= 0), key=lambda one: one[:3])
    links = []
    for position, (_, number, track, identity, person, _) in enumerate(seen):
        own = [one for one in seen[:position] if one[1] == number and one[2] == track]
        sources = [one for one in seen[:position] if one[1] != number and one[3] == identity]
        if sources and (not own or own[-1][3] != identity):
            latest = max(one[0] for one in sources)
            source = min((one for one in sources if one[0] == latest), key=lambda one: one[1])
            links.append(person is not None and person == source[4])
    delays: list[float | None] = []
    for those in visits.values():
        ordered = sorted(those)
        for earlier, later in pairwise(ordered):
            if earlier[1] != later[1]:
                delays.append(first_agreement(seen, earlier, later))
    return {"delays": delays, "links": links}


def first_agreement(seen: list[tuple], earlier: tuple, later: tuple) -> float | None:
    for now in sorted({one[0] for one in seen}):
        lasts = [[one[3] for one in seen if one[0] <= now and (one[1], one[5]) == visit[1:]][-1:] for visit in (earlier, later)]
        if lasts[0] and lasts[0] == lasts[1]:
            return now - later[0]
    return None
