"""OpenCV's people detector: weak, but it comes with the library and needs no download."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import torch
from torch import Tensor
from torchvision.ops import nms

from lightning_reid.arguments import LARGEST_SIDE, require_count, require_number
from lightning_reid.detection.detections import Detections, no_detections

_WINDOW = (64, 128)
_WINDOW_MARGIN = 16
"""Pixels between the window's edges and the people it was trained on (Dalal and Triggs 2005): they are 96 of 128 high."""


class OpenCVPeopleDetector:
    """Histograms of oriented gradients with a linear SVM (Dalal and Triggs 2005), as ``cv2.HOGDescriptor`` ships it.

    Its window is 64 x 128 pixels with a person of about 96 pixels inside, and it knows no smaller one: images are enlarged until the
    person they may hold is of that size, and a border is added so that the window fits around a person who touches the edge. What is
    told are the boxes of the people, not of the windows. A score is the logistic function of the SVM's margin.

    Args:
        min_height: Images less high are enlarged to that many pixels. The default suits crops padded by half of their height
            (``detect_in_padded``), in which a person is half as high as the image; 160 suits crops that the person fills.
        border: Pixels that repeat the edge, added on every side after the enlargement.
        min_margin: Smallest margin of the SVM; 0 is its own decision, larger finds fewer.
        overlap: Of two boxes with a larger intersection over union the less sure one is left out, in (0, 1].

    Attributes:
        name: See :class:`~lightning_reid.detection.PersonDetector`.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> import torch
        >>> from lightning_reid.detection import OpenCVPeopleDetector
        >>> detector = OpenCVPeopleDetector(min_height=160)
        >>> (found,) = detector([torch.zeros(3, 128, 64, dtype=torch.uint8)])  # a black image shows nobody
        >>> found.boxes.shape, found.scores.shape
        (torch.Size([0, 4]), torch.Size([0]))
    """

    def __init__(self, *, min_height: int = 320, border: int = 32, min_margin: float = 0.0, overlap: float = 0.5) -> None:
        require_count("min_height", min_height, high=LARGEST_SIDE)
        require_count("border", border, low=0, high=LARGEST_SIDE)
        require_number("min_margin", min_margin)
        require_number("overlap", overlap, above=0, high=1)
        self.min_height, self.border, self.min_margin, self.overlap = min_height, border, min_margin, overlap
        settings = f"height>={min_height} border={border} margin>={min_margin:g} overlap={overlap:g}"
        self.name = f"opencv-hog {cv2.__version__} {settings}"
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())  # type: ignore[attr-defined]

    def __call__(self, images: Sequence[Tensor]) -> list[Detections]:
        """The people in each of the images ``[3, h, w]`` uint8 RGB."""
        return [self._people(image) for image in images]

    def _people(self, image: Tensor) -> Detections:
        height, width = image.shape[1:]
        scale = max(1.0, self.min_height / height)
        pixels = image.permute(1, 2, 0).contiguous().numpy()
        pixels = cv2.resize(pixels, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_CUBIC)
        side, top = (max(self.border, math.ceil((least - length) / 2)) for least, length in zip(_WINDOW, pixels.shape[1::-1]))
        pixels = cv2.copyMakeBorder(pixels, top, top, side, side, cv2.BORDER_REPLICATE)
        windows, margins = self._hog.detectMultiScale(pixels, hitThreshold=self.min_margin, winStride=(8, 8), padding=(0, 0), scale=1.05)
        if len(windows) == 0:
            return no_detections()
        corners = torch.as_tensor(windows, dtype=torch.float32)
        inset = corners[:, 3:] * _WINDOW_MARGIN / _WINDOW[1]
        boxes = torch.cat([corners[:, :2] + inset, corners[:, :2] + corners[:, 2:] - inset], dim=1)
        boxes = (boxes - torch.tensor([side, top, side, top])) / scale
        scores = torch.as_tensor(margins, dtype=torch.float32).flatten().sigmoid()
        inside = ((boxes[:, 2:] > 0) & (boxes[:, :2] < torch.tensor([width, height]))).all(1)  # windows within the border show nobody
        boxes, scores = boxes[inside], scores[inside]
        kept = nms(boxes, scores, self.overlap)
        return Detections(boxes[kept], scores[kept])
