"""What a network in two stages takes of each process, in memory and time, beside one process and DDP of as many.

    python benchmarks/pipeline_costs.py
    python benchmarks/pipeline_costs.py --only memory --json costs.json
    python benchmarks/pipeline_costs.py --only picture --picture docs/pipeline_schedule.png
    python benchmarks/pipeline_costs.py --smallest                  # a narrow network, two rows: does it run?

NVAN of ResNet-50, 128x64, T = 4, 8 clips a step over all processes, 4 micro-batches, Adam, random weights and clips, one thread a process.
Every run is in processes of its own; how their memory and time are measured stands in ``pipeline_runs.py``. Times are medians over rounds
in which all take turns, and CPU seconds are those of all processes together. "Cut by seconds" is what a pipeline does of itself;
"by bytes" balances weights, gradients, what Adam keeps and activations instead. Linux only, for the memory. The picture is of the third
step of GPipe, 1F1B with gradient caching, and two stages a process, all cut by seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from pipeline_runs import Measure, Run, bytes_of_units, run, stamp, told_stamp

from lightning_reid.files import write_json
from lightning_reid.pipeline.picture import draw_schedule
from lightning_reid.pipeline.spans import Span
from lightning_reid.recipes.workshop.tables import print_table

FULL = Run("nvan", "unsplit", 1, 8)
SMALLEST = Run("nvan", "unsplit", 1, 8, (32, 16), 2, {"backbone": "resnet18", "channels": [8, 8, 16, 16], "layers": [1, 2, 3, 1]}, steps=1)
MICROBATCHES = 4
ONE = "one process"
HEADINGS = ("", "peak MB of rank 0", "of rank 1", "largest to one process", "tensors, MB", "of rank 1", "largest to one process")
TIME_HEADINGS = ("", "s a step", "to one process", "CPU s a step, all processes", "to one process")


def rows(one: Run) -> dict[str, Run]:
    """What is measured, by its name in the table."""
    clip, rows_of_microbatch = (one.clip_length, 3, *one.image_size), one.batch // MICROBATCHES
    cut = {kept: bytes_of_units(one.network, one.network_options, clip, kept_rows=kept) for kept in (one.batch, rows_of_microbatch)}
    pipeline = replace(one, way="pipeline", processes=2)

    def staged(**options: Any) -> Run:
        return replace(pipeline, pipeline={"microbatches": MICROBATCHES, **options})

    recomputed = {"checkpoint_activations": True}
    return {
        ONE: one,
        "DDP, 2 processes": replace(one, way="ddp", processes=2),
        "2 stages, cut by seconds": staged(),
        "2 stages, cut by bytes": staged(stage_costs=cut[one.batch]),
        "2 stages, cut by seconds, recomputed": staged(**recomputed),
        "2 stages, cut by bytes, recomputed": staged(stage_costs=cut[rows_of_microbatch], **recomputed),
        "2 stages, cut by bytes, 1F1B": staged(stage_costs=cut[one.batch], schedule="1f1b"),
        "2 x 2 stages, cut by bytes, looped": staged(stage_costs=cut[one.batch], schedule="looped-bfs", stages_per_process=2),
    }


def peaks(orders: Mapping[str, Run], measure: Measure) -> dict[str, list[float]]:
    """Peak MB of each process, by row."""
    found = {}
    for name, order in orders.items():
        found[name] = [told["peak_mb"] for told in run(replace(order, measure=measure))]
        print(f"{measure}: {name}: {', '.join(f'{peak:.0f}' for peak in found[name])} MB", flush=True)
    return found


def times(orders: Mapping[str, Run], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds of a step, of each round, by row; the order is turned round every other round."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in orders}
    for number in range(rounds):
        for name in orders if number % 2 == 0 else reversed(orders):
            told = run(replace(orders[name], measure="time"))
            found[name].append((max(one["seconds"] for one in told), sum(one["cpu_seconds"] for one in told)))
            print(f"round {number}: {name}: {found[name][-1][0]:.2f} s, CPU {found[name][-1][1]:.2f} s", flush=True)
    return found


def draw(orders: Mapping[str, Run], path: Path) -> None:
    """Draw the last step of some pipelines of two processes."""
    schedules = {
        name: [Span(*span) for told in run(replace(order, measure="time")) for span in told["spans"]] for name, order in orders.items()
    }
    draw_schedule(schedules, path, processes=2)


def pictured(one: Run) -> dict[str, Run]:
    """Schedules to draw, by their titles."""
    looped = {"schedule": "looped-bfs", "stages_per_process": 2}
    options = {"GPipe": {}, "1F1B, which embeds all first": {"schedule": "1f1b"}, "looped, two stages a process": looped}
    pipelines = {name: {"microbatches": MICROBATCHES, **more} for name, more in options.items()}
    return {name: replace(one, way="pipeline", processes=2, pipeline=pipeline) for name, pipeline in pipelines.items()}


def memory_cells(peaks_of: Mapping[str, list[float]], name: str) -> list[str]:
    mine = peaks_of[name]
    each = [f"{peak:.0f}" for peak in mine] + [""] * (2 - len(mine))
    return [*each, f"{max(mine) / max(peaks_of[ONE]):.2f}"]


def time_cells(found: Mapping[str, list[tuple[float, float]]], name: str) -> list[str]:
    cells = []
    for kind in (0, 1):
        cells.append(f"{median(lap[kind] for lap in found[name]):.2f}")
        cells.append(f"{median(lap[kind] / first[kind] for lap, first in zip(found[name], found[ONE], strict=True)):.2f}")
    return cells


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["memory", "time", "picture"], nargs="+", default=["memory", "time"], help="what to measure")
    parser.add_argument("--rounds", type=int, default=3, help="of all in turn, for the times (default: %(default)s)")
    parser.add_argument("--picture", type=Path, help="where to draw the schedules of three pipelines")
    parser.add_argument("--json", type=Path, help="file for the figures, with the machine's stamp")
    parser.add_argument("--smallest", action="store_true", help="a narrow network of 32x16 pixels, one process beside two stages")
    args = parser.parse_args(argv)
    one = SMALLEST if args.smallest else FULL
    if args.picture:
        draw(pictured(one), args.picture)
    if args.only == ["picture"]:
        return {}
    orders, machine = rows(one), stamp()
    if args.smallest:
        orders = {name: orders[name] for name in (ONE, "2 stages, cut by bytes")}
    found: dict[str, Any] = {"machine": machine}
    if "memory" in args.only:
        found |= {"memory": peaks(orders, "memory"), "tensors": peaks(orders, "tensors")}
        lines = [[name, *memory_cells(found["memory"], name), *memory_cells(found["tensors"], name)] for name in orders]
        print_table("memory of a process in training", HEADINGS, lines, caption=told_stamp(machine))
    if "time" in args.only:
        found["time"] = times(orders, args.rounds)
        lines = [[name, *time_cells(found["time"], name)] for name in orders]
        print_table("time of a step", TIME_HEADINGS, lines, caption=told_stamp(machine))
    if args.json:
        write_json(args.json, found)
    return found


if __name__ == "__main__":
    main()
