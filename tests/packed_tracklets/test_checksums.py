"""Packed tracklets that a disk damaged, and those of versions that knew no checksums."""

from __future__ import annotations

import logging
import struct

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from lightning_reid.checksums import CHECKSUM, checksum
from lightning_reid.packed_tracklets import PackedTracklet, write_packed_tracklet
from lightning_reid.packed_tracklets.format import encoded_jpeg, frame_checksum

FRAMES = torch.randint(0, 256, (5, 3, 16, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
BOXES = torch.tensor([[frame, 0, 8, 16] for frame in range(5)], dtype=torch.int32)


@pytest.fixture(params=["raw", "jpeg"])
def packed(request, tmp_path):
    path = tmp_path / "walk.safetensors"
    write_packed_tracklet(path, FRAMES, BOXES, encoding=request.param, metadata={"content": "abcd"})
    return path


def flip(path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def as_it_was_written_before(path) -> None:
    tensors = load_file(path)
    del tensors["checksums"]
    with safe_open(path, "numpy") as file:
        told = file.metadata()
    del told["crc32"]
    save_file(tensors, path, told)


def test_a_bit_that_flips_in_a_frame_is_named_when_the_frame_is_read_and_no_other(packed):
    frame = FRAMES[2].numpy().tobytes() if PackedTracklet(packed).encoding == "raw" else encoded_jpeg(FRAMES[2].numpy()).tobytes()
    before = PackedTracklet(packed).read([0, 1, 3, 4])
    flip(packed, packed.read_bytes().index(frame) + len(frame) // 2)
    for left, right in zip(before, PackedTracklet(packed).read([0, 1, 3, 4])):
        assert torch.equal(left, right)
    with pytest.raises(
        ValueError, match=r"walk\.safetensors is no whole packed tracklet: the checksum of frame 2 is wrong\. Delete the file"
    ):
        PackedTracklet(packed).read([1, 2])


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (b"abcd", "the checksum of its metadata is wrong"),
        (b"crc32", "the checksum of its metadata is wrong"),
        (b"checksums", "the checksum of its metadata is wrong"),
        (b'"pictures"', "does not contain tensor pictures"),
        (b'"I32"', "unknown variant `H32`"),
    ],
)
def test_a_bit_that_flips_in_what_a_file_says_of_itself_is_named(packed, found, told):
    flip(packed, packed.read_bytes().index(found) + 1)
    with pytest.raises(ValueError, match=rf"walk\.safetensors is no whole packed tracklet: .*{told}"):
        PackedTracklet(packed).read([0])


def test_a_box_that_moved_is_named(packed):
    flip(packed, packed.read_bytes().index(BOXES.numpy().tobytes()) + 3 * 16)
    PackedTracklet(packed).read([0, 1, 2, 4])
    with pytest.raises(ValueError, match="the checksum of frame 3 is wrong"):
        PackedTracklet(packed).read([3])


def test_files_without_checksums_are_read_and_told_of_once_a_folder(packed, caplog):
    expected = PackedTracklet(packed).read([4, 0])
    as_it_was_written_before(packed)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            found = PackedTracklet(packed).read([4, 0])
    assert all(torch.equal(left, right) for left, right in zip(expected, found))
    assert PackedTracklet(packed).metadata == {"content": "abcd"}
    assert [line.split(", ")[0] for line in caplog.messages] == [f"the packed tracklets in {packed.parent} have no checksums"]


@pytest.mark.parametrize("offsets", [[0, 9, 9], [9, 0, 5], [-9, 0, 5]])
def test_offsets_that_are_none_are_named_where_no_checksum_tells(tmp_path, offsets):
    path = tmp_path / "walk.safetensors"
    write_packed_tracklet(path, FRAMES, encoding="jpeg")
    as_it_was_written_before(path)
    tensors = load_file(path)
    tensors["offsets"][1:4] = offsets
    save_file(tensors, path, {"encoding": "jpeg", "height": "16", "width": "8"})
    with pytest.raises(ValueError, match=r"walk\.safetensors is no whole packed tracklet: its offsets are not those of its JPEG files"):
        PackedTracklet(path).read([1])


def repacked(path, **changes) -> PackedTracklet:
    """A file whose checksums are right, as whoever makes a file can make them."""
    tensors, told = load_file(path) | changes.pop("tensors", {}), {"encoding": PackedTracklet(path).encoding, "height": "16", "width": "8"}
    told |= changes
    frames = [tensors["jpeg"]] if "jpeg" in tensors else list(tensors["frames"])
    tensors["checksums"] = np.array([frame_checksum(*pair) for pair in zip(frames, tensors["pictures"], strict=False)], dtype=np.uint32)
    save_file(tensors, path, told | {CHECKSUM: checksum(told)})
    return PackedTracklet(path)


@pytest.mark.parametrize("side", ["0", "4097", "9" * 5000, "\u0661\u0666", "-16", ""], ids=["0", "4097", "long", "arabic", "minus", "none"])
def test_a_size_that_no_writer_tells_is_named(packed, side):
    with pytest.raises(ValueError, match=r"walk\.safetensors is no whole .*: it tells of .*, and a side has 1 to 4,096\. Delete"):
        repacked(packed, height=side).read([0])


@pytest.mark.parametrize("box", [[-5, 0, 8, 16], [0, 0, 9, 16], [4, 0, 4, 16], [0, 9, 8, 10**9]])
def test_a_box_that_the_writer_refuses_is_refused_when_it_is_read(tmp_path, box):
    write_packed_tracklet(tmp_path / "walk.safetensors", FRAMES, BOXES)
    boxes = BOXES.numpy().copy()
    boxes[3] = box
    tracklet = repacked(tmp_path / "walk.safetensors", tensors={"pictures": boxes})
    with pytest.raises(ValueError, match=r"walk\.safetensors, frame 3: need a picture 0 <= x0 < x1 <= 8 .*, got \[.*\]\. Delete the file"):
        tracklet.read([4, 3])


def test_a_jpeg_that_claims_another_size_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    write_packed_tracklet(tmp_path / "walk.safetensors", FRAMES[:1], encoding="jpeg")
    content = load_file(tmp_path / "walk.safetensors")["jpeg"]
    place = content.tobytes().index(b"\xff\xc0")
    content[place + 5 : place + 9] = np.frombuffer(struct.pack(">HH", 14_000, 14_000), np.uint8)
    tracklet = repacked(tmp_path / "walk.safetensors", tensors={"jpeg": content})
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match=r"walk\.safetensors: frame 0 is no JPEG of \(16, 8\) pixels\. Delete the file"):
        tracklet.read([0])
