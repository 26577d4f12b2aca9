"""The cameras of a live run by its options: generated ones, videos, folders of pictures, webcams and network cameras."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt
from numpy.typing import NDArray

from lightning_reid.datamodules.generated import GeneratedWorld, WorldDetector
from lightning_reid.detection import OnnxDetector, OpenCVPeopleDetector
from lightning_reid.live import CameraParts, FrameSource, PictureSource, detect_with
from lightning_reid.live.camera_pipeline import Detect
from lightning_reid.networks.shipped import DEFAULT
from lightning_reid.recipes.workshop.camera_recording import name_of
from lightning_reid.recipes.workshop.camera_sources import camera_source, name_and_address, require_names
from lightning_reid.recipes.workshop.detectors import onnx_detector
from lightning_reid.recipes.workshop.live_networks import NETWORK_HELP, LiveNetworks
from lightning_reid.recipes.workshop.tracking_scores import FIRST_FRAMES, MAX_DISTANCE, MIN_OVERLAP
from lightning_reid.tracking import CameraNode, CameraTracker, ClipCollector
from lightning_reid.tracking.track_features import Look

CAMERA_RATE = 30.0
"""Frames a second that a camera is taken to have where it does not say."""


def add_camera_options(parser: ArgumentParser) -> None:
    """What a command needs to know of the cameras it watches."""
    add = parser.add_argument
    add("--cameras", nargs="+", type=str, default=[], help="with or without NAME= in front; none for generated ones")
    add("--detector", type=str | None, default=None, help="ONNX file; default OpenCV's people detector, or a stand-in's boxes")
    add("--reid.checkpoint", type=str, default=DEFAULT, help=NETWORK_HELP)
    add("--max_distance", type=float, default=MAX_DISTANCE, help="largest cosine distance of the appearance repair; 0 for none")
    add(
        "--first_frames",
        type=PositiveInt,
        default=FIRST_FRAMES,
        help="frames of a track's first feature by an image network, 1 to 4; all others are of four",
    )
    add("--seconds", type=PositiveFloat | None, default=None, help="end after so long")
    add("--realtime", type=bool, default=True, help="play videos at their own rate; otherwise track each frame, as fast as that goes")
    add("--loop", type=bool, default=False, help="play videos again and again")
    add("--fps", type=PositiveFloat | None, default=None, help="pictures a second of folders of pictures")
    parser.add_class_arguments(GeneratedWorld, "world")
    parser.add_class_arguments(CameraTracker, "tracker", skip={"frame_rate", "max_distance"})
    parser.add_class_arguments(OnnxDetector, "onnx", skip={"path", "num_threads"})
    parser.set_defaults({"world.seed": 1, "tracker.high_score": 0.5, "tracker.new_score": 0.55, "tracker.min_overlap": MIN_OVERLAP})


def check_cameras(cfg: Namespace) -> None:
    """Find what cannot be right before a camera is opened.

    Raises:
        OSError: A video or a detector is not there.
        ValueError: Cameras are not as ``sources_of`` needs them, the detector is none, or an option of the tracking is out of range.
    """
    sources_of(cfg)
    if cfg.detector is not None:
        onnx_detector(cfg.detector, cfg.onnx, 1)
    _tracker(cfg, CAMERA_RATE), _clips(cfg, whole=False)


def world_of(cfg: Namespace) -> GeneratedWorld | None:
    """The world whose cameras are watched; ``None`` where others are named."""
    return None if cfg.cameras else GeneratedWorld(**cfg.world)


def sources_of(cfg: Namespace) -> list[FrameSource]:
    """Where the frames of each camera come from; nothing is opened yet.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A name is no name of a file or stands twice, a camera is to wait or to be looped, or folders lack their ``--fps``.
    """
    world = world_of(cfg)
    if world is not None:
        return [_of_world(cfg, world, camid) for camid in range(1, world.num_cameras + 1)]
    sources = [_source(cfg, number, told) for number, told in enumerate(cfg.cameras, 1)]
    require_names([source.camera for source in sources], "--cameras")
    return sources


def parts_of(cfg: Namespace, networks: LiveNetworks) -> list[CameraParts]:
    """The parts of each camera.

    Args:
        cfg: The options of a live run.
        networks: Shared by all cameras.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: As ``sources_of`` and ``OnnxDetector`` say.
    """
    world = world_of(cfg)
    detector = None if cfg.detector is None else onnx_detector(cfg.detector, cfg.onnx, 1)
    parts = []
    for camid, source in enumerate(sources_of(cfg), 1):
        rate = world.fps if world is not None else source.fps if isinstance(source, PictureSource) else CAMERA_RATE
        tracker, clips = _tracker(cfg, rate), _clips(cfg, whole=networks.embed_clip is not None)
        stand_in = None if world is None or detector is not None else _stand_in(world, camid)
        detect = stand_in or detect_with(detector or OpenCVPeopleDetector())
        node = CameraNode(source.camera, tracker, networks.embed, model=networks.model, embed_clip=networks.embed_clip, clips=clips)
        parts.append(CameraParts(source, detect, node))
    return parts


def _tracker(cfg: Namespace, rate: float) -> CameraTracker:
    return CameraTracker(frame_rate=rate, max_distance=cfg.max_distance, **cfg.tracker)


def _clips(cfg: Namespace, *, whole: bool) -> ClipCollector[Look]:
    """Which frames make a feature; a network of clips takes whole ones only."""
    return ClipCollector[Look](first_frames=None if whole else cfg.first_frames)


def _of_world(cfg: Namespace, world: GeneratedWorld, camid: int) -> PictureSource:
    def pictures() -> Iterator[NDArray[np.uint8]]:
        return (world.frame(camid, number) for number in range(world.num_frames))

    return PictureSource(name_of(camid), pictures, fps=world.fps, realtime=cfg.realtime, loop=cfg.loop)


def _source(cfg: Namespace, number: int, told: str) -> FrameSource:
    name, address = name_and_address(told, number)
    return camera_source(name, address, option="--cameras", fps=cfg.fps, realtime=cfg.realtime, loop=cfg.loop)


def _stand_in(world: GeneratedWorld, camid: int) -> Detect:
    detector = WorldDetector(world, seed=world.seed)
    return lambda stamp, picture: detector(camid, stamp.number)
