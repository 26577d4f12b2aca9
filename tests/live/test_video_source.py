"""Videos and cameras, decoded by PyAV."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from filmed import film, number_of

from lightning_reid.live import PictureSource, SourceLostError, VideoSource
from lightning_reid.live.video_source import address_without_secrets

GO_ON = threading.Event()


def frames_of(source, *, stop: threading.Event = GO_ON) -> list:
    return list(source.frames(stop))


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return film(tmp_path_factory.mktemp("videos") / "door.mp4", 10)


def test_a_file_gives_all_its_frames_at_its_own_times(video):
    frames = frames_of(VideoSource("door", video, realtime=False))
    assert [number_of(picture) for _, picture in frames] == list(range(10))
    assert [stamp.number for stamp, _ in frames] == list(range(10))
    assert [stamp.captured_utc for stamp, _ in frames] == pytest.approx([number / 20 for number in range(10)])
    assert {stamp.camera for stamp, _ in frames} == {"door"}
    assert {(tuple(picture.shape), picture.dtype) for _, picture in frames} == {((3, 48, 64), torch.uint8)}


def test_a_file_that_is_played_like_a_camera_comes_at_its_own_rate(video):
    begun = time.monotonic()
    stamps = [stamp for stamp, _ in frames_of(VideoSource("door", video))]
    assert [one.number for one in stamps] == list(range(10))
    assert 0.45 - 1e-6 <= stamps[-1].captured_monotonic - stamps[0].captured_monotonic <= time.monotonic() - begun
    assert abs(stamps[0].captured_utc - time.time()) < 60


def test_a_file_that_is_looped_goes_on_in_other_epochs_until_it_is_told_to_stop(video):
    stop, stamps = threading.Event(), []
    for stamp, _ in VideoSource("door", video, realtime=False, loop=True).frames(stop):
        stamps.append(stamp)
        if len(stamps) == 25:
            stop.set()
    assert [one.number for one in stamps] == [*range(10), *range(10), *range(5)]
    assert [one.captured_utc for one in stamps] == pytest.approx([number / 20 for number in range(25)])


def test_a_picture_that_lies_on_its_side_is_set_upright_as_its_file_says(video, tmp_path):
    (_, lying), *_ = frames_of(VideoSource("door", video, realtime=False))
    content = video.read_bytes()
    matrix = content.index(b"tkhd") + 44
    assert struct.unpack(">9i", content[matrix : matrix + 36]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    portrait = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)  # as telephones write it: to be turned clockwise
    (tmp_path / "portrait.mp4").write_bytes(content[:matrix] + portrait + content[matrix + 36 :])
    (_, upright), *_ = frames_of(VideoSource("door", tmp_path / "portrait.mp4", realtime=False))
    assert tuple(upright.shape) == (3, 64, 48)
    assert torch.equal(upright, torch.rot90(lying, -1, (1, 2)))
    assert upright[:, :12, -12:].float().mean() > 200  # the white corner, which was at the top left


def test_damaged_packets_are_skipped_and_counted(tmp_path):
    path = film(tmp_path / "door.avi", 20)
    content = bytearray(path.read_bytes())
    chunks = [place for place in range(len(content)) if content[place : place + 4] == b"00dc"]
    for chunk in chunks[6:8]:
        length = struct.unpack("<I", content[chunk + 4 : chunk + 8])[0]
        content[chunk + 8 : chunk + 8 + length] = bytes(length)
    path.write_bytes(content)
    source = VideoSource("door", path, realtime=False)
    numbers = [number_of(picture) for _, picture in frames_of(source)]
    assert source.num_corrupt >= 1
    assert numbers[0] == 0
    assert numbers[-1] == 19
    assert len(numbers) + source.num_corrupt <= 21
    assert numbers == sorted(numbers)


def test_a_file_that_is_no_video_cannot_be_read(tmp_path):
    (tmp_path / "door.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(SourceLostError, match=r"camera 'door': .*door.mp4 cannot be read: Invalid data"):
        frames_of(VideoSource("door", tmp_path / "door.mp4", realtime=False))


def test_a_file_that_is_not_there_is_refused_at_once_and_a_camera_is_not(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"camera 'door': there is no video at .*door.mp4"):
        VideoSource("door", tmp_path / "door.mp4")
    assert VideoSource("door", "7").address == "/dev/video7"
    with pytest.raises(SourceLostError, match=r"camera 'door': .*/dev/video7 is lost: No such file"):
        frames_of(VideoSource("door", "7"))


@pytest.mark.parametrize("options", [{"loop": True}, {"realtime": False}])
def test_a_camera_can_be_neither_looped_nor_slowed_down(options):
    with pytest.raises(ValueError, match="rtsp://hall/1 is a camera, which can be neither looped nor slowed down"):
        VideoSource("hall", "rtsp://hall/1", **options)


def test_no_message_tells_the_password_of_a_camera(caplog):
    source = VideoSource("door", "rtsp://admin:secret@127.0.0.1:9/stream?key=secret")
    with caplog.at_level(logging.DEBUG), pytest.raises(SourceLostError) as lost:
        frames_of(source)
    assert "rtsp://127.0.0.1:9/stream is lost: Connection refused" in str(lost.value)
    told = "".join(traceback.format_exception(lost.value)) + caplog.text
    assert "Connection refused" in told
    assert "secret" not in told.replace("admin:secret@127.0.0.1:9/stream?key=secret", "")  # the line of this test
    assert address_without_secrets("a:b@c.mp4") == "a:b@c.mp4"


def test_a_camera_that_says_nothing_is_lost_and_the_message_says_for_how_long():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = VideoSource("door", f"http://127.0.0.1:{silent.getsockname()[1]}/stream", timeout=(0.2, 3.0))
        with pytest.raises(SourceLostError, match=r"is lost: it has not answered within 0.2 s, or has been silent for 3 s"):
            frames_of(source)


def left_open() -> tuple[int, int]:
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


def in_vain(source: VideoSource) -> None:
    with pytest.raises(SourceLostError):
        frames_of(source)


def until_it_hangs_up(source: VideoSource) -> None:
    assert len(frames_of(source)) == 2


def until_nobody_watches(source: VideoSource) -> None:
    frames = source.frames(GO_ON)
    next(frames)
    frames.close()


@pytest.mark.parametrize("attempt", [in_vain, until_it_hangs_up, until_nobody_watches])
def test_two_hundred_tries_leave_nothing_open(attempt, tmp_path):
    address = "rtsp://127.0.0.1:9/stream" if attempt is in_vain else film(tmp_path / "door.mp4", 2)
    source = VideoSource("door", address, live=True)
    attempt(source)
    before = left_open()
    for _ in range(200):
        attempt(source)
    assert left_open() == before


def test_pictures_are_looped_like_a_video_and_an_empty_loop_ends():
    pictures = [np.full((4, 6, 3), number, np.uint8) for number in range(3)]
    stop, seen = threading.Event(), []
    for stamp, picture in PictureSource("door", lambda: iter(pictures), fps=10, realtime=False, loop=True).frames(stop):
        seen.append((stamp.number, int(picture[0, 0, 0])))
        if len(seen) == 7:
            stop.set()
    assert seen == [(0, 0), (1, 1), (2, 2), (0, 0), (1, 1), (2, 2), (0, 0)]
    assert frames_of(PictureSource("door", list, fps=10, realtime=False, loop=True)) == []
