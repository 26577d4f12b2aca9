"""What the page shows: fresh pictures only, people with their crops, and all of it in bounded memory."""

from __future__ import annotations

import logging

import pytest
import torch
from tracked import MODEL, direction, ended, frame, key, looks

from lightning_reid.live import MatchingThread
from lightning_reid.live.page import LiveView
from lightning_reid.tracking import CameraGone, ForgetIdentity, MatchingRules, OnlineMatcher, StageHealth, UndoMatch

RED, BLUE = direction(1, 0, 0, 0), direction(0, 1, 0, 0)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Watched:
    """A matcher and a view of it, without a thread: a message is told when it is fed."""

    def __init__(self, **options) -> None:
        self.clock = Clock()
        self.view = LiveView(clock=None, monotonic=self.clock, **options)
        self.matcher = OnlineMatcher(MatchingRules(threshold=0.7, every_n_frames=1), feature_size=4, model=MODEL)

    def feed(self, *messages) -> None:
        with MatchingThread(self.matcher, [self.view], clock=None) as matching:
            for message in messages:
                matching.put(message)

    def picture(self, camera: str, number: int, *ids: int, epoch: int = 0, value: int = 90) -> None:
        tracks = frame(camera, number, *ids, epoch=epoch)
        self.view.on_picture(tracks.stamp, torch.full((3, 100, 400), value, dtype=torch.uint8), tracks)

    def hand_over(self) -> None:
        """Person 0 walks from the door, track 7, to the hall, track 3."""
        self.feed(frame("door", 0, 7))
        self.picture("door", 0, 7)
        self.feed(looks("door", 7, RED, 0), frame("door", 1, 7), ended("door", 7, 1))
        self.feed(frame("hall", 50, 3), looks("hall", 3, RED, 50), frame("hall", 51, 3))
        self.picture("hall", 51, 3)


def state(watched: Watched, camera: str) -> tuple[str, float]:
    return watched.view.cameras[camera].state(watched.clock())


def health(camera: str, told: str, stage: str = "decode") -> StageHealth:
    return StageHealth(camera, stage, at=9.5, state=told, processed=95, dropped=2, queued=1, latency=0.02)


def test_people_are_shown_no_longer_than_said_though_no_camera_tells_of_anything():
    watched = Watched(keep_for=60.0)
    watched.view.clock, watched.clock.seconds = watched.clock, 6.0
    watched.hand_over()
    assert watched.view.people.tracks
    watched.clock.seconds = 67.0
    watched.feed(health("gateway", "live", "journal"))
    assert watched.view.people.tracks == {}


def test_a_camera_is_live_while_frames_come_then_stalls_and_is_gone():
    watched = Watched(stall_after=2.0)
    watched.feed(frame("door", 0), frame("door", 1))
    assert state(watched, "door") == ("live", 0)
    watched.clock.seconds += 12
    assert state(watched, "door") == ("stalled", 12)
    watched.clock.seconds += 60
    assert state(watched, "door") == ("gone", 72)
    watched.feed(frame("door", 2))
    assert state(watched, "door") == ("live", 0)


@pytest.mark.parametrize(("told", "expected"), [("live", "live"), ("stalled", "stalled"), ("gone", "gone")])
def test_a_stage_that_says_so_stalls_its_camera_until_the_next_frame(told, expected):
    watched = Watched()
    watched.feed(frame("door", 0))
    watched.clock.seconds += 1
    watched.feed(health("door", told))
    assert state(watched, "door")[0] == expected
    watched.feed(frame("door", 1))
    assert state(watched, "door")[0] == "live"


def test_the_journal_of_a_gateway_is_no_camera_and_its_failure_a_line_of_the_log():
    watched = Watched()
    watched.feed(*(health("gateway", told, "journal") for told in ("live", "gone", "gone", "live")))
    assert watched.view.cameras == {}
    assert [note.text for note in watched.view.notes] == ["The gateway's journal is gone", "The gateway's journal is live"]


def test_a_camera_whose_node_tells_nothing_is_gone_until_its_next_frame():
    watched = Watched()
    watched.feed(frame("door", 0, 7))
    watched.clock.seconds += 1
    watched.feed(CameraGone("door"))
    assert state(watched, "door") == ("gone", 1)
    watched.feed(frame("door", 1, 7))
    assert state(watched, "door")[0] == "live"


def test_a_camera_that_was_never_there_waits_or_is_gone_but_is_shown():
    watched = Watched()
    watched.feed(health("door", "live"), health("hall", "gone"))
    assert [state(watched, name)[0] for name in ("door", "hall")] == ["waiting", "gone"]


def test_a_slow_camera_has_not_stalled_between_two_of_its_frames():
    watched = Watched(stall_after=2.0)
    for number in range(4):
        watched.feed(frame("door", 50 * number))
        watched.clock.seconds += 5
    assert state(watched, "door") == ("live", 5)
    watched.clock.seconds += 11
    assert state(watched, "door")[0] == "stalled"


def test_an_old_picture_is_not_given_though_boxes_still_come():
    watched = Watched(stall_after=2.0)
    watched.picture("door", 0, 7)
    assert watched.view.picture_of("door").content.startswith(b"\xff\xd8")
    watched.clock.seconds += 3
    watched.feed(frame("door", 30, 7))
    assert state(watched, "door")[0] == "live"
    assert watched.view.picture_of("door") is None


def test_a_picture_is_encoded_once_for_all_and_no_more_often_than_asked_for():
    watched = Watched(fps=10)
    watched.picture("door", 0)
    first = watched.view.picture_of("door")
    watched.picture("door", 1)
    assert watched.view.picture_of("door") is first
    watched.clock.seconds += 0.1
    second = watched.view.picture_of("door")
    assert second.shot.tracks.stamp.number == 1
    assert watched.view.picture_of("door") is second


def test_a_restarted_camera_shows_no_picture_of_the_run_before():
    watched = Watched()
    watched.picture("door", 5, 7)
    watched.view.picture_of("door")
    watched.picture("door", 0, 7, epoch=1)
    assert watched.view.picture_of("door").shot.tracks.epoch == 1


def test_a_handover_is_a_card_with_a_crop_of_each_camera_and_the_match():
    watched = Watched()
    watched.hand_over()
    card = watched.view.people.card(0)
    shown = [(one["camera"], one["live"], one["crop"] is not None) for one in card["tracks"]]
    assert shown == [("door", False, True), ("hall", True, True)]
    assert [(one["from"], one["to"], one["similarity"]) for one in card["matches"]] == [("door", "hall", 1.0)]
    assert watched.view.counters() | {"latency": None} == {
        "people_now": 1, "identities": 1, "matches": 1, "undone": 0, "refused": 0, "browsers": 0, "dropped": 0, "latency": None,
    }  # fmt: skip


def test_the_crop_is_of_the_largest_box_so_far():
    watched = Watched()
    watched.feed(frame("door", 0, 7))
    for number, x1 in enumerate((20, 60, 30)):
        tracks = frame("door", number, 7)
        tracks.boxes[0, 2] = x1
        watched.view.on_picture(tracks.stamp, torch.full((3, 100, 400), 90, dtype=torch.uint8), tracks)
    crop = watched.view.people.tracks[key("door", 7)].crop
    assert (crop.area, crop.at) == (60 * 90, 0.1)
    assert crop.picture.shape == (90, 60, 3)


def test_people_half_hidden_by_others_are_not_cropped():
    watched = Watched()
    watched.feed(frame("door", 0, 7, 8))
    tracks = frame("door", 0, 7, 8)
    tracks.boxes[1] = tracks.boxes[0] + torch.tensor([4.0, 0, 4, 0])
    watched.view.on_picture(tracks.stamp, torch.full((3, 100, 400), 90, dtype=torch.uint8), tracks)
    assert watched.view.people.tracks[key("door", 7)].crop is None


def test_undo_reaches_the_matcher_and_parts_the_card(caplog):
    watched = Watched()
    watched.hand_over()
    watched.view.send_requests(watched.feed)
    with caplog.at_level(logging.INFO, "lightning_reid.live.page"):
        watched.view.undo(key("door", 7), key("hall", 3), who="10.0.0.7")
    assert "10.0.0.7 asks to undo" in caplog.text
    assert [len(watched.view.people.card(one)["tracks"]) for one in sorted(watched.view.people.people)] == [1, 1]
    assert not any(watched.view.people.card(one)["matches"] for one in watched.view.people.people)
    assert any("by hand" in note.text for note in watched.view.notes)
    with pytest.raises(ValueError, match=r"no match of .* stands"):
        watched.view.undo(key("door", 7), key("hall", 3), who="10.0.0.7")


def test_forgetting_deletes_the_crops_and_keeps_none_of_who_is_still_there(caplog):
    watched = Watched()
    watched.hand_over()
    watched.view.send_requests(watched.feed)
    with caplog.at_level(logging.INFO, "lightning_reid.live.page"):
        watched.view.forget(0, who="10.0.0.7")
    assert "10.0.0.7 asks to forget person 0" in caplog.text
    watched.feed(frame("hall", 52, 3))
    watched.picture("hall", 52, 3)
    (number,) = watched.view.people.people
    assert number != 0
    assert [one["crop"] for one in watched.view.people.card(number)["tracks"]] == [None]
    with pytest.raises(ValueError, match="no person 0"):
        watched.view.forget(0, who="10.0.0.7")


def test_a_request_that_the_matcher_refuses_is_told_and_changes_nothing():
    watched = Watched()
    watched.hand_over()
    watched.feed(ForgetIdentity(99), UndoMatch(key("door", 7), key("door", 99)))
    assert [note.text.startswith("The request was refused") for note in watched.view.notes][-2:] == [True, True]
    assert watched.view.counts["refused"] == 2
    assert len(watched.view.people.card(0)["tracks"]) == 2


def test_a_request_that_goes_nowhere_is_told():
    watched = Watched()
    watched.hand_over()
    with pytest.raises(RuntimeError, match="call send_requests"):
        watched.view.forget(0, who="me")


def test_a_refused_frame_is_counted_and_does_not_move_the_camera():
    watched = Watched()
    watched.feed(frame("door", 5, 7), frame("door", 4, 7))
    assert (watched.view.counts["refused"], watched.view.cameras["door"].processed) == (1, 1)


def test_without_pictures_none_is_kept():
    watched = Watched(pictures=False)
    watched.hand_over()
    assert watched.view.picture_of("hall") is None
    assert [one["crop"] for one in watched.view.people.card(0)["tracks"]] == [None, None]


def test_a_restart_ends_the_tracks_of_the_run_before():
    watched = Watched()
    watched.feed(frame("door", 0, 7), frame("door", 5, 7, epoch=1))
    assert [track.ended for track in watched.view.people.tracks.values()] == [True, False]


def test_frames_between_those_that_came_are_dropped_ones():
    watched = Watched()
    watched.feed(frame("door", 0), frame("door", 1), frame("door", 5), frame("door", 0, epoch=1, offset=10.0))
    assert watched.view.counters()["dropped"] == 3


def test_people_who_left_are_dropped_after_a_while():
    watched = Watched(keep_for=60.0)
    watched.hand_over()
    watched.feed(ended("hall", 3, 51), frame("door", 700))
    assert watched.view.people.people == {} == watched.view.people.tracks
    assert not watched.view.people.matches


def test_three_thousand_people_cost_no_more_memory_than_the_bound():
    watched = Watched(most_people=20)
    for number in range(60):
        ids = range(50 * number, 50 * number + 50)
        watched.feed(frame("door", 10 * number, *ids), *(ended("door", one, 10 * number) for one in ids))
    people = watched.view.people
    assert len(people.people) <= 70
    assert len(people.tracks) <= 70
    assert len(people._private) == len(people.matches) == 0


def test_a_thousand_cameras_cost_no_more_than_those_heard_last():
    watched = Watched(most_cameras=5)
    for number in range(1000):
        watched.clock.seconds += 1
        watched.feed(health(f"camera {number}", "live"))
    assert list(watched.view.cameras) == [f"camera {number}" for number in range(995, 1000)]


def test_what_is_no_picture_or_of_another_frame_is_refused():
    tracks, picture = frame("door", 0, 7), torch.zeros(3, 100, 400, dtype=torch.uint8)
    for wrong in (picture.permute(1, 2, 0), picture.float(), picture[:, :0]):
        with pytest.raises(ValueError, match=r"camera 'door', frame 0: expected \[3, H, W\] uint8"):
            LiveView().on_picture(tracks.stamp, wrong, tracks)
    with pytest.raises(ValueError, match="its tracks are of frame"):
        LiveView().on_picture(frame("door", 1).stamp, picture, tracks)


@pytest.mark.parametrize("options", [{"fps": 0}, {"stall_after": float("nan")}, {"most_people": 0}, {"pictures": "no"}])
def test_arguments_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LiveView(**options)
