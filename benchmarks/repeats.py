"""What repeats when a run is repeated? A seed of a recipe several times, in processes of their own, compared with the first to the bit.

    python benchmarks/repeats.py --seeds 100 0 --threads 1 1 2

``recipes/distill_market.py`` as it is by default, or with the options that follow. A run of each seed for every number in ``--threads``:
compared are scores, and the weights in the last checkpoint of every row. A run that was finished before is read
back. The first number is the reference, so that ``1 1 2`` tells what one thread repeats and what a second thread changes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from pipeline_runs import stamp, told_stamp
from read_back import finished_rows, rows_of_recipe
from torch import Tensor

from lightning_reid.recipes import distill_market


def run(seed: int, threads: int, folder: Path, more: Sequence[str]) -> dict[str, float]:
    """The mAP of every row, of a run in a process of its own."""
    arguments = [f"--seed={seed}", f"--output={folder}", "--quiet", "--resume", *more]
    if finished_rows(distill_market, arguments) is None:
        command = [sys.executable, "-m", distill_market.__name__, *arguments]
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, check=True)
    rows = rows_of_recipe(distill_market, arguments)
    return {name: row["mAP"] for name, row in rows.items()}


def weights(folder: Path, row: str) -> dict[str, Tensor]:
    """Of the last epoch of a row."""
    state: dict[str, Tensor] = torch.load(folder / row.replace(" ", "-") / "last.ckpt", weights_only=True)["state_dict"]
    return state


def furthest_apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of any weight, buffers included; 0 where all are equal to the bit.

    Raises:
        ValueError: The two are not of one network.
    """
    if {name: tensor.shape for name, tensor in one.items()} != {name: tensor.shape for name, tensor in other.items()}:
        raise ValueError("the runs to compare are of two networks: take a new --output")
    if all(torch.equal(tensor, other[name]) for name, tensor in one.items()):
        return 0.0
    return max(float((tensor.double() - other[name].double()).abs().max()) for name, tensor in one.items() if tensor.numel())


def compare(found: dict[str, dict[str, float]], folders: dict[str, Path]) -> list[str]:
    """Lines of a table: every row of every run, and how far it is from the first run's."""
    first = next(iter(found))
    lines = []
    for name, scores in found.items():
        for row, score in scores.items():
            apart = furthest_apart(weights(folders[first], row), weights(folders[name], row))
            same = "to the bit" if apart == 0 and score == found[first][row] else f"{100 * (score - found[first][row]):+.2f}"
            told = ("", "") if name == first else (same, f"{apart:.1e}")
            lines.append(f"| {name} | {row} | {100 * score:.2f} | {' | '.join(told)} |")
    return lines


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 0], help="(default: 100 0)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 1, 2], help="of each run of a seed (default: 1 1 2)")
    parser.add_argument("--output", type=Path, default=Path("runs/repeats"), help="folder of the runs (default: %(default)s)")
    arguments, more = parser.parse_known_args(argv)
    everything: dict[str, dict[str, float]] = {}
    lines = ["| run | row | mAP, % | to the first run, points | weights furthest apart |", "|---|---|---:|---:|---:|"]
    for seed in arguments.seeds:
        names = [f"seed {seed}, run {number}, threads: {threads}" for number, threads in enumerate(arguments.threads, start=1)]
        folders = {name: arguments.output / name.replace(" ", "-").replace(",", "").replace(":", "") for name in names}
        found = {name: run(seed, threads, folders[name], more) for name, threads in zip(names, arguments.threads, strict=True)}
        lines += compare(found, folders)
        everything |= found
    print("\n".join([*lines, "", told_stamp(stamp())]))
    return everything


if __name__ == "__main__":
    main()
