"""What cameras and matchers tell each other, and its form on wires: read strictly, refused by name."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tracked import direction, ended, frame, key, looks

from lightning_reid.tracking import (
    CameraGone,
    CameraRestarted,
    CameraTracks,
    ForgetIdentity,
    FrameStamp,
    IdentityEvent,
    Match,
    MatchUndone,
    StageHealth,
    TrackFeature,
    UndoMatch,
    read_message,
    write_message,
)

MESSAGES = [
    frame("door", 40, 7, 9),
    frame("door", 40),
    looks("door", 7, direction(3, 4, 0, 0), 10, 40, count=3),
    ended("door", 7, 40),
    StageHealth("door", "decode", at=9.5, state="stalled", processed=95, dropped=2, queued=1, latency=0.02),
    Match(key("hall", 3), key("door", 7), similarity=0.75, identity=0, at=12.0),
    MatchUndone(key("hall", 3), key("door", 7), reason="better match", at=16.0),
    IdentityEvent(key("hall", 3), identity=0, previous=1, at=12.0),
    IdentityEvent(key("hall", 3), identity=0, previous=None, at=12.0),
    CameraRestarted("door", epoch=2, previous=0, clock_change=-3600.0, at=12.0),
    UndoMatch(key("hall", 3), key("door", 7)),
    ForgetIdentity(7),
    CameraGone("door"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: type(one).__name__)
def test_a_message_comes_back_as_it_was_written(message):
    content = write_message(message)
    assert read_message(content) == message
    assert write_message(read_message(content)) == content


def test_equal_messages_are_equal_bytes_whatever_types_their_numbers_had():
    one, other = FrameStamp("door", 40, 4.0, 0.0), FrameStamp("door", 40, 4, -0.0)
    boxes = torch.tensor([[0.0, 0, 4, 9]])
    messages = [
        CameraTracks(stamp, 0, (7,), boxes.to(dtype), torch.ones(1)) for stamp, dtype in ((one, torch.float32), (other, torch.float64))
    ]
    assert messages[0] == messages[1]
    assert hash(messages[0]) == hash(messages[1])
    assert write_message(messages[0]) == write_message(messages[1])


def test_a_feature_is_rounded_once_where_it_is_made_so_a_replay_matches_the_same_numbers():
    told = looks("door", 7, direction(1, 2, 3, 4), 10)
    assert told.feature.dtype == torch.float16
    assert torch.equal(read_message(write_message(told)).feature, told.feature)


def test_what_a_message_holds_does_not_change_with_what_it_was_made_of():
    feature = direction(1, 0, 0, 0).half()
    told = TrackFeature("door", 0, 7, feature, 1, 0, 0, "resnet18")
    feature.zero_()
    assert told.feature.tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("message", "change", "told"),
    [
        (0, {"epoch": -1}, "epoch must be a whole number"),
        (0, {"track_ids": (7, 7)}, "an id stands twice"),
        (0, {"track_ids": (7,)}, r"boxes must be of shape \[1, 4\], got \[2, 4\]"),
        (0, {"track_ids": [7, 9]}, "track_ids must be a tuple"),
        (0, {"track_ids": (7, -1)}, "an id of track_ids must be a whole number"),
        (0, {"boxes": torch.full((2, 4), torch.nan)}, "boxes of camera 'door', frame 40 holds NaN"),
        (0, {"boxes": torch.zeros(2, 4)}, "camera 'door', frame 40: expected x0 < x1"),
        (0, {"boxes": torch.full((2, 4), 1e300, dtype=torch.float64)}, "holds NaN or infinite"),
        (0, {"scores": torch.tensor([0.5, 1.5])}, "a score in \\[0, 1\\]"),
        (0, {"stamp": "now"}, "stamp must be a FrameStamp"),
        (2, {"camera": ""}, "camera must have 1 to 100 printable characters"),
        (2, {"camera": "a\nb"}, "camera must have 1 to 100 printable characters"),
        (2, {"num_features": 0}, "num_features must be a whole number of at least 1"),
        (2, {"seen_until": 0.5}, "seen_until must be a number in \\[1, "),
        (2, {"feature": torch.tensor([0.6, torch.nan])}, "track_id=7.* holds NaN"),
        (2, {"feature": torch.tensor([3.0, 4.0])}, "track_id=7.* must have length 1, got 5"),
        (2, {"feature": torch.zeros(4)}, "must have length 1, got 0"),
        (2, {"feature": torch.tensor([1])}, "feature must be a float tensor"),
        (2, {"feature": torch.eye(2)}, "feature must be of shape"),
        (3, {"seen_until": float("nan")}, "seen_until must be a number"),
        (4, {"state": "fine"}, "state must be one of 'live'"),
        (5, {"track": ("hall", 0, 3)}, "track must be a TrackKey"),
        (5, {"similarity": 2.0}, "similarity must be a number"),
        (6, {"reason": "whim"}, "reason must be one of"),
        (9, {"clock_change": float("inf")}, "clock_change must be a number"),
        (11, {"identity": True}, "identity must be a whole number"),
    ],
)
def test_a_message_that_cannot_be_is_refused_by_name(message, change, told):
    with pytest.raises(ValueError, match=told):
        replace(MESSAGES[message], **change)


def edited(content: bytes, old: str, new: str) -> bytes:
    """The bytes with another head, whose length is right."""
    (length,) = struct.unpack("<I", content[4:8])
    head = content[8 : 8 + length].decode()
    assert old in head
    head = head.replace(old, new)
    return content[:4] + struct.pack("<I", len(head.encode())) + head.encode() + content[8 + length :]


TRACKS, FEATURE, END = (write_message(MESSAGES[number]) for number in (0, 2, 3))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "must begin with b'LRT1'"),
        (b"PNG\n" + END[4:], "must begin with b'LRT1'"),
        (END[:20], "is cut short: its head has"),
        (TRACKS[:-1], "take 40 bytes, 39 came"),
        (TRACKS + b"\0", "take 40 bytes, 41 came"),
        (b"LRT1" + b"\xff" * 8, "is cut short"),
        (b"LRT1\0\0\0\0", "is no JSON"),
        (bytes(2**22 + 1), "up to 4,194,304 bytes, got 4,194,305"),
        ("LRT1", "up to 4,194,304 bytes, got 'LRT1'"),
        (edited(END, '"TrackEnded"', '"Pickle"'), "unknown kind 'Pickle'"),
        (edited(END, '"TrackEnded"', '["TrackEnded"]'), "unknown kind"),
        (edited(END, '"seen_until":4.0', '"seen_until":NaN'), "NaN is no number of JSON"),
        (edited(END, '"seen_until":4.0', '"seen_until":1e999'), "TrackEnded is refused: seen_until must be a number"),
        (edited(END, '"seen_until":4.0', '"seen_until":"4"'), "TrackEnded is refused: seen_until must be a number"),
        (edited(END, '"seen_until":4.0', '"seen_until":4'), "not written as this library writes it"),
        (edited(END, '"seen_until":4.0', '"seen_until":5.0,"seen_until":4.0'), "a field may stand there twice"),
        (edited(END, '"seen_until":4.0', '"until":4.0'), "TrackEnded must tell camera, epoch, seen_until, track_id"),
        (edited(END, '"epoch":0', '"epoch":true'), "epoch must be a whole number"),
        (edited(END, '"shapes":{}', '"shapes":{"boxes":[0,4]}'), "must tell the shapes of"),
        (edited(END, '"shapes":{}', '"shapes":[]'), "must tell the shapes of"),
        (edited(FEATURE, '"feature":[4]', '"feature":[-4]'), "the shape of feature must be whole numbers"),
        (edited(FEATURE, '"feature":[4]', '"feature":[4,1000000000,1000000000,0]'), "take 0 bytes, 8 came"),
        (edited(FEATURE, '"feature":[4]', '"feature":[2,2]'), "feature must be of shape"),
        (FEATURE[:-2] + struct.pack("<e", float("nan")), "feature of .* holds NaN"),
        (edited(TRACKS, '"track_ids":[7,9]', '"track_ids":[7,[9]]'), "an id of track_ids must be"),
        (edited(TRACKS, '"number":40', '"nummer":40'), "its stamp must tell camera, number"),
        (edited(TRACKS, '"stamp":{"camera":"door"', '"stamp":{"camera":7'), "camera must be a string"),
        (edited(write_message(MESSAGES[5]), '["hall",0,3]', '["hall",0]'), "track must be a TrackKey"),
        (edited(write_message(MESSAGES[5]), '["hall",0,3]', '[["hall"],0,3]'), "the camera of track must be a string"),
        (edited(END, "{", "[" * 100_000 + "{"), "is no JSON"),
    ],
)
def test_bytes_that_are_no_message_are_refused_by_name(content, told):
    with pytest.raises(ValueError, match=told):
        read_message(content)


@given(data=st.data(), message=st.sampled_from(MESSAGES))
def test_damaged_bytes_are_refused_or_another_sound_message(data, message):
    content = bytearray(write_message(message))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = read_message(bytes(content))
    except ValueError:
        return
    assert write_message(read) == bytes(content)


def test_only_messages_are_written():
    with pytest.raises(ValueError, match="expected a message, one of CameraTracks, "):
        write_message({"kind": "TrackEnded"})


def test_eight_people_at_ten_frames_a_second_take_less_than_ten_kilobytes_a_second():
    stamp = FrameStamp("entrance-hall-north", 10_000_000, 1_234_567.890123, 1_700_000_000.123456)
    boxes = torch.rand(8, 4) + torch.tensor([0, 0, 100, 200])
    tracks = CameraTracks(stamp, 1_700_000_000, tuple(range(1000, 1008)), boxes, torch.rand(8))
    feature = torch.nn.functional.normalize(torch.rand(1280), dim=0)
    mean = TrackFeature(
        "entrance-hall-north", 1_700_000_000, 1007, feature, 12, stamp.captured_utc, stamp.captured_utc, "mobilenetv2-0a1b2c3d"
    )
    assert 10 * len(write_message(tracks)) + 8 / 4 * len(write_message(mean)) < 10_000  # a mean a track every 40 frames
    assert json.loads(write_message(mean)[8:].split(b"}}")[0] + b"}}")["kind"] == "TrackFeature"
