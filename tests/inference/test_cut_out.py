"""Detections of a frame to crops, for scripts that have a detector of their own."""

from __future__ import annotations

import pytest
import torch

from lightning_reid import from_pretrained
from lightning_reid.inference import crop_embedder, cut_out

FRAME = torch.arange(3 * 20 * 10, dtype=torch.int64).remainder(251).to(torch.uint8).reshape(3, 20, 10)


def test_a_crop_has_all_pixels_that_its_box_touches_and_none_beyond_the_frame():
    crops = cut_out(FRAME, torch.tensor([[1.0, 2, 4, 9], [1.2, 2.9, 3.1, 8.001], [-5, -5, 99, 99], [9.5, 0, 12, 20]]))
    assert [list(crop.shape) for crop in crops] == [[3, 7, 3], [3, 7, 3], [3, 20, 10], [3, 20, 1]]
    assert torch.equal(crops[0], FRAME[:, 2:9, 1:4])
    assert torch.equal(crops[1], crops[0])
    assert torch.equal(crops[3], FRAME[:, :, 9:])
    before = FRAME.clone()
    crops[2].zero_()
    assert torch.equal(FRAME, before)


def test_whole_numbers_are_boxes_too_and_no_box_is_no_crop():
    assert torch.equal(cut_out(FRAME, torch.tensor([[1, 2, 4, 9]]))[0], FRAME[:, 2:9, 1:4])
    assert cut_out(FRAME, torch.zeros(0, 4)) == []


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ([0.0, 0, float("nan"), 5], "box 1, .*nan.* holds NaN or infinite numbers"),
        ([0.0, 0, float("inf"), 5], "box 1, .* holds NaN or infinite numbers"),
        ([4.0, 2, 4, 9], "box 1, .* has no area: a box is x0, y0, x1, y1"),
        ([5.0, 2, 4, 9], "box 1, .* has no area"),
        ([10.0, 0, 12, 5], "box 1, .* lies outside the frame of 10 x 20 pixels: drop it"),
        ([-9.0, 0, 0, 5], "box 1, .* lies outside the frame"),
    ],
)
def test_a_box_that_is_none_is_named_by_its_row(box, message):
    with pytest.raises(ValueError, match=message):
        cut_out(FRAME, torch.tensor([[0.0, 0, 4, 4], box]))


@pytest.mark.parametrize(
    ("frame", "boxes", "message"),
    [
        (FRAME.permute(1, 2, 0), torch.zeros(1, 4), r"expected \[3, H, W\] uint8, got \[20, 10, 3\]"),
        (FRAME.float(), torch.zeros(1, 4), r"got \[3, 20, 10\] torch.float32"),
        (FRAME.numpy(), torch.zeros(1, 4), "got a ndarray"),
        (FRAME, torch.zeros(4), r"expected boxes as a tensor \[K, 4\] of x0, y0, x1, y1, got \[4\]"),
        (FRAME, [[0, 0, 4, 4]], "got a list"),
    ],
)
def test_what_is_no_frame_and_what_are_no_boxes_is_refused(frame, boxes, message):
    with pytest.raises(ValueError, match=message):
        cut_out(frame, boxes)


def test_a_frame_and_its_boxes_become_embeddings_in_three_lines():
    embed = crop_embedder(from_pretrained())
    frame = torch.randint(0, 256, (3, 120, 160), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    embeddings = embed(cut_out(frame, torch.tensor([[10.0, 5, 50, 110], [60, 5, 100, 110]])))
    torch.testing.assert_close(embeddings, embed([frame[:, 5:110, 10:50], frame[:, 5:110, 60:100]]))
