"""Which frames a clip holds, by hand-worked examples and for every length of tracklet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_reid.datamodules.clip_sampling import all_clips_frames, evenly_spaced_frames, rrs_test_frames, rrs_train_frames

FRAMES = st.integers(1, 400)
LENGTHS = st.integers(1, 40)
SEEDS = st.integers(0, 2**32 - 1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_rrs_test_takes_the_first_frame_of_each_of_eight_chunks():
    assert rrs_test_frames(16, 8).tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    # ceil(59 / 8) = 8 frames a chunk, MARS's mean length
    assert rrs_test_frames(59, 8).tolist() == [0, 8, 16, 24, 32, 40, 48, 56]


def test_chunks_past_the_end_repeat_the_last_frame():
    # ceil(9 / 8) = 2 frames a chunk: chunks 5, 6, 7 begin at 10, 12, 14, but the last frame is 8
    assert rrs_test_frames(9, 8).tolist() == [0, 2, 4, 6, 8, 8, 8, 8]


@pytest.mark.parametrize("sample", [rrs_test_frames, evenly_spaced_frames, lambda f, t: rrs_train_frames(f, t, rng())])
def test_a_tracklet_shorter_than_the_clip_gives_every_frame_and_repeats_its_last(sample):
    assert sample(3, 8).tolist() == [0, 1, 2, 2, 2, 2, 2, 2]
    assert sample(1, 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("sample", [rrs_test_frames, evenly_spaced_frames, lambda f, t, p: rrs_train_frames(f, t, rng(), p)])
def test_wrapping_starts_a_short_tracklet_again(sample):
    assert sample(3, 8, "wrap").tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_all_clips_are_interleaved():
    assert all_clips_frames(12, 4).tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    assert all_clips_frames(7, 6).tolist() == [[0, 2, 4, 6, 6, 6], [1, 3, 5, 6, 6, 6]]
    assert all_clips_frames(7, 6, "wrap").tolist() == [[0, 2, 4, 6, 1, 3], [1, 3, 5, 0, 2, 4]]


def test_evenly_spaced_frames_reach_from_the_first_to_the_last():
    assert evenly_spaced_frames(9, 5).tolist() == [0, 2, 4, 6, 8]
    assert evenly_spaced_frames(10, 4).tolist() == [0, 3, 6, 9]
    assert evenly_spaced_frames(100, 1).tolist() == [49]


def test_every_frame_of_a_chunk_is_drawn_equally_often():
    generator = rng(7)
    drawn = np.stack([rrs_train_frames(12, 4, generator) for _ in range(6000)])
    counts = np.stack([np.bincount(drawn[:, chunk], minlength=12)[chunk * 3 : chunk * 3 + 3] for chunk in range(4)])
    assert counts.sum() == drawn.size  # nothing was drawn outside its chunk
    assert (abs(counts - 2000) < 6 * np.sqrt(6000 * 2 / 9)).all()  # six standard deviations
    assert len(np.unique(drawn % 3, axis=0)) == 3**4  # the draw of one chunk tells nothing of another


@given(num_frames=FRAMES, clip_length=LENGTHS, seed=SEEDS)
def test_rrs_draws_ascend_lie_inside_and_take_one_frame_of_each_chunk(num_frames, clip_length, seed):
    frames = rrs_train_frames(num_frames, clip_length, rng(seed))
    length = -(-num_frames // clip_length)
    assert frames.shape == (clip_length,)
    assert frames.dtype == np.int64
    assert (np.diff(frames) >= 0).all()
    for chunk, frame in enumerate(frames.tolist()):
        assert min(chunk * length, num_frames - 1) <= frame <= min((chunk + 1) * length, num_frames) - 1


@given(num_frames=FRAMES, clip_length=LENGTHS, seed=SEEDS)
def test_rrs_covers_the_first_and_the_last_chunk(num_frames, clip_length, seed):
    for frames in (rrs_train_frames(num_frames, clip_length, rng(seed)), rrs_test_frames(num_frames, clip_length)):
        length = -(-num_frames // clip_length)
        assert 0 <= frames[0] < length
        assert num_frames - length <= frames[-1] <= num_frames - 1


@given(num_frames=FRAMES, clip_length=LENGTHS, padding=st.sampled_from(["last", "wrap"]))
def test_all_clips_hold_every_frame_once_and_only_padding_again(num_frames, clip_length, padding):
    clips = all_clips_frames(num_frames, clip_length, padding)
    assert clips.shape == (-(-num_frames // clip_length), clip_length)
    counts = np.bincount(clips.ravel(), minlength=num_frames)
    padded = clips.size - num_frames
    expected = np.ones(num_frames, dtype=np.int64)
    if padding == "last":
        expected[-1] += padded
    else:
        expected += np.bincount(np.arange(padded) % num_frames, minlength=num_frames)
    assert counts.tolist() == expected.tolist()


@given(num_frames=FRAMES, clip_length=LENGTHS)
def test_the_first_of_all_clips_is_the_rrs_test_clip(num_frames, clip_length):
    assert all_clips_frames(num_frames, clip_length)[0].tolist() == rrs_test_frames(num_frames, clip_length).tolist()


@given(num_frames=FRAMES, clip_length=st.integers(2, 40))
def test_evenly_spaced_frames_are_distinct_and_their_distances_differ_by_one_at_most(num_frames, clip_length):
    frames = evenly_spaced_frames(num_frames, clip_length)
    assert frames[0] == 0
    assert frames[-1] == num_frames - 1
    if num_frames >= clip_length:
        steps = np.diff(frames)
        assert steps.min() >= 1
        assert steps.max() - steps.min() <= 1


def test_a_draw_depends_on_the_generator_alone():
    assert rrs_train_frames(300, 8, rng(1)).tolist() == rrs_train_frames(300, 8, rng(1)).tolist()
    assert rrs_train_frames(300, 8, rng(1)).tolist() != rrs_train_frames(300, 8, rng(2)).tolist()


SAMPLERS = [rrs_test_frames, all_clips_frames, evenly_spaced_frames, lambda f, t, p="last": rrs_train_frames(f, t, rng(), p)]


@pytest.mark.parametrize("sample", SAMPLERS)
def test_an_empty_tracklet_is_an_error(sample):
    with pytest.raises(ValueError, match=r"empty tracklet \(num_frames=0\); leave such tracklets out"):
        sample(0, 8)


@pytest.mark.parametrize("sample", SAMPLERS)
def test_a_clip_without_frames_is_an_error(sample):
    with pytest.raises(ValueError, match="clip_length must be at least 1, got 0"):
        sample(5, 0)


@pytest.mark.parametrize("sample", SAMPLERS)
@pytest.mark.parametrize("num_frames", [3, 30])
def test_an_unknown_padding_is_named_with_those_that_there_are(sample, num_frames):
    with pytest.raises(ValueError, match="padding must be one of last, wrap, got 'zeros'"):
        sample(num_frames, 8, "zeros")
