"""Who goes out at an edge of the picture takes their track along."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_reid.tracking import CameraTracker
from lightning_reid.tracking.byte_track import NO_TRACK
from lightning_reid.tracking.departures import Departures

WIDTH, FPS, BODY, HEIGHT = 400, 10, 40, 100


def cut(left: float) -> list[float] | None:
    """The visible box of somebody who is ``BODY`` wide, from ``left`` on."""
    x0, x1 = max(left, 0.0), min(left + BODY, float(WIDTH))
    return [x0, 0.0, x1, float(HEIGHT)] if x1 - x0 >= 8 else None


def mirrored(box: list[float], edge: str) -> list[float]:
    return box if edge == "left" else [WIDTH - box[2], box[1], WIDTH - box[0], box[3]]


def tracks_of(*walks: list[float], edge: str = "left", width: int | None = WIDTH, jitter: float = 0.0) -> list[list[int]]:
    """The ids that each walk bears, by where its person is in each frame; NaN is nowhere."""
    tracker = CameraTracker(high_score=0.5, new_score=0.55, frame_rate=FPS, min_overlap=0.1, max_distance=0)
    draws, ids = np.random.default_rng(0), [[] for _ in walks]
    for number, places in enumerate(zip(*walks, strict=True)):
        seen = [(who, box) for who, left in enumerate(places) if left == left and (box := cut(left)) is not None]
        boxes = [mirrored(box, edge) + draws.normal(0, jitter, 4) * [1, 0, 1, 0] for _, box in seen]
        boxes = np.clip(np.array(boxes).reshape(-1, 4), 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
        told = tracker.update(boxes, [0.9] * len(seen), number / FPS, lambda rows: np.ones((len(rows), 1)), width=width)
        for (who, _), track in zip(seen, told.track_ids.tolist()):
            ids[who] += [track] if track != NO_TRACK else []
    return ids


OUT = [100.0, 90, 80, 70] + [-26 + 86 * 0.65**step for step in range(14)] + [np.nan] * 20
IN = [np.nan] * 18 + [-26.0 + 4 * step for step in range(20)]
"""One goes out slowly while another comes in: at the edge the box hardly changes."""


@pytest.mark.parametrize("edge", ["left", "right"])
def test_who_comes_in_where_somebody_goes_out_gets_a_track_of_their_own(edge):
    out, come = tracks_of(OUT, IN, edge=edge)
    assert set(out) == {0}
    assert come[:2] == [0, 0], "a narrow box is as if the leaver stood still"
    assert set(come[7:]) == {1}
    without = tracks_of(OUT, IN, edge=edge, width=None)
    assert set(without[0]) == set(without[1]) == {0}, "by overlap alone it is one track"


def test_who_comes_in_keeps_their_track_from_the_first_sight_on():
    (come,) = tracks_of([-28.0 + 8 * step for step in range(16)])
    assert set(come) == {0}


@pytest.mark.parametrize("left", [-16.0, 0.0, 1.0])
def test_who_stands_at_an_edge_keeps_their_track(left):
    (stays,) = tracks_of([left] * 60, jitter=1.5)
    assert set(stays) == {0}


def test_who_walks_along_far_from_the_edges_and_becomes_small_keeps_their_track():
    edges = Departures()
    for number, size in enumerate((1.0, 0.8, 0.5, 0.3, 0.5, 1.0)):
        edges.see([0], np.array([[150, 0, 150 + 40 * size, 100 * size]]), WIDTH, number / FPS)
        assert not edges.barred([0], np.array([[150, 0, 190, 100.0], [0, 0, 40, 100.0]]), WIDTH, number / FPS).any()


def test_who_turns_back_at_the_edge_gets_another_track():
    (back,) = tracks_of([60.0 - 8 * step for step in range(12)] + [-28.0 + 8 * step for step in range(16)])
    assert list(dict.fromkeys(back)) == [0, 1]


def test_a_track_is_barred_from_deeper_boxes_alone_for_a_second_and_of_tracks_that_ended_nothing_is_kept():
    edges = Departures()
    for number, right in enumerate((90, 60, 40, 25)):
        edges.see([7], np.array([[max(right - 40, 0), 0, right, 100.0]]), WIDTH, number / FPS)
    boxes = np.array([[0, 0, 32, 100.0], [0, 0, 40, 100], [350, 0, 390, 100]])
    assert edges.barred([7, 8], boxes, WIDTH, 0.5).tolist() == [[False, True, True], [False, False, False]]
    assert not edges.barred([7], boxes, WIDTH, 1.4).any(), "by then it is lost anyway"
    assert edges.barred([], boxes, WIDTH, 0.5).shape == (0, 3)
    assert edges.barred([7], boxes[:0], WIDTH, 0.5).shape == (1, 0)
    edges.keep([8])
    assert not edges.barred([7], boxes, WIDTH, 0.5).any()
