"""``boxes.csv``: where people can be seen in generated frames."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BOXES = "boxes.csv"
COLUMNS = ("image", "x0", "y0", "x1", "y1", "role", "digest")
"""File name; box of a visible person in pixels of the frame; ``person`` for the labeled one, ``other``; digest of the frame's pixels.

A frame in which nobody can be seen has one row without a box, its role ``nobody``.
"""
NOBODY = "nobody"


@dataclass(frozen=True)
class FrameBoxes:
    """Who can be seen in one frame: ``boxes [K, 4]`` float64 x0, y0, x1, y1, and the role of each."""

    image: str
    boxes: NDArray[np.float64]
    roles: tuple[str, ...]


def pixel_digest(pixels: NDArray[np.uint8]) -> str:
    """Sixteen hexadecimal digits of ``[height, width, 3]`` uint8 RGB pixels."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=8).hexdigest()


def read_boxes(root: str | Path) -> dict[str, FrameBoxes]:
    """Read ``boxes.csv`` of a generated data set, by the digests of the frames.

    Raises:
        FileNotFoundError: ``root`` holds no such file.
        ValueError: It has other columns.
    """
    path = Path(root) / BOXES
    if not path.is_file():
        raise FileNotFoundError(f"{root} has no {BOXES}: only folders that GeneratedTracklets wrote do")
    frames: dict[str, tuple[str, list[list[float]], list[str]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        if tuple(table.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path} should have the columns {', '.join(COLUMNS)}, got {', '.join(table.fieldnames or ())}")
        for row in table:
            _, boxes, roles = frames.setdefault(row["digest"], (row["image"], [], []))
            if row["role"] != NOBODY:
                boxes.append([float(row[side]) for side in COLUMNS[1:5]])
                roles.append(row["role"])
    return {
        digest: FrameBoxes(image, np.array(boxes, np.float64).reshape(-1, 4), tuple(roles))
        for digest, (image, boxes, roles) in frames.items()
    }
