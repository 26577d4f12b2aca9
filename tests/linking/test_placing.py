from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional

from lightning_reid.linking.placing import cut_out, place_person, side_of_slim_box, whole_frame

SIZE = (64, 32)


def noise(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("x0", "x1", "side"),
    [
        (0, 29, -1),  # 29 < 0.6 * 50, center 14.5 of 100
        (0, 30, 0),  # no longer slim
        (10, 39, -1),  # center 24.5
        (11, 40, 0),  # center 25.5: in the middle half
        (10.5, 39.5, 0),  # center 25 exactly: not outside
        (61, 89, 0),  # center 75 exactly
        (62, 90, 1),  # center 76
        (71, 100, 1),
        (20, 90, 0),
    ],
)
def test_slim_is_less_than_three_tenths_of_the_height_and_a_side_is_outside_the_middle_half(x0, x1, side):
    box = torch.tensor([x0, 0.0, x1, 100.0])
    assert side_of_slim_box(box, 100, SIZE) == side


def test_a_slim_box_at_the_left_is_placed_at_the_right_by_its_own_aspect():
    frame = noise(64, 60)
    image, picture = place_person(frame, torch.tensor([0.0, 0.0, 12.0, 64.0]), SIZE)
    assert picture == (20, 0, 32, 64)
    assert torch.equal(image[:, :, 20:], frame[:, :, :12])
    assert not image[:, :, :20].any()


def test_a_slim_box_at_the_right_is_placed_at_the_left_by_its_own_aspect():
    frame = noise(32, 60)
    image, picture = place_person(frame, torch.tensor([54.0, 0.0, 60.0, 32.0]), SIZE)
    assert picture == (0, 0, 12, 64)
    assert torch.equal(image[:, :, :12], functional.resize_image(frame[:, :, 54:], [64, 12], antialias=True))
    assert not image[:, :, 12:].any()


def test_a_box_that_is_not_slim_fills_the_image():
    frame = noise(80, 60)
    image, picture = place_person(frame, torch.tensor([3.2, 8.0, 40.7, 72.0]), SIZE)
    assert picture == (0, 0, 32, 64)
    assert torch.equal(image, functional.resize_image(frame[:, 8:72, 3:41], list(SIZE), antialias=True))


def test_the_thinnest_box_still_gives_a_column_of_picture():
    image, picture = place_person(noise(5000, 60), torch.tensor([0.0, 0.0, 0.5, 5000.0]), SIZE)
    assert picture == (31, 0, 32, 64)
    assert image.shape == (3, *SIZE)


def test_the_pixels_a_box_touches_are_cut_out():
    frame = noise(10, 10)
    assert torch.equal(cut_out(frame, torch.tensor([1.5, 2.0, 3.1, 4.0])), frame[:, 2:4, 1:4])


def test_a_frame_without_anybody_is_kept_whole():
    frame = noise(40, 40)
    image, picture = whole_frame(frame, SIZE)
    assert picture == (0, 0, 32, 64)
    assert torch.equal(image, functional.resize_image(frame, list(SIZE), antialias=True))


def test_a_mirrored_frame_gives_the_mirrored_image():
    frame, box = noise(64, 60), torch.tensor([2.0, 0.0, 14.0, 64.0])
    mirrored = torch.tensor([60 - 14.0, 0.0, 60 - 2.0, 64.0])
    image, (x0, _, x1, _) = place_person(frame, box, SIZE)
    other, picture = place_person(frame.flip(2), mirrored, SIZE)
    assert picture == (32 - x1, 0, 32 - x0, 64)
    assert torch.equal(other, image.flip(2))


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    edges=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_every_box_gives_an_image_of_the_size_with_its_picture_inside(height, width, edges):
    (x0, x1), (y0, y1) = sorted(edges[:2]), sorted(edges[2:])
    box = torch.tensor([x0 * width, y0 * height, max(x1 * width, x0 * width + 0.01), max(y1 * height, y0 * height + 0.01)])
    box = box.minimum(torch.tensor([width, height, width, height]))
    if box[0] >= box[2] or box[1] >= box[3]:
        return
    frame = torch.full((3, height, width), 200, dtype=torch.uint8)
    image, (left, top, right, bottom) = place_person(frame, box, SIZE)
    assert image.shape == (3, *SIZE)
    assert image.dtype == torch.uint8
    assert 0 <= left < right <= 32
    assert (top, bottom) == (0, 64)
    inside = torch.zeros(SIZE, dtype=torch.bool)
    inside[top:bottom, left:right] = True
    assert torch.equal((image == 200).all(0), inside)


@pytest.mark.parametrize("box", [[0.0, 0.0, 61.0, 10.0], [5.0, 0.0, 5.0, 10.0], [-1.0, 0.0, 5.0, 10.0], [torch.nan, 0.0, 5.0, 10.0]])
def test_a_box_outside_the_frame_is_refused(box):
    with pytest.raises(ValueError, match="box within the frame of 60 x 64 pixels"):
        place_person(noise(64, 60), torch.tensor(box), SIZE)
