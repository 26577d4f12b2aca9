"""Which tracks are one person: a forest of matches, in which nobody is twice in a camera at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from lightning_reid.arguments import require_number
from lightning_reid.tracking.match_forest import Links, Pair, add_match, reached, remove_match, weakest_match
from lightning_reid.tracking.presences import Presences
from lightning_reid.tracking.record_fields import TrackKey


class Undone(NamedTuple):
    """A match that had to go.

    Attributes:
        track: The one that had asked.
        other: The one that had been found.
    """

    track: TrackKey
    other: TrackKey


class Renumbered(NamedTuple):
    """A track whose person's number is another than was told before.

    Attributes:
        track: Which track.
        identity: Number of the person.
        previous: What was told before; ``None`` of a new track.
    """

    track: TrackKey
    identity: int
    previous: int | None


@dataclass(slots=True)
class _Node:
    number: int
    """What a track bears while it is alone; a person bears the smallest of theirs."""
    told: int | None = None
    found: TrackKey | None = None
    """Whom it asked for and holds."""


class Identities:
    """Global numbers of people, as unions of tracks by their matches.

    A person is what matches connect. No two tracks of a person are in one camera at a time, nor, where ``may_share`` says no, in two: a
    match that would have it so is refused, unless it is better by a margin than the weakest that stands in its way, which goes. A
    track that has not ended is taken to last: who is hidden for a moment has not left. A person's number is the smallest of its tracks',
    and parted tracks get their own back: so the numbers depend on nothing but what is told here, in order.

    Args:
        may_share: Whether a person may be in two different cameras at a time.
        slack: Seconds that they may be in two cameras which may not share, because clocks differ.

    Attributes:
        presences: When each track was seen.

    Raises:
        ValueError: ``slack`` is negative or no number.

    Example:
        >>> from lightning_reid.tracking import Identities, TrackKey
        >>> people = Identities()
        >>> door, hall = TrackKey("door", 0, 7), TrackKey("hall", 0, 3)
        >>> people.appear(door, 0.0, 9.0)
        >>> people.end(door)
        >>> people.appear(hall, 12.0, 15.0)
        >>> people.link(hall, door, similarity=0.9)
        []
        >>> people.number(hall), people.number(door)
        (0, 0)
    """

    def __init__(self, may_share: Callable[[str, str], bool] = lambda camera, other: False, slack: float = 0.0) -> None:
        self.presences = Presences(may_share, slack)
        self._nodes: dict[TrackKey, _Node] = {}
        self._links: Links = {}
        self._next = 0
        self._touched: set[TrackKey] = set()

    def __len__(self) -> int:
        """Tracks that are known."""
        return len(self._nodes)

    def __contains__(self, key: object) -> bool:
        """Whether a track is known."""
        return key in self._nodes

    def appear(self, key: TrackKey, entered: float, seen_until: float) -> None:
        """Give a new track a number of its own.

        Args:
            key: The track.
            entered: When it was seen first, in seconds.
            seen_until: When it was seen last, not before.

        Raises:
            ValueError: The track is known, or a time is none.
        """
        self.presences.add(key, entered, seen_until)
        self._nodes[key], self._links[key] = _Node(self._next), {}
        self._next += 1
        self._touched.add(key)

    def see(self, key: TrackKey, seen_until: float) -> list[Undone]:
        """Tell that a track was seen until then; earlier than is known changes nothing.

        Returns:
            Matches that had to go, since the person would be twice in a camera at a time; there are some only for a track that has ended,
            of which more is told.

        Raises:
            ValueError: The time is none, or the track is not known.
        """
        return self._part(key) if self.presences.see(key, seen_until) else []

    def end(self, key: TrackKey) -> None:
        """Tell that a track is over: it lasted until it was seen last.

        Raises:
            ValueError: The track is not known.
        """
        self.presences.end(key)

    def last_on(self, key: TrackKey) -> list[Undone]:
        """Tell that a track whose end was told is not over.

        Returns:
            Matches that had to go, since the person would be twice in a camera at a time.

        Raises:
            ValueError: The track is not known.
        """
        self.presences.last_on(key)
        return self._part(key)

    def link(self, track: TrackKey, other: TrackKey, similarity: float, margin: float = 0.0) -> list[Undone] | None:
        """Match two tracks: their people become one.

        Args:
            track: The one that asked; a match that it holds from asking before goes.
            other: The one that was found.
            similarity: Of the two.
            margin: How much better this match must be than any that has to go for it.

        Returns:
            Matches that went for it; ``None`` where it was refused, and nothing is changed. Tracks of one person stay as they are.

        Raises:
            ValueError: A track is not known, or the similarity is no number.
        """
        cuts = self.cuts_for(track, other, similarity, margin)
        if cuts is None or other in self._person(track):
            return cuts
        undone = [self._cut(*pair) for pair in cuts]
        add_match(self._links, track, other, float(similarity))
        self._nodes[track].found = other
        self._touched |= self._person(track)
        return undone

    def cuts_for(self, track: TrackKey, other: TrackKey, similarity: float, margin: float = 0.0) -> list[Undone] | None:
        """The matches that would go for this one, as of ``link``, which does it; ``None`` where it would be refused."""
        require_number("similarity", similarity, low=-2, high=2)
        person, others = self._person(track), self._person(other)
        if other in person:
            return []
        links = {one: dict(self._links[one]) for one in person | others}
        cuts: list[Pair] = []
        held = self._nodes[track].found
        if held is not None:
            if not similarity > links[track][held] + margin:
                return None
            cuts.append((track, held))
            remove_match(links, track, held)
        add_match(links, track, other, similarity)
        while pair := self.presences.collision(person & (joined := reached(links, track)), others & joined):
            weakest = weakest_match(links, *pair, spared=(track, other))
            if weakest is None or not similarity > links[weakest[0]][weakest[1]] + margin:
                return None
            cuts.append(weakest)
            remove_match(links, *weakest)
        return [self._directed(*pair) for pair in cuts]

    def refresh(self, track: TrackKey, other: TrackKey, similarity: float) -> None:
        """Tell how similar two matched tracks are by now; nothing, where they are not matched with each other.

        Raises:
            ValueError: A track is not known, or the similarity is no number.
        """
        require_number("similarity", similarity, low=-2, high=2)
        self.presences.require(track)
        if other in self._links[track]:
            add_match(self._links, track, other, float(similarity))

    def forbid(self, track: TrackKey, other: TrackKey) -> list[Undone]:
        """Keep two tracks apart from now on.

        Returns:
            The matches that go for it: their own, or the weakest on the way from one to the other.

        Raises:
            ValueError: A track is not known, or both are the same.
        """
        if track == other:
            raise ValueError(f"{track} cannot be kept apart from itself")
        self.presences.keep_apart(track, other)
        direct = [self._cut(track, other)] if other in self._links[track] else []
        return direct + self._part(track)

    def drop(self, key: TrackKey) -> None:
        """Let go of a track; what was connected through it stays connected, and its number stays theirs.

        Raises:
            ValueError: The track is not known.
        """
        self.presences.require(key)
        near = self._links.pop(key)
        for one in near:
            del self._links[one][key]
        if near:
            heir = min(near, key=lambda one: (-near[one], one))
            for one in near.keys() - {heir}:
                add_match(self._links, heir, one, min(near[one], near[heir]))
            self._inherit(key, heir, near.keys())
        self.presences.remove(key)
        del self._nodes[key]
        self._touched.discard(key)

    def forget(self, identity: int) -> tuple[list[TrackKey], list[Undone]]:
        """Let go of all tracks of a person.

        Args:
            identity: The number that ``renumbered`` told of them.

        Returns:
            The tracks, sorted, and their matches, which are gone.

        Raises:
            ValueError: Nobody bears that number.
        """
        keys = sorted(key for key, track in self._nodes.items() if track.told == identity)
        if not keys:
            raise ValueError(f"nobody bears the number {identity}: it was corrected, or forgotten")
        undone = [self._cut(one, other) for one in keys for other in sorted(self._links[one]) if one < other]
        for key in keys:
            self.drop(key)
        return keys, undone

    def found(self, track: TrackKey) -> tuple[TrackKey, float] | None:
        """The track whom a track has found and holds, and how similar they are; ``None`` if it holds none.

        Raises:
            ValueError: The track is not known.
        """
        self.presences.require(track)
        other = self._nodes[track].found
        return None if other is None else (other, self._links[track][other])

    def number(self, track: TrackKey) -> int:
        """The number of the person that a track is of; errors as of ``found``."""
        return min(self._nodes[one].number for one in self._person(track))

    def person(self, track: TrackKey) -> list[TrackKey]:
        """All tracks of the person that a track is of, sorted; errors as of ``found``."""
        return sorted(self._person(track))

    def last_sight(self, track: TrackKey, before: float) -> TrackKey | None:
        """The latest track to enter before a time of the person that a track is of; ``None`` if none did, errors as of ``found``."""
        earlier = [(entered, one) for one in self._person(track) if (entered := self.presences.entered(one)) < before]
        return max(earlier, default=(0.0, None))[1]

    def renumbered(self) -> list[Renumbered]:
        """The tracks whose number is another than when this was asked before, sorted by their keys."""
        changed = []
        while self._touched:
            person = self._person(self._touched.pop())
            self._touched -= person
            number = min(self._nodes[key].number for key in person)
            for key in person:
                if number != self._nodes[key].told:
                    changed.append(Renumbered(key, number, self._nodes[key].told))
                    self._nodes[key].told = number
        return sorted(changed)

    def collisions(self) -> Iterator[tuple[TrackKey, TrackKey]]:
        """Two tracks of a person who is twice in a camera at a time: there is never any, which tests and every run's report look at."""
        left = set(self._nodes)
        while left:
            person = sorted(self._person(min(left)))
            left -= {*person}
            yield from ((one, two) for one in person for two in person if one < two and self.presences.collide(one, two))

    def _person(self, key: TrackKey) -> set[TrackKey]:
        self.presences.require(key)
        return reached(self._links, key)

    def _part(self, key: TrackKey) -> list[Undone]:
        """Cut the weakest matches until nobody collides with this track, which alone has changed."""
        undone = []
        while pair := self.presences.collision({key}, self._person(key) - {key}):
            weakest = weakest_match(self._links, *pair)
            assert weakest is not None
            undone.append(self._cut(*weakest))
        return undone

    def _cut(self, one: TrackKey, other: TrackKey) -> Undone:
        undone = self._directed(one, other)
        remove_match(self._links, one, other)
        for a, b in ((one, other), (other, one)):
            if self._nodes[a].found == b:
                self._nodes[a].found = None
            self._touched |= self._person(a)
        return undone

    def _directed(self, one: TrackKey, other: TrackKey) -> Undone:
        """Who of two matched tracks has asked for the other; the later one, where a track between them has been let go of."""
        if self._nodes[one].found == other or self._nodes[other].found == one:
            return Undone(one, other) if self._nodes[one].found == other else Undone(other, one)
        first, second = sorted((one, other), key=lambda key: (self.presences.entered(key), key))
        return Undone(second, first)

    def _inherit(self, key: TrackKey, heir: TrackKey, near: Iterable[TrackKey]) -> None:
        """Hand on what a track stands for to its nearest: its number, whom it found and who found it, and from whom it is kept apart."""
        self.presences.hand_on(key, heir)
        gone, new = self._nodes[key], self._nodes[heir]
        new.number = min(new.number, gone.number)
        if new.found in (key, None):
            new.found = gone.found if gone.found != heir else None
        for one in near:
            if one != heir and self._nodes[one].found == key:
                self._nodes[one].found = heir
