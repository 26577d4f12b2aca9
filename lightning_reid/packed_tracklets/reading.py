"""Reading packed tracklets: the frames that are asked for, as they were written."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lightning_reid.arguments import LARGEST_SIDE, shown
from lightning_reid.checksums import CHECKSUM, checksum
from lightning_reid.claimed_size import jpeg_head
from lightning_reid.packed_tracklets.format import OWN_METADATA, SUMS, Encoding, Pixels, frame_checksum, require_pictures

logger = logging.getLogger(__name__)

_WAY_ON = "Delete the file, it is made again"


class PackedTracklet:
    """A packed tracklet on disk. The file is opened when something is asked of it, so an object may be sent to worker processes.

    Args:
        path: As given to ``write_packed_tracklet``.

    All attributes and methods raise ``FileNotFoundError`` when the file is not there and ``ValueError`` when it is no packed tracklet, or
    not all of one, or when what is read of it is not as it was written; the message names it.

    Example:
        >>> import torch
        >>> from lightning_reid.packed_tracklets import PackedTracklet, write_packed_tracklet
        >>> frames = torch.arange(4, dtype=torch.uint8).reshape(4, 1, 1, 1).expand(4, 3, 64, 32)  # frame f holds the number f
        >>> write_packed_tracklet(folder / "walk", frames)
        >>> tracklet = PackedTracklet(folder / "walk")
        >>> tracklet.num_frames, tracklet.image_size
        (4, (64, 32))
        >>> tracklet.read([3, 1])[0][:, 0, 0, 0].tolist()
        [3, 1]
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def num_frames(self) -> int:
        """F, the number of frames of the tracklet."""
        return int(self._stored(self._open(), "pictures", "I32", (None, 4)).get_shape()[0])

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of every frame, in pixels."""
        return int(self._told["height"]), int(self._told["width"])

    @property
    def encoding(self) -> str:
        """How frames are stored: ``"raw"`` or ``"jpeg"``."""
        return self._told["encoding"]

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata that the writer added, by name."""
        return {name: value for name, value in self._told.items() if name not in (*OWN_METADATA, CHECKSUM)}

    def read(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Read chosen frames, and nothing else of the file; a frame that is asked for several times is read once.

        Args:
            indices: T frames in ``0..F-1``, any order, repetitions allowed.

        Returns:
            ``frames [T, 3, H, W]`` uint8 RGB, contiguous, and ``pictures [T, 4]`` int32 (see ``write_packed_tracklet``).

        Raises:
            IndexError: An index is out of range.
        """
        file = self._open()
        distinct, places = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        if len(distinct) and not 0 <= distinct[0] <= distinct[-1] < self.num_frames:
            raise IndexError(f"{self.path} has frames 0 to {self.num_frames - 1}, asked for {distinct[0]} to {distinct[-1]}")
        pictures = self._stored(file, "pictures", "I32", (self.num_frames, 4))[:][distinct]
        stored = self._raw_frames(file, distinct) if self.encoding == "raw" else self._jpeg_files(file, distinct)
        self._check_sums(file, distinct, list(stored), pictures)
        require_pictures(self.path, pictures, distinct.tolist(), *self.image_size, f". {_WAY_ON}")
        frames = stored if isinstance(stored, np.ndarray) else self._decoded(distinct, stored)
        if len(places) == len(distinct) and (places[1:] > places[:-1]).all():
            return torch.from_numpy(frames), torch.from_numpy(pictures)
        return torch.from_numpy(frames[places]), torch.from_numpy(pictures[places])

    def _raw_frames(self, file: Any, indices: npt.NDArray[np.int64]) -> Pixels:
        stored = self._stored(file, "frames", "U8", (self.num_frames, 3, *self.image_size))
        frames = np.empty((len(indices), 3, *self.image_size), dtype=np.uint8)
        for place, index in enumerate(indices.tolist()):
            frames[place] = stored[index : index + 1][0]
        return frames

    def _jpeg_files(self, file: Any, indices: npt.NDArray[np.int64]) -> list[Pixels]:
        stored = self._stored(file, "jpeg", "U8", (None,))
        offsets = self._stored(file, "offsets", "I64", (self.num_frames + 1,))[:].tolist()
        if offsets != sorted({*offsets}) or offsets[0] != 0 or offsets[-1] != stored.get_shape()[0]:
            raise self._damaged("its offsets are not those of its JPEG files")
        return [stored[offsets[index] : offsets[index + 1]] for index in indices.tolist()]

    def _check_sums(self, file: Any, indices: npt.NDArray[np.int64], stored: Sequence[Pixels], pictures: npt.NDArray[np.int32]) -> None:
        if CHECKSUM not in self._told:
            return
        sums = self._stored(file, SUMS, "U32", (self.num_frames,))[:]
        for index, frame, picture in zip(indices.tolist(), stored, pictures, strict=True):
            if frame_checksum(frame, picture) != sums[index]:
                raise self._damaged(f"the checksum of frame {index} is wrong")

    def _decoded(self, indices: npt.NDArray[np.int64], files: Sequence[Pixels]) -> Pixels:
        frames = np.empty((len(indices), 3, *self.image_size), dtype=np.uint8)
        for place, (index, file) in enumerate(zip(indices.tolist(), files, strict=True)):
            claimed, _ = jpeg_head(file.tobytes())
            try:  # a decoder makes as many pixels as a head claims
                image = cv2.imdecode(file, cv2.IMREAD_COLOR_RGB) if claimed == self.image_size[::-1] else None
            except cv2.error as error:
                raise self._damaged(f"frame {index} does not decode") from error
            if image is None or image.shape[:2] != self.image_size:
                raise ValueError(f"{self.path}: frame {index} is no JPEG of {self.image_size} pixels. {_WAY_ON}")
            frames[place] = image.transpose(2, 0, 1)
        return frames

    def _damaged(self, what: str) -> ValueError:
        return ValueError(f"{self.path} is no whole packed tracklet: {what}. {_WAY_ON}")

    def _stored(self, file: Any, name: str, dtype: str, shape: tuple[int | None, ...]) -> Any:
        """A tensor of the file, not read yet; ``None`` in a shape is any length."""
        try:
            found = file.get_slice(name)
        except SafetensorError as error:
            raise self._damaged(str(error)) from error
        lengths = found.get_shape()
        alike = len(lengths) == len(shape) and all(want in (None, length) for want, length in zip(shape, lengths, strict=True))
        if not alike or found.get_dtype() != dtype:
            raise self._damaged(f"its {name} are {found.get_dtype()} of shape {lengths}")
        return found

    @cached_property
    def _told(self) -> dict[str, str]:
        file = self._open()
        told: dict[str, str] = file.metadata() or {}
        missing = [name for name in OWN_METADATA if name not in told]
        if missing:
            raise ValueError(f"{self.path} is no packed tracklet: its metadata lack {', '.join(missing)}. {_WAY_ON}")
        if (CHECKSUM in told) != (SUMS in file.keys()) or told.get(CHECKSUM, checksum(told)) != checksum(told):  # noqa: SIM118
            raise self._damaged("the checksum of its metadata is wrong")
        if told["encoding"] not in get_args(Encoding) or not all(_is_side(told[name]) for name in ("height", "width")):
            encoding, height, width = (shown(told[name]) for name in OWN_METADATA)
            raise self._damaged(f"it tells of {encoding} of {height} x {width} pixels, and a side has 1 to {LARGEST_SIDE:,}")
        if CHECKSUM not in told:
            _tell_of_no_checksums(self.path.parent)
        return told

    def _open(self) -> Any:
        # opened anew each time: a handle held by each of MARS' 20,000 tracklets is more than a process may have, and none can be pickled
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no packed tracklet {self.path}; make it again, or serve the original frames")
        try:
            return safe_open(self.path, "numpy")
        except SafetensorError as error:
            raise self._damaged(str(error)) from error


def _is_side(told: str) -> bool:
    return re.fullmatch("[0-9]{1,9}", told) is not None and 1 <= int(told) <= LARGEST_SIDE


@cache
def _tell_of_no_checksums(folder: Path) -> None:  # once a folder
    logger.warning(
        "the packed tracklets in %s have no checksums, an earlier version wrote them: damage to them cannot be told. Delete the folder, "
        "and they are made again with checksums",
        folder,
    )
