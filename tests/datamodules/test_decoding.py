"""The one decoder, on what cameras, phones and attackers make of an image."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_reid import claimed_size
from lightning_reid.datamodules.decoding import CorruptImageError
from lightning_reid.datamodules.loading import load_image
from lightning_reid.datamodules.readers import find_unreadable_images
from lightning_reid.records import ImageRecord

PIXELS = np.random.default_rng(0).integers(0, 255, (64, 32, 3), dtype=np.uint8)


def jpeg(**options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", **options)
    return file.getvalue()


def with_thumbnail() -> bytes:
    """A JPEG that has a whole one in its head, as a camera's thumbnail."""
    plain, small = jpeg(), jpeg(quality=5)
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small + plain[2:]


def png_of(width: int, height: int) -> bytes:
    """The header of a PNG that claims so many pixels, and more bytes than the limit of small files."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + bytes(2**19)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 1}])
@pytest.mark.parametrize("tail", [b"", bytes(7), bytes(100_000), b"\xff\xff\xff", b"ftypisom a film"])
def test_a_whole_jpeg_is_read_whatever_follows_its_end(tmp_path, options, tail):
    content = jpeg(**options)
    (tmp_path / "plain.jpg").write_bytes(content)
    (tmp_path / "tail.jpg").write_bytes(content + tail)
    assert torch.equal(load_image(str(tmp_path / "tail.jpg")), load_image(str(tmp_path / "plain.jpg")))
    assert find_unreadable_images([ImageRecord(str(tmp_path / "tail.jpg"), 1, 1)], decode=True) == []


@pytest.mark.parametrize("content", [jpeg(), with_thumbnail()], ids=["plain", "with a thumbnail"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_a_jpeg_cut_short_is_no_image_even_where_its_thumbnail_is_whole(tmp_path, content, share):
    path = str(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes(content[: int(share * len(content))])
    with pytest.raises(CorruptImageError, match=r"cut.jpg: the JPEG is cut short. Restore the file, or leave it out"):
        load_image(path)
    (unreadable,) = find_unreadable_images([ImageRecord(path, 1, 1)], decode=True)
    assert unreadable.path == path
    assert "cut short" in unreadable.reason


@pytest.mark.parametrize("size", [(40_000, 40_000), (2**31 - 1, 1), (20_000, 20_000)])
def test_a_header_that_claims_billions_of_pixels_is_refused_before_they_are_made(tmp_path, size):
    (tmp_path / "bomb.png").write_bytes(png_of(*size))
    with pytest.raises(CorruptImageError, match=r"bomb.png"):
        load_image(str(tmp_path / "bomb.png"))


def test_a_large_photograph_is_read(tmp_path):
    Image.new("RGB", (6000, 4000)).save(tmp_path / "photo.png")
    assert load_image(str(tmp_path / "photo.png")).shape == (3, 4000, 6000)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp"])
def test_what_the_check_lets_through_loads_and_what_it_does_not_does_not(tmp_path, mode, suffix):
    path = tmp_path / f"image.{suffix}"
    try:
        Image.fromarray(PIXELS).convert(mode).save(path)
    except (OSError, KeyError, ValueError):
        pytest.skip(f"Pillow writes no {mode} as {suffix}")
    unreadable = find_unreadable_images([ImageRecord(str(path), 1, 1)], decode=True)
    if unreadable:
        with pytest.raises(CorruptImageError):
            load_image(str(path))
    else:
        assert load_image(str(path)).shape == (3, 64, 32)


@pytest.mark.parametrize("options", [{"format": "PNG"}, {"format": "TIFF", "compression": "group4"}], ids=str)
def test_a_bomb_of_some_kilobytes_is_refused(tmp_path, options):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb", **options)
    with pytest.raises(CorruptImageError, match=r"bomb has .* pixels, more than 134,217,728"):
        load_image(str(tmp_path / "bomb"))


def test_a_jpeg_whose_head_claims_more_than_it_holds_is_refused(tmp_path):
    content = bytearray(jpeg())
    place = content.index(b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", 16384, 16384)
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(CorruptImageError, match=r"a.jpg has 16384x16384 pixels"):
        load_image(str(tmp_path / "a.jpg"))


@pytest.mark.parametrize("inserted", [b"\0\0", b"\xff\0\x10\0"], ids=["zeros", "an escaped zero"])
def test_a_jpeg_whose_size_is_hidden_behind_what_a_decoder_passes_over_is_refused(tmp_path, inserted):
    content = bytearray(jpeg())
    place = content.index(b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", 14_000, 14_000)
    (tmp_path / "a.jpg").write_bytes(content[:place] + inserted + content[place:])
    with pytest.raises(CorruptImageError, match=r"a.jpg: the head of the JPEG is damaged before its size. Restore the file, or leave it"):
        load_image(str(tmp_path / "a.jpg"))


DDS = b"DDS " + struct.pack("<5I", 124, 0x1007, 64, 32, 0) + bytes(52) + struct.pack("<II", 32, 0x800000) + bytes(100)


def test_a_head_that_only_pillow_knows_or_that_it_stumbles_over_is_that_of_no_image(tmp_path, monkeypatch):
    (tmp_path / "dds.jpg").write_bytes(DDS)
    with pytest.raises(CorruptImageError, match=r"dds.jpg: no image that OpenCV knows"):
        load_image(str(tmp_path / "dds.jpg"))
    monkeypatch.setattr(claimed_size, "_DECODED", ("DDS",))
    with pytest.raises(CorruptImageError, match=r"dds.jpg: its head cannot be read \(NotImplementedError: Unknown pixel format flags"):
        load_image(str(tmp_path / "dds.jpg"))


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "folder.jpg", "a\0b.jpg"):
        with pytest.raises(CorruptImageError, match="cannot read"):
            load_image(str(tmp_path / name))
        (unreadable,) = find_unreadable_images([ImageRecord(str(tmp_path / name), 1, 1)])
        assert unreadable.reason
