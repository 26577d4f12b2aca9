"""Which boxes of a track are embedded, when a feature is made, and the mean of features."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tracked import key

from lightning_reid.tracking import ClipCollector, TrackEmbedding, usable_boxes


def boxes_of_whole_pixels() -> st.SearchStrategy[list[list[int]]]:
    corner, side = st.integers(0, 12), st.integers(1, 8)
    return st.lists(st.tuples(corner, corner, side, side).map(lambda one: [one[0], one[1], one[0] + one[2], one[1] + one[3]]), max_size=5)


@settings(max_examples=40)
@given(boxes=boxes_of_whole_pixels(), max_hidden=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_a_box_is_usable_unless_another_covers_too_many_of_its_pixels(boxes, max_hidden):
    def covered(one: list[int], other: list[int]) -> float:
        pixels = {(x, y) for x in range(one[0], one[2]) for y in range(one[1], one[3])}
        return len([1 for x, y in pixels if other[0] <= x < other[2] and other[1] <= y < other[3]]) / len(pixels)

    expected = [
        all(covered(one, other) <= max_hidden for column, other in enumerate(boxes) if column != row) for row, one in enumerate(boxes)
    ]
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    assert usable_boxes(tensor, torch.ones(len(boxes)), max_hidden=max_hidden).tolist() == expected


def test_an_unsure_box_is_not_usable_but_still_covers():
    boxes = torch.tensor([[0.0, 0, 10, 20], [0, 0, 10, 15]])
    assert usable_boxes(boxes, torch.tensor([0.9, 0.4])).tolist() == [False, False]
    assert usable_boxes(boxes, torch.tensor([0.9, 0.4]), max_hidden=0.75).tolist() == [True, False]


@pytest.mark.parametrize(
    ("boxes", "scores", "options", "told"),
    [
        ([[0, 0, 1, torch.nan]], [1.0], {}, "box 0 is .*nan.* no NaN"),
        ([[0, 0, 1, 1]], [torch.nan], {}, "box 0 is"),
        ([[0, 0, 0, 1]], [1.0], {}, "expected x0 < x1"),
        ([[0, 0, 1, 1]], [1.0, 1.0], {}, r"expected boxes \[K, 4\] and scores \[K\]"),
        ([[0, 0, 1, 1]], [1.0], {"max_hidden": 2}, "max_hidden must be"),
        ([[0, 0, 1, 1]], [1.0], {"min_score": "high"}, "min_score must be"),
    ],
)
def test_boxes_that_cannot_be_are_refused(boxes, scores, options, told):
    with pytest.raises(ValueError, match=told):
        usable_boxes(torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores), **options)


@pytest.mark.parametrize("fps", [3, 10, 25, 30])
def test_the_frames_of_a_feature_are_spread_over_a_second_at_any_rate(fps):
    clips, made = ClipCollector[float](num_frames=4, spread=1.0), []
    for number in range(10 * fps):
        clip = clips.add(key("door", 7), number / fps, number / fps)
        made += [clip] if clip else []
    assert all(len(clip) == 4 and clip == sorted(clip) and 1.0 - 1e-6 <= clip[-1] - clip[0] <= 1.0 + 3 / fps for clip in made)
    assert len(made) >= 10 / (1.0 + 4 / fps + 1 / 3) - 1


def test_a_track_that_was_hidden_begins_its_clip_anew():
    clips = ClipCollector[str](num_frames=3, spread=1.0, max_age=2.0)
    offered = [(0.0, "a"), (0.5, "b"), (9.0, "c"), (9.5, "d"), (10.0, "e")]
    assert [clips.add(key("door", 7), *one) for one in offered] == [None, None, None, None, ["c", "d", "e"]]


def test_a_track_s_first_feature_may_be_of_fewer_frames_which_count_towards_the_next():
    clips = ClipCollector[str](num_frames=3, spread=0.0, first_frames=2)
    assert [clips.add(key("door", 7), number, name) for number, name in enumerate("abcdef")] == [
        None, ["a", "b"], ["a", "b", "c"], None, None, ["d", "e", "f"],
    ]  # fmt: skip
    clips.end(key("door", 7))
    assert [clips.add(key("door", 7), 9.0, name) for name in "gh"] == [None, ["g", "h"]], "another track of the same number"
    with pytest.raises(ValueError, match="first_frames must be"):
        ClipCollector(num_frames=3, first_frames=4)


def test_clips_are_of_one_track_and_gone_with_it():
    clips = ClipCollector[str](num_frames=2, spread=0.0)
    assert clips.add(key("door", 7), 0.0, "a") is None
    assert clips.add(key("door", 7, epoch=1), 0.0, "b") is None
    clips.end(key("door", 7))
    clips.end(key("door", 7))
    assert len(clips) == 1
    assert clips.add(key("door", 7), 0.1, "c") is None
    assert clips.add(key("door", 7, epoch=1), 0.1, "d") == ["b", "d"]
    assert len(clips) == 1


def test_a_clip_of_one_frame_is_made_at_once():
    assert ClipCollector[str](num_frames=1).add(key("door", 7), 0.0, "a") == ["a"]


def test_time_that_goes_back_or_is_none_makes_no_clip():
    clips = ClipCollector[str]()
    clips.add(key("door", 7), 5.0, "a")
    with pytest.raises(ValueError, match=r"track_id=7.*time went back from 5.0 to 4.0: .* new epoch"):
        clips.add(key("door", 7), 4.0, "b")
    with pytest.raises(ValueError, match="captured must be a number"):
        clips.add(key("door", 7), float("nan"), "b")
    with pytest.raises(ValueError, match="max_age must be a number"):
        ClipCollector(spread=3.0, max_age=2.0)


def test_the_mean_is_of_directions_each_counting_once():
    features = torch.randn(20, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
    mean = TrackEmbedding.of(features[0])
    for row, feature in enumerate(features[1:]):
        mean = mean.with_feature(feature * 10.0**row)
    directions = torch.stack([row / row.square().sum().sqrt() for row in features]).mean(0)
    expected = directions / directions.square().sum().sqrt()
    assert mean.num_features == 20
    torch.testing.assert_close(mean.feature.double(), expected, atol=1e-3, rtol=0)
    assert mean.feature.dtype == torch.float16


def test_a_mean_stays_as_it_was_when_another_is_made_of_it():
    first = TrackEmbedding.of(torch.tensor([1.0, 0.0]))
    first.with_feature(torch.tensor([0.0, 1.0]))
    assert first.feature.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("feature", "told"),
    [
        ([torch.nan, 1.0], "must be finite and not zero"),
        ([torch.inf, 1.0], "must be finite and not zero"),
        ([0.0, 0.0], "must be finite and not zero"),
        ([1.0], r"must have the same size, got \[1\] after \[2\]"),
        ([-1.0, 0.0], "cancel each other out"),
    ],
)
def test_a_feature_that_says_nothing_is_refused(feature, told):
    mean = TrackEmbedding.of(torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match=told):
        mean.with_feature(torch.tensor(feature))
