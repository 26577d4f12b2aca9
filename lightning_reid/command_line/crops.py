"""``lightning-reid crops VIDEO... OUT``: from videos to the crops and tracklets of whom they show, for training without labels."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt
from rich.console import Console

from lightning_reid.command_line.crop_folder import SHEET, Camera, write_crop_folder
from lightning_reid.command_line.crop_notes import FAR_APART, note_of_sheet, notes_of_gaps
from lightning_reid.command_line.crop_parts import OPENCV, TORCHVISION, detector_of, embedder_of, sources_of, starts_of
from lightning_reid.command_line.filming import find_people, good_tracklets, rate_of
from lightning_reid.command_line.printable import printable
from lightning_reid.datamodules.mot.crops import Crop, CropRules, Tracklet
from lightning_reid.detection import OnnxDetector, PersonDetector
from lightning_reid.files import folder_written_whole, write_json
from lightning_reid.networks.shipped import DEFAULT, MODEL_HELP
from lightning_reid.tracking import CameraTracker

DESCRIPTION = """Find people in videos, track them, and write their crops as tracklets with camera and time. Each video is a camera.

lightning-reid crops door.mp4 yard.mp4 crops/ --detector people.onnx
lightning-reid train hsr --target crops/ --start_from generated-people-small

OUT is a new folder: crops in the layout of MARS, tracklets.csv (a row a frame: camera, seconds, box), images.csv (some of each tracklet,
for image methods), sheet.png to look at. Nobody is identified: a track is no person, the same person may have many, and so all pids are -1.
Needs the extra: pip install 'lightning-reid[tracking]'.
"""
WEAK = (
    "by OpenCV's people detector, which is weak: it misses many and finds some who are none; a detector of your own is told by --detector"
)
EVERY_HELP = f"look at every n-th frame; people who move too far between two are lost: leave no more than {FAR_APART:g} s between them"
MOST_FRAMES = 999
"""Of a tracklet: the name of a crop in the layout of MARS has three digits for it."""
SURE, NEW, OVERLAP, FARTHEST = 0.5, 0.55, 0.3, 0.35
"""How ``track_cameras.py`` tracks: scores of sure boxes and of those that begin a track, overlap, distance of the appearance repair."""


def build_parser() -> ArgumentParser:
    """The options that the verb takes."""
    parser = ArgumentParser(description=DESCRIPTION)
    add = parser.add_argument
    add(
        "videos", type=str, nargs="+", help="video files, or folders of pictures; NAME=path names the camera, else it bears the file's name"
    )
    add("out", type=str, help="new folder")
    told = "ONNX file, 'torchvision' for its Faster R-CNN (ResNet-50 FPN v2), or 'opencv', which needs no file and is weak"
    add("--detector", type=str, default=OPENCV, help=told)
    add("--detector_weights", type=str, default=None, help="file with the weights of torchvision's; they are downloaded without")
    add("--model", type=str, default=DEFAULT, help=f"tells apart who meets: {MODEL_HELP}")
    add("--max_distance", type=float, default=FARTHEST, help="cosine distance within which it decides; 0 tracks by overlap alone")
    add("--every", type=PositiveInt, default=1, help=EVERY_HELP)
    add("--min_height", type=PositiveInt, default=CropRules.min_height, help="pixels; lower boxes are left out")
    add("--min_visibility", type=float, default=CropRules.min_visibility, help="least share of a box that no nearer one covers, in [0, 1]")
    add("--min_frames", type=PositiveInt, default=CropRules.min_frames, help="good boxes of a track; those with fewer are left out")
    add("--max_frames", type=PositiveInt, default=40, help="of a tracklet, up to 999; longer ones are cut into equal parts")
    add("--images_per_tracklet", type=PositiveInt, default=8, help="at most so many of each are in images.csv, evenly spread")
    add("--padding", type=float, default=0.0, help="by which boxes grow on every side, as a share of their width and height")
    add("--quality", type=int, default=90, help="of the JPEG files, 1 to 100")
    add("--start", type=str, nargs="+", default=[], help="ISO time when a video begins: 2024-05-01T10:00:00; of several, NAME=... of each")
    add("--fps", type=PositiveFloat | None, default=None, help="pictures a second of folders of pictures")
    add("--json", action="store_true", help="print one JSON object, for programs")
    parser.add_class_arguments(CameraTracker, "tracker", skip={"frame_rate", "max_distance"})
    parser.add_class_arguments(OnnxDetector, "onnx", skip={"path", "num_threads"})
    parser.set_defaults({"tracker.high_score": SURE, "tracker.new_score": NEW, "tracker.min_overlap": OVERLAP})
    return parser


def run(cfg: Namespace) -> int:
    """Find, track, cut out, and tell what was made.

    Raises:
        ModuleNotFoundError: The extra ``tracking`` is not installed.
        OSError: A video, a detector or a network cannot be read, or OUT not be written.
        ValueError: OUT exists, an option is out of range, a camera is given twice, a video has no frame, or nobody is found.
    """
    out, began, progress = Path(cfg.out), time.monotonic(), not cfg.json
    rules = _checked_rules(cfg, out)
    sources = sources_of(cfg)
    starts = starts_of(cfg.start, [source.camera for source in sources])
    detector, embed = detector_of(cfg), embedder_of(cfg)
    gaps = {source.camera: cfg.every / rate_of(source) for source in sources}
    trackers = [CameraTracker(frame_rate=max(1 / gaps[one.camera], 0.01), max_distance=cfg.max_distance, **cfg.tracker) for one in sources]
    cameras, tracklets, told = dict[int, Camera](), list[Tracklet](), dict[str, dict[str, Any]]()
    for camid, (source, tracker) in enumerate(zip(sources, trackers, strict=True), 1):
        film = find_people(source, camid, detector, tracker, embed, every_n_frames=cfg.every, progress=progress)
        good, left_out = good_tracklets(film, rules, cfg.padding)
        cameras[camid] = Camera(source.camera, source, film.times, starts.get(source.camera))
        tracklets += good
        told[source.camera] = {
            "camid": camid,
            "frames": film.num_frames,
            "looked_at": len(film.times),
            "damaged": film.num_damaged,
            "boxes": len(film.boxes) + film.num_not_tracked,
            "left_out": {"not_tracked": film.num_not_tracked, **{_REASONS[why]: count for why, count in left_out.items()}},
        }
    if not tracklets:
        raise ValueError(_nobody(cfg, told))
    with folder_written_whole(out) as draft:
        written = write_crop_folder(
            draft,
            cameras,
            tracklets,
            max_frames=cfg.max_frames,
            images_per_tracklet=cfg.images_per_tracklet,
            jpeg_quality=cfg.quality,
            progress=progress,
        )
        result = _result(cfg, detector, told, written, time.monotonic() - began)
        result["notes"] += [*notes_of_gaps(cfg.every, gaps, told), note_of_sheet(len(written))]
        write_json(draft / "crops.json", result)
    if cfg.json:
        sys.stdout.write(json.dumps(result, allow_nan=False) + "\n")  # in ASCII: a name need not be text
    else:
        _print(result)
    return 0


_REASONS = {"in a short run": "in_short_tracks", "too low": "too_low", "hidden": "hidden", "in no zone": "outside"}


def _checked_rules(cfg: Namespace, out: Path) -> CropRules:
    """What can be refused before a video is opened."""
    if os.path.lexists(out):
        raise ValueError(f"{out} exists: give another OUT")
    ranges = (
        ("min_visibility", 0, 1),
        ("padding", 0, 10),
        ("quality", 1, 100),
        ("max_frames", cfg.min_frames, MOST_FRAMES),
        ("max_distance", 0, 2),
    )
    for name, low, high in ranges:
        if not low <= cfg[name] <= high:
            raise ValueError(f"--{name} must lie in {low}..{high}, got {cfg[name]}")
    if cfg.detector != TORCHVISION and cfg.detector_weights is not None:
        raise ValueError(f"--detector_weights is of --detector torchvision, got it with {cfg.detector}")
    if cfg.detector not in (OPENCV, TORCHVISION) and Path(cfg.detector).suffix.lower() != ".onnx":
        raise ValueError(f"--detector must be an .onnx file, 'torchvision' or 'opencv', got {cfg.detector!r}")
    return CropRules(cfg.min_height, cfg.min_visibility, cfg.min_frames)


def _nobody(cfg: Namespace, told: Mapping[str, Mapping[str, Any]]) -> str:
    frames, boxes = (sum(one[name] for one in told.values()) for name in ("looked_at", "boxes"))
    if not boxes:
        return f"nobody was found in {frames:,} frames of {', '.join(told)} {_way_on(cfg)}"
    left_out = "; ".join(f"{name}: {_reasons(one['left_out'])}" for name, one in told.items())
    every = f"--every ({cfg.every}), " if cfg.every > 1 else ""
    return (
        f"no tracklet is left of {boxes:,} boxes in {frames:,} frames ({left_out}): lower {every}--min_frames ({cfg.min_frames}),"
        f" --min_height ({cfg.min_height}) or --min_visibility ({cfg.min_visibility:g}) {_way_on(cfg)}"
    )


def _way_on(cfg: Namespace) -> str:
    return WEAK if cfg.detector == OPENCV else f"by {Path(cfg.detector).name}: is it a detector of people, told its options (--onnx.*)?"


def _reasons(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {why.replace('_', ' ')}" for why, count in left_out.items() if count) or "nothing"


def _result(
    cfg: Namespace, detector: PersonDetector, told: dict[str, dict[str, Any]], written: Mapping[str, Sequence[Crop]], seconds: float
) -> dict[str, Any]:
    """All that is told, in plain values."""
    for one in told.values():
        of_camera = [crops for crops in written.values() if crops[0].camid == one["camid"]]
        one |= {"tracklets": len(of_camera), "crops": sum(map(len, of_camera))}
    quoted = shlex.quote(f"./{cfg.out}" if cfg.out.startswith("-") else cfg.out)
    alone = [name for name, one in told.items() if not one["tracklets"]]
    return {
        "out": cfg.out,
        "cameras": told,
        "tracklets": len(written),
        "crops": sum(map(len, written.values())),
        "detector": detector.name,
        "seconds": round(seconds, 1),
        "sheet": str(Path(cfg.out) / SHEET),
        "notes": [
            "a tracklet is a track, or a part of one, and no person: nobody knows how many people there are, all pids are -1",
            "one tracklet may hold two people where they crossed: look at the sheet",
            *([f"boxes {WEAK}"] if cfg.detector == OPENCV else []),
            *([f"no tracklet of {', '.join(alone)}"] if alone else []),
            *(f"{name}: {one['damaged']:,} damaged pictures were skipped" for name, one in told.items() if one["damaged"]),
        ],
        "next": [
            f"lightning-reid doctor {quoted}",
            f"lightning-reid train hsr --target {quoted} --start_from {DEFAULT}",
            f"lightning-reid train buc --data.dataset {quoted} --start_from {DEFAULT}",
            f"lightning-reid embed {quoted}/bbox_train {shlex.quote(f'{Path(cfg.out).name}.npz')}",
        ],
    }


def _print(told: Mapping[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False, markup=False)

    def tell(line: str) -> None:
        console.print(printable(line))

    tell(f"{told['out']}: {told['crops']:,} crops in {told['tracklets']:,} tracklets, {told['seconds']:g} s")
    for name, one in told["cameras"].items():
        tell(f"  {name} (camera {one['camid']}): {one['looked_at']:,} of {one['frames']:,} frames, {one['boxes']:,} boxes")
        tell(f"    {one['tracklets']:,} tracklets of {one['crops']:,} crops; left out: {_reasons(one['left_out'])}")
    tell(f"a contact sheet, a row a tracklet: {told['sheet']}")
    for title in ("notes", "next"):
        for line in told[title]:
            tell(f"{title}: {line}")
