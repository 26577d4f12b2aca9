"""Raw heads of YOLO detectors: a frame to the network's input, and the network's output to people in the frame's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms

from lightning_reid.arguments import checked_image_size, require_choice, require_number
from lightning_reid.detection.detections import Detections, no_detections
from lightning_reid.normalization import normalize_images

YoloLayout = Literal["yolox", "yolov8"]
YoloPixels = Literal["bgr_255", "rgb_1", "rgb_imagenet"]
YoloPlacing = Literal["top_left", "center"]

STRIDES = (8, 16, 32)
"""Pixels of the input a cell of each of the head's three grids."""
LETTERBOX_GRAY = 114
BOX_NUMBERS = {"yolox": 5, "yolov8": 4}
"""Numbers of a row before its classes: the box, and in YOLOX how sure the head is of any object."""
_CUSTOMS: dict[str, tuple[YoloPixels, YoloPlacing]] = {"yolox": ("bgr_255", "top_left"), "yolov8": ("rgb_1", "center")}
_LARGEST_SHARE = 16
"""No head means a box that many times as large as the input: its numbers are not what the layout says."""


@dataclass(frozen=True)
class YoloHead:
    """How a YOLO graph wants its pixels and what its single output means; sizes and layout are checked against the graph.

    Pixels and placing cannot be checked, a network answers to any: they are by default those of the layout's authors.

    Attributes:
        layout: ``"yolox"`` for rows ``[1, A, 5 + classes]`` of offsets in a grid, exported without ``decode_in_inference``, as YOLOX and
            ByteTrack export; ``"yolov8"`` for columns ``[1, 4 + classes, A]`` of x, y, w, h in pixels of the input, as Ultralytics
            exports YOLOv8 and later without their own suppression. A is the number of cells of strides 8, 16 and 32.
        input_size: (height, width) in pixels of the input, multiples of 32; ``None`` for the size that the graph tells.
        pixels: ``"bgr_255"`` for blue, green, red in 0..255 (YOLOX), ``"rgb_1"`` for red, green, blue in 0..1 (YOLOv8), or
            ``"rgb_imagenet"`` for ImageNet-normalized ones (the YOLOX of ByteTrack). ``None`` for the layout's.
        placing: Where the resized frame lies on the gray, ``"top_left"`` (YOLOX) or ``"center"`` (YOLOv8). ``None`` for the layout's.
        overlap: Of two people with a larger intersection over union the less sure one is left out, in (0, 1].

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> from lightning_reid.detection import YoloHead
        >>> head = YoloHead("yolox", input_size=(608, 1088), pixels="rgb_imagenet")  # the YOLOX-S of ByteTrack
        >>> detector = OnnxDetector("bytetrack_s.onnx", yolo=head, min_score=0.1)  # doctest: +SKIP
        >>> head.placing or "the layout's"
        "the layout's"
    """

    layout: YoloLayout
    input_size: tuple[int, int] | None = None
    pixels: YoloPixels | None = None
    placing: YoloPlacing | None = None
    overlap: float = 0.7

    def __post_init__(self) -> None:
        require_choice("layout", self.layout, get_args(YoloLayout))
        require_choice("pixels", self.pixels, get_args(YoloPixels), optional=True)
        require_choice("placing", self.placing, get_args(YoloPlacing), optional=True)
        require_number("overlap", self.overlap, above=0, high=1)
        if self.input_size is not None:
            _checked_input_size(self.input_size)


class Letterbox(NamedTuple):
    """A frame on the gray of the network's input.

    Attributes:
        pixels: ``[H, W, 3]`` uint8 RGB.
        scales: Columns and rows of the input a column and a row of the frame.
        offsets: Column and row of the input at which the frame begins.
    """

    pixels: np.ndarray
    scales: tuple[float, float]
    offsets: tuple[int, int]


def letterbox(image: Tensor, size: tuple[int, int], head: YoloHead) -> Letterbox:
    """Resize a frame ``[3, h, w]`` uint8 RGB by one factor so that it just fits (H, W), and fill up with gray 114."""
    (height, width), (_, old_height, old_width) = size, image.shape
    factor = min(height / old_height, width / old_width)
    new_height, new_width = max(1, round(old_height * factor)), max(1, round(old_width * factor))
    left, top = ((width - new_width) // 2, (height - new_height) // 2) if (head.placing or _CUSTOMS[head.layout][1]) == "center" else (0, 0)
    pixels = np.full((height, width, 3), LETTERBOX_GRAY, dtype=np.uint8)
    frame = image.permute(1, 2, 0).contiguous().numpy()
    pixels[top : top + new_height, left : left + new_width] = cv2.resize(frame, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    return Letterbox(pixels, (new_width / old_width, new_height / old_height), (left, top))


def network_input(placed: Letterbox, head: YoloHead) -> np.ndarray:
    """The input ``[1, 3, H, W]`` float32 that the graph was trained on."""
    chosen = head.pixels or _CUSTOMS[head.layout][0]
    pixels = torch.from_numpy(placed.pixels).permute(2, 0, 1)
    if chosen == "rgb_imagenet":
        return normalize_images(pixels)[None].numpy()
    batch = (pixels.flip(0) if chosen == "bgr_255" else pixels)[None].float()
    return (batch / 255 if chosen == "rgb_1" else batch).contiguous().numpy()


def input_size_of(head: YoloHead, shape: Sequence[int | str | None], where: str) -> tuple[int, int]:
    """The (H, W) of a graph's input of this shape, as the graph or the head tells it.

    Raises:
        ValueError: It is no ``[1, 3, H, W]``, nobody tells the size, both tell another, or it is no multiple of 32.
    """
    if len(shape) != 4 or any(isinstance(size, int) and size != wanted for size, wanted in zip(shape, (1, 3))):
        raise ValueError(f"{where} takes {list(shape)}: expected one image at a time, [1, 3, height, width]; export it so")
    told = [size if isinstance(size, int) else None for size in shape[2:]]
    if head.input_size is None and None in told:
        raise ValueError(f"{where} takes {list(shape)} and tells no size: give YoloHead(input_size=(height, width)) of its training")
    size = head.input_size or tuple(told)
    if any(one not in (None, given) for one, given in zip(told, size)):
        raise ValueError(f"{where} takes {list(shape)}, but input_size is {size}: leave it out, or export the graph for that size")
    return _checked_input_size(size)


def check_output_shape(shape: Sequence[int | str | None], layout: YoloLayout, size: tuple[int, int], person_class: int, where: str) -> None:
    """Refuse an output that is not the layout's for this input; what is no number in a declared shape is left for the output itself.

    Raises:
        ValueError: So it is; the message says what was found, and which layout it looks like.
    """
    fault = _fault(shape, layout, size, person_class)
    if fault:
        others = [other for other in get_args(YoloLayout) if other != layout and not _fault(shape, other, size, person_class)]
        remedy = f"it looks like layout {others[0]!r}" if others else "export the raw head, without suppression of its own"
        raise ValueError(f"{where} answers with {list(shape)} to an input of {size[0]} x {size[1]}: {fault}; {remedy}")


def people_of(
    output: np.ndarray, placed: Letterbox, head: YoloHead, frame: tuple[int, int], person_class: int, min_score: float, where: str
) -> Detections:
    """The people of a graph's output.

    Args:
        output: As the layout has it, float.
        placed: The input that it answers.
        head: What the output means.
        frame: (height, width) in pixels of the frame.
        person_class: The class of people, from 0.
        min_score: Less sure boxes are left out, above 0.
        where: What errors call the graph.

    Returns:
        Boxes in pixels of the frame and within it, the surest first; those that lie on the gray alone are left out.

    Raises:
        ValueError: The output has another shape, a score is NaN or outside [0, 1], a kept box holds NaN or infinite numbers, or is so
            large that the graph must have decoded it already.
    """
    size = placed.pixels.shape[:2]
    check_output_shape(output.shape, head.layout, size, person_class, where)
    rows = torch.from_numpy(output[0].astype(np.float32))
    rows = rows if head.layout == "yolox" else rows.T
    sure = rows[:, 4:]
    if not ((sure >= 0) & (sure <= 1)).all():  # NaN is neither
        wrong = sure[~((sure >= 0) & (sure <= 1))]
        raise ValueError(
            f"{where} answers with {len(wrong)} scores outside [0, 1], such as {wrong[0].item():g}: expected probabilities; a "
            "graph without its last sigmoid gives others, and one of a diverged training, or that overflows in half precision, gives NaN"
        )
    classes = rows[:, BOX_NUMBERS[head.layout] :]
    best, kind = classes.max(1)
    scores = best * rows[:, 4] if head.layout == "yolox" else best
    kept = ((kind == person_class) & (scores >= min_score)).nonzero().flatten()
    if len(kept) == 0:
        return no_detections()
    boxes = _corners(rows[kept, :4], kept, head.layout, size)
    sides = boxes[:, 2:] - boxes[:, :2]
    sane = boxes.isfinite().all(1) & ((sides >= 0) & (sides < _LARGEST_SHARE * max(size))).all(1)
    if not sane.all():
        row = int((~sane).nonzero()[0])
        raise ValueError(
            f"{where} answers with a box of {sides[row, 0].item():g} x {sides[row, 1].item():g} pixels for an input of "
            f"{size[0]} x {size[1]}: expected the raw head; layout 'yolox' is exported without decode_in_inference"
        )
    return _in_frame(boxes, scores[kept], placed, frame, head.overlap)


def _corners(boxes: Tensor, cells: Tensor, layout: YoloLayout, size: tuple[int, int]) -> Tensor:
    """Corners ``[K, 4]`` in pixels of the input; YOLOX tells centers from their cell and logarithms of sides, in strides."""
    centers, sides = boxes[:, :2], boxes[:, 2:]
    if layout == "yolox":
        grid = _grid(size)[cells]
        centers, sides = (centers + grid[:, :2]) * grid[:, 2:], sides.exp() * grid[:, 2:]
    return torch.cat([centers - sides / 2, centers + sides / 2], dim=1)


def _grid(size: tuple[int, int]) -> Tensor:
    """Column, row and stride ``[A, 3]`` of every cell, row by row, the finest grid first."""
    cells = []
    for stride in STRIDES:
        rows, columns = torch.meshgrid(torch.arange(size[0] // stride), torch.arange(size[1] // stride), indexing="ij")
        cells.append(F.pad(torch.stack([columns, rows], dim=-1).reshape(-1, 2), (0, 1), value=stride))
    return torch.cat(cells).float()


def _in_frame(boxes: Tensor, scores: Tensor, placed: Letterbox, frame: tuple[int, int], overlap: float) -> Detections:
    chosen = nms(boxes, scores, overlap)
    boxes = (boxes[chosen] - torch.tensor(placed.offsets * 2)) / torch.tensor(placed.scales * 2)
    boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([frame[1], frame[0]] * 2))
    seen = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return Detections(boxes[seen], scores[chosen][seen])


def _fault(shape: Sequence[int | str | None], layout: str, size: tuple[int, int], person_class: int) -> str | None:
    num_cells = sum((size[0] // stride) * (size[1] // stride) for stride in STRIDES)
    least = BOX_NUMBERS[layout] + person_class + 1
    wanted = f"expected [1, {num_cells}, 5 + classes]" if layout == "yolox" else f"expected [1, 4 + classes, {num_cells}]"
    if len(shape) != 3:
        return wanted
    cells, numbers = (shape[1], shape[2]) if layout == "yolox" else (shape[2], shape[1])
    if any(isinstance(found, int) and found != one for found, one in ((shape[0], 1), (cells, num_cells))):
        return wanted
    if isinstance(numbers, int) and numbers < least:
        return f"{wanted} with the class {person_class}, at least {least} numbers a box"
    return None


def _checked_input_size(size: object) -> tuple[int, int]:
    height, width = checked_image_size("input_size", size)
    if height % STRIDES[-1] or width % STRIDES[-1]:
        raise ValueError(f"input_size must be multiples of {STRIDES[-1]}, the head's largest stride, got {height} x {width}")
    return height, width
