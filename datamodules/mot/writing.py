"""Crops and lists of a planned set, as files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from lightning_reid.datamodules.mot.crops import Crop
from lightning_reid.datamodules.mot.layouts import SetPlan
from lightning_reid.datamodules.mot.sequence import Image


def make_folders(plan: SetPlan, folder: Path) -> None:
    """Make the folders of a set in ``folder``, those that stay empty too."""
    for place in {*plan.folders, *(name.rpartition("/")[0] for name in plan.files.values())}:
        (folder / place).mkdir(parents=True, exist_ok=True)


def write_crop(path: Path, picture: Image, crop: Crop, jpeg_quality: int) -> None:
    """Cut a crop out of its picture, and write it as JPEG.

    Raises:
        OSError: It cannot be written.
        ValueError: OpenCV does not encode it.
    """
    encoded, data = cv2.imencode(".jpg", picture[crop.y0 : crop.y1, crop.x0 : crop.x1], [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])
    if not encoded:
        raise ValueError(f"OpenCV does not encode the crop {crop}")
    # not cv2.imwrite: on a full disk it returns False, and this raises
    path.write_bytes(data.tobytes())


def write_lists(plan: SetPlan, folder: Path) -> None:
    """Write the text files and MATLAB files of a plan below ``folder``."""
    for name, lines in plan.lists.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for name, (variable, value) in plan.matrices.items():
        write_matrix(folder / name, variable, value, told="tracklets")


def write_matrix(path: Path, variable: str, matrix: NDArray[np.int32], *, told: str) -> None:
    """Write a matrix as a MATLAB file of version 5, in which stands what is ``told``, and no time: the same matrix is the same bytes."""
    savemat(str(path), {variable: matrix})
    # the first 116 bytes are text for people, in which SciPy puts the time
    path.write_bytes(f"MATLAB 5.0 MAT-file, {told}".encode().ljust(116) + path.read_bytes()[116:])
