"""One round of queries: everybody who is due asks the memory at once, and who gets whom is decided over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_reid.tracking.handover import NOBODY, MatchingRules, admissible, assign_one_to_one
from lightning_reid.tracking.identities import Identities
from lightning_reid.tracking.record_fields import TrackKey
from lightning_reid.tracking.track_memory import Candidate, TrackMemory
from lightning_reid.tracking.transit import TransitGates


class Proposal(NamedTuple):
    """A match that a round of queries comes to.

    Attributes:
        similarity: Cosine of the two.
        track: The one that asked.
        other: The one that was found.
    """

    similarity: float
    track: TrackKey
    other: TrackKey


def propose_matches(
    asking: Mapping[TrackKey, Tensor], memory: TrackMemory, identities: Identities, rules: MatchingRules, gates: TransitGates
) -> list[Proposal]:
    """Whom each of some tracks should be matched with.

    Each sees the remembered tracks that time allows, looks at the nearest of each person, and stays with whom it holds unless another is
    better by a margin. Tracks whose cameras cannot share a person compete for each person.

    Args:
        asking: The features ``[D]`` float of length 1 of the tracks that ask; all are known to ``identities``.
        memory: Where they look.
        identities: Who is one person by now. Similarities of matches that are held are refreshed in it, nothing else is changed.
        rules: Threshold, margin, and who may share.
        gates: Bounds of transit times.

    Returns:
        New matches alone, the most similar first.
    """
    if not asking:
        return []
    keys = sorted(asking)
    features = torch.stack([asking[key].float() for key in keys])
    allowed = admissible(memory, keys, [identities.presences.entered(key) for key in keys], rules, gates)
    found = memory.search(features, keys, mode=rules.memory, k=rules.num_candidates, allowed=allowed, own_camera=rules.own_camera)
    _refresh(asking, memory, identities)
    choices = {key: _by_person(key, candidates, identities, rules, gates) for key, candidates in zip(keys, found)}
    rivals: dict[str, list[TrackKey]] = {}
    for key in keys:
        rivals.setdefault(rules.rivals(key.camera), []).append(key)
    proposals = [one for group in rivals.values() for one in _assigned(group, choices, identities, rules)]
    return sorted(proposals, key=lambda one: (-one.similarity, one.track))


def _refresh(asking: Mapping[TrackKey, Tensor], memory: TrackMemory, identities: Identities) -> None:
    for key, feature in asking.items():
        held = identities.found(key)
        similarity = None if held is None else memory.similarity(held[0], feature)
        if held is not None and similarity is not None:
            identities.refresh(key, held[0], similarity)


def _by_person(
    key: TrackKey, candidates: list[Candidate], identities: Identities, rules: MatchingRules, gates: TransitGates
) -> dict[int, Candidate]:
    """The nearest track of each other person that a track may be matched with."""
    own, best = identities.number(key), dict[int, Candidate]()
    for one in candidates:  # nearest first
        person = identities.number(one.key)
        if one.similarity <= rules.threshold or person == own or person in best:
            continue
        if not _in_time(key, one.key, identities, gates):
            continue
        if identities.cuts_for(key, one.key, one.similarity, rules.margin) is not None:
            best[person] = one
    return best


def _in_time(key: TrackKey, other: TrackKey, identities: Identities, gates: TransitGates) -> bool:
    """Whether a track comes at a possible time after the last sight of another's person, which need not be that other."""
    entered = identities.presences.entered(key)
    last = identities.last_sight(other, entered)
    if last is None or last.camera == key.camera:
        return True
    seconds, over = identities.presences.transit(last, entered)
    return gates.allows(last.camera, key.camera, seconds, over=over)


def _assigned(
    group: list[TrackKey], choices: Mapping[TrackKey, Mapping[int, Candidate]], identities: Identities, rules: MatchingRules
) -> list[Proposal]:
    """The proposals of tracks that compete with each other."""
    held = {key: found[1] for key in group if (found := identities.found(key)) is not None}
    own = {key: identities.number(key) for key in held}
    people = sorted({person for key in group for person in choices[key]} | {*own.values()})
    columns = {person: column for column, person in enumerate(people)}
    similarities = torch.full((len(group), len(people)), -torch.inf, dtype=torch.float64)
    holds = torch.full((len(group),), NOBODY)
    for row, key in enumerate(group):
        for person, one in choices[key].items():
            similarities[row, columns[person]] = one.similarity
        if key in held:
            holds[row] = columns[own[key]]
            similarities[row, holds[row]] = held[key]
    assigned = assign_one_to_one(similarities, threshold=rules.threshold, held=holds, margin=rules.margin)
    made = [(key, choices[key].get(people[column])) for key, column in zip(group, assigned.tolist()) if column != NOBODY]
    return [Proposal(one.similarity, key, one.key) for key, one in made if one is not None]
