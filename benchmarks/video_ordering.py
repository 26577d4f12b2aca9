"""Video networks, and re-detect and link, on generated tracklets: several seeds, paired differences on the same queries.

Noisy tracklets are "mars-like", clean ones "dukev-like". Data, training and networks are those of `python recipes/video_mars.py` without
arguments; re-detection is that of `--redetect`: a stand-in detector (the generator's boxes with jitter and misses; real detectors know
photographs, not drawn figures), and as the extractor the same seed's baseline. A seed changes weights, draws and augmentations. Fixed
before any of its seeds was run. Primary is the first comparison, re-detection on noisy tracklets; it was named so afterwards.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from result_files import parse_options, write_scores

from lightning_reid.files import write_json
from lightning_reid.recipes import video_mars
from lightning_reid.recipes.workshop.run_folder import RunFolder
from lightning_reid.recipes.workshop.seeds import seed_comparison
from lightning_reid.recipes.workshop.video_tables import VideoTableRow

TOLD = {
    "benchmark": "video_ordering",
    "primary_named": "afterwards",
    "table": "Tables 2.1 and 2.8",
    "unit": "points of mAP",
    "protocol": 'Generated tracklets, noisy and clean ("clean: ..."), 64x32, clips of 4 frames, a narrow ResNet-18, 20 epochs from '
    'random weights; 170 queries, clean 166. Re-detection ("DL") has a stand-in detector that is given the generator\'s '
    "boxes, jittered. Fixed before the seeds; the primary comparison was named afterwards.",
}
LENGTH = 4
FOUR_HEADS = {"heads": 4}  # the narrow backbone has too few channels for eight heads at an eighth of its channels
ROWS = {
    "mars-like": (
        VideoTableRow("baseline", "baseline", LENGTH),
        VideoTableRow("baseline, DL", "baseline", LENGTH, redetected=True),
        VideoTableRow("NVAN", "nvan", LENGTH),
        VideoTableRow("STE-NVAN", "stenvan", LENGTH),
        VideoTableRow("STE-NVAN, pairwise", "stenvan", LENGTH, {"pairwise": True}),
        VideoTableRow("CF-AAN", "cfaan", LENGTH, FOUR_HEADS),
        VideoTableRow("CF-AAN, reduced", "cfaan", LENGTH, {"channel_reduction": 8, **FOUR_HEADS}),
    ),
    "dukev-like": (
        VideoTableRow("clean: baseline", "baseline", LENGTH),
        VideoTableRow("clean: baseline, DL", "baseline", LENGTH, redetected=True),
    ),
}
PAIRS = (
    ("baseline, DL", "baseline"),
    ("clean: baseline, DL", "clean: baseline"),
    ("NVAN", "baseline"),
    ("STE-NVAN", "baseline"),
    ("NVAN", "STE-NVAN"),
    ("STE-NVAN", "STE-NVAN, pairwise"),
    ("CF-AAN", "baseline"),
    ("CF-AAN", "CF-AAN, reduced"),
    ("CF-AAN, reduced", "baseline"),
)
PRIMARY = PAIRS[0]


Rows = Mapping[str, Sequence[VideoTableRow]]
"""By the data set that they are trained and scored on."""


def run_seed(
    seed: int, output: Path, root: str, more: Sequence[str], asked: Rows = ROWS, settings: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """The mAP of every row; rows that were trained before are read back. ``settings`` are others than the recipe's."""
    scores, costs = {}, {}
    for dataset, rows in asked.items():
        folder = output / f"seed{seed}" / dataset
        options = video_mars.SMALL_RUN | dict(settings or {})
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}
        small = [f"--{name}={text}" for name, text in texts.items() if name != "data.dataset"]
        named = [f"--data.dataset={dataset}", f"--data.root={root}"]
        cfg = video_mars.parse([f"--seed={seed}", f"--output={folder}", "--quiet", "--resume", *small, *named, *more])
        with RunFolder(cfg) as run:
            trainer = video_mars.Rows(cfg)
            run.read(trainer.data(rows[0]))
            for row in rows:
                result, _ = trainer.train(row)
                scores[row.name], costs[row.name] = result.scores["mAP"], result.costs
    file = output / f"seed{seed}" / "results.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"mAP": {}, "costs": {}}  # of rows in another part
    write_json(file, {"mAP": before["mAP"] | scores, "costs": before["costs"] | costs})
    return scores


def compare(
    argv: list[str] | None,
    description: str | None,
    told: Mapping[str, str],
    asked: Rows,
    pairs: Sequence[tuple[str, str]],
    primary: tuple[str, str] | None,
    settings: Mapping[str, Any] | None = None,
    parents: Sequence[argparse.ArgumentParser] = (),
) -> dict[int, dict[str, float]]:
    """The command of a comparison of video networks over seeds: runs the rows, prints the tables, and writes the file that is asked for."""
    texts = {"description": description, "formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(parents=list(parents), **texts)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="at least two for a report (default: 0 1 2 3 4)")
    parser.add_argument("--output", type=Path, default=Path("runs", told["benchmark"]), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--root", default="data", help="folder for the generated data (default: data)")
    arguments, more = parse_options(parser, argv, settings=True)
    scores = {seed: run_seed(seed, arguments.output, arguments.root, more, asked, settings) for seed in arguments.seeds}
    if len(scores) > 1:
        print(seed_comparison(scores, pairs, primary))
        write_scores(arguments, told, scores, pairs, primary)
    return scores


def main(argv: list[str] | None = None) -> dict[int, dict[str, float]]:
    return compare(argv, __doc__, TOLD, ROWS, PAIRS, PRIMARY)


if __name__ == "__main__":
    main()
