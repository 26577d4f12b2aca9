"""Recordings of several cameras, written by hand or drawn, for scores of tracking."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch

from lightning_reid.metrics import ShownBoxes, TrackedCamera, TrueBoxes


class Row(NamedTuple):
    """A box 10 wide and 20 high at ``x``: of a person and a visit, or of a track and an identity."""

    frame: int
    x: float
    number: int
    second: int


def columns(rows: Sequence[Row]) -> tuple[torch.Tensor, ...]:
    frames, xs, numbers, seconds = zip(*rows) if rows else ((), (), (), ())
    boxes = torch.tensor([[x, 0.0, x + 10, 20.0] for x in xs], dtype=torch.float64).reshape(-1, 4)
    whole = (torch.tensor(one, dtype=torch.int64) for one in (frames, numbers, seconds))
    first, second, third = whole
    return first, boxes, second, third


def camera(name: str, times: Sequence[float], true: Sequence[Row], shown: Sequence[Row]) -> TrackedCamera:
    return TrackedCamera(name, torch.tensor(times, dtype=torch.float64), TrueBoxes(*columns(true)), ShownBoxes(*columns(shown)))


def walk(
    name: str, begin: float, identities: Sequence[int], *, pid: int = 0, visit: int = 0, track: int = 0, x: float = 0.0
) -> TrackedCamera:
    """One person in one camera, a frame a second, each box exactly shown by one track under these identities; ``None`` shows nothing."""
    frames = range(len(identities))
    shown = [Row(frame, x, track, identity) for frame, identity in enumerate(identities) if identity is not None]
    return camera(name, [begin + frame for frame in frames], [Row(frame, x, pid, visit) for frame in frames], shown)


def rows_of(part: TrueBoxes | ShownBoxes) -> list[Row]:
    numbers = (part.pids, part.visits) if isinstance(part, TrueBoxes) else (part.tracks, part.identities)
    return [Row(*one) for one in zip(part.frames.tolist(), part.boxes[:, 0].tolist(), *(one.tolist() for one in numbers))]


def drawn_recording(seed: int, *, num_cameras: int = 3, num_people: int = 3, num_frames: int = 9) -> list[TrackedCamera]:
    """People who come and go, close enough to be confused, and a tracker and a matcher that fail in every way they may."""
    draw = random.Random(seed)
    cameras = []
    for number in range(num_cameras):
        true: list[Row] = []
        shown: list[Row] = []
        begin = draw.choice([0.0, 0.0, 4.0, 0.5])
        tracks = {pid: 10 * pid for pid in range(num_people + 1)}
        for pid in range(num_people):
            visit, there = pid * 100, draw.random() < 0.5
            for frame in range(num_frames):
                if draw.random() < 0.25:
                    there, visit = not there, visit + there
                if there:
                    true.append(Row(frame, 6 * pid + draw.uniform(-3, 3), pid, visit))
        for frame in range(num_frames):
            taken: set[int] = set()
            found = [(one.x + draw.gauss(0, 1.5), one.number) for one in true if one.frame == frame and draw.random() < 0.8]
            found += [(draw.uniform(0, 30), num_people)] if draw.random() < 0.3 else []
            for x, pid in found:
                if draw.random() < 0.2:  # another track of the same person, or of two people in turn
                    tracks[pid], tracks[(pid + 1) % num_people] = tracks[(pid + 1) % num_people], tracks[pid] + draw.randint(0, 1)
                free = [one for one in (pid, pid, pid, draw.randint(0, 4), -1) if one not in taken or one < 0]
                track, identity = tracks[pid], draw.choice(free)
                if track in {one.number for one in shown if one.frame == frame}:
                    continue
                taken.add(identity)
                shown.append(Row(frame, x, track, identity))
        draw.shuffle(true)
        draw.shuffle(shown)
        cameras.append(camera(f"camera {number}", [begin + frame for frame in range(num_frames)], true, shown))
    return cameras
