"""What a person detector is, and the check of what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor


class Detections(NamedTuple):
    """The people found in one image.

    Attributes:
        boxes: ``[K, 4]`` float32, x0, y0, x1, y1 in pixels of that image; a pixel's left edge has its column's number.
        scores: ``[K]`` float32 in [0, 1], large is sure.

    Example:
        >>> import torch
        >>> from lightning_reid.detection import Detections
        >>> found = Detections(boxes=torch.tensor([[8.0, 4.0, 24.0, 60.0]]), scores=torch.tensor([0.9]))
        >>> (found.boxes[:, 2:] - found.boxes[:, :2]).tolist()  # width and height of each person, in pixels
        [[16.0, 56.0]]
    """

    boxes: Tensor
    scores: Tensor


@runtime_checkable
class PersonDetector(Protocol):
    """Finds people in images; any callable with a name will do.

    Attributes:
        name: The model and the settings that its answers depend on, with a digest of the weights: it goes into the key of caches, so
            two detectors that answer differently must not share it.

    Example:
        >>> import torch
        >>> from lightning_reid.detection import Detections, PersonDetector
        >>> class WholeImage:
        ...     name = "whole image"
        ...     def __call__(self, images):
        ...         return [Detections(torch.tensor([[0.0, 0.0, one.shape[2], one.shape[1]]]), torch.ones(1)) for one in images]
        >>> isinstance(WholeImage(), PersonDetector)
        True
    """

    @property
    def name(self) -> str:
        """The model and the settings that its answers depend on, for keys of caches; a plain attribute will do."""

    def __call__(self, images: Sequence[Tensor]) -> list[Detections]:
        """The people in each of the images ``[3, h, w]`` uint8 RGB, of any sizes; an image without any has K = 0."""


def checked_detections(detector: PersonDetector, images: Sequence[Tensor], *, frame_names: Sequence[str] | None = None) -> list[Detections]:
    """Run a detector and do not believe it.

    Boxes that overhang the image are clipped to it: detectors extrapolate, and the part outside holds no pixels.

    Args:
        detector: Called once with all images.
        images: N images ``[3, h, w]`` uint8 RGB.
        frame_names: What errors call them, their files for instance; their numbers without.

    Returns:
        N detections, on the CPU, float32, each box within its image and of positive area.

    Raises:
        ValueError: The detector answers for another number of images, with other shapes, with NaN or infinite numbers, with a box that
            lies outside its image or has no area, or with a score outside [0, 1]; the message names detector, frame and value.
    """
    answers = detector(images)
    if len(answers) != len(images):
        raise ValueError(f"the detector {detector.name} was given {len(images)} images and answers for {len(answers)}")
    names = frame_names or [f"frame {number}" for number in range(len(images))]
    return [_checked(answer, image, f"the detector {detector.name} on {name}") for answer, image, name in zip(answers, images, names)]


def _checked(answer: Detections, image: Tensor, where: str) -> Detections:
    boxes, scores = answer.boxes.detach().cpu().float(), answer.scores.detach().cpu().float()
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(f"{where}: expected boxes [K, 4] and scores [K], got {list(boxes.shape)} and {list(scores.shape)}")
    height, width = image.shape[1:]
    clipped = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
    sides = boxes[:, 2:] - boxes[:, :2]
    faults = (
        (~(boxes.isfinite().all(1) & scores.isfinite()), "holds NaN or infinite numbers"),
        ((sides <= 0).any(1), "has no area (expected x0 < x1 and y0 < y1)"),
        ((clipped[:, 2:] <= clipped[:, :2]).any(1), f"lies outside the image of {width} x {height} pixels"),
        ((scores < 0) | (scores > 1), "has a score outside [0, 1]"),
    )
    for wrong, fault in faults:
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise ValueError(f"{where}: the box {boxes[row].tolist()} with score {scores[row].item()} {fault}")
    return Detections(clipped, scores)


def no_detections() -> Detections:
    """The answer for an image that shows nobody: K = 0."""
    return Detections(torch.empty(0, 4), torch.empty(0))
