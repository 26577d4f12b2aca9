"""Windows of a MOTChallenge sequence play cameras: of rectangles that walk, and of PETS 2009."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from lightning_reid.datamodules.mot.crops import Zone
from lightning_reid.datamodules.virtual_cameras import VirtualCameras

WIDTH, HEIGHT, FRAMES = 320, 100, 70
HALVES = {1: (0, 0, 150, 100), 2: (170, 0, 320, 100)}


def column(frame: int) -> int:
    """Where the walker's box begins: to the right for 40 frames, 8 pixels a frame, then back."""
    return 8 * (frame - 1 if frame <= 40 else 80 - frame)


def annotation(extra: str = "") -> str:
    """Track 1 walks, 20 x 60 pixels; track 2 stands where it covers the right half of the walker at frame 6, and is nearer."""
    walker = "".join(f"{frame},1,{column(frame)},20,20,60,1,-1,-1,-1\n" for frame in range(1, FRAMES + 1))
    return walker + "".join(f"{frame},2,50,20,40,70,1,-1,-1,-1\n" for frame in range(1, 11)) + extra


@pytest.fixture(scope="module")
def sequence(tmp_path_factory) -> Path:
    """Blue tells the column of a pixel, green its row, red the frame."""
    folder = tmp_path_factory.mktemp("walk")
    (folder / "img1").mkdir()
    for frame in range(1, FRAMES + 1):
        across, down = np.meshgrid(np.arange(WIDTH) % 256, np.arange(HEIGHT))
        cv2.imwrite(str(folder / "img1" / f"{frame:06d}.png"), np.stack((across, down, np.full_like(across, frame)), axis=2))
    (folder / "gt.txt").write_text(annotation())
    return folder


@pytest.fixture
def annotated(sequence, tmp_path):
    """Cameras of the pictures with another annotation."""

    def build(rows: str, **options) -> VirtualCameras:
        (tmp_path / "gt.txt").write_text(rows)
        return VirtualCameras(sequence, annotation=tmp_path / "gt.txt", **options)

    return build


def test_two_windows_leave_a_sixteenth_of_the_picture_blind(sequence):
    cameras = VirtualCameras(sequence)
    assert cameras.windows == HALVES
    assert cameras.num_frames == FRAMES


def test_every_camera_gets_its_window_of_every_picture_as_rgb(sequence):
    cameras = VirtualCameras(sequence, [Zone(3, 10, 5, 60, 45), Zone(1, 200, 50, 999, 999)])
    read = list(cameras.frames())
    assert [number for number, _ in read] == list(range(FRAMES))
    for number, pictures in read:
        assert {camid: picture.shape for camid, picture in pictures.items()} == {3: (40, 50, 3), 1: (50, 120, 3)}
        assert pictures[3][0, 0].tolist() == [number + 1, 5, 10]
        assert pictures[1][-1, -1].tolist() == [number + 1, 99, 319 % 256]


def test_boxes_are_clipped_to_the_window_and_count_from_its_corner(sequence):
    cameras = VirtualCameras(sequence, least_inside=0.1)
    assert column(19) == 144
    assert cameras.truth(1, 18).boxes.tolist() == [[144, 20, 150, 80]]  # 6 of 20 columns
    assert cameras.truth(1, 18).visible.tolist() == [pytest.approx(0.3)]
    assert cameras.truth(2, 18).boxes.shape == (0, 4)
    assert column(21) == 160
    assert cameras.truth(2, 20).boxes.tolist() == [[0, 20, 10, 80]]


@pytest.mark.parametrize(("least_inside", "seen"), [(0.29, 1), (0.3, 1), (0.31, 0)])
def test_a_camera_sees_whom_its_window_holds_enough_of(sequence, least_inside, seen):
    assert len(VirtualCameras(sequence, least_inside=least_inside).truth(1, 18).pids) == seen


def test_who_is_nearer_hides_who_is_farther_away(sequence):
    truth = VirtualCameras(sequence).truth(1, 5)
    assert column(6) == 40  # 40 to 60, the other from 50
    assert truth.pids.tolist() == [1, 2]
    assert truth.visible.tolist() == [pytest.approx(0.5), 1.0]


def test_the_visible_share_is_the_annotations_where_it_has_one(annotated):
    cameras = annotated("1,1,140,20,20,60,1,1,0.8\n1,2,0,20,40,60,1,1,0.25\n1,3,50,20,40,60,1,7,1\n")
    truth = cameras.truth(1, 0)
    assert truth.pids.tolist() == [1, 2]  # class 7 is no pedestrian
    assert truth.visible.tolist() == [pytest.approx(0.4), 0.25]  # the first is half in the window


@pytest.mark.parametrize(("longest_absence", "visits"), [(None, 1), (38, 1), (37, 2)])
def test_a_track_that_comes_back_later_is_a_new_visit(annotated, longest_absence, visits):
    rows = "".join(f"{frame},1,0,0,20,60,1,-1,-1,-1\n" for frame in (1, 2, 41, 42))  # away for 38 frames
    cameras = annotated(rows, longest_absence=longest_absence)
    assert len(cameras.visits) == visits
    assert {int(cameras.truth(1, number).visits[0]) for number in (0, 1, 40, 41)} == {*range(1, visits + 1)}


def test_a_walk_through_two_windows_and_back_is_a_visit_of_each_at_a_time(sequence):
    cameras = VirtualCameras(sequence)
    walker = [visit for visit in cameras.visits if visit.pid == 1]
    assert [visit.camid for visit in sorted(walker, key=lambda visit: visit.first)] == [1, 2, 1]
    for visit in walker:
        numbers = [number for number in range(FRAMES) if visit.number in cameras.truth(visit.camid, number).visits]
        assert (numbers[0], numbers[-1]) == (visit.first, visit.last)


def test_tracks_of_one_person_have_one_pid_and_visits_of_their_own(annotated):
    rows = "1,5,0,0,20,60,1,-1,-1,-1\n30,8,0,0,20,60,1,-1,-1,-1\n"
    cameras = annotated(rows, pid_map={5: 2, 8: 2}, longest_absence=None)
    assert [cameras.truth(1, number).pids.tolist() for number in (0, 29)] == [[2], [2]]
    assert [cameras.truth(1, number).visits.tolist() for number in (0, 29)] == [[1], [2]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pid_map": {1: 1}}, "pid_map lacks track 2"),
        ({"pid_map": {1: 4, 2: 4}}, "tracks 1 and 2 are both person 4, but both in frame 1"),
        ({"zones": [Zone(1, 400, 0, 500, 100)]}, "nothing of them lies in Zone"),
        ({"zones": [Zone(1, 0, 0, 50, 100), Zone(1, 60, 0, 90, 100)]}, "camera 1 has two zones"),
        ({"zones": [Zone(1, 0, 0, 50, 100), Zone(2, 40, 0, 90, 100)]}, "must not overlap"),
        ({"least_inside": 0}, "least_inside must be a number in"),
        ({"longest_absence": -1}, "longest_absence must be a whole number"),
    ],
)
def test_what_cannot_be_right_is_refused(sequence, options, message):
    with pytest.raises(ValueError, match=message):
        VirtualCameras(sequence, **options)


@pytest.mark.parametrize(("camid", "number"), [(3, 0), (1, FRAMES), (1, -1)])
def test_a_camera_or_a_frame_that_is_not_there_is_refused(sequence, camid, number):
    with pytest.raises(ValueError, match=r"camid must be one of 1, 2, got 3|number must be"):
        VirtualCameras(sequence).truth(camid, number)


def test_a_sequence_that_ends_before_its_annotation_is_refused(annotated):
    cameras = annotated(annotation(f"{FRAMES + 1},1,0,0,20,60,1,-1,-1,-1\n"))
    with pytest.raises(FileNotFoundError, match=f"lacks frame {FRAMES + 1}"):
        list(cameras.frames())


def test_pets_2009_becomes_two_cameras_with_ten_people():
    if "REID_TEST_DATA" not in os.environ:
        pytest.skip("set REID_TEST_DATA to the folder that holds pets-video")
    people = {9: 1, 5: 1, 15: 2, 14: 2, 18: 2, 8: 2, 19: 3, 1: 3, 11: 4, 3: 4, 12: 5, 4: 5, 13: 6, 2: 6, 16: 7, 17: 8, 10: 9, 6: 9, 7: 10}
    cameras = VirtualCameras(Path(os.environ["REID_TEST_DATA"]) / "pets-video", pid_map=people)
    assert cameras.windows == {1: (0, 0, 360, 576), 2: (408, 0, 768, 576)}
    assert cameras.num_frames == 795
    assert {visit.pid for visit in cameras.visits} == {*range(1, 11)}
    assert len(cameras.visits) == 52
    _, pictures = next(cameras.frames())
    assert {camid: picture.shape for camid, picture in pictures.items()} == {1: (576, 360, 3), 2: (576, 360, 3)}
