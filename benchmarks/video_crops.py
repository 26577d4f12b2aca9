"""From a real video without annotation to tracklets, and to an adapted network: PETS 2009 S2.L1, View_001.

    python benchmarks/video_crops.py VIDEO PETS --detectors opencv DETECTOR.onnx [--adapt HSR BUC --released WHY]

VIDEO is a folder with the clip ``vtest.avi`` and ``gt.txt`` (MOTChallenge format, frame k is the k-th decoded one), PETS the folder of its
crops in the Market naming, whose ``images.csv`` says who of the 19 tracks are one of ten people. ``lightning-reid crops`` runs with its
defaults, which are those of ``track_cameras.py``: nothing is chosen on this video. Of its tracklets is told:

- ``people``: of the true people, those with a tracklet of which at least nine tenths of the boxes are theirs ("pure").
- ``purity``: of all boxes, those of the person who has the most in their tracklet; a box is of the person whose true box it overlaps most,
  of nobody where the intersection over union is below a half.
- ``apart``: the same of the boxes that show somebody. ``nobody``: of all boxes, those that show nobody.
- ``pure``: of all tracklets, those that are pure.
- ``covered``: of the true boxes, those that a box of a tracklet overlaps so.

``--adapt`` adapts the shipped network to the crops of each folder, without labels, by the recipes' own defaults for a network that is
given, and scores it on the queries of PETS beside the network as it comes. The video shows the people of the queries too, so that this use
of them is transductive: the network has seen them, though nobody told who they are. Five people ask 18 queries: a hint, no measurement.
Each look at them is a line of ``real_people_looks.csv``.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import real_people
import torch
from adapt_shipped_network import look
from torch import Tensor
from torchvision.ops import box_iou
from tracking_pets import people_of

from lightning_reid.command_line.main import main as lightning_reid
from lightning_reid.datamodules.mot.sequence import read_annotation
from lightning_reid.networks import load_embedding_network
from lightning_reid.networks.shipped import DEFAULT
from lightning_reid.recipes import buc_market, hsr_duke2market

OVERLAP, PURE = 0.5, 0.9
NOBODY = -1
TrueBoxes = Mapping[int, tuple[Tensor, Tensor]]
"""By frame, from 0: boxes ``[K, 4]`` x0, y0, x1, y1 in pixels, and the person ``[K]`` of each."""
Tracklets = Mapping[str, Sequence[tuple[int, Sequence[float]]]]
"""By name: frame and box of each crop."""


@dataclass(frozen=True)
class Quality:
    """How right tracklets are; shares in [0, 1], as the module says."""

    tracklets: int
    people: float
    purity: float
    apart: float
    pure: float
    nobody: float
    covered: float


def true_boxes(annotation: Path, people: Mapping[int, int]) -> TrueBoxes:
    """The boxes of an annotation that are considered, with the people whom its tracks show."""
    frames: dict[int, list[tuple[list[float], int]]] = defaultdict(list)
    for box in read_annotation(annotation):
        if box.considered:
            frames[box.frame - 1].append(([box.x, box.y, box.x + box.width, box.y + box.height], people[box.mot_id]))
    return {
        frame: (torch.tensor([sides for sides, _ in found]), torch.tensor([person for _, person in found]))
        for frame, found in frames.items()
    }


def tracklets_of(table: Path) -> Tracklets:
    found: dict[str, list[tuple[int, Sequence[float]]]] = defaultdict(list)
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["tracklet"]].append((int(row["frame"]), [float(row[side]) for side in ("x0", "y0", "x1", "y1")]))
    return found


def person_of(frame: int, box: Sequence[float], truth: TrueBoxes) -> int:
    """Whom a box shows: the person whose true box it overlaps most, by at least a half."""
    boxes, people = truth.get(frame, (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)))
    if not len(boxes):
        return NOBODY
    overlap, nearest = box_iou(torch.tensor([box]), boxes)[0].max(0)
    return int(people[nearest]) if overlap >= OVERLAP else NOBODY


def quality(tracklets: Tracklets, truth: TrueBoxes) -> Quality:
    """Judge tracklets by the truth, as the module says."""
    shown = {name: [(frame, person_of(frame, box, truth)) for frame, box in crops] for name, crops in tracklets.items()}
    most, pure = 0, list[int]()
    for crops in shown.values():
        counts = Counter(person for _, person in crops if person != NOBODY)
        person, count = counts.most_common(1)[0] if counts else (NOBODY, 0)
        most += count
        if count >= PURE * len(crops):
            pure.append(person)
    boxes = [crop for crops in shown.values() for crop in crops]
    nobody = sum(person == NOBODY for _, person in boxes)
    people = {int(person) for _, found in truth.values() for person in found}
    return Quality(
        tracklets=len(tracklets),
        people=len(set(pure)) / len(people),
        purity=most / len(boxes),
        apart=most / max(1, len(boxes) - nobody),
        pure=len(pure) / len(tracklets),
        nobody=nobody / len(boxes),
        covered=len({crop for crop in boxes if crop[1] != NOBODY}) / sum(len(found) for _, found in truth.values()),
    )


def report(found: Mapping[str, tuple[Quality, float]]) -> str:
    heading = ("tracklets", "people", "purity", "apart", "pure", "nobody", "covered")
    lines = [f"| detector | {' | '.join(heading)} | seconds |", "|---|" + "---:|" * (len(heading) + 1)]
    for name, (one, seconds) in found.items():
        shares = [f"{100 * getattr(one, share):.1f}" for share in heading[1:]]
        lines.append(f"| {name} | {one.tracklets} | {' | '.join(shares)} | {seconds:.0f} |")
    return "\n".join(lines)


def adapt(method: str, crops: Path, pets: Path, output: Path, seed: int) -> list[Path]:
    """The networks that a recipe adapts to crops without labels; it goes on with an earlier run of the same options and crops."""
    told = [f"--start_from={DEFAULT}", f"--scored_on={pets}", f"--output={output}", f"--seed={seed}"]
    recipe, data = (buc_market, "--data.dataset") if method == "BUC" else (hsr_duke2market, "--target")
    recipe.main([f"{data}={crops}", "--data.num_workers=0", "--quiet", "--accelerator=cpu", "--resume", *told])
    return sorted(output.glob("*/last.ckpt"))


def main(argv: Sequence[str] | None = None) -> dict[str, tuple[Quality, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, help="folder with vtest.avi and gt.txt")
    parser.add_argument("pets", type=Path, help="folder of its crops in the Market naming, with images.csv")
    parser.add_argument("--detectors", nargs="+", default=["opencv"], help="as lightning-reid crops takes them")
    parser.add_argument("--adapt", nargs="*", choices=("HSR", "BUC"), default=[], help="recipes to adapt with")
    parser.add_argument("--released", metavar="WHY", help="why the people of the queries are looked at, for the log; needed to adapt")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the adaptation")
    parser.add_argument("--output", type=Path, default=Path("runs/video_crops"), help="folder of crops and runs; crops there are kept")
    args = parser.parse_args(argv)
    if args.adapt and not args.released:
        parser.error("--adapt scores on people who are only looked at: tell why, --released WHY")
    truth = true_boxes(args.video / "gt.txt", people_of(args.pets / "images.csv"))
    found = {}
    for detector in args.detectors:
        name = Path(detector).stem
        crops = args.output / name
        if not crops.is_dir() and lightning_reid(["crops", str(args.video / "vtest.avi"), str(crops), f"--detector={detector}"]):
            raise SystemExit(f"no crops by {detector}")
        seconds = json.loads((crops / "crops.json").read_text(encoding="utf-8"))["seconds"]
        found[name] = quality(tracklets_of(crops / "tracklets.csv"), truth), seconds
    print(report(found))
    if args.adapt:
        people = real_people.read_people(args.pets, "test")
        for name, method, seed in product(found, args.adapt, args.seeds):
            for network in adapt(method, args.output / name, args.pets, args.output / f"{name}-{method}-{seed}", seed):
                told = f"{network.parent.name}, seed {seed}, adapted to the crops of a video by {name}"
                look(told, load_embedding_network(network), people, args.released)
    return found


if __name__ == "__main__":
    main()
