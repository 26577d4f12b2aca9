"""Small videos whose frames tell their number by their gray."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

STEP = 10


def film(path: Path, num_frames: int = 10, *, size: tuple[int, int] = (48, 64), fps: int = 20, first: int = 0) -> Path:
    """Write ``num_frames`` pictures of ``size`` (height, width), each all of one gray, with a white corner at the top left."""
    draft = path.with_name(f"draft_of_{path.name}")
    with av.open(str(draft), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = *size, "yuv420p", 2_000_000
        stream.gop_size = 5
        for number in range(first, first + num_frames):
            picture = np.full((*size, 3), number * STEP % 250, np.uint8)
            picture[:16, :16] = 255
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    draft.replace(path)
    return path


def number_of(picture) -> int:
    """Which frame a picture ``[3, H, W]`` is."""
    return round(float(picture[:, 24:, 24:].float().mean()) / STEP)
