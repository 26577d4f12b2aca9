from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from lightning_reid.detection import Detections, PersonDetector
from lightning_reid.detection.detections import checked_detections
from lightning_reid.detection.digests import file_digest, module_digest
from lightning_reid.detection.padding import detect_in_padded

IMAGE = torch.zeros(3, 20, 10, dtype=torch.uint8)


class Scripted:
    name = "scripted"

    def __init__(self, answer: Callable[[Tensor], Detections]) -> None:
        self.answer = answer
        self.seen: list[list[tuple[int, ...]]] = []

    def __call__(self, images: Sequence[Tensor]) -> list[Detections]:
        self.seen.append([tuple(image.shape) for image in images])
        return [self.answer(image) for image in images]


def saying(*boxes: list[float], score: float = 0.5) -> Scripted:
    return Scripted(lambda image: Detections(torch.tensor(boxes).reshape(-1, 4), torch.full((len(boxes),), score)))


def test_a_callable_with_a_name_is_a_detector():
    assert isinstance(saying(), PersonDetector)


def test_boxes_within_the_image_pass_and_overhang_is_clipped():
    detector = saying([1.0, 2.0, 3.0, 4.0], [-5.0, 3.0, 4.0, 90.0])
    (found,) = checked_detections(detector, [IMAGE])
    assert found.boxes.tolist() == [[1, 2, 3, 4], [0, 3, 4, 20]]


def test_an_image_without_anybody_is_no_error():
    (found,) = checked_detections(saying(), [IMAGE])
    assert found.boxes.shape == (0, 4)
    assert checked_detections(saying(), []) == []


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ([1.0, 1.0, torch.nan, 4.0], "holds NaN or infinite"),
        ([1.0, 1.0, torch.inf, 4.0], "holds NaN or infinite"),
        ([12.0, 1.0, 15.0, 4.0], "lies outside the image of 10 x 20"),
        ([-9.0, 1.0, -2.0, 4.0], "lies outside"),
        ([-9.0, 1.0, 0.0, 4.0], "lies outside"),
        ([3.0, 1.0, 3.0, 4.0], "has no area"),
        ([5.0, 1.0, 3.0, 4.0], "has no area"),
    ],
)
def test_a_wrong_box_is_named_with_detector_frame_and_value(box, fault):
    with pytest.raises(ValueError, match=f"the detector scripted on b.jpg: .*with score 0.5 {fault}"):
        checked_detections(
            Scripted(lambda image: saying(box).answer(image) if image.any() else saying([1.0, 1.0, 2.0, 2.0]).answer(image)),
            [IMAGE, IMAGE + 1],
            frame_names=["a.jpg", "b.jpg"],
        )


@pytest.mark.parametrize("score", [-0.1, 1.01])
def test_a_score_outside_0_to_1_is_an_error(score):
    with pytest.raises(ValueError, match=r"frame 0: .* has a score outside \[0, 1\]"):
        checked_detections(saying([1.0, 1.0, 2.0, 2.0], score=score), [IMAGE])


def test_a_score_that_is_nan_is_an_error():
    with pytest.raises(ValueError, match="NaN"):
        checked_detections(saying([1.0, 1.0, 2.0, 2.0], score=torch.nan), [IMAGE])


def test_answers_of_another_number_or_shape_are_errors():
    short = Scripted(lambda image: Detections(torch.zeros(2, 5), torch.zeros(2)))
    with pytest.raises(ValueError, match=r"expected boxes \[K, 4\] and scores \[K\], got \[2, 5\] and \[2\]"):
        checked_detections(short, [IMAGE])

    class Silent(Scripted):
        def __call__(self, images):
            return []

    with pytest.raises(ValueError, match="was given 1 images and answers for 0"):
        checked_detections(Silent(short.answer), [IMAGE])


def test_padded_frames_are_fed_and_boxes_come_back_in_pixels_of_the_frame():
    detector = saying([12.0, 11.0, 15.0, 29.0])
    (found,) = detect_in_padded(detector, [IMAGE], padding=0.5)
    assert detector.seen == [[(3, 40, 30)]]
    assert found.boxes.tolist() == [[2, 1, 5, 19]]


def test_people_in_the_border_are_left_out_and_overhang_is_clipped():
    detector = saying([0.0, 0.0, 10.0, 40.0], [8.0, 8.0, 30.0, 31.0], [1.0, 1.0, 9.0, 9.0])
    (found,) = detect_in_padded(detector, [IMAGE], padding=0.5)
    assert found.boxes.tolist() == [[0, 0, 10, 20]]
    assert found.scores.shape == (1,)


def test_without_padding_the_detector_is_handed_the_very_frames():
    frames = [torch.randint(0, 256, (3, 9, 7), dtype=torch.uint8)]
    seen = []

    def answer(image: Tensor) -> Detections:
        seen.append(image)
        return Detections(torch.empty(0, 4), torch.empty(0))

    detect_in_padded(Scripted(answer), frames, padding=0)
    assert seen[0] is frames[0]


def test_the_border_is_gray():
    def answer(image: Tensor) -> Detections:
        assert image[:, 0].unique().tolist() == [127]
        return Detections(torch.empty(0, 4), torch.empty(0))

    detect_in_padded(Scripted(answer), [IMAGE], padding=0.1)


def test_frames_go_to_the_detector_in_batches_with_their_names():
    detector = saying([1.0, 1.0, 2.0, 2.0])
    assert len(detect_in_padded(detector, [IMAGE] * 5, batch_size=2)) == 5
    assert [len(batch) for batch in detector.seen] == [2, 2, 1]
    with pytest.raises(ValueError, match="on e: "):
        detect_in_padded(
            Scripted(lambda image: saying([1.0, 1.0, 1.0, 1.0] if image[0, 10, 10] else [1.0, 1.0, 2.0, 2.0]).answer(image)),
            [IMAGE] * 4 + [IMAGE + 1],
            batch_size=2,
            frame_names=list("abcde"),
        )


@pytest.mark.parametrize("options", [{"padding": -0.1}, {"batch_size": 0}])
def test_padding_and_batches_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be a"):
        detect_in_padded(saying(), [IMAGE], **options)


def test_digests_tell_weights_and_architectures_apart(tmp_path):
    plain, other, strided = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1, stride=2)
    strided.load_state_dict(plain.state_dict())
    assert module_digest(plain) == module_digest(plain)
    assert len({module_digest(plain), module_digest(other), module_digest(strided)}) == 3
    plain.to(memory_format=torch.channels_last)
    before = module_digest(plain)
    assert module_digest(plain.bfloat16()) != before
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    assert file_digest(tmp_path / "a") != file_digest(tmp_path / "b")


def test_a_module_without_weights_has_a_digest():
    assert module_digest(nn.Identity()) == module_digest(nn.Identity())
    assert module_digest(nn.BatchNorm1d(2)) != module_digest(nn.BatchNorm1d(0 + 3))
