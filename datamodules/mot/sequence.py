"""A MOTChallenge sequence on disk: where its parts are, what its annotation says, and its frames, one at a time."""

from __future__ import annotations

import configparser
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_reid.arguments import LARGEST, require_number
from lightning_reid.datamodules.decoding import CorruptImageError, decoded
from lightning_reid.datamodules.readers.folders import StrPath, image_names
from lightning_reid.datamodules.readers.ids import whole_number
from lightning_reid.datamodules.readers.text import read_cells, read_text

VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv", ".mov", ".webm", ".mpg", ".mpeg")
PEDESTRIAN = 1
"""Class number of walking people since MOT16."""

_COLUMNS = (7, 9, 10)
_NUMBER = re.compile(r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?")

Image = NDArray[np.uint8]
"""``[H, W, 3]`` blue, green, red, as OpenCV decodes."""


@dataclass(frozen=True)
class MotSequence:
    """Where a sequence lies and how large its pictures are.

    Attributes:
        frames: A folder of numbered pictures, or a video file; the k-th picture is frame k of the annotation, from 1.
        annotation: ``gt.txt``.
        width: Of a picture, in pixels.
        height: Of a picture, in pixels.
        told_length: How many pictures ``seqinfo.ini`` says there are; ``None`` where it does not.
    """

    frames: Path
    annotation: Path
    width: int
    height: int
    told_length: int | None = None


@dataclass(frozen=True)
class MotBox:
    """One row of the annotation, in pixels from the upper left corner.

    Attributes:
        frame: From 1.
        mot_id: Track number.
        x: Left edge.
        y: Upper edge.
        width: Of the box.
        height: Of the box.
        considered: MOT's flag; boxes without it are not to be scored.
        category: MOT's class number; ``PEDESTRIAN`` where the file has no such column.
        visible: Visible share in [0, 1]; ``None`` where the file has no such column.
    """

    frame: int
    mot_id: int
    x: float
    y: float
    width: float
    height: float
    considered: bool
    category: int
    visible: float | None


def open_sequence(sequence: StrPath, annotation: StrPath | None = None) -> MotSequence:
    """Find frames and annotation of a sequence and look at its first picture.

    Args:
        sequence: A folder with pictures in ``img1`` (or where ``seqinfo.ini`` says) or one video file, and ``gt/gt.txt`` or ``gt.txt``; or
            a video file itself.
        annotation: The annotation, where it is not to be looked for in the folder.

    Raises:
        FileNotFoundError: A part is missing.
        ValueError: There are several videos, a video does not open, or ``seqinfo.ini`` tells another picture size.
    """
    place = Path(sequence).expanduser()
    if not place.exists():
        raise FileNotFoundError(
            f"there is no sequence {place}; expected a MOTChallenge folder (img1/ or a video, gt/gt.txt) or a video file"
        )
    folder = place if place.is_dir() else place.parent
    info = _sequence_info(folder / "seqinfo.ini")
    frames = _find_frames(folder, info.get("imDir", "img1")) if place.is_dir() else place
    found = [Path(annotation)] if annotation is not None else [folder / "gt" / "gt.txt", folder / "gt.txt"]
    present = [file for file in found if file.is_file()]
    if not present:
        raise FileNotFoundError(f"there is no annotation {' or '.join(map(str, found))}; give it with annotation=")
    _, first = next(stream_frames(frames, {1}))
    height, width = first.shape[:2]
    told = (_count(folder, info, "imWidth", width), _count(folder, info, "imHeight", height))
    if told != (width, height):
        raise ValueError(
            f"{folder / 'seqinfo.ini'} tells pictures of {told[0]}x{told[1]}, but {frames} has {width}x{height}: boxes would be off"
        )
    length = _count(folder, info, "seqLength", 0) or None
    return MotSequence(frames, present[0], width, height, length)


def require_told_length(sequence: MotSequence) -> None:
    """Count the pictures of a sequence, of which a video is read through, where ``seqinfo.ini`` says how many there are.

    Raises:
        ValueError: There are more or fewer: a box might be of another picture.
    """
    if sequence.told_length is None:
        return
    found = len(_numbered(sequence.frames)) if sequence.frames.is_dir() else _length_of_video(sequence.frames)
    if found != sequence.told_length:
        raise ValueError(
            f"seqinfo.ini of {sequence.frames} tells {sequence.told_length} pictures, and there are {found}: boxes might be of others. Give"
            " the annotation's own pictures, or mend seqLength"
        )


def read_annotation(path: Path) -> list[MotBox]:
    """Read rows ``frame, id, x, y, width, height, flag[, class, visibility]`` (MOT16 and later) or ``..., flag, X, Y, Z`` (MOT15).

    The two are told apart by the number of columns: nine since MOT16, ten in MOT15, whose last three are world coordinates.

    Raises:
        ValueError: A row does not parse or has another number of columns than the first, a box has a size below 0 or a visibility above 1
            (its line is named), a track has two boxes in one frame, or there is no row.
    """
    boxes: dict[tuple[int, int], MotBox] = {}
    columns = 0
    for line, row in read_cells(path, ","):
        where = f"{path}, line {line}"
        columns = columns or len(row)
        if len(row) not in _COLUMNS or len(row) != columns or not all(map(_NUMBER.fullmatch, row)):
            raise ValueError(
                f"{where}: expected frame,id,x,y,width,height,flag[,class,visibility | ,X,Y,Z] as numbers,"
                f" as many in every row, got {','.join(row)!r}"
            )
        numbers = [float(cell) for cell in row]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"{where}: expected finite numbers, got {','.join(row)!r}")
        frame, mot_id = (_whole(where, name, cell) for name, cell in zip(("frame", "id"), row))
        flag = numbers[6]
        category, visible = (_whole(where, "class", row[7]), numbers[8]) if len(row) == 9 else (PEDESTRIAN, None)
        if frame < 1:
            raise ValueError(f"{where}: frames count from 1, got {frame}")
        if (frame, mot_id) in boxes:
            raise ValueError(f"{where}: track {mot_id} has a second box in frame {frame}")
        x, y, width, height = numbers[2:6]
        for name, number, low in (("x", x, -LARGEST), ("y", y, -LARGEST), ("width", width, 0), ("height", height, 0)):
            require_number(f"{where}: the column {name!r}", number, low=low)
        if visible is not None:
            require_number(f"{where}: the column 'visibility'", visible, low=0, high=1)
        boxes[frame, mot_id] = MotBox(frame, mot_id, x, y, width, height, flag != 0, category, visible)
    if not boxes:
        raise ValueError(f"{path} holds no box")
    return list(boxes.values())


def stream_frames(frames: Path, wanted: Collection[int]) -> Iterator[tuple[int, Image]]:
    """Yield ``(number, picture)`` of the wanted frames in order, holding one picture at a time; a video is read through once.

    Args:
        frames: Folder of numbered pictures, or video file.
        wanted: Frame numbers, from 1.

    Raises:
        FileNotFoundError: The folder lacks a wanted picture.
        ValueError: A picture or the video does not decode, or the video ends before the last wanted frame.
    """
    return _stream_folder(frames, sorted(wanted)) if frames.is_dir() else _stream_video(frames, frozenset(wanted))


def _stream_folder(folder: Path, wanted: list[int]) -> Iterator[tuple[int, Image]]:
    by_number = _numbered(folder)
    for number in wanted:
        if number not in by_number:
            raise FileNotFoundError(f"{folder} lacks frame {number} ({number:06d}.jpg); it holds {len(by_number)} numbered pictures")
        try:
            yield number, decoded(str(by_number[number]), cv2.IMREAD_COLOR, "Restore it")
        except CorruptImageError as error:
            raise ValueError(f"{by_number[number]} does not decode as a picture: {error}") from error


def _numbered(folder: Path) -> dict[int, Path]:
    return {int(Path(name).stem): folder / name for name in image_names(folder) if re.fullmatch("[0-9]{1,18}", Path(name).stem)}


def _length_of_video(path: Path) -> int:
    # counted, for what a head of a video tells may be a guess from its duration
    video, length = cv2.VideoCapture(str(path)), 0
    try:
        while video.grab():
            length += 1
    finally:
        video.release()
    return length


def _stream_video(path: Path, wanted: frozenset[int]) -> Iterator[tuple[int, Image]]:
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise ValueError(f"{path} does not open as a video: is it damaged, or of a format this OpenCV does not know?")
        for number in range(1, max(wanted, default=0) + 1):
            # grab() decodes no picture, so frames without a wanted box cost little
            arrived = video.grab()
            picture = video.retrieve()[1] if arrived and number in wanted else None
            if not arrived or (number in wanted and picture is None):
                raise ValueError(
                    f"{path} ends after {number - 1} frames, but frame {max(wanted)} is needed: is this the annotation's video?"
                )
            if picture is not None:
                yield number, np.asarray(picture, dtype=np.uint8)
    finally:
        video.release()


def _whole(where: str, column: str, cell: str) -> int:
    """A whole number; some tools write 12 as 12.0."""
    digits, _, fraction = cell.partition(".")
    return whole_number(column, where, digits if not fraction.strip("0") else cell)


def _find_frames(folder: Path, image_folder: str) -> Path:
    if (folder / image_folder).is_dir():
        return folder / image_folder
    videos = sorted(file for file in folder.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES)
    if len(videos) > 1:
        raise ValueError(f"{folder} holds {len(videos)} videos ({', '.join(file.name for file in videos)}): give the one meant as sequence")
    if not videos:
        raise FileNotFoundError(f"{folder} holds neither a folder {image_folder} of pictures nor a video ({', '.join(VIDEO_SUFFIXES)})")
    return videos[0]


def _count(folder: Path, info: Mapping[str, str], name: str, otherwise: int) -> int:
    told = info.get(name) or str(otherwise)
    if re.fullmatch("[0-9]{1,9}", told) is None:
        raise ValueError(f"{folder / 'seqinfo.ini'}: {name} must be a whole number, got {told!r}")
    return int(told)


def _sequence_info(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keep imWidth as it is written
    try:
        parser.read_string(read_text(path), str(path))
    except configparser.Error as error:
        raise ValueError(f"{path} is no file of sections and names: {error}") from error
    if not parser.has_section("Sequence"):
        raise ValueError(f"{path} has no section [Sequence]")
    return dict(parser["Sequence"])
