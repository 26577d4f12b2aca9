"""Detection in crops: with a border around them, as detectors are trained on scenes."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from lightning_reid.arguments import require_count, require_number
from lightning_reid.detection.detections import Detections, PersonDetector, checked_detections

BORDER_GRAY = 127
"""Of the border: black makes an edge around the crop that detectors by gradients take for an outline."""
MOST_PADDING = 10.0
"""Width of the border, as a share of a frame's height."""


def detect_in_padded(
    detector: PersonDetector,
    frames: Sequence[Tensor],
    *,
    padding: float = 0.5,
    batch_size: int = 32,
    frame_names: Sequence[str] | None = None,
) -> list[Detections]:
    """Detect people in crops that got a gray border, and tell them in pixels of the crops without it.

    Source: re-detect and link, section 2.5.1: "all images are padded and fed to the object detector".

    Args:
        detector: Finds people.
        frames: ``[3, h, w]`` uint8 RGB, of any sizes.
        padding: Width of the border on every side as a share of the frame's height, at least 0; 0 hands the frames over as they are.
        batch_size: Frames a call of the detector.
        frame_names: What errors call the frames; their numbers within a call without.

    Returns:
        A detection for each frame, boxes clipped to it; people who stand wholly in the border, where no pixels are, are left out.

    Raises:
        ValueError: ``padding`` is negative or ``batch_size`` not positive, or an answer is wrong (see ``checked_detections``).
    """
    require_number("padding", padding, low=0, high=MOST_PADDING)
    require_count("batch_size", batch_size)
    found: list[Detections] = []
    for start in range(0, len(frames), batch_size):
        batch = frames[start : start + batch_size]
        borders = [round(padding * frame.shape[1]) for frame in batch]
        padded = [F.pad(frame, (border,) * 4, value=BORDER_GRAY) if border else frame for frame, border in zip(batch, borders)]
        answers = checked_detections(detector, padded, frame_names=frame_names[start : start + batch_size] if frame_names else None)
        found += [_without_border(answer, border, frame) for answer, border, frame in zip(answers, borders, batch)]
    return found


def _without_border(found: Detections, border: int, frame: Tensor) -> Detections:
    height, width = frame.shape[1:]
    boxes = (found.boxes - border).clamp(min=0).minimum(found.boxes.new_tensor([width, height, width, height]))
    inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return Detections(boxes[inside], found.scores[inside])
