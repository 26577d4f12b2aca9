from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_reid.linking import align_tracklet

SIZE = (20, 10)


def mean_colors(crops: list[Tensor]) -> Tensor:
    return torch.stack([crop.float().mean((1, 2)) for crop in crops])


def frame_of(left: int, right: int, width: int = 20) -> Tensor:
    """Left half of one gray, right half of another."""
    frame = torch.full((3, 20, width), left, dtype=torch.uint8)
    frame[:, :, width // 2 :] = right
    return frame


LEFT, RIGHT = [0.0, 0.0, 10.0, 20.0], [10.0, 0.0, 20.0, 20.0]


def test_the_person_is_followed_through_frames_of_any_size_and_order_of_candidates():
    frames = [frame_of(250, 10), frame_of(10, 250), frame_of(10, 250, width=40)]
    boxes = [torch.tensor([LEFT]), torch.tensor([LEFT, RIGHT]), torch.tensor([[20.0, 0.0, 40.0, 20.0], [0.0, 0.0, 20.0, 20.0]])]
    aligned = align_tracklet(frames, boxes, mean_colors, image_size=SIZE)
    assert (aligned.frames == 250).all()
    assert aligned.boxes.tolist() == [LEFT, RIGHT, [20.0, 0.0, 40.0, 20.0]]
    assert aligned.num_candidates.tolist() == [1, 2, 2]
    assert aligned.pictures.dtype == torch.int32
    assert aligned.pictures.tolist() == [[0, 0, 10, 20]] * 3
    assert not aligned.shifted.any()


def test_frames_without_anybody_stay_whole_and_the_tracklet_keeps_its_length():
    frames = [frame_of(7, 7), frame_of(250, 10), frame_of(9, 9)]
    boxes = [torch.empty(0, 4), torch.tensor([LEFT]), torch.empty(0, 4)]
    aligned = align_tracklet(frames, boxes, mean_colors, image_size=SIZE)
    assert [frame.float().mean().item() for frame in aligned.frames] == [7, 250, 9]
    assert aligned.boxes.isnan().all(1).tolist() == [True, False, True]


def test_a_tracklet_in_which_nobody_was_ever_found_is_as_it_was():
    aligned = align_tracklet([frame_of(3, 3)] * 2, [torch.empty(0, 4)] * 2, mean_colors, image_size=SIZE)
    assert (aligned.frames == 3).all()
    assert aligned.num_candidates.tolist() == [0, 0]


def test_slim_boxes_are_counted_and_their_padding_is_told():
    aligned = align_tracklet([frame_of(250, 250)], [torch.tensor([[0.0, 0.0, 4.0, 20.0]])], mean_colors, image_size=SIZE)
    assert aligned.shifted.tolist() == [True]
    assert aligned.pictures.tolist() == [[6, 0, 10, 20]]


def test_candidates_of_all_frames_are_embedded_together_in_batches():
    sizes = []

    def counted(crops: list[Tensor]) -> Tensor:
        sizes.append(len(crops))
        return mean_colors(crops)

    align_tracklet([frame_of(250, 10)] * 4, [torch.tensor([LEFT, RIGHT])] * 4, counted, image_size=SIZE, batch_size=5)
    assert sizes == [5, 2], "the first choice and two candidates in each of three frames"


def test_nothing_is_embedded_where_nothing_is_to_be_decided():
    def never(crops: list[Tensor]) -> Tensor:
        raise AssertionError("called")

    aligned = align_tracklet([frame_of(250, 10)] * 3, [torch.tensor([LEFT, RIGHT])] + [torch.tensor([LEFT])] * 2, never, image_size=SIZE)
    assert aligned.boxes.tolist() == [LEFT] * 3


def test_no_frames_or_other_numbers_of_boxes_are_refused():
    with pytest.raises(ValueError, match="got 0 frames"):
        align_tracklet([], [], mean_colors, image_size=SIZE)
    with pytest.raises(ValueError, match="got 1 frames and the boxes of 2"):
        align_tracklet([frame_of(1, 1)], [torch.empty(0, 4)] * 2, mean_colors, image_size=SIZE)
