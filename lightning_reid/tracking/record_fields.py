"""What the messages of multi-camera tracking are made of, and the checks of it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_reid.arguments import require_count, require_number, require_text, shown

MOST_ID = 2**63 - 1
LATEST = 1e11
"""Of a time in seconds since 1970: some 3,000 years on."""
LONGEST_NAME = 100
"""Characters of a camera's or model's name."""


class TrackKey(NamedTuple):
    """Which track is meant: the ids of a tracker begin at 0 again when it restarts, so camera and id alone do not tell.

    Attributes:
        camera: Name of the camera.
        epoch: Number of the tracker's run, larger after each restart of tracker, camera or node.
        track_id: Id that the tracker gave, at least 0.

    Example:
        >>> from lightning_reid.tracking import TrackKey
        >>> TrackKey("door", 0, 7) == TrackKey("door", 1, 7)  # after a restart it is somebody else
        False
    """

    camera: str
    epoch: int
    track_id: int


def set_checked(
    record: Any, *, names: tuple[str, ...] = (), keys: tuple[str, ...] = (), counts: tuple[str, ...] = (), times: tuple[str, ...] = ()
) -> None:
    """Check fields of a frozen record, and give them Python's own types, so that equal records are equal bytes.

    Args:
        record: Whose fields are looked at, and set.
        names: Fields of 1 to 100 printable characters.
        keys: Fields that are a ``TrackKey``.
        counts: Fields that are whole numbers of at least 0.
        times: Fields that are finite seconds of at least 0.

    Raises:
        ValueError: A field is not as its kind must be; the message names it.
    """
    for name in names:
        _require_name(name, getattr(record, name))
    for name in keys:
        object.__setattr__(record, name, _checked_key(name, getattr(record, name)))
    for name in counts:
        require_count(name, getattr(record, name), low=0, high=MOST_ID)
        object.__setattr__(record, name, int(getattr(record, name)))
    for name in times:
        require_number(name, getattr(record, name), low=0, high=LATEST)
        object.__setattr__(record, name, abs(float(getattr(record, name))))  # -0.0 is another string


def set_tensor(record: Any, name: str, dtype: torch.dtype, shape: tuple[int, ...] | None) -> None:
    """Check a field that is a tensor, and replace it by a copy of a dtype, on the CPU.

    Args:
        record: Whose field it is.
        name: Of the field.
        dtype: To which it is rounded.
        shape: What it must have; ``None`` for any number of numbers in a row, but at least one.

    Raises:
        ValueError: It is no float tensor, of another shape, or not finite.
    """
    value = getattr(record, name)
    expected = "[D], D at least 1" if shape is None else list(shape)
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ValueError(f"{name} must be a float tensor {expected}, got {shown(value)}")
    if (value.ndim != 1 or not len(value)) if shape is None else tuple(value.shape) != shape:
        raise ValueError(f"{name} must be of shape {expected}, got {list(value.shape)}")
    copied = value.detach().to("cpu", dtype, copy=True).contiguous()
    if not copied.isfinite().all():
        raise ValueError(f"{name} of {_whose(record)} holds NaN or infinite numbers")
    object.__setattr__(record, name, copied)


def same_record(one: Any, other: object) -> bool:
    """Whether two records are of one class and all their fields are equal, tensors number by number."""
    if not isinstance(other, type(one)):
        return False
    pairs = [(getattr(one, each.name), getattr(other, each.name)) for each in fields(one)]
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def _checked_key(name: str, key: object) -> TrackKey:
    if not isinstance(key, TrackKey):
        raise ValueError(f"{name} must be a TrackKey, got {shown(key)}")
    _require_name(f"the camera of {name}", key.camera)
    require_count(f"the epoch of {name}", key.epoch, low=0, high=MOST_ID)
    require_count(f"the track_id of {name}", key.track_id, low=0, high=MOST_ID)
    return TrackKey(key.camera, int(key.epoch), int(key.track_id))


def _require_name(name: str, value: Any) -> None:
    require_text(name, value)
    if not (1 <= len(value) <= LONGEST_NAME and value.isprintable()):
        raise ValueError(f"{name} must have 1 to {LONGEST_NAME} printable characters, got {shown(value)}")


def _whose(record: Any) -> str:
    stamp = getattr(record, "stamp", None)
    return f"{record.key}" if stamp is None else f"camera {stamp.camera!r}, frame {stamp.number}"
