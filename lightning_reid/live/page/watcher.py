"""One browser: what it asks for, and what it is sent next. It holds no queue, so a slow one misses pictures and costs no memory."""

from __future__ import annotations

import json
import struct
from collections import deque
from collections.abc import Collection
from typing import Any

from torch import Tensor

from lightning_reid.arguments import is_number, shown
from lightning_reid.live.page.camera_view import CameraView
from lightning_reid.live.page.live_view import LiveView
from lightning_reid.live.page.people_view import read_key, written_key
from lightning_reid.tracking import CameraTracks, TrackKey

WINDOW = 2
"""Batches that may be on their way before the browser has drawn the first of them."""
CROPS_A_BATCH = 8
MOST_CAMERAS_NAMED = 256


class Watcher:
    """Decides what a browser is sent: latest things only, no picture before it asks for pictures, nothing while it is behind.

    A batch is pictures, each a binary message (length of the head, head in JSON, JPEG), then one JSON text, the tick. The browser says
    which tick it has drawn; that is how a slow one is known, and how latency is measured, from capture to page.

    Args:
        view: What there is to watch.
        who: The browser's address, for the log.
    """

    def __init__(self, view: LiveView, who: str) -> None:
        self.view, self.who = view, who
        self._pictures = False
        self._cameras: set[str] | None = None
        self._tick = 0
        self._under_way: deque[tuple[int, list[float]]] = deque()
        self._version = self._serial = 0
        self._shots: dict[str, tuple[int, int]] = {}
        self._crops: dict[TrackKey, int] = {}

    @property
    def behind(self) -> bool:
        """Whether so much is under way that nothing more is sent."""
        return len(self._under_way) >= WINDOW

    def hear(self, text: str) -> None:
        """Take a message of the browser, which is not believed.

        Raises:
            ValueError: It is none that a page sends, or asks for what cannot be; its message goes back to the browser.
            RuntimeError: The matching has ended.
        """
        try:
            said = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"a browser must send JSON, got {shown(text)}") from error
        match said:
            case {"kind": "show", "pictures": bool(pictures), "cameras": list() | None as cameras}:
                self._show(pictures, cameras)
            case {"kind": "drawn", "tick": int(tick)}:
                self._drawn(tick)
            case {"kind": "undo", "track": track, "other": other}:
                self.view.undo(read_key(track), read_key(other), who=self.who)
            case {"kind": "forget", "identity": identity} if is_number(identity, int):
                self.view.forget(identity, who=self.who)
            case _:
                raise ValueError(f"a browser sent what no page sends: {shown(said)}")

    def batch(self) -> list[str | bytes]:
        """What is sent next: pictures and crops that are new, then the tick. Encodes what nobody has asked for yet."""
        view = self.view
        with view.lock:
            names = list(view.cameras)
        wanted = [name for name in names if self._cameras is None or name in self._cameras] if self._pictures else []
        sent: list[str | bytes] = []
        captured: dict[str, float] = {}
        for name in wanted:
            if (message := self._picture(name, captured)) is not None:
                sent.append(message)
        sent += self._new_crops() if self._pictures else []
        self._tick += 1
        self._under_way.append((self._tick, list(captured.values())))
        return [*sent, json.dumps(self._state(captured.keys()), separators=(",", ":"), allow_nan=False)]

    def _show(self, pictures: bool, cameras: list[Any] | None) -> None:
        if cameras is not None and (len(cameras) > MOST_CAMERAS_NAMED or not all(isinstance(one, str) for one in cameras)):
            raise ValueError(f"cameras must be up to {MOST_CAMERAS_NAMED} names, got {shown(cameras)}")
        self._pictures = pictures and self.view.pictures
        self._cameras = None if cameras is None else set(cameras)
        if not pictures:  # what was shown before is asked for anew when pictures come back
            self._shots.clear()
            self._crops.clear()

    def _drawn(self, tick: int) -> None:
        while self._under_way and self._under_way[0][0] <= tick:
            for captured in self._under_way.popleft()[1]:
                self.view.drawn(captured)

    def _picture(self, name: str, captured: dict[str, float]) -> bytes | None:
        encoded = self.view.picture_of(name)
        if encoded is None:
            return None
        tracks = encoded.shot.tracks
        if self._shots.get(name) == (tracks.epoch, tracks.stamp.number):
            return None
        self._shots[name] = tracks.epoch, tracks.stamp.number
        captured[name] = tracks.stamp.captured_utc
        size = _size(encoded.shot.picture)
        head = {"kind": "picture", "camera": name, "size": size, "epoch": tracks.epoch, "boxes": self._boxes(tracks)}
        return binary(head, encoded.content)

    def _new_crops(self) -> list[bytes]:
        with self.view.lock:
            tracks = self.view.people.tracks
            for key in self._crops.keys() - tracks.keys():
                del self._crops[key]
            new = [
                (key, track.crop) for key, track in tracks.items() if track.crop is not None and self._crops.get(key) != track.crop.version
            ]
            chosen = sorted(new, key=lambda one: -one[1].version)[:CROPS_A_BATCH]
            self._crops |= {key: crop.version for key, crop in chosen}
            return [binary({"kind": "crop", "key": written_key(key), "version": crop.version}, crop.content()) for key, crop in chosen]

    def _state(self, with_picture: Collection[str]) -> dict[str, Any]:
        view = self.view
        with view.lock:
            now, people = view.monotonic(), view.people
            changed = [number for number, one in people.people.items() if one.version > self._version]
            notes = [one for one in view.notes if one.serial > self._serial]
            state: dict[str, Any] = {
                "kind": "tick",
                "tick": self._tick,
                "now": round(view.time(), 2),
                "fps": view.fps,
                "pictures": view.pictures,
                "counters": view.counters(),
                "cameras": [self._camera(one, now, one.name in with_picture) for one in view.cameras.values()],
                "cards": [people.card(number) for number in sorted(changed)],
                "notes": notes,
            }
            if people.version > self._version:
                state["known"] = sorted(people.people)
            self._version = people.version
            self._serial = notes[-1].serial if notes else self._serial
            return state

    def _camera(self, camera: CameraView, now: float, has_picture: bool) -> dict[str, Any]:
        told = camera.told(now)
        told["picture"] = self._pictures and camera.fresh_shot(now) is not None
        if not has_picture and not told["picture"]:
            tracks = camera.seen_last()
            told["boxes"] = [] if tracks is None or told["state"] != "live" else self._boxes(tracks)
        if self._tick % round(max(self.view.fps, 1)) == 1 or self.view.fps < 2:
            told["stages"] = [
                [one.stage, one.state, one.processed, one.dropped, one.queued, round(one.latency, 3)] for one in camera.stages()
            ]
        return told

    def _boxes(self, tracks: CameraTracks) -> list[list[Any]]:
        """The boxes of a frame with the track's id and the number that its track bears now."""
        with self.view.lock:
            numbers = [self.view.people.identity(key) for key in tracks.keys]
        boxes = tracks.boxes.round().int().tolist()
        return [[track, number, *box] for track, number, box in zip(tracks.track_ids, numbers, boxes, strict=True)]


def binary(head: dict[str, Any], content: bytes) -> bytes:
    """One binary message: the length of the head as four bytes, little-endian, the head in JSON, then the content."""
    told = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
    return struct.pack("<I", len(told)) + told + content


def _size(picture: Tensor) -> list[int]:
    return [picture.shape[2], picture.shape[1]]
