"""What ``lightning-reid crops`` is made of, by its options: videos, when they begin, a detector, and a network for the tracker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime

from jsonargparse import Namespace
from torch import Tensor

from lightning_reid.detection import OpenCVPeopleDetector, PersonDetector
from lightning_reid.inference import OnnxEmbedder, crop_embedder
from lightning_reid.inference.loading import load_network
from lightning_reid.live.sources import FrameSource
from lightning_reid.recipes.workshop.camera_sources import camera_source, name_and_address, require_names
from lightning_reid.recipes.workshop.detectors import onnx_detector, torchvision_people
from lightning_reid.tracking.track_features import EmbedCrops

OPENCV, TORCHVISION = "opencv", "torchvision"
MOST_CAMERAS = 9
"""The name of a crop in the layout of MARS has one digit for it."""


def sources_of(cfg: Namespace) -> list[FrameSource]:
    """Where the frames of each camera come from; nothing is opened yet.

    Raises:
        FileNotFoundError: A video is not there.
        ModuleNotFoundError: The extra ``tracking`` is not installed.
        ValueError: A camera is given twice, is a live one, or has no name that a file can have; or there are too many.
    """
    named = [name_and_address(told, number) for number, told in enumerate(cfg.videos, 1)]
    require_names([name for name, _ in named], "VIDEO")
    if len(named) > MOST_CAMERAS:
        raise ValueError(f"{len(named)} videos are given, and a folder takes {MOST_CAMERAS} cameras: make two folders")
    places: dict[str, str] = {}
    for name, address in named:
        other = places.setdefault(os.path.realpath(address), name)
        if other != name:
            raise ValueError(f"the cameras {other!r} and {name!r} are one video, {address}: give it once")
    sources = [camera_source(name, address, option="VIDEO", fps=cfg.fps, realtime=False, loop=False) for name, address in named]
    endless = [source for source in sources if source.endless]
    if endless:
        raise ValueError(f"{endless[0].camera} is a live camera, which never ends: record it first, or see track_cameras.py")
    return sources


def starts_of(told: Sequence[str], cameras: Sequence[str]) -> dict[str, datetime]:
    """When the videos of cameras begin, as ``--start`` tells it.

    Raises:
        ValueError: It is no ISO time, or of no camera.
    """
    found: dict[str, datetime] = {}
    for one in told:
        name, sign, text = one.rpartition("=")
        if not sign and len(cameras) > 1:
            raise ValueError(f"--start {one}: there are {len(cameras)} cameras, say of which: {cameras[0]}={one}")
        name = name or cameras[0]
        if name not in cameras or name in found:
            raise ValueError(f"--start {one}: {name!r} must be one of the cameras {', '.join(cameras)}, and stand once")
        try:
            found[name] = datetime.fromisoformat(text)
        except ValueError as error:
            raise ValueError(f"--start {one}: {text!r} is no ISO time, as 2024-05-01T10:00:00 is") from error
    return found


def detector_of(cfg: Namespace) -> PersonDetector:
    """What finds people; errors as of the detector."""
    if cfg.detector == OPENCV:
        return OpenCVPeopleDetector()
    if cfg.detector == TORCHVISION:
        return torchvision_people(cfg.detector_weights, cfg.onnx.min_score)
    return onnx_detector(cfg.detector, cfg.onnx, None)


def embedder_of(cfg: Namespace) -> EmbedCrops:
    """The network of the tracker's repair; it is not loaded where it is never asked."""
    if cfg.max_distance == 0:
        return _never
    network = load_network(cfg.model)
    return network.embed_crops if isinstance(network, OnnxEmbedder) else crop_embedder(network)


def _never(crops: Sequence[Tensor]) -> Tensor:
    raise AssertionError(f"{len(crops)} crops to embed, and tracking is by overlap alone")
