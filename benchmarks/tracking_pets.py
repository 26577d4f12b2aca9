"""People of a real recording, followed from the left half of its picture to the right one and back: PETS 2009 S2.L1, View_001.

    python benchmarks/tracking_pets.py VIDEO IMAGES DETECTOR --checkpoints generated-people-small FOLDER

VIDEO is the MOTChallenge folder of the sequence, IMAGES the ``images.csv`` of its crops, which says who of its 19 tracks are one person,
DETECTOR the SSDLite graph in ONNX. Two cameras, x below 360 and from 408 on, with a blind strip between them; 7 frames a second.

Fixed before anything was looked at: the detector's boxes from a score of 0.1 on, ByteTrack with 0.55 to begin a track and 0.5 to be sure,
all else as ``track_cameras.py evaluate`` has it by default, and for each network the threshold that this recipe chooses on generated
worlds 100 and 101. **Nothing is chosen on this sequence**: it is both scored and looked at, and swings by points when settings move that
should not matter. What is better than what is said on generated worlds only (``tracking_rules.py``).

A camera is scored with visits as identities, twice: a track of the annotation in a camera as one visit, and ("new visits") whoever was out
of the window for more than 10 frames as a new one, as handovers have it. Across cameras people are the identities. The detector's boxes
are kept in ``--output``, by the digest of its graph.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from real_people import digest_of

from lightning_reid.datamodules.virtual_cameras import VirtualCameras
from lightning_reid.detection import Detections, OnnxDetector
from lightning_reid.files import write_atomically
from lightning_reid.metrics import TrackedCamera, TrueBoxes, camera_scores, cross_camera_scores, handover_scores
from lightning_reid.recipes.workshop import tracking_scores
from lightning_reid.recipes.workshop.camera_recording import Messages, Shown, name_of, replay, shown_boxes
from lightning_reid.tracking import FrameStamp, MatchingRules, OnlineMatcher

FPS = 7
MIN_SCORE = 0.1
ASKED = {"camera IDF1": 0.72, "camera HOTA": 0.50, "across IDF1": 0.55, "precision": 0.75}


def people_of(images: Path) -> dict[int, int]:
    """Person by track of the annotation; crops of people who are hidden are nobody's."""
    with images.open(newline="", encoding="utf-8") as file:
        return {int(row["mot_id"]): int(row["person"]) for row in csv.DictReader(file) if int(row["person"]) > 0}


def detections(args: argparse.Namespace, cameras: VirtualCameras) -> dict[tuple[int, int], Detections]:
    """The detector's boxes by camera and frame; those of an earlier run are read back."""
    detector = OnnxDetector(args.detector, min_score=MIN_SCORE, num_threads=1)
    what = f"{detector.name} {cameras.source.frames} {sorted(cameras.windows.items())} {args.frames}"
    path = args.output / f"detections-{hashlib.sha256(what.encode()).hexdigest()[:12]}.pt"
    if not path.is_file():
        found: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}
        for number, pictures in cameras.frames():
            if number >= args.frames:
                break
            for camid, picture in pictures.items():
                (one,) = detector([torch.from_numpy(picture).permute(2, 0, 1)])
                found[camid, number] = (one.boxes, one.scores)
        write_atomically(path, lambda draft: torch.save(found, draft))
    return {key: Detections(*one) for key, one in torch.load(path, weights_only=True).items()}


def record(cameras: VirtualCameras, found: dict[tuple[int, int], Detections], tracking: tracking_scores.Tracking, frames: int) -> Messages:
    """What the cameras told, by the recipe's settings."""
    nodes = {camid: tracking.node(camid, FPS) for camid in cameras.windows}
    told: Messages = []
    for number, pictures in cameras.frames():
        if number >= frames:
            break
        for camid, picture in pictures.items():
            stamp = FrameStamp(name_of(camid), number, captured_monotonic=number / FPS, captured_utc=number / FPS)
            told += nodes[camid].step(stamp, torch.from_numpy(picture).permute(2, 0, 1), *found[camid, number])
    return told + [message for node in nodes.values() for message in node.end()]


def tracked(cameras: VirtualCameras, shown: Sequence[Shown], frames: int) -> list[TrackedCamera]:
    """What was shown of each window, beside who was there."""
    return [
        TrackedCamera(
            name_of(camid),
            torch.arange(frames, dtype=torch.float64) / FPS,
            true_boxes(cameras, camid, frames),
            shown_boxes([one for one in shown if one.tracks.stamp.camera == name_of(camid)]),
        )
        for camid in cameras.windows
    ]


def true_boxes(cameras: VirtualCameras, camid: int, frames: int) -> TrueBoxes:
    rows = [cameras.truth(camid, number) for number in range(frames)]
    numbers = torch.repeat_interleave(torch.arange(frames), torch.tensor([len(row.pids) for row in rows]))
    boxes, pids, visits = (torch.cat([torch.from_numpy(getattr(row, name)) for row in rows]) for name in ("boxes", "pids", "visits"))
    return TrueBoxes(numbers, boxes, pids, visits)


def threshold_of(checkpoint: str, args: argparse.Namespace) -> tuple[tracking_scores.Tracking, float]:
    """The recipe's settings for a network, and the threshold that it chooses on generated worlds."""
    options = [f"--checkpoint={checkpoint}", "--quiet", *args.recipe]
    tracking = tracking_scores.Tracking(tracking_scores.build_parser().parse_args(options))
    if args.threshold is not None:
        return tracking, args.threshold
    return tracking, tracking_scores.choose_threshold(tracking.matched, tracking.cfg.calibrated_on)[0]


def scores_of(checkpoint: str, args: argparse.Namespace, visits: VirtualCameras, stays: VirtualCameras) -> dict[str, float]:
    tracking, threshold = threshold_of(checkpoint, args)
    messages = record(visits, detections(args, visits), tracking, args.frames)
    rules = MatchingRules(threshold, every_n_frames=tracking.cfg.every_n_frames, own_camera=tracking.cfg.own_camera)
    matcher = OnlineMatcher(rules, feature_size=tracking.networks.num_features, model=tracking.cfg.checkpoint)
    shown = replay(messages, matcher)
    by_visit = tracked(stays, shown, args.frames)
    single, again = [camera_scores(one) for one in tracked(visits, shown, args.frames)], [camera_scores(one) for one in by_visit]
    across, handed = cross_camera_scores(by_visit), handover_scores(by_visit)
    return {
        "threshold": threshold,
        **{f"camera {name}": mean(getattr(one, name.lower()) for one in single) for name in ("IDF1", "HOTA", "MOTA")},
        **{f"new visits {name}": mean(getattr(one, name.lower()) for one in again) for name in ("IDF1", "HOTA")},
        "across IDF1": across.shown.idf1,
        "no matching": across.no_matching.idf1,
        "oracle": across.oracle.idf1,
        **{"precision": handed.precision, "recall": handed.recall},
        **{"links": handed.num_links, "right": handed.num_right, "twice in a camera": handed.num_duplicates},
    }


def report(rows: dict[str, dict[str, float]]) -> str:
    single = ("camera IDF1", "camera HOTA", "camera MOTA", "new visits IDF1", "new visits HOTA")
    fractions = (*single, "across IDF1", "no matching", "oracle", "precision", "recall")
    lines = [f"| network | threshold | {' | '.join(fractions)} | links right |", "|---|---:|" + "---:|" * (len(fractions) + 1)]
    asked = [f"{100 * ASKED[name]:.0f}" if name in ASKED else "" for name in fractions]
    lines.append(f"| asked | | {' | '.join(asked)} | |")
    for name, row in rows.items():
        cells = [f"{100 * row[one]:.1f}" for one in fractions]
        lines.append(f"| {name} | {row['threshold']} | {' | '.join(cells)} | {row['right']:.0f} of {row['links']:.0f} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, help="MOTChallenge folder of the sequence")
    parser.add_argument("images", type=Path, help="images.csv of its crops: which tracks are one person")
    parser.add_argument("detector", type=Path, help="SSDLite in ONNX")
    parser.add_argument("--checkpoints", nargs="+", default=["generated-people-small"], help="networks: shipped names or model folders")
    parser.add_argument("--recipe", nargs="*", default=[], help="options of track_cameras.py evaluate, as --max_distance=0")
    parser.add_argument("--threshold", type=float, help="of a match, in place of the one chosen on generated worlds")
    parser.add_argument("--frames", type=int, default=795, help="so many of the sequence, from its start")
    parser.add_argument("--output", type=Path, default=Path("runs/tracking_pets"), help="folder of the detector's boxes")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    options: dict[str, Any] = {"zones": 2, "pid_map": people_of(args.images)}
    visits, stays = VirtualCameras(args.video, longest_absence=None, **options), VirtualCameras(args.video, **options)
    args.frames = min(args.frames, visits.num_frames)
    rows = {f"{name} ({digest_of(name)[:8]})": scores_of(name, args, visits, stays) for name in args.checkpoints}
    print(report(rows))
    return rows


if __name__ == "__main__":
    main()
