"""Cameras by what a command line calls them: files, folders of pictures, webcams and addresses, with or without a name in front."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_reid.datamodules.decoding import decoded
from lightning_reid.datamodules.readers.folders import image_names
from lightning_reid.live.sources import FrameSource, PictureSource
from lightning_reid.live.video_source import VideoSource, is_on_disk

_NAMED = re.compile(r"(?P<name>[^=/:]+)=(?P<address>.+)")
_NAME = re.compile(r"\w[\w .-]*")


def name_and_address(told: str, number: int) -> tuple[str, str]:
    """What a camera is called, and where it is: ``NAME=address``; without a name a file is called by its stem, another by ``number``."""
    named = _NAMED.fullmatch(told)
    if named:
        return named["name"], named["address"]
    return (Path(told).stem if is_on_disk(told) else f"camera {number}"), told


def camera_source(name: str, address: str, *, option: str, fps: float | None, realtime: bool, loop: bool) -> FrameSource:
    """Where the frames of a camera come from; nothing is opened yet.

    Args:
        name: Of the camera.
        address: A video, a folder of pictures, a webcam or an address.
        option: By which it was told, for messages.
        fps: Pictures a second of folders of pictures.
        realtime: Whether it is played at its own rate.
        loop: Whether it begins again after its end.

    Raises:
        FileNotFoundError: There is no such file.
        ModuleNotFoundError: It is a video, and the extra ``tracking`` is not installed.
        ValueError: A camera is to wait or to be looped, or a folder lacks its rate.
    """
    if is_on_disk(address) and Path(address).is_dir():
        if fps is None:
            raise ValueError(f"{option}: {address} is a folder of pictures: tell how many a second they are (--fps)")
        return PictureSource(name, lambda: _pictures(Path(address)), fps=fps, realtime=realtime, loop=loop)
    return VideoSource(name, address, realtime=realtime, loop=loop)


def require_names(names: Sequence[str], option: str) -> None:
    """Check that files can be called by the cameras' names, and that each is another.

    Raises:
        ValueError: That is not so; the message begins with ``option``.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{option}: {name!r} is to be the name of a file: give letters, digits, spaces, dots and dashes")
        if names.count(name) > 1:
            raise ValueError(f"{option}: two bear the name {name!r}: give names of your own, as in door=... hall=...")


def _pictures(folder: Path) -> Iterator[NDArray[np.uint8]]:
    inner = folder / "img1" if (folder / "img1").is_dir() else folder  # as MOTChallenge has it
    names = image_names(inner)
    if not names:
        raise FileNotFoundError(f"{inner} holds no pictures: expected 000001.jpg and so on")
    for name in names:
        yield np.ascontiguousarray(decoded(str(inner / name), cv2.IMREAD_COLOR, "Restore it")[:, :, ::-1])
