"""All that a matcher knows, as bytes: one that is restored from them goes on as the first would have, number for number."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lightning_reid.arguments import shown
from lightning_reid.tracking.cameras import CameraState, LiveTrack
from lightning_reid.tracking.handover import MatchingRules
from lightning_reid.tracking.identities import Identities, _Node
from lightning_reid.tracking.matcher import OnlineMatcher
from lightning_reid.tracking.presences import _Presence
from lightning_reid.tracking.record_fields import TrackKey
from lightning_reid.tracking.records import FrameStamp
from lightning_reid.tracking.track_memory import TrackMemory
from lightning_reid.tracking.transit import REMEMBERED, TransitGates

VERSION = 1
"""Of what is told; a state of another version is refused."""
_OF_MEMORY = ("cameras", "entered", "seen_until", "ended", "_features")


def matcher_state(matcher: OnlineMatcher) -> bytes:
    """All that a matcher knows, features included, and by which rules it goes: JSON and tensors in one safetensors file.

    Args:
        matcher: Nothing in it is changed.

    Example:
        >>> from lightning_reid.tracking import MatchingRules, OnlineMatcher, matcher_state, restore_matcher
        >>> one, other = (OnlineMatcher(MatchingRules(threshold=0.7), feature_size=2, model="resnet18") for _ in range(2))
        >>> restore_matcher(other, matcher_state(one))
        >>> matcher_state(other) == matcher_state(one)
        True
    """
    live = [(key, one.in_view, one.num_features, one.asked, one.feature is not None) for key, one in matcher._live.items()]
    looks = [one.feature for one in matcher._live.values() if one.feature is not None]
    told = {
        "version": VERSION,
        "rules": _rules(matcher),
        "now": matcher.now,
        "next_expiry": matcher._next_expiry,
        "cameras": [(state.epoch, *(getattr(state.stamp, one.name) for one in fields(FrameStamp))) for state in matcher._cameras.values()],
        "live": live,
        "forgotten": list(matcher._forgotten),
        "gates": [(*pair, list(seconds), matcher.gates._learned.get(pair)) for pair, seconds in matcher.gates._transits.items()],
        **_people(matcher.identities),
    }
    places, memory = _memory(matcher.memory)
    tensors = {"live.features": torch.stack(looks) if looks else torch.zeros(0, matcher.feature_size, dtype=torch.float16), **memory}
    return save(tensors, metadata={"state": json.dumps({**told, **places}, separators=(",", ":"), allow_nan=False)})


def restore_matcher(matcher: OnlineMatcher, content: bytes) -> None:
    """Give a new matcher all that another one knew.

    Args:
        matcher: One that was fed nothing yet, of the same rules, network and bounds.
        content: Of :func:`matcher_state`.

    Raises:
        ValueError: The matcher was fed before or goes by other rules, which is named, or the content is no such state.

    Example:
        >>> import torch
        >>> from lightning_reid.tracking import MatchingRules, OnlineMatcher, TrackFeature, TrackKey, matcher_state, restore_matcher
        >>> one, other = (OnlineMatcher(MatchingRules(threshold=0.7), feature_size=2, model="resnet18") for _ in range(2))
        >>> told = one.feed(TrackFeature("door", 0, 7, torch.tensor([0.6, 0.8]), 1, seen_from=4.0, seen_until=5.5, model="resnet18"))
        >>> restore_matcher(other, matcher_state(one))
        >>> other.identity(TrackKey("door", 0, 7)), other.now
        (0, 5.5)
    """
    if matcher.now or len(matcher.identities):
        raise ValueError("a matcher that was fed before cannot be restored: make a new one")
    try:
        told, tensors = _read(content), load(content)
        if told["version"] != VERSION:
            raise ValueError(f"its version is {shown(told['version'])}, this library reads {VERSION}")
        rules = told["rules"]
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"a matcher's state is damaged, or of another version of this library ({error!r})") from error
    _require_same(rules, json.loads(json.dumps(_rules(matcher))))
    try:
        _restore_people(matcher.identities, told)
        _restore_memory(matcher.memory, told, tensors)
        _restore_matcher(matcher, told, tensors["live.features"])
    except (ValueError, KeyError, TypeError, IndexError, StopIteration, RuntimeError) as error:
        raise ValueError(f"a matcher's state does not hold together, it was edited or is not of this library ({error!r})") from error


def _rules(matcher: OnlineMatcher) -> dict[str, Any]:
    """By what a matcher goes: the same messages are matched in another way if one of these is another."""
    gates, memory = matcher.gates, matcher.memory
    public = {name: value for name, value in asdict(matcher.rules).items() if not name.startswith("_")}
    assert {*public} == {one.name for one in fields(MatchingRules) if one.init}
    return {
        **public,
        "model": matcher.model,
        "feature_size": matcher.feature_size,
        "max_ahead": matcher.max_ahead,
        "capacity": memory.capacity,
        "keep_for": memory.keep_for,
        "dtype": str(memory._features.dtype),
        "transit table": sorted((*pair, *bounds) for pair, bounds in gates._table.items()),
        "transit learning": [gates._learns, gates._min_matches, gates._widen],
    }


def _require_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            raise ValueError(
                f"a matcher's state was made with {name} {shown(before.get(name))}, this one has {shown(now.get(name))}: give the same, or"
                " begin anew in another folder"
            )


def _people(people: Identities) -> dict[str, Any]:
    nodes, tracks = people._nodes, people.presences._tracks
    assert not people._touched, "a matcher tells of everybody whose number has changed before it takes the next message"
    return {
        "next_number": people._next,
        "tracks": [
            (key, one.number, one.told, one.found, at.entered, at.seen_until, at.ended, sorted(at.apart_from))
            for (key, one), at in zip(nodes.items(), (tracks[key] for key in nodes))
        ],
        "matches": [(one, other, value) for one, near in people._links.items() for other, value in near.items()],
    }


def _restore_people(people: Identities, told: Mapping[str, Any]) -> None:
    people._next = int(told["next_number"])
    for key, number, shown_as, found, entered, seen_until, ended, apart in told["tracks"]:
        track = TrackKey(*key)
        people._nodes[track] = _Node(number, shown_as, None if found is None else TrackKey(*found))
        people.presences._tracks[track] = _Presence(entered, seen_until, ended, {*_keys(apart)})
        people._links[track] = {}
    for one, other, similarity in told["matches"]:
        people._links[TrackKey(*one)][TrackKey(*other)] = similarity


def _memory(memory: TrackMemory) -> tuple[dict[str, Any], dict[str, Tensor]]:
    places = torch.tensor(sorted(memory._places.values()), dtype=torch.int64)
    kept = {name: getattr(memory, name)[places] for name in _OF_MEMORY}
    told = {"memory": [memory._key_at(place) for place in places.tolist()], "names": memory.camera_names, "next_place": memory._next}
    return told, {"memory.places": places, **{f"memory.{name}": value.contiguous() for name, value in kept.items()}}


def _restore_memory(memory: TrackMemory, told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    places = tensors["memory.places"]
    for name in _OF_MEMORY:
        getattr(memory, name)[places] = tensors[f"memory.{name}"]
    for place, key in zip(places.tolist(), (TrackKey(*key) for key in told["memory"]), strict=True):
        memory._places[key], memory._keys[place] = place, key
    for name in told["names"]:
        memory._number_of(name)
    memory._next = int(told["next_place"])


def _restore_matcher(matcher: OnlineMatcher, told: Mapping[str, Any], looks: Tensor) -> None:
    matcher.now, matcher._next_expiry = told["now"], told["next_expiry"]
    left = iter(looks)
    for epoch, *stamp in told["cameras"]:
        made = FrameStamp(*stamp)
        matcher._cameras[made.camera] = CameraState(epoch, made)
    for key, in_view, num_features, asked, has_feature in told["live"]:
        feature = next(left).clone() if has_feature else None
        matcher._live[TrackKey(*key)] = LiveTrack(in_view, feature, num_features, None if asked is None else (asked[0], asked[1]))
    matcher._forgotten.update(dict.fromkeys(_keys(told["forgotten"])))
    _restore_gates(matcher.gates, told["gates"])


def _restore_gates(gates: TransitGates, told: Iterable[Any]) -> None:
    for left, entered, seconds, bounds in told:
        gates._transits[left, entered] = deque(seconds, maxlen=REMEMBERED)
        if bounds is not None:
            gates._learned[left, entered] = (bounds[0], bounds[1])


def _keys(told: Iterable[Any]) -> list[TrackKey]:
    return [TrackKey(*one) for one in told]


def _read(content: bytes) -> dict[str, Any]:
    """The JSON of a state; safetensors gives the metadata of files alone, not of bytes."""
    length = int.from_bytes(content[:8], "little")
    told: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["state"])
    return told
