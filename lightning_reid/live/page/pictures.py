"""Pictures as a browser takes them: smaller, and as JPEG."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

CROP_SIZE = (160, 120)
"""Most (height, width) of a person's crop in pixels."""
QUALITY = 80
"""Of JPEG, in per cent."""


def within(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A copy of a picture that is made smaller, never larger, so that it fits.

    Args:
        picture: ``[H, W, 3]``.
        height: Most pixels.
        width: Most pixels.
    """
    share = min(height / picture.shape[0], width / picture.shape[1], 1.0)
    size = (max(round(picture.shape[1] * share), 1), max(round(picture.shape[0] * share), 1))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """Encode a picture as a browser takes it.

    Args:
        picture: ``[H, W, 3]`` RGB.

    Raises:
        RuntimeError: OpenCV cannot encode it.
    """
    done, content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise RuntimeError(f"OpenCV cannot encode a picture of {list(picture.shape)} {picture.dtype} as JPEG")
    return bytes(content.tobytes())


def rows_of(picture: Tensor) -> NDArray[np.uint8]:
    """Turn ``[3, H, W]`` uint8 into ``[H, W, 3]`` on the CPU, which looks at the same memory where it was there."""
    rows: NDArray[np.uint8] = picture.permute(1, 2, 0).cpu().numpy()
    return rows


def crop_of(picture: Tensor, box: tuple[float, float, float, float]) -> NDArray[np.uint8] | None:
    """Cut a person out, as a copy of at most ``CROP_SIZE``; ``None`` where the box lies outside.

    Args:
        picture: ``[3, H, W]`` uint8 RGB.
        box: x0, y0, x1, y1 in pixels.
    """
    x0, y0, x1, y1 = (max(round(side), 0) for side in box)
    cut = picture[:, y0:y1, x0:x1]
    return within(np.ascontiguousarray(rows_of(cut)), *CROP_SIZE) if cut.numel() else None
