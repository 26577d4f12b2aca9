"""Tables I to IV and Fig. 5 of the distributed text, here: accuracy, time and largest batch by processes, in a pipeline and under DDP.

    python benchmarks/pipeline_tables.py --tables III IV --processes 1 2 3 --memory_mb 1000 --json tables.json
    python benchmarks/pipeline_tables.py --tables I II 5 --json tables.json          # 5 is read off I and II
    python benchmarks/pipeline_tables.py --smallest                                  # tiny, one and two processes: does it run?

The text trains on MARS on one, three and six GPUs; here are generated tracklets and processes of one thread each. N processes get N times
the ``--batches`` of one, as there. A pipeline cuts every batch into ``--microbatches``; its stages balance bytes.

- III, IV (ResNet-50, NVAN of ResNet-50; 64x32, T = 4, Adam): the largest batch whose training takes at most ``--memory_mb`` of every
  process, found by trying in processes that were just started, and seconds for as many clips as an epoch of I and II has, of some steps
  with loading. More processes than cores wait for each other. How memory is measured stands in ``pipeline_runs.py``. Linux only.
- I, II (the same of a ResNet-18 of a quarter of the widths, which two cores can train): mAP and rank-1 after the last epoch, with the
  interval of mAP by bootstrap over people. 5: epochs and steps until 95 % of that mAP.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline_runs import CLIPS_A_PERSON, Run, Way, bytes_of_units, run, stamp, told_stamp

from lightning_reid.datamodules.generated import GeneratedTracklets
from lightning_reid.files import read_json, write_json
from lightning_reid.recipes.workshop.tables import per_cent, print_table

NETWORKS = {"I": "baseline", "II": "nvan", "III": "baseline", "IV": "nvan"}
NAMES = {"baseline": "ResNet-50", "nvan": "NVAN"}
IN_WORDS: dict[Way, str] = {"unsplit": "unsplit", "pipeline": "pipeline", "ddp": "DDP"}
NARROW = {"backbone": "resnet18", "channels": [16, 32, 64, 128], "layers": [1, 2, 3, 1]}
TINY = {"backbone": "resnet18", "channels": [8, 8, 16, 16], "layers": [1, 2, 3, 1]}
MOST_STEPS_TIMED = 8
ACCURACY = ("", "processes", "batch", "mAP %", "95 % interval", "R1 %", "epochs to 95 % of mAP", "steps")
TIME = ("", "processes", "batch", "s an epoch", "to one process, its first batch", "CPU s, all processes", "largest batch")


@dataclass(frozen=True)
class Setting:
    """Sizes of everything.

    Attributes:
        timed: Network options where memory and time are measured.
        scored: Network options where scores are.
        image_size: (height, width) in pixels.
        people: To train on, and to test on.
        epochs: Where scores are measured.
        lr: Learning rate there.
    """

    timed: dict[str, Any]
    scored: dict[str, Any]
    image_size: tuple[int, int]
    people: tuple[int, int]
    epochs: int
    lr: float = 1e-3

    @property
    def clips(self) -> int:
        """Of an epoch, in which every person is shown once."""
        return self.people[0] * CLIPS_A_PERSON

    def write(self, folder: Path) -> Path:
        """The tracklets."""
        height, width = self.image_size
        train, test = self.people
        people = GeneratedTracklets(
            num_train_pids=train, num_test_pids=test, num_distractors=test // 4, frames=(4, 8), height=height, width=width
        )
        return people.write(folder / "tracklets", progress=False)


FULL = Setting({"backbone": "resnet50"}, NARROW, (64, 32), (48, 60), 24)
SMALLEST = Setting(TINY, TINY, (32, 16), (8, 4), 2)


class Bench:
    """Measures rows of the tables."""

    def __init__(self, args: argparse.Namespace, setting: Setting, folder: Path) -> None:
        self.args, self.setting, self.folder = args, setting, str(folder)

    def ways(self, batches: Sequence[int]) -> list[tuple[Way, int, list[int]]]:
        """How, on how many processes, and the batches there."""
        several: list[Way] = ["pipeline", "ddp"]
        return [
            (way, processes, [processes * batch for batch in batches])
            for processes in self.args.processes
            for way in (several if processes > 1 else ["unsplit"])
        ]

    def accuracy(self, network: str) -> list[dict[str, Any]]:
        """Rows of Table I or II."""
        rows, setting = [], self.setting
        sizes: dict[str, Any] = {"image_size": setting.image_size, "network_options": setting.scored, "folder": self.folder}
        for way, processes, batches in self.ways(self.args.batches):
            for batch in batches:
                order = Run(network, way, processes, batch, measure="scores", epochs=setting.epochs, lr=setting.lr, **sizes)
                told = run(self.cut(order))[0]
                first = next(number for number, mAP in enumerate(told["mAP"], start=1) if mAP >= 0.95 * told["mAP"][-1])
                rows.append({"way": way, "processes": processes, "batch": batch, "epochs": first, **told})
                print(f"{way} {processes} x, batch {batch}: mAP {per_cent(told['mAP'][-1])}, 95 % of it in epoch {first}", flush=True)
        return rows

    def time(self, network: str) -> list[dict[str, Any]]:
        """Rows of Table III or IV."""
        rows = []
        for way, processes, batches in self.ways(self.args.batches):
            largest, peak = self.largest(network, way, processes)
            print(f"{way} {processes} x: largest batch {largest}, {peak:.0f} MB", flush=True)
            for batch in sorted({*(one for one in batches if one <= largest), largest} - {0}):
                steps = max(1, min(MOST_STEPS_TIMED, self.setting.clips // batch))
                told = run(self.cut(replace(self.order(network, way, processes, batch), steps=steps, folder=self.folder)))
                seconds = max(one["seconds_a_clip"] for one in told) * self.setting.clips
                cpu = sum(one["cpu_seconds"] for one in told) / batch * self.setting.clips
                rows.append(
                    {"way": way, "processes": processes, "batch": batch, "seconds": seconds, "cpu_seconds": cpu, "largest": largest}
                )
                print(f"{way} {processes} x, batch {batch}: {seconds:.1f} s an epoch", flush=True)
        return rows

    def order(self, network: str, way: Way, processes: int, batch: int) -> Run:
        """A run where time or memory is measured."""
        return Run(network, way, processes, batch, self.setting.image_size, network_options=self.setting.timed, steps=1)

    def cut(self, order: Run) -> Run:
        """The run, with stages that balance bytes."""
        if order.way != "pipeline":
            return order
        clip = (order.clip_length, 3, *order.image_size)
        costs = bytes_of_units(order.network, order.network_options, clip, kept_rows=order.batch)
        return replace(order, pipeline={"microbatches": self.args.microbatches, "stage_costs": costs})

    def largest(self, network: str, way: Way, processes: int) -> tuple[int, float]:
        """The largest batch within the limit of memory, in whole people of each process, and its peak; at most one epoch's clips."""
        step = CLIPS_A_PERSON * (processes if way == "ddp" else 1)

        def peak(count: int) -> float:
            order = replace(self.cut(self.order(network, way, processes, count * step)), measure="memory")
            return max(told["peak_mb"] for told in run(order))

        least = 2 * (self.args.microbatches // CLIPS_A_PERSON or 1) if way == "pipeline" else 2
        count, most = largest_within(peak, self.args.memory_mb, least, self.setting.clips // step)
        return count * step, most


def largest_within(peak: Callable[[int], float], limit: float, least: int, most: int) -> tuple[int, float]:
    """The largest count from ``least`` to ``most`` whose peak is within the limit, and that peak; 0 where none is.

    Peaks grow with the count, and nearly in proportion: the next count is where the line through two of them meets the limit.
    """
    found = {least: peak(least)}
    if found[least] > limit:
        return 0, found[least]
    fits, fails, guess = least, most + 1, min(2 * least, most)
    while fails - fits > 1:
        guess = min(max(guess, fits + 1), fails - 1)
        found[guess] = peak(guess)
        fits, fails = (guess, fails) if found[guess] <= limit else (fits, guess)
        low, high = sorted(found)[-2:] if fails > most else (fits, fails)
        slope = (found[high] - found[low]) / (high - low)
        guess = int(low + (limit - found[low]) / slope) if slope > 0 else 2 * fits
    return fits, found[fits]


def accuracy_cells(row: Mapping[str, Any]) -> list[str]:
    low, high = row["interval"]
    scores = [per_cent(row["mAP"][-1]), f"{per_cent(low)} – {per_cent(high)}", per_cent(row["R1"][-1])]
    return [*first_cells(row), *scores, str(row["epochs"]), str(row["epochs"] * row["steps_an_epoch"])]


def time_cells(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    one = next((other["seconds"] for other in rows if other["way"] == "unsplit"), None)
    ratio = "" if one is None else f"{row['seconds'] / one:.2f}"
    last = row["batch"] == row["largest"]
    return [*first_cells(row), f"{row['seconds']:.1f}", ratio, f"{row['cpu_seconds']:.1f}", str(row["largest"]) if last else ""]


def first_cells(row: Mapping[str, Any]) -> list[str]:
    return [IN_WORDS[row["way"]], str(row["processes"]), str(row["batch"])]


def show(number: str, found: Mapping[str, Any], setting: Setting) -> None:
    """Print a table; 5 is of both networks."""
    if number == "5":
        for part in ("I", "II"):
            lines = [[*accuracy_cells(row)[:3], *accuracy_cells(row)[-2:]] for row in found[part]["rows"]]
            print_table(
                f"Fig. 5, {NAMES[NETWORKS[part]]}", [*ACCURACY[:3], *ACCURACY[-2:]], lines, caption=told_stamp(found[part]["machine"])
            )
        return
    rows, network = found[number]["rows"], NAMES[NETWORKS[number]]
    title, caption = f"Table {number}, {network}", told_stamp(found[number]["machine"])
    if number in ("I", "II"):
        told = (
            f"{rows[0]['queries']} queries of {rows[0]['people']} people, narrow network, {setting.epochs} epochs of {setting.clips} clips"
        )
        print_table(f"{title}: {told}", ACCURACY, [accuracy_cells(row) for row in rows], caption=caption)
    else:
        limit = f"{found[number]['memory_mb']} MB a process, an epoch of {setting.clips} clips"
        print_table(f"{title}: {limit}", TIME, [time_cells(row, rows) for row in rows], caption=caption)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*NETWORKS, "5"]
    parser.add_argument("--tables", nargs="+", choices=every, default=every, help="5 is Fig. 5, of what I and II found (default: all)")
    parser.add_argument("--processes", nargs="+", type=int, help="default: 1 2 3")
    parser.add_argument(
        "--batches", nargs="+", type=int, default=[8, 16], help="clips a step of one process, multiples of 4 (default: 8 16)"
    )
    parser.add_argument("--microbatches", type=int, default=4, help="of a pipeline (default: %(default)s)")
    parser.add_argument("--memory_mb", type=float, default=1000, help="a process may take in training (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file for the figures, with the machine's stamp; what it has of other tables stays")
    parser.add_argument("--smallest", action="store_true", help="narrow networks of 32x16 pixels, one and two processes")
    args = parser.parse_args(argv)
    setting = SMALLEST if args.smallest else FULL
    args.processes = args.processes or ([1, 2] if args.smallest else [1, 2, 3])
    there = args.json is not None and args.json.is_file()
    found = read_json(args.json, way_on="give another --json") if there else {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, setting, setting.write(Path(folder)))
        for number in [one for one in NETWORKS if one in args.tables or ("5" in args.tables and one in ("I", "II") and one not in found)]:
            rows = (bench.accuracy if number in ("I", "II") else bench.time)(NETWORKS[number])
            found[number] = {"machine": stamp(), "memory_mb": args.memory_mb, "rows": rows}
            if args.json is not None:
                write_json(args.json, found)
    for number in args.tables:
        show(number, found, setting)
    return found


if __name__ == "__main__":
    main()
