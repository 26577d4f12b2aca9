"""What a node tells of one camera: who is in each frame, how tracks look, when they end."""

from __future__ import annotations

import pytest
import torch

from lightning_reid.tracking import (
    CameraNode,
    CameraTracker,
    CameraTracks,
    ClipCollector,
    FrameStamp,
    MatchingRules,
    OnlineMatcher,
    TrackEnded,
    TrackFeature,
)

RED, GREEN = torch.tensor([200, 20, 20]), torch.tensor([20, 200, 20])
FPS = 10


def mean_color(crops) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.stack([crop.float().mean((1, 2)) for crop in crops]), dim=1)


class Counted:
    """An embedding that remembers what it was asked for."""

    def __init__(self) -> None:
        self.crops: list[torch.Tensor] = []

    def __call__(self, crops) -> torch.Tensor:
        self.crops += crops
        return mean_color(crops)


def node_of(embed=mean_color, **options) -> CameraNode:
    tracker = CameraTracker(high_score=0.5, new_score=0.55, frame_rate=FPS, lost_seconds=0.5)
    return CameraNode("door", tracker, embed, **({"model": "mean color", "clips": ClipCollector(num_frames=3, spread=0.4)} | options))


def stamp(number: int, *, camera: str = "door", since: float = 0.0) -> FrameStamp:
    return FrameStamp(camera, number, captured_monotonic=since + number / FPS, captured_utc=1000 + since + number / FPS)


def picture(people) -> tuple[torch.Tensor, torch.Tensor]:
    """A gray frame with people of one color each, the later ones in front, and their boxes."""
    frame = torch.full((3, 100, 200), 90, dtype=torch.uint8)
    for (x0, y0, x1, y1), color in people:
        frame[:, max(y0, 0) : y1, max(x0, 0) : x1] = color[:, None, None].to(torch.uint8)
    return frame, torch.tensor([box for box, _ in people], dtype=torch.float32).view(-1, 4)


def walk(node: CameraNode, frames, scores: float = 0.9):
    """The messages of each frame."""
    told = []
    for number, people in enumerate(frames):
        frame, boxes = picture(people)
        told.append(node.step(stamp(number), frame, boxes, torch.full((len(boxes),), scores)))
    return told


def two_people(number: int):
    return [((10 + 3 * number, 10, 40 + 3 * number, 90), RED), ((150 - 2 * number, 12, 180 - 2 * number, 92), GREEN)]


def test_everybody_keeps_an_id_and_gets_the_mean_of_what_was_seen_of_them():
    told = [message for frame in walk(node_of(), [two_people(number) for number in range(10)]) for message in frame]
    tracks = [one for one in told if isinstance(one, CameraTracks)]
    assert [one.track_ids for one in tracks[1:]] == [(0, 1)] * 9
    assert tracks[0].track_ids == ()  # a box is not a track yet
    features = [one for one in told if isinstance(one, TrackFeature)]
    assert {one.track_id: one.num_features for one in features} == {0: 1, 1: 1}
    for one, color in ((features[0], RED), (features[1], GREEN)):
        torch.testing.assert_close(one.feature.float(), torch.nn.functional.normalize(color.float(), dim=0), atol=2e-3, rtol=0)
        assert one.seen_from == pytest.approx(1000.1)
        assert one.seen_until == pytest.approx(1000.5)


def test_no_crop_is_embedded_twice_by_a_network_of_crops():
    embed = Counted()
    node = node_of(embed, clips=ClipCollector(num_frames=3, spread=0.4, first_frames=1))
    told = [one for frame in walk(node, [two_people(number) for number in range(2)]) for one in frame]
    assert [one.num_features for one in told if isinstance(one, TrackFeature)] == [1, 1]
    assert (len(embed.crops), node.tracker.num_embedded, node.num_embedded) == (2, 2, 0), "the repair has asked already"
    clips = []
    beside = node_of(embed, clips=ClipCollector(num_frames=3, spread=0.4), embed_clip=lambda crops: clips.append(crops) or torch.ones(4))
    walk(beside, [two_people(number) for number in range(10)])
    assert [len(one) for one in clips] == [3, 3], "a network of clips is given all crops"
    assert beside.num_embedded == 6


def test_a_feature_is_the_running_mean_of_those_of_its_clips():
    colors = [torch.tensor([200, 10 * number, 20]) for number in range(12)]
    node = node_of(clips=ClipCollector(num_frames=2, spread=0.1))
    told = [
        one for frame in walk(node, [[((10, 10, 40, 90), color)] for color in colors]) for one in frame if isinstance(one, TrackFeature)
    ]
    unit = torch.nn.functional.normalize(torch.stack(colors).double(), dim=1)
    of_clips = [unit[1:3].mean(0), unit[3:5].mean(0), unit[5:7].mean(0), unit[7:9].mean(0), unit[9:11].mean(0)]
    assert [one.num_features for one in told] == [1, 2, 3, 4, 5]
    mean = torch.nn.functional.normalize(torch.nn.functional.normalize(torch.stack(of_clips), dim=1).mean(0), dim=0)
    torch.testing.assert_close(told[-1].feature.double(), mean, atol=1e-3, rtol=0)


def test_a_track_ends_once_its_tracker_gave_it_up_with_the_time_of_its_last_box():
    told = walk(node_of(), [two_people(number)[: 1 if number >= 5 else 2] for number in range(15)])
    ends = [(number, one) for number, frame in enumerate(told) for one in frame if isinstance(one, TrackEnded)]
    ((number, end),) = ends
    assert end.track_id == 1
    assert end.seen_until == pytest.approx(1000.4)
    assert 9 < number <= 12
    assert isinstance(told[number][0], CameraTracks)


def test_who_is_mostly_hidden_or_unsure_is_tracked_and_not_embedded():
    embed = Counted()
    node = node_of(embed, clips=ClipCollector(num_frames=1, spread=0), max_hidden=0.4)
    covered = [[((10, 10, 40, 90), RED), ((15, 10, 45, 90), GREEN)]] * 6
    told = walk(node, covered)
    assert told[-1][0].track_ids == (0, 1)
    assert node.num_embedded == 0
    unsure = node_of(embed, clips=ClipCollector(num_frames=1, spread=0), min_score=0.8)
    walk(unsure, [two_people(number) for number in range(6)], scores=0.7)
    assert unsure.num_embedded == 0


def test_boxes_beyond_the_frame_are_cut_to_it():
    embed = Counted()
    told = walk(node_of(embed, clips=ClipCollector(num_frames=1, spread=0)), [[((-20, -5, 30, 120), RED)]] * 4)
    assert told[-1][0].boxes.tolist() == [[0.0, 0.0, 30.0, 100.0]]
    assert {tuple(crop.shape) for crop in embed.crops} == {(3, 100, 30)}


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([-50.0, 10, -5, 90], r"box 0, \[-50.0, 10.0, -5.0, 90.0\], lies outside the frame of 200 x 100 pixels"),
        ([10.0, float("nan"), 40, 90], "box 0, .* holds NaN or infinite numbers"),
        ([10.0, 10, float("inf"), 90], "box 0, .* holds NaN or infinite numbers"),
        ([40.0, 10, 10, 90], "box 0, .* has no area"),
    ],
)
def test_a_box_that_cannot_be_is_refused_and_the_next_frame_goes_on(box, message):
    node = node_of()
    walk(node, [two_people(number) for number in range(4)])
    frame, boxes = picture(two_people(4))
    with pytest.raises(ValueError, match=message):
        node.step(stamp(4), frame, torch.tensor([box]), torch.tensor([0.9]))
    assert node.step(stamp(4), frame, boxes, torch.full((2,), 0.9))[0].track_ids == (0, 1)


def test_a_frame_of_another_camera_or_kind_is_refused():
    frame, boxes = picture(two_people(0))
    with pytest.raises(ValueError, match="the node of camera 'door' got a frame of 'hall'"):
        node_of().step(stamp(0, camera="hall"), frame, boxes, torch.ones(2))
    with pytest.raises(ValueError, match=r"camera 'door', frame 0: expected \[3, H, W\] uint8, got \[3, 100, 200\] torch.float32"):
        node_of().step(stamp(0), frame.float(), boxes, torch.ones(2))


@pytest.mark.parametrize("boxes", [torch.zeros(2, 5), torch.zeros(4), torch.zeros(0), torch.zeros(3, 4), torch.zeros(2000, 4)])
def test_boxes_that_are_none_are_refused_with_their_frame(boxes):
    scores = torch.ones(2 if len(boxes) != 2000 else 2000)
    with pytest.raises(ValueError, match=r"camera 'door', frame 0: expected boxes \[K, 4\] and scores \[K\], K up to 1,000, got"):
        node_of().step(stamp(0), picture(two_people(0))[0], boxes, scores)


def test_a_node_without_a_name_is_refused():
    with pytest.raises(ValueError, match="model must be"):
        node_of(model=None)


def test_a_clock_that_jumps_back_begins_an_epoch_of_which_nothing_is_known():
    node = node_of(clips=ClipCollector(num_frames=2, spread=0.1))
    walk(node, [two_people(number) for number in range(6)])
    again = []
    for number in range(5):
        later = FrameStamp("door", 6 + number, captured_monotonic=number / FPS, captured_utc=1000.6 + number / FPS)
        again.append(node.step(later, *picture(two_people(6 + number)), torch.ones(2)))
    assert [one[0].epoch for one in again] == [1] * 5
    features = [one for frame in again for one in frame if isinstance(one, TrackFeature)]
    assert {(one.epoch, one.num_features) for one in features} >= {(1, 1)}
    assert {key.epoch for key in node.features._embeddings} == {1}
    assert not [
        one for frame in again for one in frame if isinstance(one, TrackEnded)
    ]  # the matcher ends the tracks of an epoch that is over


def test_the_end_of_a_recording_ends_all_tracks_and_a_matcher_believes_every_message():
    node = node_of()
    told = [one for frame in walk(node, [two_people(number) for number in range(10)]) for one in frame] + node.end()
    assert [(one.track_id, one.seen_until) for one in told if isinstance(one, TrackEnded)] == [(0, 1000.9), (1, 1000.9)]
    assert node.end() == []
    matcher = OnlineMatcher(MatchingRules(threshold=0.9), feature_size=3, model="mean color")
    for message in told:
        matcher.feed(message)
    assert len(matcher.memory) == 2


def test_what_is_embedded_later_by_another_thread_is_what_is_embedded_at_once():
    frames = [two_people(number)[: 1 if number >= 8 else 2] for number in range(20)]
    at_once = node_of(clips=ClipCollector(num_frames=2, spread=0.1))
    expected = [one for frame in walk(at_once, frames) for one in frame] + at_once.end()
    node, told, work = node_of(clips=ClipCollector(num_frames=2, spread=0.1)), [], []
    for number, people in enumerate(frames):
        frame, boxes = picture(people)
        tracks, due = node.track(stamp(number), frame, boxes, torch.full((len(boxes),), 0.9))
        frame.zero_()  # the crops are copies
        told.append(tracks)
        work.append(due)
    work.append(node.end_tracks())
    later = [one for due in work for one in node.features.step(due)]
    assert told == [one for one in expected if isinstance(one, CameraTracks)]
    assert later == [one for one in expected if not isinstance(one, CameraTracks)]
    assert {type(one) for one in later} == {TrackFeature, TrackEnded}


def test_a_clip_that_is_left_out_leaves_the_mean_of_the_others():
    node = node_of(clips=ClipCollector(num_frames=2, spread=0.1))
    work = [node.track(stamp(number), *picture(two_people(number)), torch.full((2,), 0.9))[1] for number in range(8)]
    told = [one for number, due in enumerate(work) for one in node.features.step(due._replace(clips=()) if number == 2 else due)]
    assert [(one.track_id, one.num_features) for one in told] == [(0, 1), (1, 1), (0, 2), (1, 2)]


def test_features_of_an_epoch_know_nothing_of_the_one_before():
    node = node_of(clips=ClipCollector(num_frames=2, spread=0.1))
    work = [node.track(stamp(number), *picture(two_people(number)), torch.full((2,), 0.9))[1] for number in range(6)]
    told = [one for due in [*work, node.end_tracks()] for one in node.features.step(due)]
    work = [node.track(stamp(number), *picture(two_people(number)), torch.full((2,), 0.9))[1] for number in range(6, 10)]
    again = [one for due in work for one in node.features.step(due)]
    assert max(one.num_features for one in told if isinstance(one, TrackFeature)) == 2
    assert {(one.epoch, one.num_features) for one in again} == {(1, 1)}
