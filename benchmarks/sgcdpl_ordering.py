"""What do unlabeled images add? Table 3.2 on the generated set, several seeds, paired differences on the same queries.

Data are those of ``python recipes/sgcdpl_market.py``, settings those of ``PROTOCOL``; a seed changes weights, draws, augmentations and
which identities are labeled. With the text's temperature labels are nearly one-hot, and its threshold selects everything, so that "soft"
and "progressive" are one method: temperature and threshold are others here. In "SGC-DPL, guides" a third of the labeled people only
guides: p* and tau_l are read off images that were not trained on by name.

Settings were looked for on seed 100 and other people than the queries show, as ``--validation`` scores them. ``--rows`` also runs those of
Table 3.4, or training with all identities labeled.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from result_files import parse_options, write_scores

from lightning_reid.datamodules.catalog import prepare_dataset, read_prepared
from lightning_reid.datamodules.validation_split import hold_out_people
from lightning_reid.files import read_json, write_atomically, write_json
from lightning_reid.metrics import paired_difference_interval
from lightning_reid.recipes import sgcdpl_market, sgcdpl_tables
from lightning_reid.recipes.workshop.report import ResultRow
from lightning_reid.recipes.workshop.run_folder import RunFolder
from lightning_reid.recipes.workshop.seeds import seed_comparison
from lightning_reid.records import ImageRecord

PROTOCOL = (
    *("--labeled=25", "--data.image_size=[48,24]", '--model.backbone_options={"channels": [16, 32, 64, 128], "layers": [1, 1, 1, 1]}'),
    *("--initial_epochs=40", "--iterations=3", "--clustering.every_n_epochs=3", "--model.milestones=[2]"),
    *("--clustering.temperature=2", "--selection.step=6"),
)
MEMORIZED = ("--selection.labeled_quantile=0.5",)
"""What tau_l is read off in the rows without guides: the nearer half of the labeled pairs."""
GUIDED = ("--data.guides=1/3", "--selection.threshold_from=exemplars")
"""In the row with guides: p* by images that were not trained on by name, tau_l by their distances to their exemplars."""
GUIDED_ROW = "SGC-DPL, guides"
PRIMARY = ("AP, soft", "AP, hard")
"""Chosen before the seeds were run: labels that are soft had never been tested, and all else is equal in the two rows."""
EXPLORATORY = (
    ("SGC-DPL", "labeled only"),
    ("SGC-DPL, guides", "labeled only"),
    ("initialization", "labeled only"),
    ("AP, hard", "initialization"),
    ("AP, soft, progressive", "AP, soft"),
    ("AP, soft, progressive", "AP, hard"),
    ("SGC-DPL", "AP, soft, progressive"),
    ("SGC-DPL, guides", "SGC-DPL"),
    ("all identities labeled", "SGC-DPL"),
    ("one iteration, AP", "labeled only"),
    ("one iteration, AP", "one iteration, DBSCAN"),
    ("one iteration, AP", "one iteration, DBSCAN, SSG's radius"),
)
TOLD = {
    "benchmark": "sgcdpl_ordering",
    "table": "Table 3.2",
    "unit": "points of mAP",
    "protocol": "25 of 200 generated people labeled, 48x24 pixels, 40 epochs of initialization, three iterations of 3 epochs. Settings were"
    " looked for on seed 100 and other people than those scored.",
}
GENERATED = "market-like"
NUM_HELD_OUT = 100
"""People of its 300 training people who are not trained on, but score what settings are looked for with."""
METHODS, FIRST = sgcdpl_tables.METHODS, sgcdpl_tables.FIRST_ITERATION
TABLE_3_2 = (sgcdpl_tables.LABELED, sgcdpl_tables.INITIALIZATION, *METHODS, GUIDED_ROW)
ROWS = (*TABLE_3_2, *FIRST, sgcdpl_tables.FULL)
NEAREST = ("25%", "50%", "75%", "100%")
CLUSTERED = (*METHODS, GUIDED_ROW)


def write_tables(folder: Path) -> dict[str, Path]:
    """Tables of the generated set, of the same people to train on: ``"scored"`` by the test's queries, ``"validation"`` by other people."""
    prepare_dataset(GENERATED, None)
    whole = read_prepared(GENERATED, None)
    held_out = hold_out_people(whole, NUM_HELD_OUT, seed=100)
    parts = {
        "scored": (held_out.train, whole.query, whole.gallery),
        "validation": (held_out.train, held_out.query, held_out.gallery),
    }
    return {name: write_table(folder / f"{name}.csv", *records) for name, records in parts.items()}


def write_table(file: Path, train: Sequence[ImageRecord], query: Sequence[ImageRecord], gallery: Sequence[ImageRecord]) -> Path:
    """The records as a table that the datamodules read."""
    lines = [["path", "pid", "camid", "split"]]
    for split, records in (("train", train), ("query", query), ("gallery", gallery)):
        lines += [[str(Path(record.path).resolve()), str(record.pid), str(record.camid), split] for record in records]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda draft: draft.write_text("".join(",".join(line) + "\n" for line in lines), encoding="utf-8"))
    return file


def run_seed(seed: int, arguments: argparse.Namespace, more: Sequence[str]) -> dict[str, dict]:
    """The rows that are asked for; stages that were run before are read back."""
    output, asked, began = arguments.output / f"seed{seed}", arguments.rows, time.process_time()
    found: list[ResultRow] = []
    with Opened(seed, output, arguments, (*MEMORIZED, *more)) as rows:
        if sgcdpl_tables.INITIALIZATION in asked:
            initial_model, initial = rows.initial(sgcdpl_tables.INITIALIZATION)
            found += [initial, *(rows.iterate(name, method, initial_model) for name, method in METHODS.items() if name in asked)]
        if sgcdpl_tables.LABELED in asked:
            labeled_model, labeled = rows.initial(sgcdpl_tables.LABELED)
            found += [labeled, *(rows.iterate(name, method, labeled_model) for name, method in FIRST.items() if name in asked)]
        if sgcdpl_tables.FULL in asked:
            found.append(sgcdpl_tables.all_labeled(rows.run, rows.cfg, rows.adam, rows.scoring))
    if GUIDED_ROW in asked:
        with Opened(seed, output / "guides", arguments, (*GUIDED, *more)) as rows:
            initial_model, _ = rows.initial(sgcdpl_tables.INITIALIZATION)
            found.append(rows.iterate(GUIDED_ROW, METHODS[sgcdpl_tables.SGCDPL_ROW], initial_model))
    _add_hours(output / "hours.json", time.process_time() - began)
    return {row.name: row.as_json() for row in sorted(found, key=lambda row: ROWS.index(row.name))}


class Opened:
    """The folder of a run with its rows, drawing nothing."""

    def __init__(self, seed: int, output: Path, arguments: argparse.Namespace, more: Sequence[str]) -> None:
        self.cfg = sgcdpl_market.parse([f"--seed={seed}", f"--output={output}", "--quiet", "--resume", *PROTOCOL, *more])
        tables = write_tables(arguments.output)
        self.cfg.data.dataset, self.cfg.data.allow_paths_outside = str(tables["validation" if arguments.validation else "scored"]), True
        self.folder = RunFolder(self.cfg, ignored=("labeled",))

    def __enter__(self) -> sgcdpl_market.Rows:
        return sgcdpl_market.Rows(self.cfg, self.folder.__enter__(), pictures=False)

    def __exit__(self, *error: Any) -> None:
        self.folder.__exit__(*error)


def _add_hours(file: Path, seconds: float) -> None:
    """Processor time of a seed, over all of its runs that ended."""
    before = read_json(file, way_on="remove it")["hours"] if file.is_file() else 0.0
    write_json(file, {"hours": before + seconds / 3600})


def row_folder(output: Path, seed: int, row: str) -> Path:
    folder = output / f"seed{seed}"
    return (folder / "guides" if row == GUIDED_ROW else folder) / row.replace(" ", "-")


def logged_by_iteration(folder: Path, names: Sequence[str]) -> list[list[float]]:
    """The values of ``names`` in every iteration of a row, from its logs; NaN for what a row does not log."""
    found: dict[int, list[float]] = {}
    for file in sorted(folder.glob("version_*/metrics.csv")):
        with file.open(newline="", encoding="utf-8") as lines:
            for line in csv.DictReader(lines):
                if line.get("cluster/iteration"):
                    found[int(float(line["cluster/iteration"]))] = [float(line.get(name) or "nan") for name in names]
    return [found[iteration] for iteration in sorted(found)]


def mean_of_seeds(output: Path, seeds: Sequence[int], row: str, names: Sequence[str]) -> torch.Tensor:
    """``[seeds, iterations, names]`` float64 logged values."""
    return torch.tensor([logged_by_iteration(row_folder(output, seed, row), names) for seed in seeds], dtype=torch.float64)


def precision_table(output: Path, seeds: Sequence[int]) -> str:
    """Precision of pseudo-labels that ever larger thresholds would select, mean over the iterations of SGC-DPL."""
    names = [f"select/precision_{share}" for share in NEAREST]
    table = mean_of_seeds(output, seeds, sgcdpl_tables.SGCDPL_ROW, names).mean(1)
    lines = ["| nearest selected | precision, % | less than the row above, points | 95 % interval |", "|---|---:|---:|---:|"]
    for column, share in enumerate(NEAREST):
        mean, drop = 100 * float(table[:, column].mean()), ""
        if column:
            low, high = paired_difference_interval(table[:, column - 1], table[:, column])
            drop = f"{100 * float((table[:, column - 1] - table[:, column]).mean()):.1f} | {100 * low:.1f} to {100 * high:.1f}"
        lines.append(f"| {share} | {mean:.1f} | {drop or '|'} |")
    return "\n".join(lines)


def cluster_table(output: Path, seeds: Sequence[int], rows: Sequence[str]) -> str:
    """What every iteration of a row clustered, believed and selected, mean over the seeds."""
    shown = {"num_clusters": ".0f", "v_measure": ".3f", "soft_max": ".2f"}
    names = (*(f"cluster/{name}" for name in shown), "select/fraction", "select/precision", "cluster/num_identities")
    lines = [
        "| row | iteration | clusters (people) | V-measure | largest entry of a soft label, median | selected, % | right of them, % |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        for iteration, means in enumerate(mean_of_seeds(output, seeds, row, names).mean(0).tolist()):
            clusters, v_measure, soft, *shares, people = means
            cells = [f"{clusters:.0f} ({people:.0f})", f"{v_measure:.3f}", f"{soft:.2f}", *(f"{100 * share:.1f}" for share in shares)]
            lines.append(f"| {row} | {iteration} | " + " | ".join(cell.replace("nan", "") for cell in cells) + " |")
    return "\n".join(lines)


def report(found: Mapping[int, Mapping[str, dict]], output: Path) -> str:
    seeds, rows = sorted(found), list(found[min(found)])
    scores = {seed: {name: row["mAP"] for name, row in found[seed].items()} for seed in seeds}
    parts = [seed_comparison(scores, (PRIMARY, *EXPLORATORY), PRIMARY)]
    counted = [name for name in rows if "costs" in found[seeds[0]][name]]
    if counted:
        means = {name: sum(found[seed][name]["costs"]["clusters"] for seed in seeds) / len(seeds) for name in counted}
        identities = found[seeds[0]][counted[0]]["costs"]["identities"]
        parts.append("; ".join(f"{name}: {mean:.0f} clusters" for name, mean in means.items()) + f" for {identities:.0f} identities")
    parts.append(cluster_table(output, seeds, [row for row in CLUSTERED if row in rows]))
    if sgcdpl_tables.SGCDPL_ROW in rows:
        parts.append(precision_table(output, seeds))
    parts.append(f"{core_hours(output, seeds):.2f} core-hours")
    return "\n\n".join(parts)


def core_hours(output: Path, seeds: Sequence[int]) -> float:
    hours: list[float] = [read_json(output / f"seed{seed}" / "hours.json", way_on="run the seed again")["hours"] for seed in seeds]
    return sum(hours)


def main(argv: list[str] | None = None) -> dict[int, dict[str, dict]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14], help="at least two for a report (default: 10 to 14)")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/sgcdpl_ordering"), help="folder of the runs (default: runs/sgcdpl_ordering)"
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=TABLE_3_2, help="to run; methods want the row they start from, too")
    parser.add_argument("--validation", action="store_true", help="train on and score other people than the queries show")
    arguments, more = parse_options(parser, argv, settings=True)
    if arguments.results is not None and arguments.validation:
        parser.error("--results holds scores of the test part, got --validation")
    found = {seed: run_seed(seed, arguments, more) for seed in arguments.seeds}
    if len(found) > 1:
        print(report(found, arguments.output))
    scores = {seed: {name: row["mAP"] for name, row in rows.items()} for seed, rows in found.items()}
    write_scores(arguments, TOLD, scores, (PRIMARY, *EXPLORATORY), PRIMARY, core_hours(arguments.output, arguments.seeds))
    return found


if __name__ == "__main__":
    main()
