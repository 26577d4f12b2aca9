"""What a video holds, as OpenCV opens it: no decoder but this one is needed to look at a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def video_facts(path: Path) -> dict[str, Any] | None:
    """Open a video and decode its first frame.

    Returns:
        ``width`` and ``height`` in pixels, and where the file tells them ``frames`` (as its header counts them) and ``frames a second``;
        ``None`` if it cannot be opened, or has no frame that can be decoded.
    """
    import cv2  # where no video is looked at, nothing waits for it

    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)  # any other way in takes a name with %d for a row of pictures
    try:
        there, picture = video.read()
        if not there:
            return None
        counted, rate = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), round(float(video.get(cv2.CAP_PROP_FPS)), 3)
    finally:
        video.release()
    told = {"width": picture.shape[1], "height": picture.shape[0]}
    return told | {name: value for name, value in (("frames", counted), ("frames a second", rate)) if value > 0}
