"""What a graph of memories costs beside the bare matrix products of its pairs of cameras.

    python benchmarks/edge_graph.py
    python benchmarks/edge_graph.py --sizes 3x50x16       # at once

Memories are drawn around people, most of whom pass most cameras. ``global_labels`` searches the mutual neighbors of all pairs, counts
triangles and labels them (one memory a camera, the dearer way); beside it stands ``mutual_top1`` alone. The peer is ``A @ B.T`` of every
pair of banks. The three take turns in one process, and the ratio is the median over the rounds; memory is what another process holds at
most beyond the memories, after the same products. "Allowed" are two banks and the distances between them. Targets: 15 cameras of 1,000
memories x 2048 in at most twice the products and in less memory than is allowed; 8 x 700 x 128 in a second.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_reid.clustering import global_labels, mutual_top1

SIZES = ("8x700x128", "15x1000x2048")
MB = 1e6


class Size(NamedTuple):
    """Cameras, memories of each, and their width."""

    cameras: int
    memories: int
    width: int

    @property
    def two_banks_and_a_tile(self) -> int:
        """Bytes of the memories of two cameras, and of the distances between them, in float32."""
        return 4 * (2 * self.memories * self.width + self.memories**2)


def parsed(told: str) -> Size:
    return Size(*map(int, told.split("x")))


def generated(size: Size) -> tuple[Tensor, Tensor]:
    """Memories ``[N, D]`` of length 1 and their cameras; a third of the people is missing from each camera."""
    draw = torch.Generator().manual_seed(0)
    people = torch.randn(size.memories * 3 // 2, size.width, generator=draw)
    memories = torch.empty(size.cameras * size.memories, size.width)
    for bank in memories.split(size.memories):
        bank.copy_(people[torch.randperm(len(people), generator=draw)[: size.memories]])
        bank.add_(torch.randn(bank.shape, generator=draw), alpha=0.8).add_(torch.randn(size.width, generator=draw), alpha=0.3)
        bank.div_(bank.norm(dim=1, keepdim=True))
    return memories, torch.arange(size.cameras).repeat_interleave(size.memories)


def products(memories: Tensor, size: Size) -> None:
    for one, other in combinations(memories.split(size.memories), 2):
        torch.mm(one, other.T)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure_time(size: Size, rounds: int) -> dict[str, float]:
    memories, camids = generated(size)
    works: dict[str, Callable[[], object]] = {
        "products": lambda: products(memories, size),
        "edges": lambda: mutual_top1(memories, camids),
        "labels": lambda: global_labels(memories, camids, method="one_per_camera"),
    }
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name in list(works) if number % 2 else reversed(list(works)):
            taken[name].append(seconds(works[name]))
    found = {name: median(times[1:]) for name, times in taken.items()}  # the first round warms up
    for name in ("edges", "labels"):
        found[f"{name} ratio"] = median(a / b for a, b in zip(taken[name][1:], taken["products"][1:], strict=True))
    labels = global_labels(memories, camids, method="one_per_camera")
    return found | {"num_edges": len(mutual_top1(memories, camids)), "num_labels": len(labels.unique())}


def resident(field: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def measure_memory(size: Size, rounds: int) -> dict[str, float]:
    memories, camids = generated(size)
    products(memories, size)  # what libraries allocate for their first product, the peer's too, is not the graph's
    global_labels(*generated(Size(3, 20, 8)), method="one_per_camera")
    ctypes.CDLL(None).malloc_trim(0)  # else what generating them left free would be taken, and not counted
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of generating them
    before = resident("VmRSS")
    global_labels(memories, camids, method="one_per_camera")
    return {"extra": resident("VmHWM") - before}


MEASURES = {"time": measure_time, "memory": measure_memory}


def in_fresh_process(told: str, measure: str, rounds: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", told, measure, "--rounds", str(rounds)]
    # what is freed goes back at once: what glibc keeps for later differs from run to run, by more than is measured
    environment = os.environ | ({"MALLOC_MMAP_THRESHOLD_": "131072"} if measure == "memory" else {})
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout)


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="cameras x memories of each x width")
    parser.add_argument("--rounds", type=int, default=5, help="in which products, edges and labels take turns")
    parser.add_argument("--one", nargs=2, metavar=("SIZE", "MEASURE"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        print(json.dumps(MEASURES[args.one[1]](parsed(args.one[0]), args.rounds)))
        return {}
    print(f"cpu, torch {torch.__version__}, {torch.get_num_threads()} threads, float32, {args.rounds} rounds")
    print("| memories | edges | labels | products s | edges s | / products | labels s | / products | extra MB | allowed |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    rows = {}
    for told in args.sizes:
        rows[told] = r = {**in_fresh_process(told, "time", args.rounds), **in_fresh_process(told, "memory", args.rounds)}
        rows[told]["allowed"] = parsed(told).two_banks_and_a_tile
        print(
            f"| {told} | {r['num_edges']:,} | {r['num_labels']:,} | {r['products']:.3f} | {r['edges']:.3f} | "
            f"{r['edges ratio']:.2f} | {r['labels']:.3f} | {r['labels ratio']:.2f} | {r['extra'] / MB:.1f} | {r['allowed'] / MB:.1f} |",
            flush=True,
        )
    return rows


if __name__ == "__main__":
    main()
