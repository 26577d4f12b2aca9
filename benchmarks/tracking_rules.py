"""What is each rule of tracking worth? One left out or added at a time, on generated worlds over seeds, paired differences.

    python benchmarks/tracking_rules.py
    python benchmarks/tracking_rules.py --checkpoint FOLDER         # by another network

The protocol, fixed before any row but the first, by earlier defaults, was run on the worlds 1 to 5:

- Worlds and everything else are those of ``track_cameras.py evaluate`` by its defaults: three cameras, 20 people, 60 seconds at 10 frames
  a second, the stand-in detector, the shipped network. Worlds 1 to 5 are scored; each row has a threshold of its own, chosen on worlds 100
  and 101 by cross-camera IDF1 as that recipe chooses it, among 0.3 to 0.7, so that no row wears another's.
- "First feature of four frames" waits for four frames where the recipe announces a first feature of one. "Other cameras alone" finds
  nobody who left a query's own camera, as in the text.
- "Last feature" announces a track's latest feature in place of the running mean. "Hidden boxes too" embeds every tracked box
  (``max_hidden=1``, ``min_score=0``). "Each takes its best" assigns every query the person it is most similar to, whoever else asks for
  them; that nobody is twice in a camera at a time holds still. "No hysteresis" is ``margin=0``. "Learned gates" learn from matches that
  stood, by the defaults; "gates of a table" come from the street: between neighboring cameras no sooner than the gap between the views at
  1.6 m/s, no later than from the middle of a view to the middle of the other at 1.1 m/s with 6 seconds to stop; between others no sooner
  than the gap.
- On overlapping views, worlds of the same numbers: the live memory against the text's, which knows people who have left only, and against
  the text's with neighboring cameras declared as overlapping.
- Scores: cross-camera IDF1, precision and recall of handovers. Differences are paired by world, with Student's 95 % interval; where it
  holds zero, the rule is within noise.

Cameras are recorded once, into ``--output``, and replayed for each rule. A recording belongs to the code and the weights that made it:
the weights are in its name, after a change of the code take another folder.
"""

from __future__ import annotations

import argparse
import struct
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from real_people import digest_of
from torch import Tensor

from lightning_reid.datamodules.generated import GeneratedWorld, WorldDetector
from lightning_reid.files import write_atomically
from lightning_reid.inference import crop_embedder
from lightning_reid.metrics import TrackedCamera, TrueBoxes, cross_camera_scores, handover_scores, paired_difference_interval
from lightning_reid.networks import load_embedding_network
from lightning_reid.networks.shipped import DEFAULT
from lightning_reid.recipes.workshop import tracking_scores
from lightning_reid.recipes.workshop.camera_recording import Messages, name_of, replay, scored_cameras, truth_of
from lightning_reid.tracking import (
    CameraNode,
    FrameStamp,
    MatchingRules,
    OnlineMatcher,
    TrackEmbedding,
    TrackFeature,
    TrackKey,
    TransitGates,
    read_message,
    write_message,
)
from lightning_reid.tracking.handover import NOBODY

MEAN, LAST, WHOLE, HIDDEN = "running mean", "last feature", "whole clips", "hidden boxes too"
"""How a world's cameras are recorded."""
MEASURES = ("IDF1 across", "precision", "recall")


@dataclass(frozen=True)
class Row:
    """One way to match: what is recorded, and what the matcher is told."""

    recorded: str = MEAN
    rules: Mapping[str, Any] | None = None
    gates: Callable[[GeneratedWorld], TransitGates] = lambda world: TransitGates()
    greedy: bool = False


def gates_of(world: GeneratedWorld) -> TransitGates:
    """Bounds of transit times by where the cameras of a world look, as the protocol has them."""
    views, table = world.street.views, {}
    for one, (low, high) in enumerate(views):
        for other, (start, end) in enumerate(views):
            if one != other:
                gap, centers = max(start - high, low - end), abs(start + end - low - high) / 2
                table[name_of(one + 1), name_of(other + 1)] = (gap / 1.6, centers / 1.1 + 6 if abs(one - other) == 1 else inf)
    return TransitGates({pair: (least, min(most, 1e6)) for pair, (least, most) in table.items()})


def neighbors(world: GeneratedWorld) -> tuple[tuple[str, str], ...]:
    return tuple(pairwise(map(name_of, range(1, world.num_cameras + 1))))


APART = {
    "as they are": Row(),
    "last feature, not the running mean": Row(recorded=LAST),
    "first feature of four frames, not one": Row(recorded=WHOLE),
    "hidden boxes too": Row(recorded=HIDDEN),
    "other cameras alone": Row(rules={"own_camera": False}),
    "each takes its best, no assignment": Row(greedy=True),
    "no hysteresis": Row(rules={"margin": 0.0}),
    "with learned gates": Row(gates=lambda world: TransitGates(learn=True)),
    "with gates of a table": Row(gates=gates_of),
}
OVERLAPPING = {
    "live memory": Row(rules={"memory": "live"}),
    "memory of those who left": Row(rules={"memory": "left"}),
    "of those who left, overlaps declared": Row(rules={"memory": "left", "overlapping": neighbors}),
}


class Watch:
    """A camera, watched in the ways that rows ask for; each picture is drawn once."""

    def __init__(self, camid: int, fps: float, embed: Callable[[Sequence[Tensor]], Tensor], model: str, ways: Collection[str]) -> None:
        def node(**options: Any) -> CameraNode:
            return tracking_scores.camera_node(camid, tracking_scores.camera_tracker(fps), embed, model, **options)

        self.latest: list[Tensor] = []
        self.whole: dict[TrackKey, TrackEmbedding] = {}

        def embed_clip(crops: Sequence[Tensor]) -> Tensor:
            self.latest.append(embed(crops).mean(0))
            return self.latest[-1]

        self.ways = ways
        self.nodes = {MEAN: node(embed_clip=embed_clip)}
        if HIDDEN in ways:
            self.nodes[HIDDEN] = node(max_hidden=1.0, min_score=0.0)

    def step(self, stamp: FrameStamp, picture: Tensor, boxes: Tensor, scores: Tensor) -> dict[str, Messages]:
        """As of ``CameraNode``, by the way of watching."""
        self.latest.clear()
        told: dict[str, Messages] = {name: node.step(stamp, picture, boxes, scores) for name, node in self.nodes.items()}
        return self._otherwise(told)

    def end(self) -> dict[str, Messages]:
        """As of ``CameraNode``, by the way of watching."""
        self.latest.clear()
        return self._otherwise({name: node.end() for name, node in self.nodes.items()})

    def _otherwise(self, told: dict[str, Messages]) -> dict[str, Messages]:
        """The same with the ways that differ in what is told of a clip, not in the clips."""
        latest = iter(self.latest)  # in the order in which the node tells features
        told |= {LAST: [], WHOLE: []}
        for one in told[MEAN]:
            if not isinstance(one, TrackFeature):
                told[LAST].append(one)
                told[WHOLE].append(one)
                continue
            feature = next(latest)
            told[LAST].append(replace(one, feature=TrackEmbedding.of(feature).feature))
            if one.num_features > 1:  # the first is of a part of the clip that makes the second
                known = self.whole.get(one.key)
                mean_of_whole = self.whole[one.key] = TrackEmbedding.of(feature) if known is None else known.with_feature(feature)
                told[WHOLE].append(replace(one, feature=mean_of_whole.feature, num_features=mean_of_whole.num_features))
        return {way: told[way] for way in self.ways}


def record(world: GeneratedWorld, embed: Callable[[Sequence[Tensor]], Tensor], model: str, ways: Collection[str]) -> dict[str, Messages]:
    """What the cameras of a world told, by the way in which they were watched."""
    told: dict[str, Messages] = {name: [] for name in ways}
    watches = {camid: Watch(camid, world.fps, embed, model, ways) for camid in range(1, world.num_cameras + 1)}
    detector = WorldDetector(world, seed=world.seed)
    for number in range(world.num_frames):
        for camid, watch in watches.items():
            stamp = FrameStamp(name_of(camid), number, captured_monotonic=number / world.fps, captured_utc=number / world.fps)
            found = detector(camid, number)
            picture = torch.from_numpy(world.frame(camid, number)).permute(2, 0, 1)
            for name, messages in watch.step(stamp, picture, found.boxes, found.scores).items():
                told[name] += messages
    for watch in watches.values():
        for name, messages in watch.end().items():
            told[name] += messages
    return told


def write_messages(path: Path, messages: Messages) -> None:
    contents = [write_message(message) for message in messages]
    content = b"".join(struct.pack("<I", len(one)) + one for one in contents)
    write_atomically(path, lambda draft: draft.write_bytes(content))


def read_messages(path: Path) -> Messages:
    content, messages, start = path.read_bytes(), [], 0
    while start < len(content):
        (length,) = struct.unpack_from("<I", content, start)
        messages.append(read_message(content[start + 4 : start + 4 + length]))
        start += 4 + length
    return messages  # type: ignore[return-value]


def each_takes_its_best(similarities: Tensor, *, threshold: float, held: Tensor, margin: float) -> Tensor:
    """In place of ``assign_one_to_one``: the most similar person above the threshold, better than who is held by a margin."""
    if not similarities.numel():
        return torch.full((len(similarities),), NOBODY)
    best, columns = similarities.max(1)
    own = similarities.gather(1, held.clamp(min=0)[:, None])[:, 0]
    better = (best > threshold) & ((held == NOBODY) | (best > own + margin))
    return torch.where(better, columns, held)


@contextmanager
def assignment(greedy: bool) -> Iterator[None]:
    if not greedy:
        yield
        return
    with patch("lightning_reid.tracking.query_round.assign_one_to_one", each_takes_its_best):
        yield


class Worlds:
    """Worlds and their recordings."""

    def __init__(self, args: argparse.Namespace, *, overlapping: bool) -> None:
        self.args, self.overlapping = args, overlapping
        self.model = digest_of(args.checkpoint)[:12]
        self._network: Any = None
        self._truth: dict[int, list[TrueBoxes]] = {}
        self._told: dict[tuple[int, str], Messages] = {}

    @property
    def network(self) -> Any:
        """Of crops; loaded once."""
        self._network = self._network or load_embedding_network(self.args.checkpoint)
        return self._network

    def world(self, seed: int) -> GeneratedWorld:
        """The world of a seed."""
        return GeneratedWorld(seed, overlapping=self.overlapping, **self.args.world)

    def told(self, seed: int, how: str) -> Messages:
        """What the cameras of a world told, recorded now or before."""
        if (seed, how) not in self._told:
            world = self.world(seed)
            folder = self.args.output / self.model
            name = f"{'overlapping' if self.overlapping else 'apart'}-{world.seconds:g}s-{world.num_people}-{seed}"
            ways = (MEAN,) if self.overlapping else (MEAN, LAST, WHOLE, HIDDEN)
            paths = {one: folder / f"{name}-{one.replace(' ', '-')}.messages" for one in ways}
            if not all(path.is_file() for path in paths.values()):
                print(f"recording world {seed}{', overlapping views' * self.overlapping}", flush=True)
                folder.mkdir(parents=True, exist_ok=True)
                for one, messages in record(world, crop_embedder(self.network), self.model, ways).items():
                    write_messages(paths[one], messages)
            self._told[seed, how] = read_messages(paths[how])
        return self._told[seed, how]

    def matched(self, seed: int, row: Row, threshold: float) -> list[TrackedCamera]:
        """What was shown of each camera of a world."""
        world, messages = self.world(seed), self.told(seed, row.recorded)
        if seed not in self._truth:
            self._truth[seed] = truth_of(world)
        rules = {name: value(world) if callable(value) else value for name, value in (row.rules or {}).items()}
        size, gates = self.network.num_features, row.gates(world)
        matcher = OnlineMatcher(MatchingRules(threshold, **{"own_camera": True} | rules), feature_size=size, model=self.model, gates=gates)
        with assignment(row.greedy):
            return scored_cameras(world, self._truth[seed], replay(messages, matcher))

    def threshold(self, row: Row) -> float:
        """The cosine that is chosen on the worlds to choose by."""
        return tracking_scores.choose_threshold(
            lambda seed, one: self.matched(seed, row, one), self.args.calibrated_on, self.args.thresholds
        )[0]

    def scores(self, seed: int, row: Row, threshold: float) -> dict[str, float]:
        """What a row comes to on a world, fractions."""
        cameras = self.matched(seed, row, threshold)
        across, handed = cross_camera_scores(cameras), handover_scores(cameras)
        return dict(zip(MEASURES, (across.shown.idf1, handed.precision, handed.recall), strict=True))


def cells(row: Mapping[int, Mapping[str, float]], first: Mapping[int, Mapping[str, float]]) -> list[str]:
    """Of each measure the mean, and the difference to the first row with its interval."""
    found = []
    for measure in MEASURES:
        ours, theirs = (torch.tensor([one[seed][measure] for seed in sorted(first)], dtype=torch.float64) for one in (row, first))
        told, silent = f"{100 * ours.mean():.1f}", int((~ours.isfinite()).sum())
        if silent:  # precision, where nothing was linked
            told = f"nothing linked in {silent} of {len(ours)} worlds"
        elif row is not first:
            low, high = paired_difference_interval(ours, theirs)
            noise = ", within noise" if low <= 0 <= high else ""
            told += f" ({100 * (ours - theirs).mean():+.1f}: {100 * low:+.1f} to {100 * high:+.1f}{noise})"
        found.append(told)
    return found


def report(title: str, rows: Mapping[str, Mapping[int, Mapping[str, float]]], thresholds: Mapping[str, float]) -> str:
    first = next(iter(rows.values()))
    lines = ["", f"{title}, worlds {sorted(first)}, in per cent; in brackets the difference to the first row, 95 % interval", ""]
    lines += [f"| | threshold | {' | '.join(MEASURES)} |", "|---|---:|" + "---|" * len(MEASURES)]
    lines += [f"| {name} | {thresholds[name]} | {' | '.join(cells(row, first))} |" for name, row in rows.items()]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> dict[str, dict[int, dict[str, float]]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=DEFAULT, help="network that tells people apart: a shipped name or a model folder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="worlds that are scored, at least two")
    parser.add_argument("--calibrated_on", type=int, nargs="+", default=[100, 101], help="worlds that thresholds are chosen on")
    cosines = [one for one in tracking_scores.THRESHOLDS if one <= 0.7]
    parser.add_argument("--thresholds", type=float, nargs="+", default=cosines, help="cosines to choose from (default: 0.3 to 0.7)")
    parser.add_argument("--only", nargs="+", choices=[*APART, *OVERLAPPING], help="rows, for those alone")
    parser.add_argument("--output", type=Path, default=Path("runs/tracking_rules"), help="folder of the recordings")
    parser.add_argument("--small", action="store_true", help="two cameras, eight people, 12 seconds: does it run?")
    args = parser.parse_args(argv)
    if set(args.seeds) & set(args.calibrated_on):
        parser.error("--seeds and --calibrated_on share worlds: who is scored is not chosen on")
    small = {"num_cameras": 2, "num_people": 8, "seconds": 12, "image_size": (144, 192), "encounters": 1, "crossings": 1}
    args.world = small if args.small else {}
    torch.set_num_threads(1)
    found: dict[str, dict[int, dict[str, float]]] = {}
    for title, rows, overlapping in (("views apart", APART, False), ("overlapping views", OVERLAPPING, True)):
        worlds, thresholds = Worlds(args, overlapping=overlapping), {}
        names = [name for name in rows if args.only is None or name in args.only]
        for name in names:
            thresholds[name] = worlds.threshold(rows[name])
            found[name] = {seed: worlds.scores(seed, rows[name], thresholds[name]) for seed in args.seeds}
            print(f"{name}, threshold {thresholds[name]}: {found[name]}", flush=True)
        if names:
            print(report(title, {name: found[name] for name in names}, thresholds), flush=True)
    return found


if __name__ == "__main__":
    main()
