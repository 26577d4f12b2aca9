"""Tracking over generated cameras, scored by what was shown at the time: ``track_cameras.py evaluate``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import isnan
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from lightning_reid.datamodules.generated import GeneratedWorld, WorldDetector
from lightning_reid.files import write_json
from lightning_reid.metrics import TrackedCamera, TrueBoxes, camera_scores, cross_camera_scores, handover_scores
from lightning_reid.networks.shipped import DEFAULT
from lightning_reid.recipes.workshop.camera_recording import Messages, name_of, record_world, replay, scored_cameras, truth_of
from lightning_reid.recipes.workshop.live_networks import NETWORK_HELP, load_networks
from lightning_reid.recipes.workshop.tables import print_table
from lightning_reid.tracking import CameraNode, CameraTracker, ClipCollector, MatchingRules, OnlineMatcher
from lightning_reid.tracking.track_features import EmbedCrops, Look

DESCRIPTION = """Score tracking over generated cameras by what was shown at the time.

Each camera detects (a stand-in detector), tracks (ByteTrack with the appearance repair) and embeds its people; a matcher finds them
again in the other cameras while they walk. The threshold of a match is chosen on worlds of other people, before those that are scored.
World 0 is not among them by default: some of its clothes are those that the shipped network was trained on.
Leaves in --output: results.json with the scores of each world, those without matching and those of an oracle beside them.
"""
RESULTS = "results.json"
THRESHOLDS = tuple(round(0.3 + 0.025 * step, 3) for step in range(25))
"""Cosines that the threshold is chosen from."""
GIVEN_UP = 0.01
"""Cross-camera IDF1, a fraction, that may be given up for a stricter threshold: IDF1 is flat near its best, and an announcement that is
wrong cannot be taken back."""
MAX_DISTANCE = 0.35
"""Of the appearance repair: what two boxes of one person have at most, by networks trained on generated people."""
MIN_OVERLAP = 0.3
"""Of a track's expected place and a box: at less, who walks off hands the track to who stands near."""
FIRST_FRAMES = 1
"""Of a track's first feature: somebody crosses a view in a few seconds, and a second without a name is much of it."""


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(description=DESCRIPTION)
    parser.add_argument("--output", type=str, default="runs/tracking", help="folder for the scores")
    parser.add_argument("--checkpoint", type=str, default=DEFAULT, help=NETWORK_HELP)
    parser.add_argument("--seeds", type=list[int], default=[1, 2, 3, 4, 5], help="worlds that are scored")
    parser.add_argument("--calibrated_on", type=list[int], default=[100, 101], help="worlds that the threshold is chosen on")
    told = "largest cosine distance of the appearance repair; 0 for none"
    parser.add_argument("--max_distance", type=float, default=MAX_DISTANCE, help=told)
    told = "frames of a track's first feature, 1 to 4; those after are of four"
    parser.add_argument("--first_frames", type=PositiveInt, default=FIRST_FRAMES, help=told)
    told = "find people who left the same camera, too; the text asks the other cameras alone"
    parser.add_argument("--own_camera", type=bool, default=True, help=told)
    parser.add_argument("--every_n_frames", type=PositiveInt, default=40, help="frames from one query of a track to its next")
    parser.add_class_arguments(GeneratedWorld, "world", skip={"seed"})
    parser.add_argument("--quiet", action="store_true", help="show no progress bars")
    return parser


def check(cfg: Namespace) -> None:
    """Find what cannot be right before minutes are spent.

    Raises:
        OSError: The network is not there.
        ValueError: Worlds are scored that are chosen on, the folder holds results, or the network is none.
    """
    if set(cfg.seeds) & set(cfg.calibrated_on):
        raise ValueError(
            f"--seeds and --calibrated_on share {sorted(set(cfg.seeds) & set(cfg.calibrated_on))}: who is scored is not chosen on"
        )
    if (Path(cfg.output) / RESULTS).exists():
        raise ValueError(f"{cfg.output} holds the {RESULTS} of another run: give another --output")
    load_networks(cfg.checkpoint)


class Recorded(NamedTuple):
    """A world, what its cameras told, and who was there."""

    world: GeneratedWorld
    messages: Messages
    truth: list[TrueBoxes]


class Tracking:
    """Worlds, and what a matcher makes of them; each world is recorded once."""

    def __init__(self, cfg: Namespace) -> None:
        self.cfg, self.networks = cfg, load_networks(cfg.checkpoint)
        self._recorded: dict[int, Recorded] = {}

    def recorded(self, seed: int) -> Recorded:
        """The world of a seed, watched from its first picture to its last."""
        if seed not in self._recorded:
            world = GeneratedWorld(seed, **self.cfg.world)
            nodes = {camid: self.node(camid, world.fps) for camid in range(1, world.num_cameras + 1)}
            messages = record_world(world, WorldDetector(world, seed=seed), nodes, progress=not self.cfg.quiet)
            self._recorded[seed] = Recorded(world, messages, truth_of(world))
        return self._recorded[seed]

    def node(self, camid: int, fps: float) -> CameraNode:
        """What watches a camera."""
        tracker, networks = camera_tracker(fps, self.cfg.max_distance), self.networks
        first_frames = None if networks.embed_clip is not None else self.cfg.first_frames  # a network of clips takes whole ones only
        return camera_node(camid, tracker, networks.embed, self.cfg.checkpoint, first_frames=first_frames, embed_clip=networks.embed_clip)

    def matched(self, seed: int, threshold: float) -> list[TrackedCamera]:
        """What was shown of each camera of a world."""
        world, messages, truth = self.recorded(seed)
        wait, own_camera = self.cfg.every_n_frames, self.cfg.own_camera
        rules = MatchingRules(threshold, memory="live" if world.overlapping else "left", every_n_frames=wait, own_camera=own_camera)
        matcher = OnlineMatcher(rules, feature_size=self.networks.num_features, model=self.cfg.checkpoint)
        return scored_cameras(world, truth, replay(messages, matcher))


def camera_tracker(fps: float, max_distance: float = MAX_DISTANCE) -> CameraTracker:
    """Track one camera, whose detector scores as the stand-in and SSDLite do."""
    return CameraTracker(high_score=0.5, new_score=0.55, min_overlap=MIN_OVERLAP, frame_rate=fps, max_distance=max_distance)


def camera_node(
    camid: int, tracker: CameraTracker, embed: EmbedCrops, model: str, *, first_frames: int | None = FIRST_FRAMES, **options: Any
) -> CameraNode:
    """What watches a camera; the options are ``CameraNode``'s."""
    return CameraNode(name_of(camid), tracker, embed, model=model, clips=ClipCollector[Look](first_frames=first_frames), **options)


def choose_threshold(
    matched: Callable[[int, float], Sequence[TrackedCamera]], seeds: Sequence[int], thresholds: Sequence[float] = THRESHOLDS
) -> tuple[float, dict[float, float]]:
    """The cosine that a match must exceed, by the cross-camera IDF1 of worlds of other people.

    Args:
        matched: What was shown of each camera of a world, by its seed and the threshold.
        seeds: Of the worlds.
        thresholds: To choose from.

    Returns:
        The largest whose IDF1 is at most ``GIVEN_UP`` below the best, and the IDF1 of each, a fraction.
    """
    found = {one: mean(cross_camera_scores(matched(seed, one)).shown.idf1 for seed in seeds) for one in thresholds}
    return max(one for one, score in found.items() if score >= max(found.values()) - GIVEN_UP), found


def scores_of(cameras: Sequence[TrackedCamera]) -> dict[str, float]:
    """Fractions, but for the delay (seconds) and the counts."""
    across, handed, single = cross_camera_scores(cameras), handover_scores(cameras), [camera_scores(one) for one in cameras]
    return {
        **{f"camera {name}": mean(getattr(one, name.lower()) for one in single) for name in ("IDF1", "HOTA", "MOTA")},
        **{f"across {name}": getattr(across.shown, name.lower()) for name in ("IDF1", "HOTA")},
        **{"no matching IDF1": across.no_matching.idf1, "oracle IDF1": across.oracle.idf1, "gap closed": across.gap_closed.idf1},
        **{"handover precision": handed.precision, "handover recall": handed.recall, "delay, s": handed.mean_delay},
        **{"false links an hour": handed.false_links_per_hour, "twice in a camera": handed.num_duplicates},
    }


def run(cfg: Namespace) -> dict[str, Any]:
    """Record the worlds, choose the threshold, and score what was shown; leaves results.json in the folder."""
    began = time.monotonic()
    tracking = Tracking(cfg)
    threshold, chosen = choose_threshold(tracking.matched, cfg.calibrated_on)
    rows = {seed: scores_of(tracking.matched(seed, threshold)) for seed in cfg.seeds}
    names = list(next(iter(rows.values())))
    cells = [[name, *(f"{row[name]:.3g}" for row in rows.values()), f"{mean(row[name] for row in rows.values()):.3g}"] for name in names]
    told = f"threshold {threshold} by worlds {cfg.calibrated_on}, network {cfg.checkpoint}"
    print_table("generated cameras, tracked online", ["score", *(f"world {seed}" for seed in rows), "mean"], cells, caption=told)
    results = {"threshold": threshold, "chosen": {str(one): value for one, value in chosen.items()}, "rows": rows}
    # a share of nothing is no number, which JSON has not
    written = {seed: {name: None if isnan(value) else value for name, value in row.items()} for seed, row in rows.items()}
    write_json(Path(cfg.output) / RESULTS, {**results, "rows": written, "seconds": round(time.monotonic() - began, 1)})
    return results
