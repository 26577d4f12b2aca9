"""Boxes of a frame to crops: where a box is cut off, which pixels it has, and what is no box."""

from __future__ import annotations

import torch
from torch import Tensor


def cut_out(frame: Tensor, boxes: Tensor) -> list[Tensor]:
    """The crops of a frame's boxes: all pixels that a box touches; what lies beyond the frame is cut off.

    Args:
        frame: ``[3, H, W]`` uint8 RGB. Of OpenCV's ``[H, W, 3]`` BGR it is ``torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)``.
        boxes: ``[K, 4]`` x0, y0, x1, y1 in pixels, from the left and the top.

    Returns:
        K crops ``[3, h, w]`` uint8, in the order of the boxes, that share no memory with the frame.

    Raises:
        ValueError: The frame or the boxes are of another shape or type; or a box holds NaN or infinite numbers, has no area, or lies
            outside the frame. The message names its row.

    Example:
        >>> import torch
        >>> from lightning_reid import from_pretrained
        >>> from lightning_reid.inference import crop_embedder, cut_out
        >>> frame, boxes = torch.zeros(3, 480, 640, dtype=torch.uint8), torch.tensor([[10.0, 20, 60, 180], [-8, 0, 40, 120]])
        >>> crop_embedder(from_pretrained())(cut_out(frame, boxes)).shape
        torch.Size([2, 192])
    """
    require_frame(frame)
    if not isinstance(boxes, Tensor) or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"expected boxes as a tensor [K, 4] of x0, y0, x1, y1, got {_told(boxes)}")
    numbers = boxes.detach().double().cpu()
    for wrong, fault in (
        (~numbers.isfinite().all(1), "holds NaN or infinite numbers"),
        (~(numbers[:, :2] < numbers[:, 2:]).all(1), "has no area: a box is x0, y0, x1, y1, with x0 < x1 and y0 < y1"),
    ):
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise ValueError(f"box {row}, {numbers[row].tolist()}, {fault}")
    return [crop_of(frame, box) for box in boxes_within(frame, numbers)]


def require_frame(frame: Tensor) -> None:
    """Check that something is a frame.

    Raises:
        ValueError: It is no tensor ``[3, H, W]`` uint8; the message says what it is.
    """
    if not isinstance(frame, Tensor) or frame.ndim != 3 or frame.shape[0] != 3 or frame.dtype != torch.uint8:
        raise ValueError(f"expected [3, H, W] uint8, got {_told(frame)}")


def boxes_within(frame: Tensor, boxes: Tensor) -> Tensor:
    """The boxes cut to the frame, ``[K, 4]``; those that hold NaN or infinite numbers or have no area stay as they are.

    Raises:
        ValueError: A box of area has no pixel in the frame; the message names its row.
    """
    height, width = frame.shape[1:]
    inside = boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height], dtype=boxes.dtype))
    outside = boxes.isfinite().all(1) & ((inside[:, 2:] - inside[:, :2]) <= 0).any(1) & (boxes[:, :2] < boxes[:, 2:]).all(1)
    if outside.any():
        row = int(outside.nonzero()[0])
        told = f"box {row}, {boxes[row].tolist()}, lies outside the frame of {width} x {height} pixels"
        raise ValueError(f"{told}: drop it, or mend the detector")
    return torch.where(boxes.isfinite(), inside, boxes)


def crop_of(frame: Tensor, box: Tensor) -> Tensor:
    """All pixels that a box within the frame touches, as a copy."""
    x0, y0, x1, y1 = (*box[:2].floor().long().tolist(), *box[2:].ceil().long().tolist())
    return frame[:, y0:y1, x0:x1].clone()


def _told(value: object) -> str:
    return f"{list(value.shape)} {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
