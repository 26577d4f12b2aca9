from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightning_reid.datamodules.clips import (
    EvaluationClips,
    FrameReader,
    Frames,
    TrainClips,
    chosen_frames,
    collate_evaluation_clips,
    collate_train_clips,
    mirrored,
)
from lightning_reid.datamodules.decoding import CorruptImageError
from lightning_reid.datamodules.images import Draw
from lightning_reid.datamodules.loading import load_image
from lightning_reid.packed_tracklets import write_packed_tracklet
from lightning_reid.packed_tracklets.format import picture_masks
from lightning_reid.records import TrackletRecord

SIZE = (16, 8)


@pytest.fixture(scope="module")
def tracklets(tmp_path_factory):
    """Tracklets of 9, 2 and 1 frames; frame f of tracklet n has red f, green n, and blue that grows from left to right."""
    folder = tmp_path_factory.mktemp("frames")
    records = []
    for number, num_frames in enumerate((9, 2, 1)):
        for frame in range(num_frames):
            pixels = np.zeros((*SIZE, 3), dtype=np.uint8)
            pixels[..., 0], pixels[..., 1], pixels[..., 2] = frame, number, 10 * np.arange(SIZE[1])
            Image.fromarray(pixels).save(folder / f"{number}-{frame}.png")
        paths = tuple(str(folder / f"{number}-{frame}.png") for frame in range(num_frames))
        records.append(TrackletRecord(paths, pid=number + 1, camid=number % 2, second_pid=7 if number == 2 else -1))
    return records


def train_clips(records, reader=None, *, clip_length=4, erasing=0.0, seed=0) -> TrainClips:
    reader = reader or FrameReader(SIZE)
    return TrainClips(records, reader, clip_length=clip_length, erasing_probability=erasing, seed=seed)


def red(clip: torch.Tensor) -> list[int]:
    return clip[..., 0, 0, 0].tolist()


def test_each_distinct_frame_of_a_clip_is_decoded_once(tracklets):
    loaded = []
    frames = FrameReader(SIZE, load=lambda path: loaded.append(path) or load_image(path))(tracklets[1], np.array([0, 1, 1, 1, 0, 1]))
    assert Counter(loaded) == dict.fromkeys(tracklets[1].paths, 1)
    assert red(frames.pixels) == [0, 1, 1, 1, 0, 1]
    assert frames.pixels.is_contiguous()


def test_a_tracklet_shorter_than_the_clip_repeats_its_last_frame(tracklets):
    for record, expected in zip(tracklets[1:], ([0, 1, 1, 1], [0, 0, 0, 0])):
        for sampling in ("rrs", "all", "even"):
            item = EvaluationClips([], [record], FrameReader(SIZE), clip_length=4, clips=sampling)[0]
            assert [red(clip) for clip in item["clips"]] == [expected]
        assert red(train_clips([record])[Draw(0, 0)]["clips"]) == expected


def test_frames_of_mixed_sizes_come_out_in_one(tmp_path):
    sizes = [(32, 16), (20, 30), SIZE]
    for number, (height, width) in enumerate(sizes):
        Image.fromarray(np.full((height, width, 3), 50 + number, dtype=np.uint8)).save(tmp_path / f"{number}.png")
    record = TrackletRecord(tuple(str(tmp_path / f"{number}.png") for number in range(3)), 1, 1)
    frames = FrameReader(SIZE)(record, np.arange(3))
    assert frames.pixels.shape == (3, 3, *SIZE)
    assert red(frames.pixels) == [50, 51, 52]


def test_a_training_clip_has_one_frame_of_each_chunk_in_order(tracklets):
    clips = train_clips(tracklets, clip_length=3)
    drawn = [red(clips[Draw(0, position)]["clips"]) for position in range(60)]
    assert all(3 * chunk <= frame < 3 * chunk + 3 for clip in drawn for chunk, frame in enumerate(clip))
    assert {frame for clip in drawn for frame in clip} == set(range(9))


@given(position=st.integers(0, 500), seed=st.integers(0, 20))
def test_a_flip_is_that_of_the_whole_clip(tracklets, position, seed):
    clip = train_clips(tracklets, seed=seed)[Draw(0, position)]["clips"]
    ramp = torch.arange(0, 80, 10, dtype=torch.uint8)
    assert all(torch.equal(frame[2, 0], ramp) for frame in clip) or all(torch.equal(frame[2, 0], ramp.flip(0)) for frame in clip)


def test_half_of_the_clips_are_flipped(tracklets):
    clips = train_clips(tracklets)
    flipped = [clips[Draw(2, position)]["clips"][0, 2, 0, 0].item() == 70 for position in range(400)]
    assert sum(flipped) / 400 == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("erasing", [0.0, 0.5])
def test_a_clip_is_a_function_of_seed_epoch_and_position(tracklets, erasing):
    def clip(seed, epoch, position):
        return train_clips(tracklets, erasing=erasing, seed=seed)[Draw(0, position, epoch=epoch)]["clips"]

    torch.manual_seed(1)
    expected = clip(0, 3, 7)
    torch.manual_seed(2)
    np.random.default_rng(3).random()
    assert torch.equal(clip(0, 3, 7), expected)
    assert all(not torch.equal(expected, other) for other in (clip(1, 3, 7), clip(0, 4, 7), clip(0, 3, 8)))


def test_rectangles_are_erased_in_each_frame_by_itself(tracklets):
    clips = train_clips(tracklets, erasing=0.5)
    made = [clips[Draw(1, position)]["clips"] for position in range(200)]
    erased = torch.stack([(clip[:, 0] == 124) for clip in made])  # 255 x the ImageNet mean of red; frames are darker
    frames_erased = erased.any(-1).any(-1)
    assert frames_erased.float().mean() == pytest.approx(0.5, abs=0.06)
    both = frames_erased[:, 0] & frames_erased[:, 1]
    assert both.float().mean() == pytest.approx(0.25, abs=0.1)
    assert all(not torch.equal(one, other) for one, other in erased[both][:, :2])
    assert not any((clip[:, 0] == 124).any() for clip in (train_clips(tracklets)[Draw(1, position)]["clips"] for position in range(50)))


@given(num_frames=st.integers(1, 60), clip_length=st.integers(1, 9))
def test_all_clips_hold_every_frame_exactly_once_and_repeat_only_the_last(num_frames, clip_length):
    counts = Counter(chosen_frames(num_frames, clip_length, "all").ravel().tolist())
    assert set(counts) == set(range(num_frames))
    assert all(count == 1 for frame, count in counts.items() if frame < num_frames - 1)


@given(
    x=st.lists(st.integers(0, 8), min_size=2, max_size=2, unique=True), y=st.lists(st.integers(0, 16), min_size=2, max_size=2, unique=True)
)
def test_a_mirror_moves_pixels_and_masks_alike(x, y):
    box = torch.tensor([[min(x), min(y), max(x), max(y)]], dtype=torch.int32)
    picture = picture_masks(box, *SIZE)
    seen = mirrored(Frames(picture.unsqueeze(1).expand(1, 3, *SIZE).byte(), box))
    assert torch.equal(seen.pixels[:, 0].bool(), picture_masks(seen.pictures, *SIZE))
    assert torch.equal(seen.pixels[:, 0].bool(), picture.flip(-1))


def test_packed_tracklets_give_the_same_clips_as_their_images(tracklets, tmp_path):
    files = {}
    for number, record in enumerate(tracklets):
        files[record.paths] = tmp_path / f"{number}.safetensors"
        write_packed_tracklet(files[record.paths], FrameReader(SIZE)(record, np.arange(len(record.paths))).pixels)
    for draw in (Draw(0, 0), Draw(1, 5), Draw(2, 9)):
        plain, packed = train_clips(tracklets)[draw], train_clips(tracklets, FrameReader(SIZE, files))[draw]
        assert plain.keys() == packed.keys()
        assert all(torch.equal(plain[name], packed[name]) for name in plain)


def test_a_packed_tracklet_of_other_settings_is_refused(tracklets, tmp_path):
    record = tracklets[1]
    for frames, told in (
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"2 frames of \(8, 8\)"),
        (torch.zeros(3, 3, *SIZE).byte(), "3 frames"),
    ):
        write_packed_tracklet(tmp_path / "a.safetensors", frames)
        reader = FrameReader(SIZE, {record.paths: tmp_path / "a.safetensors"})
        with pytest.raises(ValueError, match=f"holds {told}.*expected 2 frames.*1-0.png: the cache was made with other settings"):
            reader(record, np.array([0]))


def test_evaluation_batches_hold_the_clips_of_one_tracklet_after_another(tracklets):
    clips = EvaluationClips(tracklets[:1], tracklets, FrameReader(SIZE), clip_length=4, clips="all")
    assert clips.num_clips() == [3, 3, 1, 1]
    batch = collate_evaluation_clips([clips[row] for row in range(4)])
    assert batch["clips"].shape == (8, 4, 3, *SIZE)
    assert batch["clips"].is_contiguous()
    assert [red(clip) for clip in batch["clips"][:3]] == [[0, 3, 6, 8], [1, 4, 7, 8], [2, 5, 8, 8]]
    assert batch["num_clips"].tolist() == [3, 3, 1, 1]
    assert batch["is_query"].tolist() == [True, False, False, False]
    assert batch["indices"].tolist() == [0, 0, 1, 2]
    assert batch["pids"].tolist() == [1, 1, 2, 3]
    assert batch["second_pids"].tolist() == [-1, -1, -1, 7]
    assert "pictures" not in batch


def test_training_batches_are_stacked_in_one_piece(tracklets):
    clips = train_clips(tracklets)
    batch = collate_train_clips([clips[Draw(row, row, label=row)] for row in range(3)])
    assert batch["clips"].shape == (3, 4, 3, *SIZE)
    assert batch["clips"].dtype == torch.uint8
    assert batch["clips"].is_contiguous()
    assert {name: rows.tolist() for name, rows in batch.items() if name != "clips"} == {
        "pids": [0, 1, 2],
        "camids": [0, 1, 0],
        "indices": [0, 1, 2],
    }


def test_padded_tracklets_send_their_picture_boxes_along(tracklets, tmp_path):
    record = tracklets[1]
    boxes = torch.tensor([[2, 0, 8, 16], [0, 0, 6, 16]], dtype=torch.int32)
    write_packed_tracklet(tmp_path / "a.safetensors", torch.zeros(2, 3, *SIZE, dtype=torch.uint8), boxes)
    reader = FrameReader(SIZE, {record.paths: tmp_path / "a.safetensors"}, padded=True)
    item = EvaluationClips([], [record], reader, clip_length=3, clips="rrs")[0]
    assert item["pictures"].tolist() == [boxes[[0, 1, 1]].tolist()]
    drawn = [train_clips([record], reader)[Draw(0, position)]["pictures"][:2].tolist() for position in range(20)]
    assert {str(boxes) for boxes in drawn} == {str(boxes.tolist()), str(boxes.flip(0).tolist())}  # the mirror of one is the other


def test_an_unreadable_frame_is_named_when_it_is_drawn(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(CorruptImageError, match=r"bad\.jpg"):
        train_clips([TrackletRecord((str(tmp_path / "bad.jpg"),), 1, 1)])[Draw(0, 0)]


def test_an_empty_tracklet_cannot_be_sampled():
    with pytest.raises(ValueError, match="empty tracklet"):
        train_clips([TrackletRecord((), 1, 1)])[Draw(0, 0)]
