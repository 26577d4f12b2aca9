"""What do unlabeled images add? Tables 3.2 and 3.4 on the generated set, several seeds, paired differences on the same queries.

Data and settings are those of `python recipes/sgcdpl_market.py --ablation` but for ``PROTOCOL``: half the identities, more training.
A seed changes weights, draws, augmentations and which identities are labeled. Seeds 0 to 4 were spent on an earlier protocol (2 iterations
of 3 epochs), after which this one was fixed, before any of its seeds was run.

The soft labels of these runs are one-hot and nearly all images are selected: the rows "soft" and "progressive" test neither.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import torch

from lightning_reid.metrics import paired_difference_interval
from lightning_reid.recipes import sgcdpl_market, sgcdpl_tables
from lightning_reid.recipes.workshop.run_folder import RunFolder
from lightning_reid.recipes.workshop.seeds import seed_comparison

PROTOCOL = ("--labeled=1/12", "--initial_epochs=80", "--iterations=4", "--clustering.every_n_epochs=4", "--model.milestones=[3]")
PAIRS = (
    ("SGC-DPL", "labeled only"),
    ("initialization", "labeled only"),
    ("AP, hard", "initialization"),
    ("AP, soft", "AP, hard"),
    ("AP, soft, progressive", "AP, soft"),
    ("SGC-DPL", "AP, soft, progressive"),
    ("AP, hard", "labeled only"),
    ("all identities labeled", "SGC-DPL"),
    ("one iteration, AP", "labeled only"),
    ("one iteration, AP", "one iteration, DBSCAN"),
    ("one iteration, AP", "one iteration, DBSCAN, SSG's radius"),
)
NEAREST = ("25%", "50%", "75%", "100%")


def run_seed(seed: int, output: Path, tables: Sequence[str], more: Sequence[str]) -> dict[str, dict]:
    """The rows of some tables; stages that were run before are read back."""
    cfg = sgcdpl_market.parse([f"--seed={seed}", f"--output={output / f'seed{seed}'}", "--quiet", "--resume", *PROTOCOL, *more])
    with RunFolder(cfg, ignored=("labeled",)) as folder:
        rows = sgcdpl_market.Rows(cfg, folder)
        labeled_model, labeled = rows.initial(sgcdpl_tables.LABELED)
        found = [labeled]
        if "3.2" in tables:
            initial_model, initial = rows.initial(sgcdpl_tables.INITIALIZATION)
            found += [initial, *(rows.iterate(name, method, initial_model) for name, method in sgcdpl_tables.METHODS.items())]
        if "3.4" in tables:
            found += [rows.iterate(name, method, labeled_model) for name, method in sgcdpl_tables.FIRST_ITERATION.items()]
        if "full" in tables:
            found.append(sgcdpl_tables.all_labeled(rows.run, cfg, rows.adam, rows.scoring))
    return {row.name: row.as_json() for row in found}


def logged_by_iteration(folder: Path, names: Sequence[str]) -> list[list[float]]:
    """The values of ``names`` in every iteration of a row, from its logs."""
    found: dict[int, list[float]] = {}
    for file in sorted(folder.glob("version_*/metrics.csv")):
        with file.open(newline="", encoding="utf-8") as lines:
            for line in csv.DictReader(lines):
                if all(line.get(name) for name in ("cluster/iteration", *names)):
                    found[int(float(line["cluster/iteration"]))] = [float(line[name]) for name in names]
    return [found[iteration] for iteration in sorted(found)]


def precision_table(output: Path, seeds: Sequence[int]) -> str:
    """Precision of pseudo-labels that ever larger thresholds would select, mean over the iterations of SGC-DPL."""
    by_seed = [
        torch.tensor(logged_by_iteration(output / f"seed{seed}" / "SGC-DPL", [f"select/precision_{share}" for share in NEAREST])).mean(0)
        for seed in seeds
    ]
    table = torch.stack(by_seed).double()
    lines = ["| nearest selected | precision, % | less than the row above, points | 95 % interval |", "|---|---:|---:|---:|"]
    for column, share in enumerate(NEAREST):
        mean, drop = 100 * float(table[:, column].mean()), ""
        if column:
            low, high = paired_difference_interval(table[:, column - 1], table[:, column])
            drop = f"{100 * float((table[:, column - 1] - table[:, column]).mean()):.1f} | {100 * low:.1f} to {100 * high:.1f}"
        lines.append(f"| {share} | {mean:.1f} | {drop or '|'} |")
    return "\n".join(lines)


def cluster_table(output: Path, seeds: Sequence[int]) -> str:
    """Clusters and V-measure in every iteration, and how much was selected, mean over the seeds."""
    lines = ["| row | iteration | clusters | V-measure | selected, % | right of them, % |", "|---|---:|---:|---:|---:|---:|"]
    names = ("cluster/num_clusters", "cluster/v_measure", "select/fraction", "select/precision")
    for row, logged in (("AP, hard", names[:2]), ("AP, soft, progressive", names), ("SGC-DPL", names)):
        folder = row.replace(" ", "-")
        runs = torch.tensor([logged_by_iteration(output / f"seed{seed}" / folder, logged) for seed in seeds], dtype=torch.float64)
        for iteration, means in enumerate(runs.mean(0).tolist()):
            shares = [f"{100 * value:.1f}" for value in means[2:]] or ["", ""]
            lines.append(f"| {row} | {iteration} | {means[0]:.0f} | {means[1]:.3f} | {' | '.join(shares)} |")
    return "\n".join(lines)


def report(found: dict[int, dict[str, dict]], output: Path) -> str:
    seeds = sorted(found)
    parts = [seed_comparison({seed: {name: row["mAP"] for name, row in found[seed].items()} for seed in seeds}, PAIRS)]
    counted = [name for name, row in found[seeds[0]].items() if "costs" in row]
    if counted:
        means = {name: sum(found[seed][name]["costs"]["clusters"] for seed in seeds) / len(seeds) for name in counted}
        identities = found[seeds[0]][counted[0]]["costs"]["identities"]
        parts.append("; ".join(f"{name}: {mean:.0f} clusters" for name, mean in means.items()) + f" for {identities:.0f} identities")
    if "SGC-DPL" in found[seeds[0]]:
        parts += [precision_table(output, seeds), cluster_table(output, seeds)]
    return "\n\n".join(parts)


def main(argv: list[str] | None = None) -> dict[int, dict[str, dict]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7, 8, 9], help="at least two for a report (default: 5 to 9)")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/sgcdpl_ordering"), help="folder of the runs (default: runs/sgcdpl_ordering)"
    )
    parser.add_argument("--tables", nargs="+", choices=("3.2", "3.4", "full"), default=["3.2", "3.4", "full"], help="rows to run")
    arguments, more = parser.parse_known_args(argv)
    found = {seed: run_seed(seed, arguments.output, arguments.tables, more) for seed in arguments.seeds}
    if len(found) > 1:
        print(report(found, arguments.output))
    return found


if __name__ == "__main__":
    main()
