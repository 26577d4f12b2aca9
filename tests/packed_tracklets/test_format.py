from __future__ import annotations

import pickle
import resource

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from lightning_reid.packed_tracklets import PackedTracklet, write_packed_tracklet
from lightning_reid.packed_tracklets import format as packed_format
from lightning_reid.packed_tracklets.format import encoded_jpeg, picture_masks

FRAMES = torch.randint(0, 256, (7, 3, 16, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "tracklet.safetensors"
    write_packed_tracklet(path, FRAMES, metadata={"content": "abc"})
    return PackedTracklet(path)


@given(indices=st.lists(st.integers(0, 6), min_size=1, max_size=12))
def test_raw_frames_come_back_exactly_in_any_order_and_number(raw, indices):
    frames, pictures = raw.read(indices)
    assert torch.equal(frames, FRAMES[indices])
    assert frames.is_contiguous()
    assert pictures.dtype == torch.int32
    assert pictures.tolist() == [[0, 0, 8, 16]] * len(indices)


def test_the_header_tells_frames_size_encoding_and_what_the_writer_added(raw):
    assert (raw.num_frames, raw.image_size, raw.encoding, raw.metadata) == (7, (16, 8), "raw", {"content": "abc"})


def test_a_packed_tracklet_may_be_sent_to_a_worker_after_it_was_read_from(raw):
    raw.read([0])
    assert torch.equal(pickle.loads(pickle.dumps(raw)).read([3])[0], FRAMES[3:4])


def test_jpeg_frames_come_back_nearly_and_take_less_room(tmp_path):
    ramp = torch.arange(64, dtype=torch.uint8).repeat(64, 1)
    frames = torch.stack([torch.stack([ramp + shift, ramp.T + shift, 255 - ramp]) for shift in (0, 40, 90)])
    for encoding in ("raw", "jpeg"):
        write_packed_tracklet(tmp_path / f"{encoding}.safetensors", frames, encoding=encoding)
    read, _ = PackedTracklet(tmp_path / "jpeg.safetensors").read([2, 0, 2])
    assert (read.float() - frames[[2, 0, 2]].float()).abs().mean() < 2
    assert (tmp_path / "jpeg.safetensors").stat().st_size < (tmp_path / "raw.safetensors").stat().st_size / 5


def test_a_frame_asked_for_several_times_is_decoded_once(tmp_path, monkeypatch):
    write_packed_tracklet(tmp_path / "a.safetensors", FRAMES, encoding="jpeg")
    decode, decoded = packed_format.cv2.imdecode, []
    monkeypatch.setattr(packed_format.cv2, "imdecode", lambda *args: decoded.append(1) or decode(*args))
    frames, _ = PackedTracklet(tmp_path / "a.safetensors").read([5, 2, 5, 5])
    assert len(decoded) == 2
    assert torch.equal(frames[0], frames[3])


def test_only_the_frames_that_are_asked_for_are_looked_at(tmp_path):
    path = tmp_path / "a.safetensors"
    write_packed_tracklet(path, FRAMES, encoding="jpeg")
    fourth = encoded_jpeg(FRAMES[3].numpy()).tobytes()
    content = path.read_bytes()
    assert content.count(fourth) == 1
    path.write_bytes(content.replace(fourth, bytes(len(fourth))))
    PackedTracklet(path).read([0, 1, 2, 4, 5, 6])
    with pytest.raises(ValueError, match=r"a\.safetensors is no whole packed tracklet: the checksum of frame 3 is wrong\. Delete the file"):
        PackedTracklet(path).read([2, 3])


def test_picture_boxes_come_back_with_their_frames(tmp_path):
    boxes = torch.tensor([[0, 0, 8, 16], [2, 0, 8, 16], [0, 3, 5, 9]], dtype=torch.int32)
    write_packed_tracklet(tmp_path / "a.safetensors", FRAMES[:3], boxes)
    assert torch.equal(PackedTracklet(tmp_path / "a.safetensors").read([2, 1, 1])[1], boxes[[2, 1, 1]])


@pytest.mark.parametrize("box", [[0, 0, 9, 16], [-1, 0, 8, 16], [4, 0, 4, 16], [0, 9, 8, 3], [0, 0, 8, 17]])
def test_a_picture_box_outside_the_frame_or_without_area_is_named(tmp_path, box):
    boxes = torch.tensor([[0, 0, 8, 16], box], dtype=torch.int32)
    with pytest.raises(ValueError, match=r"a\.safetensors, frame 1: need a picture 0 <= x0 < x1 <= 8 .* got \["):
        write_packed_tracklet(tmp_path / "a.safetensors", FRAMES[:2], boxes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        (FRAMES[:0], {}, "at least one frame"),
        (FRAMES.float(), {}, r"uint8 .* got \(7, 3, 16, 8\) torch.float32"),
        (FRAMES[:, :1], {}, r"\[F, 3, H, W\]"),
        (torch.zeros(1, 3, 1, 4097, dtype=torch.uint8), {}, r"sides of up to 4,096 pixels, got \(1, 3, 1, 4097\)"),
        (FRAMES, {"encoding": "png"}, "encoding must be one of raw, jpeg, got 'png'"),
        (FRAMES, {"metadata": {"height": "9"}}, "metadata height are written by the format itself"),
        (FRAMES, {"pictures": torch.zeros(6, 4, dtype=torch.int32)}, r"pictures \[7, 4\] int32, got \(6, 4\)"),
    ],
)
def test_what_cannot_be_packed_is_refused_by_its_reason(tmp_path, frames, options, message):
    with pytest.raises(ValueError, match=message):
        write_packed_tracklet(tmp_path / "a.safetensors", frames, **options)


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.safetensors"
    write_packed_tracklet(path, FRAMES)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))  # no file may grow above 500 bytes; Python ignores the signal
    try:
        with pytest.raises(OSError, match=r"cannot write .*a\.safetensors: File too large"):
            write_packed_tracklet(path, torch.zeros(2, 3, 64, 32, dtype=torch.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    assert PackedTracklet(path).num_frames == 7


def test_frames_that_are_not_there_are_an_index_error(raw):
    for indices in ([7], [0, -1]):
        with pytest.raises(IndexError, match="has frames 0 to 6"):
            raw.read(indices)


def test_missing_cut_short_and_foreign_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no packed tracklet .*a\.safetensors"):
        PackedTracklet(tmp_path / "a.safetensors").read([0])
    write_packed_tracklet(tmp_path / "b.safetensors", FRAMES)
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "b.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"b\.safetensors is no whole packed tracklet: .*Delete the file"):
        PackedTracklet(tmp_path / "b.safetensors").read([0])
    save_file({"pictures": np.zeros((1, 4), dtype=np.int32)}, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"c\.safetensors is no packed tracklet: its metadata lack encoding, height, width"):
        PackedTracklet(tmp_path / "c.safetensors").read([0])


@given(box=st.tuples(*[st.integers(0, 6)] * 4))
def test_masks_are_true_inside_the_picture_box_alone(box):
    x0, y0, x1, y1 = box
    mask = picture_masks(torch.tensor([[box]], dtype=torch.int32), 5, 6)
    assert mask.shape == (1, 1, 5, 6)
    assert mask[0, 0].tolist() == [[y0 <= y < y1 and x0 <= x < x1 for x in range(6)] for y in range(5)]
