"""How tracklets of a video are judged, on a case that can be counted by hand."""

from __future__ import annotations

import pytest
import torch
import video_crops


def test_purity_people_and_coverage_of_a_hand_made_case():
    left, right, far = [0.0, 0.0, 10.0, 20.0], [50.0, 0.0, 60.0, 20.0], [200.0, 0.0, 210.0, 20.0]
    # two people in ten frames, a third in the first alone
    truth = {frame: (torch.tensor([left, right]), torch.tensor([7, 8])) for frame in range(1, 10)}
    truth[0] = (torch.tensor([left, right, far]), torch.tensor([7, 8, 9]))
    half = [0.0, 0.0, 10.0, 9.0]  # 0.45 of the left box
    tracklets = {
        "pure": [(frame, left) for frame in range(9)] + [(9, half)],  # nine of ten boxes are 7
        "swapped": [(frame, right) for frame in range(6)] + [(frame, left) for frame in range(6, 10)],  # six of ten are 8
        "nobody": [(frame, [100.0, 0.0, 110.0, 20.0]) for frame in range(5)],
    }
    found = video_crops.quality(tracklets, truth)
    assert found.tracklets == 3
    assert found.people == pytest.approx(1 / 3)  # 7 alone; 8 has no pure tracklet, 9 has none
    assert found.purity == pytest.approx((9 + 6 + 0) / 25)
    assert found.apart == pytest.approx(15 / 19)
    assert found.pure == pytest.approx(1 / 3)
    assert found.nobody == pytest.approx((1 + 5) / 25)
    assert found.covered == pytest.approx((10 + 6) / 21)  # of 7 frames 0 to 9, the last by the swapped one; of 8 frames 0 to 5
    assert "| made | 3 | 33.3 | 60.0 | 78.9 | 33.3 | 24.0 | 76.2 | 5 |" in video_crops.report({"made": (found, 5.0)})


def test_frames_of_an_annotation_count_from_one_and_those_of_a_table_from_zero(tmp_path):
    (tmp_path / "gt.txt").write_text("1,4,10,20,30,40,1,-1,-1,-1\n2,5,0,0,8,8,0,-1,-1,-1\n")
    truth = video_crops.true_boxes(tmp_path / "gt.txt", {4: 2})
    assert list(truth) == [0]  # the box of frame 2 is not considered
    assert (truth[0][0].tolist(), truth[0][1].tolist()) == ([[10, 20, 40, 60]], [2])
    (tmp_path / "tracklets.csv").write_text("tracklet,frame,x0,y0,x1,y1\nc1t0001,0,10,20,40,60\n")
    assert video_crops.quality(video_crops.tracklets_of(tmp_path / "tracklets.csv"), truth).purity == 1
