"""The one form of a message on wires and in journals: a head in JSON that a person can read, then raw numbers. Nothing in it is executed.

``b"LRT1"``, the length of the head as four bytes, the head as JSON, then its tensors one after another, float32 boxes and scores, float16
features, all little-endian. The head holds the ``kind``, the ``shapes`` of the tensors and every other field.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import fields
from typing import Any, NoReturn, TypeAlias

import numpy as np
import torch
from torch import Tensor

from lightning_reid.arguments import is_number, shown
from lightning_reid.tracking.events import CameraGone, CameraRestarted, ForgetIdentity, IdentityEvent, Match, MatchUndone, UndoMatch
from lightning_reid.tracking.record_fields import TrackKey
from lightning_reid.tracking.records import CameraTracks, FrameStamp, StageHealth, TrackEnded, TrackFeature

Message: TypeAlias = (
    CameraTracks
    | TrackFeature
    | TrackEnded
    | StageHealth
    | Match
    | MatchUndone
    | IdentityEvent
    | CameraRestarted
    | CameraGone
    | UndoMatch
    | ForgetIdentity
)
"""What travels."""

MAGIC = b"LRT1"
LARGEST_MESSAGE = 2**22
"""In bytes: a frame of 10,000 people has a third of them."""
_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in Message.__args__}
_TENSORS = {"boxes": "<f4", "scores": "<f4", "feature": "<f2"}
_START = len(MAGIC) + 4


def write_message(message: Message) -> bytes:
    """The bytes of a message; equal messages have equal bytes.

    Args:
        message: Of any kind.

    Raises:
        ValueError: It is of no kind that travels.

    Example:
        >>> from lightning_reid.tracking import TrackEnded, read_message, write_message
        >>> content = write_message(TrackEnded("door", 0, 7, seen_until=9.5))
        >>> content[8:]
        b'{"kind":"TrackEnded","camera":"door","epoch":0,"track_id":7,"seen_until":9.5,"shapes":{}}'
        >>> read_message(content).key
        TrackKey(camera='door', epoch=0, track_id=7)
    """
    if type(message) not in _KINDS.values():
        raise ValueError(f"expected a message, one of {', '.join(_KINDS)}, got {shown(message)}")
    values = {field.name: getattr(message, field.name) for field in fields(message)}
    tensors = {name: values.pop(name) for name in _TENSORS if name in values}
    told = {"kind": type(message).__name__, **{name: _plain(value) for name, value in values.items()}}
    told["shapes"] = {name: list(tensor.shape) for name, tensor in tensors.items()}
    head = json.dumps(told, separators=(",", ":"), allow_nan=False).encode()
    body = b"".join(tensor.numpy().astype(_TENSORS[name], copy=False).tobytes() for name, tensor in tensors.items())
    return MAGIC + struct.pack("<I", len(head)) + head + body


def read_message(content: bytes) -> Message:
    """The message that bytes from outside hold; they are not believed.

    Args:
        content: Of :func:`write_message`, if they are.

    Raises:
        ValueError: They are no message, of an unknown kind, too short or too long, a field is missing, unknown or not as its message must
            be (NaN among them), or they are not the bytes that the message is written as.

    Example:
        >>> from lightning_reid.tracking import ForgetIdentity, read_message, write_message
        >>> read_message(write_message(ForgetIdentity(7)))
        ForgetIdentity(identity=7)
    """
    told, body = _head(content)
    name, shapes = told.pop("kind", None), told.pop("shapes", None)
    if not isinstance(name, str) or name not in _KINDS:
        raise ValueError(f"a message is of the unknown kind {shown(name)}, expected one of {', '.join(_KINDS)}: is the sender newer?")
    kind: Any = _KINDS[name]
    expected = {field.name for field in fields(kind)}
    if {*told} != expected - {*_TENSORS}:
        raise ValueError(f"a message {name} must tell {', '.join(sorted(expected - {*_TENSORS}))}, got {shown(sorted(told))}")
    try:
        message: Message = kind(**_nested(told), **_tensors(body, shapes, [one for one in _TENSORS if one in expected]))
    except ValueError as error:
        raise ValueError(f"a message {name} is refused: {error}") from error
    if write_message(message) != content:
        raise ValueError(f"a message {name} is not written as this library writes it: a field may stand there twice, or in another form")
    return message


def _head(content: bytes) -> tuple[dict[str, Any], bytes]:
    if not isinstance(content, bytes) or len(content) > LARGEST_MESSAGE:
        told = f"{len(content):,} bytes" if isinstance(content, bytes) else shown(content)
        raise ValueError(f"a message must be up to {LARGEST_MESSAGE:,} bytes, got {told}")
    if content[: len(MAGIC)] != MAGIC or len(content) < _START:
        raise ValueError(f"a message must begin with {MAGIC!r} and the length of its head, got {shown(content[:_START])}")
    (length,) = struct.unpack("<I", content[len(MAGIC) : _START])
    if length > len(content) - _START:
        raise ValueError(f"a message is cut short: its head has {length:,} bytes, {len(content) - _START:,} came")
    try:
        told = json.loads(content[_START : _START + length], parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the head of a message is no JSON ({error}): got {shown(content[_START : _START + 60])}") from error
    if not isinstance(told, dict):
        raise ValueError(f"the head of a message must be a JSON object, got {shown(told)}")
    return told, content[_START + length :]


def _plain(value: Any) -> Any:
    if isinstance(value, FrameStamp):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return value


def _nested(told: dict[str, Any]) -> dict[str, Any]:
    """The fields of a head, with those that are records made into them; lists that are no keys are left to the message's own check."""
    made = dict(told)
    for name in ("track", "other"):
        if isinstance(value := told.get(name), list) and len(value) == len(TrackKey._fields):
            made[name] = TrackKey(*value)
    if isinstance(ids := told.get("track_ids"), list):
        made["track_ids"] = tuple(ids)
    if isinstance(stamp := told.get("stamp"), dict):
        needed = [field.name for field in fields(FrameStamp)]
        if sorted(stamp) != sorted(needed):
            raise ValueError(f"its stamp must tell {', '.join(needed)}, got {shown(sorted(stamp))}")
        made["stamp"] = FrameStamp(**stamp)
    return made


def _tensors(body: bytes, shapes: Any, names: list[str]) -> dict[str, Tensor]:
    """The tensors of a body, whose lengths are compared before any is made."""
    if not isinstance(shapes, dict) or list(shapes) != names:
        raise ValueError(f"it must tell the shapes of {names}, got {shown(shapes)}")
    for name, shape in shapes.items():
        if not isinstance(shape, list) or not all(is_number(side, int) and 0 <= side < 2**31 for side in shape):
            raise ValueError(f"the shape of {name} must be whole numbers, got {shown(shape)}")
    lengths = {name: np.dtype(_TENSORS[name]).itemsize * math.prod(shape) for name, shape in shapes.items()}
    if sum(lengths.values()) != len(body):
        raise ValueError(f"its shapes {shown(shapes)} take {sum(lengths.values()):,} bytes, {len(body):,} came")
    found, start = {}, 0
    for name, length in lengths.items():
        numbers = np.frombuffer(body[start : start + length], _TENSORS[name]).reshape(shapes[name])
        found[name], start = torch.from_numpy(numbers.astype(numbers.dtype.newbyteorder("="))), start + length
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
