"""Matches of tracks as a forest: between two tracks there is one way of matches, or none."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lightning_reid.tracking.record_fields import TrackKey

Links = dict[TrackKey, dict[TrackKey, float]]
"""Similarity of each match, by either of its tracks and then the other."""
Pair = tuple[TrackKey, TrackKey]


def reached(links: Mapping[TrackKey, Collection[TrackKey]], start: TrackKey) -> set[TrackKey]:
    """All tracks that matches connect with one, itself included."""
    found, waiting = {start}, [start]
    while waiting:
        new = [one for one in links[waiting.pop()] if one not in found]
        found.update(new)
        waiting += new
    return found


def way_between(links: Links, start: TrackKey, end: TrackKey) -> list[Pair]:
    """The matches on the way from one track to another that is connected with it."""
    came_from, waiting = {start: start}, [start]
    while end not in came_from:
        here = waiting.pop()
        new = [one for one in links[here] if one not in came_from]
        came_from |= dict.fromkeys(new, here)
        waiting += new
    way = []
    while end != start:
        way.append((came_from[end], end))
        end = came_from[end]
    return way


def weakest_match(links: Links, start: TrackKey, end: TrackKey, spared: Pair | None = None) -> Pair | None:
    """The match of least similarity between two connected tracks, of equal ones that of the smaller keys; ``None`` if all are spared."""
    way = [(min(pair), max(pair)) for pair in way_between(links, start, end)]
    cut = [pair for pair in way if spared is None or {*pair} != {*spared}]
    return min(cut, key=lambda pair: (links[pair[0]][pair[1]], pair), default=None)


def add_match(links: Links, one: TrackKey, other: TrackKey, similarity: float) -> None:
    """Connect two tracks, in place."""
    links[one][other] = links[other][one] = similarity


def remove_match(links: Links, one: TrackKey, other: TrackKey) -> None:
    """Take a match away, in place."""
    del links[one][other], links[other][one]
