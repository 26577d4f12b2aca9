"""Packed tracklets: the frames of a tracklet, all of one size, in one ``.safetensors`` file from which single frames can be read.

Tensors of a file: ``pictures [F, 4]`` int32, and the frames; with the encoding ``raw`` as ``frames [F, 3, H, W]`` uint8 RGB, with ``jpeg``
as ``jpeg`` uint8, the JPEG files one after another, and ``offsets [F + 1]`` int64, where each begins. Its metadata tell ``encoding``,
``height``, ``width`` and whatever the writer added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from lightning_reid.files import write_atomically

Encoding = Literal["raw", "jpeg"]
"""``raw``: the pixels themselves, read without decoding; ``jpeg``: some ten times smaller, a decoder's time and loss."""

JPEG_QUALITY = 95
"""Of the encoding ``jpeg``: a second compression at this quality changes a photograph by about a gray level."""

_OWN_METADATA = ("encoding", "height", "width")
_WAY_ON = "Delete the file, it is made again"

Pixels = npt.NDArray[np.uint8]


def write_packed_tracklet(
    path: Path,
    frames: Tensor,
    pictures: Tensor | None = None,
    *,
    encoding: Encoding = "raw",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the frames of one tracklet; ``path`` holds all of them or stays as it was.

    Args:
        path: Where to; its folder is made if need be.
        frames: ``[F, 3, H, W]`` uint8 RGB, F at least 1.
        pictures: ``[F, 4]`` int32 ``x0, y0, x1, y1``, ends excluded: which pixels are picture, the others are padding; ``None`` where
            all are.
        encoding: ``"raw"`` or ``"jpeg"``.
        metadata: Kept with the file, e.g. what it was made from; the names ``encoding``, ``height`` and ``width`` are taken.

    Raises:
        ValueError: A shape, dtype, picture box, name or the encoding is not as described.
        OSError: The folder cannot be written to, or the disk is full; no partial file is left.

    Example:
        >>> import torch
        >>> from lightning_reid.packed_tracklets import PackedTracklet, write_packed_tracklet
        >>> frames = torch.zeros(2, 3, 64, 32, dtype=torch.uint8)
        >>> pictures = torch.tensor([[0, 0, 32, 64], [4, 0, 28, 64]], dtype=torch.int32)  # the second has padding at its sides
        >>> write_packed_tracklet(folder / "walk", frames, pictures, metadata={"source": "camera 2"})
        >>> PackedTracklet(folder / "walk").metadata
        {'source': 'camera 2'}
    """
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[1] != 3 or 0 in frames.shape:
        raise ValueError(f"{path}: need frames [F, 3, H, W] uint8 with at least one frame, got {tuple(frames.shape)} {frames.dtype}")
    if encoding not in get_args(Encoding):
        raise ValueError(f"{path}: encoding must be one of {', '.join(get_args(Encoding))}, got {encoding!r}")
    taken = [name for name in metadata or () if name in _OWN_METADATA]
    if taken:
        raise ValueError(f"{path}: the metadata {', '.join(taken)} are written by the format itself, choose other names")
    height, width = frames.shape[2:]
    tensors: dict[str, npt.NDArray[Any]] = {"pictures": _checked_pictures(path, pictures, len(frames), height, width)}
    pixels: Pixels = frames.cpu().contiguous().numpy()
    if encoding == "raw":
        tensors["frames"] = pixels
    else:
        files = [encoded_jpeg(frame) for frame in pixels]
        tensors["jpeg"] = np.concatenate(files)
        tensors["offsets"] = np.cumsum([0, *map(len, files)], dtype=np.int64)
    told = {"encoding": encoding, "height": str(height), "width": str(width), **(metadata or {})}
    content = save(tensors, told)  # not save_file: on a full disk that raises no OSError
    write_atomically(path, lambda draft: draft.write_bytes(content))


class PackedTracklet:
    """A packed tracklet on disk. The file is opened when something is asked of it, so an object may be sent to worker processes.

    Args:
        path: As given to ``write_packed_tracklet``.

    All attributes and methods raise ``FileNotFoundError`` when the file is not there and ``ValueError`` when it is no packed tracklet, or
    not all of one; the message names it.

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
        return int(self._open().get_slice("pictures").get_shape()[0])

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
        return {name: value for name, value in self._told.items() if name not in _OWN_METADATA}

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
        try:
            frames = self._raw_frames(file, distinct) if self.encoding == "raw" else self._decoded_frames(file, distinct)
            pictures = file.get_slice("pictures")[:]
        except (SafetensorError, LookupError, TypeError, ValueError, cv2.error) as error:  # the file says what its tensors do not hold
            if str(self.path) in str(error):
                raise
            raise ValueError(f"{self.path} is no whole packed tracklet: {error}. {_WAY_ON}") from error
        if len(places) == len(distinct) and (places[1:] > places[:-1]).all():
            return torch.from_numpy(frames), torch.from_numpy(pictures[distinct])
        return torch.from_numpy(frames[places]), torch.from_numpy(pictures[distinct[places]])

    def _raw_frames(self, file: Any, indices: npt.NDArray[np.int64]) -> Pixels:
        stored = file.get_slice("frames")
        frames = np.empty((len(indices), 3, *self.image_size), dtype=np.uint8)
        for place, index in enumerate(indices.tolist()):
            frames[place] = stored[index : index + 1][0]
        return frames

    def _decoded_frames(self, file: Any, indices: npt.NDArray[np.int64]) -> Pixels:
        stored, offsets = file.get_slice("jpeg"), file.get_slice("offsets")[:]
        frames = np.empty((len(indices), 3, *self.image_size), dtype=np.uint8)
        for place, index in enumerate(indices.tolist()):
            image = cv2.imdecode(stored[int(offsets[index]) : int(offsets[index + 1])], cv2.IMREAD_COLOR_RGB)
            if image is None or image.shape[:2] != self.image_size:
                raise ValueError(f"{self.path}: frame {index} is no JPEG of {self.image_size} pixels. {_WAY_ON}")
            frames[place] = image.transpose(2, 0, 1)
        return frames

    @cached_property
    def _told(self) -> dict[str, str]:
        told: dict[str, str] = self._open().metadata() or {}
        missing = [name for name in _OWN_METADATA if name not in told]
        if missing:
            raise ValueError(f"{self.path} is no packed tracklet: its metadata lack {', '.join(missing)}. {_WAY_ON}")
        return told

    def _open(self) -> Any:
        # opened anew each time: a handle held by each of MARS' 20,000 tracklets is more than a process may have, and none can be pickled
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no packed tracklet {self.path}; make it again, or serve the original frames")
        try:
            return safe_open(self.path, "numpy")
        except SafetensorError as error:
            raise ValueError(f"{self.path} is no whole packed tracklet: {error}. {_WAY_ON}") from error


def picture_masks(pictures: Tensor, height: int, width: int) -> Tensor:
    """Which pixels are picture and which padding.

    Args:
        pictures: ``[..., 4]`` integers ``x0, y0, x1, y1``, ends excluded.
        height: H.
        width: W.

    Returns:
        ``[..., H, W]`` bool on the same device, true where ``y0 <= y < y1`` and ``x0 <= x < x1``.
    """
    x0, y0, x1, y1 = (edge.unsqueeze(-1) for edge in pictures.unbind(-1))
    rows, columns = torch.arange(height, device=pictures.device), torch.arange(width, device=pictures.device)
    return ((rows >= y0) & (rows < y1)).unsqueeze(-1) & ((columns >= x0) & (columns < x1)).unsqueeze(-2)


def encoded_jpeg(frame: Pixels) -> Pixels:
    """``[3, H, W]`` uint8 RGB as the bytes of a JPEG file, ``[N]`` uint8, as the encoding ``jpeg`` keeps them."""
    image = np.ascontiguousarray(frame[::-1].transpose(1, 2, 0))  # OpenCV encodes BGR
    encoded: Pixels = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].ravel()
    return encoded


def _checked_pictures(path: Path, pictures: Tensor | None, num_frames: int, height: int, width: int) -> npt.NDArray[np.int32]:
    if pictures is None:
        return np.tile(np.array([0, 0, width, height], dtype=np.int32), (num_frames, 1))
    if pictures.dtype != torch.int32 or tuple(pictures.shape) != (num_frames, 4):
        raise ValueError(f"{path}: need pictures [{num_frames}, 4] int32, got {tuple(pictures.shape)} {pictures.dtype}")
    x0, y0, x1, y1 = pictures.unbind(1)
    bad = ~((x0 >= 0) & (x0 < x1) & (x1 <= width) & (y0 >= 0) & (y0 < y1) & (y1 <= height))
    if bad.any():
        first = int(bad.int().argmax())
        raise ValueError(
            f"{path}, frame {first}: need a picture 0 <= x0 < x1 <= {width} and 0 <= y0 < y1 <= {height}, got {pictures[first].tolist()}"
        )
    boxes: npt.NDArray[np.int32] = pictures.cpu().numpy()
    return boxes
