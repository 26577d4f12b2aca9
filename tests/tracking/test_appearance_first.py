"""Encounters of two people as boxes and synthetic embeddings: who has which track before and after."""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

import numpy as np
import pytest

from lightning_reid.tracking.appearance_first import CameraTracker, appearance_matches
from lightning_reid.tracking.byte_track import NO_TRACK

trackers = pytest.importorskip("trackers")
sv = pytest.importorskip("supervision")

FPS = 10
SECONDS = 6.0
NUM_ENCOUNTERS = 8
SETTINGS = {"high_score": 0.5, "new_score": 0.55, "frame_rate": FPS}
WIDTH, HEIGHT = 40, 100
NOBODY = np.empty((0, 4)), np.empty(0)


class Frame(NamedTuple):
    """A frame of an encounter: when it was captured, the boxes in any order, whose they are, and how much of each is somebody else."""

    seconds: float
    boxes: np.ndarray
    scores: np.ndarray
    people: np.ndarray
    hidden: np.ndarray


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = sides.clip(min=0).prod()
    return float(shared / ((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - shared))


def encounter(seed: int, *, turn_back: bool) -> list[Frame]:
    """Two people walk up to each other, the one behind is mostly not detected while hidden, and they turn back or walk on."""
    draws = np.random.default_rng(seed)
    speeds, nearest, middle = draws.uniform(45, 90, 2), draws.uniform(1, 8, 2), draws.uniform(94, 106, 2)
    meet, parts = SECONDS / 2, SECONDS / 2 + draws.uniform(0, 0.6)
    frames = []
    for number in range(round(SECONDS * FPS)):
        now = number / FPS
        away = nearest + max(meet - now, now - parts, 0) * speeds if turn_back else (meet - now) * speeds
        x = 400 + away * [-1, 1]
        boxes = np.stack([x - WIDTH / 2, middle - HEIGHT / 2, x + WIDTH / 2, middle + HEIGHT / 2], axis=1) + draws.normal(0, 1.2, (2, 4))
        both = overlap(*boxes) < 0.5 or draws.random() < 0.15
        people = draws.permutation(2 if both else 1)
        covered = max(0.0, 1 - abs(x[0] - x[1]) / WIDTH)
        scores, hidden = np.array([0.9, 0.45 if overlap(*boxes) > 0.4 else 0.8]), np.array([0.3, 1.0]) * covered
        frames.append(Frame(now, boxes[people], scores[people], people, hidden[people]))
    return frames


class Wardrobe:
    """Embeds boxes as a network would: the person's own embedding, mixed with that of whoever covers them, and noise."""

    def __init__(self, seed: int = 0, alike: bool = False) -> None:
        self.draws = np.random.default_rng(seed)
        self.people = unit(self.draws.normal(size=(2, 64)))
        self.people[1] = self.people[0] if alike else self.people[1]
        self.rows: list[int] = []

    def embed(self, frame: Frame):
        def of_rows(rows: np.ndarray) -> np.ndarray:
            self.rows += rows.tolist()
            hidden, people = frame.hidden[rows, None], frame.people[rows]
            mixed = (1 - hidden) * self.people[people] + hidden * self.people[1 - people]
            return unit(mixed + 0.25 * unit(self.draws.normal(size=mixed.shape)))

        return of_rows


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def never(rows: np.ndarray) -> np.ndarray:
    raise AssertionError(f"asked to embed {rows}")


def ids_of_people(frames: list[Frame], tracker: CameraTracker, wardrobe: Wardrobe) -> list[list[int]]:
    ids: list[list[int]] = [[], []]
    for frame in frames:
        told = tracker.update(frame.boxes, frame.scores, frame.seconds, wardrobe.embed(frame))
        for person, track in zip(frame.people, told.track_ids):
            if track != NO_TRACK:
                ids[person].append(int(track))
    return ids


def num_swaps(*, turn_back: bool, alike: bool = False, **settings) -> int:
    swaps = 0
    for seed in range(NUM_ENCOUNTERS):
        ids = ids_of_people(encounter(seed, turn_back=turn_back), CameraTracker(**SETTINGS, **settings), Wardrobe(seed, alike))
        swaps += any(one[0] != one[-1] for one in ids)
    return swaps


def test_people_who_meet_and_turn_back_keep_their_tracks_by_appearance_and_swap_them_without():
    assert num_swaps(turn_back=True, max_distance=0) == NUM_ENCOUNTERS
    assert num_swaps(turn_back=True) == 0


@pytest.mark.parametrize("alike", [False, True])
def test_people_who_walk_past_each_other_keep_their_tracks_with_or_without_appearance(alike):
    assert num_swaps(turn_back=False, max_distance=0) == num_swaps(turn_back=False, alike=alike) == 0


def test_people_who_look_alike_are_matched_as_without_appearance():
    frames, plain, repaired = encounter(0, turn_back=True), CameraTracker(**SETTINGS, max_distance=0), CameraTracker(**SETTINGS)
    assert ids_of_people(frames, repaired, Wardrobe(alike=True)) == ids_of_people(frames, plain, Wardrobe())
    assert repaired.num_embedded > 0


def test_boxes_that_overlap_a_second_box_or_track_are_embedded_and_else_the_first_of_a_track():
    tracker, wardrobe = CameraTracker(**SETTINGS), Wardrobe()
    apart = []
    for frame in encounter(0, turn_back=True):
        before, lost = tracker.num_embedded, 2 - len(frame.boxes)
        tracker.update(frame.boxes, frame.scores, frame.seconds, wardrobe.embed(frame))
        if not lost and overlap(*frame.boxes) == 0 and frame.seconds < SECONDS / 2:
            apart.append(tracker.num_embedded - before)
        if not lost and overlap(*frame.boxes) > tracker.ambiguous_overlap:
            assert tracker.num_embedded - before == (frame.scores >= 0.5).sum()
    assert apart == [0, 2] + [0] * (len(apart) - 2), "a track begins with the second box, which tells it from a false one"
    assert len(apart) > 10
    assert 2 < tracker.num_embedded == len(wardrobe.rows) < 0.2 * 2 * SECONDS * FPS


def test_embed_is_given_rows_of_the_boxes_as_they_came():
    tracker, asked = CameraTracker(**SETTINGS), []
    boxes = [[500, 0, 540, 100], [0, 0, 40, 100], [700, 0, 740, 100], [20, 0, 60, 100]]

    def embed(rows: np.ndarray) -> np.ndarray:
        asked.append(rows.tolist())
        return np.eye(8)[rows]

    for number in range(3):
        told = tracker.update(boxes, [0.2, 0.9, 0.9, 0.9], number / FPS, embed)
    assert asked == [[1, 3], [1, 2, 3], [1, 3]], "never the unsure box, and the one that stands alone once"
    assert told.track_ids[0] == NO_TRACK
    assert sorted(told.track_ids[1:].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("turn_back", [True, False])
def test_without_appearance_the_tracks_are_those_of_the_library(turn_back):
    library = trackers.ByteTrackTracker(30, FPS, 0.55, high_conf_det_threshold=0.5)
    ours = CameraTracker(**SETTINGS, max_distance=0)
    for frame in encounter(3, turn_back=turn_back):
        detections = sv.Detections(xyxy=frame.boxes, confidence=frame.scores, data={"row": np.arange(len(frame.boxes))})
        theirs = library.update(detections, timestamp=frame.seconds)
        told = ours.update(frame.boxes, frame.scores, frame.seconds, never)
        assert told.track_ids[theirs.data["row"]].tolist() == theirs.tracker_id.tolist()


class Asked(trackers.IoU):
    """Notes between what overlaps are asked for."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def compute(self, boxes_1: np.ndarray, boxes_2: np.ndarray) -> np.ndarray:
        self.sizes.append((len(boxes_1), len(boxes_2)))
        return super().compute(boxes_1, boxes_2)


@pytest.mark.parametrize(("scores", "sizes"), [([0.9, 0.9, 0.3], [(3, 2), (1, 1)]), ([0.3, 0.3, 0.3], [(3, 0), (3, 3)])])
def test_the_library_asks_for_overlaps_of_all_tracks_with_the_sure_boxes_first(scores, sizes):
    boxes, asked = np.array([[100.0 * x, 0, 100 * x + 40, 100] for x in range(3)]), Asked()
    tracker = trackers.ByteTrackTracker(iou=asked)
    for number in range(3):
        tracker.update(sv.Detections(xyxy=boxes, confidence=np.full(3, 0.9)), timestamp=number / 30)
    asked.sizes.clear()
    tracker.update(sv.Detections(xyxy=boxes, confidence=np.array(scores)), timestamp=0.1)
    assert asked.sizes == sizes


def test_a_library_that_matches_in_another_way_is_told(monkeypatch):
    class AllAtOnce(trackers.ByteTrackTracker):
        def update(self, detections: sv.Detections, frame: object = None, timestamp: float | None = None) -> sv.Detections:
            self.iou.compute(np.empty((0, 4)), detections.xyxy)
            return super().update(detections, frame, timestamp)

    class NeverAsks(trackers.ByteTrackTracker):
        def update(self, detections: sv.Detections, frame: object = None, timestamp: float | None = None) -> sv.Detections:
            return self._detections_for_skipped_update(detections)

    boxes, scores = [[0, 0, 40, 100], [200, 0, 240, 100]], [0.9, 0.2]
    for changed, how in ((AllAtOnce, "its first overlaps are not those"), (NeverAsks, "it has not asked for overlaps")):
        monkeypatch.setattr(trackers, "ByteTrackTracker", changed)
        tracker = CameraTracker()
        with pytest.raises(RuntimeError, match=rf"does not match as 2\.6 does, {how}.*pip install 'trackers>=2\.6"):
            tracker.update(boxes, scores, 0.0, never)


def walk(tracker: CameraTracker, times: list[float]) -> list[tuple[list[int], int]]:
    """What is told of somebody who stands still, at these times."""
    told = [tracker.update([[0, 0, 40, 100]], [0.9], seconds, lambda rows: np.ones((len(rows), 1))) for seconds in times]
    return [(one.track_ids.tolist(), one.epoch) for one in told]


def test_a_clock_that_jumps_back_begins_the_next_epoch_at_the_first_id():
    tracker = CameraTracker(frame_rate=FPS)
    tracker.update([[0, 0, 40, 100], [200, 0, 240, 100]], [0.9, 0.9], 99.9, never)
    assert walk(tracker, [100.0, 100.1, 7.0, 7.1, 7.2]) == [([0], 0), ([0], 0), ([-1], 1), ([0], 1), ([0], 1)]
    tracker.restart()
    assert tracker.update(*NOBODY, 7.3, never).epoch == 2


def test_a_clock_that_jumps_ahead_ends_the_tracks_and_nothing_else():
    tracker = CameraTracker(frame_rate=FPS, lost_seconds=1.0)
    assert walk(tracker, [0, 0.1, 0.9, 1e9, 1e9 + 0.1]) == [([-1], 0), ([0], 0), ([0], 0), ([-1], 0), ([1], 0)]


def test_tracks_end_by_time_not_by_frames():
    for fps in (5, 50):
        tracker = CameraTracker(frame_rate=fps, lost_seconds=1.0)
        times = [number / fps for number in range(3)]
        walk(tracker, times)
        for number in range(round(0.8 * fps)):
            tracker.update(*NOBODY, times[-1] + (number + 1) / fps, never)
        assert walk(tracker, [times[-1] + 0.9])[0] == ([0], 0)
        assert walk(tracker, [times[-1] + 2.5])[0] == ([NO_TRACK], 0)


def test_frames_without_people_are_frames_too():
    tracker = CameraTracker()
    for number in range(3):
        told = tracker.update(*NOBODY, number / 30, never)
        assert told.track_ids.shape == (0,)
        assert told.track_ids.dtype == np.int64


@pytest.mark.parametrize(
    ("box", "score", "fault"),
    [
        ([0, 0, math.nan, 100], 0.9, "box 1, .* holds NaN or infinite numbers"),
        ([0, 0, math.inf, 100], 0.9, "box 1, .* holds NaN or infinite numbers"),
        ([10, 0, 10, 100], 0.9, "box 1, .* has no area"),
        ([40, 0, 0, 100], 0.9, "box 1, .* has no area"),
        ([40, 100, 0, 0], 0.9, "box 1, .* has no area"),
        ([0, 0, 40, 100], math.nan, r"box 1, .* with score nan, has a score outside \[0, 1\]"),
        ([0, 0, 40, 100], 1.5, r"has a score outside \[0, 1\]"),
    ],
)
def test_boxes_that_cannot_be_are_refused_by_name_and_nothing_has_changed(box, score, fault):
    tracker, twin = CameraTracker(), CameraTracker()
    walk(tracker, [0, 0.1]), walk(twin, [0, 0.1])
    with pytest.raises(ValueError, match=fault + ".*: drop it, or mend the detector"):
        tracker.update([[0, 0, 40, 100], box], [0.9, score], 0.05, never)
    assert walk(tracker, [0.2, 0.3]) == walk(twin, [0.2, 0.3]) == [([0], 0)] * 2


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0, "0.1"])
def test_a_time_that_cannot_be_is_refused(seconds):
    with pytest.raises(ValueError, match="seconds must be a number"):
        CameraTracker().update(*NOBODY, seconds, never)


@pytest.mark.parametrize("shape", [(5,), (2, 5), (1, 3)])
def test_boxes_and_scores_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected boxes \[K, 4\] and scores \[K\], got"):
        CameraTracker().update(np.ones(shape), np.ones(1), 0.0, never)


@pytest.mark.parametrize(
    ("embeddings", "fault"),
    [
        ([[math.nan, 1], [1, 0]], "the embedding of box 0 has length nan: expected unit vectors"),
        ([[1, 0], [3, 4]], "the embedding of box 1 has length 5: expected unit vectors"),
        ([[1, 0]], r"embed was given 2 rows and answers with \[1, 2\]: expected \[2, D\]"),
    ],
)
def test_embeddings_that_cannot_be_are_refused_and_the_next_frame_goes_on(embeddings, fault):
    boxes, scores, tracker = [[0, 0, 40, 100], [20, 0, 60, 100]], [0.9, 0.9], CameraTracker(frame_rate=FPS)
    for number in range(3):
        before = tracker.update(boxes, scores, number / FPS, lambda rows: np.eye(2)[rows])
    with pytest.raises(ValueError, match=fault):
        tracker.update(boxes, scores, 0.3, lambda rows: np.array(embeddings))
    after = tracker.update(boxes, scores, 0.4, lambda rows: np.eye(2)[rows])
    assert after.track_ids.tolist() == before.track_ids.tolist() == [0, 1]


def pair(tracker: CameraTracker, frames: range, shift: float, left: int, right: int) -> list[int]:
    """The ids of two boxes that stand ``shift`` pixels apart and are embedded as axes, after these frames."""
    boxes = [[0, 0, WIDTH, HEIGHT], [shift, 0, shift + WIDTH, HEIGHT]]
    for number in frames:
        told = tracker.update(boxes, [0.9, 0.9], number / FPS, lambda rows: np.eye(4)[[left, right]][rows])
    return told.track_ids.tolist()


def test_a_match_by_appearance_goes_before_two_by_overlap():
    tracker = CameraTracker(**SETTINGS)
    assert pair(tracker, range(4), shift=24, left=0, right=1) == [0, 1]
    assert pair(tracker, range(4, 5), shift=24, left=1, right=3) == [1, 0], "only the first of them is known by appearance"


def test_a_track_learns_nothing_from_boxes_that_show_two_people():
    tracker = CameraTracker(**SETTINGS)
    assert pair(tracker, range(8), shift=12, left=1, right=0) == [0, 1]
    assert pair(tracker, range(8, 12), shift=24, left=0, right=1) == [0, 1]


def test_a_track_learns_nothing_from_a_box_where_somebody_hidden_is_expected_too():
    tracker, embedded = CameraTracker(**SETTINGS), []
    walk = [[0, 100], [0, 75], [0, 50], [10]]  # the second person comes fast, and hides the first before both are near

    def embed(rows: np.ndarray) -> np.ndarray:
        embedded.append(rows.tolist())
        return np.eye(3)[rows if len(embedded) == 1 else [2]]

    for number, columns in enumerate(walk):
        tracker.update([[x, 0, x + WIDTH, HEIGHT] for x in columns], [0.9] * len(columns), number / FPS, embed)
    assert embedded == [[0, 1], [0]], "beside the first boxes of the tracks the last one alone, which is ambiguous"
    assert all(known[2] == 0 for known in tracker._embeddings.values()), "whose it is will be decided by overlap, and may be wrong"


def test_people_who_stood_apart_before_they_met_are_known_by_one_box_each():
    tracker = CameraTracker(**SETTINGS)
    assert pair(tracker, range(3), shift=60, left=0, right=1) == [0, 1]
    assert tracker.num_embedded == 2
    assert pair(tracker, range(3, 4), shift=24, left=1, right=0) == [1, 0]


def test_a_track_learns_nothing_from_what_looks_like_somebody_else():
    tracker = CameraTracker(**SETTINGS)
    assert pair(tracker, range(4), shift=24, left=0, right=1) == [0, 1]
    assert pair(tracker, range(4, 60), shift=24, left=2, right=3) == [0, 1], "nobody knows these"
    assert pair(tracker, range(60, 61), shift=24, left=1, right=0) == [1, 0], "it still knows the first"


def test_nothing_is_kept_of_tracks_that_have_ended():
    tracker = CameraTracker(**SETTINGS)
    for visit in range(10):
        pair(tracker, range(visit * 100, visit * 100 + 4), shift=24, left=0, right=1)
        assert len(tracker._embeddings) == 2


def test_two_are_matched_by_appearance_where_both_are_each_others_nearest_by_a_margin():
    far = np.inf
    assert appearance_matches(np.array([[0.05, 0.5], [0.6, 0.12]]), max_distance=0.1, margin=0.1) == [(0, 0)]
    assert appearance_matches(np.array([[0.05, 0.5], [0.1, 0.6]]), max_distance=0.2, margin=0.1) == [], "two tracks look like the box"
    assert appearance_matches(np.array([[0.05, 0.1], [far, far]]), max_distance=0.2, margin=0.1) == [], "two boxes look like the track"
    assert appearance_matches(np.array([[0.05, 0.4], [0.3, 0.02]]), max_distance=0.2, margin=0.1) == [(0, 0), (1, 1)]
    assert appearance_matches(np.array([[0.1]]), max_distance=0.1, margin=0.1) == [(0, 0)]


@pytest.mark.parametrize("seed", range(3))
def test_no_two_pairs_by_appearance_share_a_track_or_a_box(seed):
    pairs = appearance_matches(np.random.default_rng(seed).random((12, 9)), max_distance=0.6, margin=1e-3)
    assert len(pairs) > 2
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)


def test_somebody_in_the_same_clothes_far_away_is_not_taken_for_the_track():
    """The person is gone, and two others stand elsewhere, one dressed alike: by appearance alone the track would jump."""
    tracker = CameraTracker(**SETTINGS)
    for number in range(5):
        told = tracker.update([[0, 0, 40, 100], [30, 0, 70, 100]], [0.9, 0.9], number / FPS, lambda rows: np.eye(4)[rows])
    assert told.track_ids.tolist() == [0, 1]
    elsewhere = [[500, 0, 540, 100], [530, 0, 570, 100]]
    for number in range(5, 8):
        told = tracker.update(elsewhere, [0.9, 0.9], number / FPS, lambda rows: np.eye(4)[rows])
    assert set(told.track_ids.tolist()) == {2, 3}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("high_score", 1.5),
        ("new_score", -0.1),
        ("min_overlap", 0),
        ("lost_seconds", math.nan),
        ("frame_rate", 0),
        ("min_frames", 0),
        ("max_distance", 3),
        ("ambiguous_overlap", 1),
    ],
)
def test_settings_out_of_range_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=f"{setting} must be a"):
        CameraTracker(**{setting: value})


def test_without_the_library_the_way_to_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(ModuleNotFoundError, match=r"CameraTracker needs trackers: pip install 'lightning-reid\[tracking\]'"):
        CameraTracker()
