"""Packed tracklets: the frames of a tracklet, all of one size, in one ``.safetensors`` file from which single frames can be read.

Tensors of a file: ``pictures [F, 4]`` int32, and the frames; with the encoding ``raw`` as ``frames [F, 3, H, W]`` uint8 RGB, with ``jpeg``
as ``jpeg`` uint8, the JPEG files one after another, and ``offsets [F + 1]`` int64, where each begins. Its metadata tell ``encoding``,
``height``, ``width`` and whatever the writer added.

Damage to what is read is an error: ``checksums [F]`` uint32 are the CRC-32 of each frame as it is stored and of its picture, and ``crc32``
among the metadata is that of the others. So a read looks at the frames that it is asked for alone. Files of version 0.1 have neither.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save
from torch import Tensor

from lightning_reid.arguments import LARGEST_SIDE
from lightning_reid.checksums import CHECKSUM, checksum
from lightning_reid.files import write_atomically

Encoding = Literal["raw", "jpeg"]
"""``raw``: the pixels themselves, read without decoding; ``jpeg``: some ten times smaller, a decoder's time and loss."""

JPEG_QUALITY = 95
"""Of the encoding ``jpeg``: a second compression at this quality changes a photograph by about a gray level."""

OWN_METADATA = ("encoding", "height", "width")
"""Metadata of every file, the checksum of later versions apart."""
SUMS = "checksums"
"""Name of the tensor of the frames' checksums."""

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
        frames: ``[F, 3, H, W]`` uint8 RGB, F at least 1, H and W up to 4,096.
        pictures: ``[F, 4]`` int32 ``x0, y0, x1, y1``, ends excluded: which pixels are picture, the others are padding; ``None`` where
            all are.
        encoding: ``"raw"`` or ``"jpeg"``.
        metadata: Kept with the file, e.g. what it was made from; the names ``encoding``, ``height``, ``width`` and ``crc32`` are taken.

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
    if max(frames.shape[2:]) > LARGEST_SIDE:
        raise ValueError(f"{path}: frames may have sides of up to {LARGEST_SIDE:,} pixels, got {tuple(frames.shape)}")
    if encoding not in get_args(Encoding):
        raise ValueError(f"{path}: encoding must be one of {', '.join(get_args(Encoding))}, got {encoding!r}")
    taken = [name for name in metadata or () if name in (*OWN_METADATA, CHECKSUM)]
    if taken:
        raise ValueError(f"{path}: the metadata {', '.join(taken)} are written by the format itself, choose other names")
    height, width = frames.shape[2:]
    tensors: dict[str, npt.NDArray[Any]] = {"pictures": _checked_pictures(path, pictures, len(frames), height, width)}
    pixels: Pixels = frames.cpu().contiguous().numpy()
    stored = [frame if encoding == "raw" else encoded_jpeg(frame) for frame in pixels]
    if encoding == "raw":
        tensors["frames"] = pixels
    else:
        tensors["jpeg"] = np.concatenate(stored)
        tensors["offsets"] = np.cumsum([0, *map(len, stored)], dtype=np.int64)
    tensors[SUMS] = np.array(
        [frame_checksum(frame, picture) for frame, picture in zip(stored, tensors["pictures"], strict=True)], dtype=np.uint32
    )
    told = {"encoding": encoding, "height": str(height), "width": str(width), **(metadata or {})}
    content = save(tensors, told | {CHECKSUM: checksum(told)})  # not save_file: on a full disk that raises no OSError
    write_atomically(path, lambda draft: draft.write_bytes(content))


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
    boxes: npt.NDArray[np.int32] = pictures.cpu().numpy()
    require_pictures(path, boxes, range(num_frames), height, width)
    return boxes


def require_pictures(path: Path, pictures: npt.NDArray[np.int32], frames: Sequence[int], height: int, width: int, way_on: str = "") -> None:
    """Check picture boxes ``[T, 4]`` of the frames of these T numbers.

    Raises:
        ValueError: One is empty or reaches out of its frame; the message names the frame, and ends with ``way_on``.
    """
    x0, y0, x1, y1 = pictures.T
    bad = np.flatnonzero(~((x0 >= 0) & (x0 < x1) & (x1 <= width) & (y0 >= 0) & (y0 < y1) & (y1 <= height)))
    if len(bad):
        raise ValueError(
            f"{path}, frame {frames[bad[0]]}: need a picture 0 <= x0 < x1 <= {width} and 0 <= y0 < y1 <= {height},"
            f" got {pictures[bad[0]].tolist()}{way_on}"
        )


def frame_checksum(frame: Pixels, picture: npt.NDArray[np.int32]) -> int:
    """CRC-32 of a frame as it is stored, contiguous, and of its picture box."""
    return zlib.crc32(picture.tobytes(), zlib.crc32(frame.data))
