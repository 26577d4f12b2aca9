"""Searching an index on the disk: exact against approximate, and what memory searching and embedding take.

    python benchmarks/search_index.py                       # 1,000,000 x 256: minutes, 1.2 GB of disk
    python benchmarks/search_index.py --rows 10000 --crops 5 50    # half a minute

Embeddings are drawn around people, 20 of each, in directions whose spread falls like a power as it does in trained networks', and turned at
random; queries are further ones of 100 people. Every measurement runs in a process of its own. CPU seconds are those of the second
search of a process, with all files in the system's cache; peak memory is what the process held at most beyond what it held after its
imports.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lightning_reid.search_index import IndexRow, add_rows, build_fast, create_index, search_indexes, write_index
from lightning_reid.search_index.fast import FEWEST
from lightning_reid.search_index.searching import Searched

DIM, PART, OF_A_PERSON, TOP = 256, 20_000, 20, 10
SPREAD, NOISE = 0.5, 0.6
MODEL = "drawn at random"


def generated(rows: int) -> Iterator[Tensor]:
    """Parts ``[n, D]`` of all embeddings, then that of the queries ``[1000, D]``, each of length 1."""
    turn = torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(0)))[0]
    scales = torch.arange(1, DIM + 1) ** -SPREAD

    def drawn(people: Tensor, seed: int) -> Tensor:
        centers = torch.stack([torch.randn(DIM, generator=torch.Generator().manual_seed(int(person))) for person in people.unique()])
        draw = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(people), DIM, generator=draw)
        return torch.nn.functional.normalize((centers[people.unique(return_inverse=True)[1]] + NOISE * noise) * scales @ turn, dim=1)

    for start in range(0, rows, PART):
        yield drawn(torch.arange(start, min(start + PART, rows)) // OF_A_PERSON, 10**9 + start)
    yield drawn(torch.randint(max(rows // OF_A_PERSON, 1), (1000,), generator=torch.Generator().manual_seed(1)), 7)


def measure_make(folder: Path, rows: int) -> dict[str, float]:
    create_index(folder, MODEL, DIM)
    parts, start = generated(rows), 0
    begun = time.process_time()
    with write_index(folder) as index:
        while start < rows:
            part = next(parts)
            add_rows(index, [IndexRow(f"/crops/{start + row:07d}.jpg", camera=str(row % 8)) for row in range(len(part))], part)
            start += len(part)
    np.save(folder.with_suffix(".npy"), next(parts).numpy())
    return {"cpu": time.process_time() - begun}


def measure_speed(folder: Path, rows: int) -> dict[str, float]:
    begun = time.process_time()
    with write_index(folder) as index:
        built = build_fast(index)
    return {"cpu": time.process_time() - begun, "lists": built.lists, "recall": built.recall}


def measure_search(folder: Path, rows: int, *, queries: int, exact: bool) -> dict[str, object]:
    asked = torch.from_numpy(np.load(folder.with_suffix(".npy"))[:queries])
    before = resident("VmRSS")

    def search() -> Searched:
        return search_indexes([folder], asked, MODEL, top=TOP, exact_up_to=rows if exact else 0)

    search()
    begun = time.process_time()
    found = search()
    used = time.process_time() - begun
    assert bool(found.approximate) != exact
    return {"cpu": used, "mb": resident("VmHWM") - before, "found": [[one.path for one in answers] for answers in found.answers]}


def measure_verb(argv: list[str]) -> dict[str, float]:
    import lightning_reid.command_line.embedding_options  # noqa: F401  (what is imported is no part of the work)
    from lightning_reid.command_line.main import main as verb

    before = resident("VmRSS")
    verb(argv)
    return {"mb": resident("VmHWM") - before}


def resident(field: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process, in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def in_fresh_process(*argv: object) -> dict:
    finished = subprocess.run([sys.executable, __file__, "--one", *map(str, argv)], check=True, capture_output=True, text=True)
    return json.loads(finished.stdout.splitlines()[-1])


def compare_searches(place: Path, rows: int) -> dict[tuple[int, int], dict[str, float]]:
    figures = {}
    print("| rows | queries | exact CPU s | approximate CPU s | exact / approximate | recall@10 | exact peak MB | approximate peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    for number in (rows // 10, rows):
        if number < FEWEST:
            continue
        folder = place / f"{number}.index"
        made, built = in_fresh_process("make", folder, number), in_fresh_process("speed", folder, number)
        for queries in (1, 10, 100):
            exact, fast = (in_fresh_process(way, folder, number, queries) for way in ("exact", "fast"))
            recall = np.mean([len({*one} & {*other}) / TOP for one, other in zip(exact["found"], fast["found"], strict=True)])
            figures[number, queries] = {"recall": float(recall), "ratio": exact["cpu"] / fast["cpu"], "mb": exact["mb"]}
            told = f"| {number:,} | {queries} | {exact['cpu']:.3f} | {fast['cpu']:.3f} | {exact['cpu'] / fast['cpu']:.1f} | {recall:.3f} |"
            print(f"{told} {exact['mb']:.0f} | {fast['mb']:.0f} |", flush=True)
        sizes = ", ".join(f"{file.name} {file.stat().st_size / 1e6:.1f} MB" for file in sorted(folder.iterdir()))
        print(
            f"<!-- {number:,}: made in {made['cpu']:.0f} CPU s, codes in {built['cpu']:.0f}, {built['lists']} lists; {sizes} -->",
            flush=True,
        )
    return figures


def compare_folders(place: Path, sizes: list[int]) -> dict[int, list[float]]:
    figures = {}
    print("\n| crops | embed peak MB | index add peak MB | search peak MB |\n|---|---|---|---|")
    for number in sizes:
        crops = place / f"crops-{number}"
        crops.mkdir()
        draws = np.random.default_rng(0)
        for crop in range(number):
            Image.fromarray(draws.integers(0, 256, (32, 16, 3), dtype=np.uint8)).save(crops / f"{crop:06d}.png")
        options = ("--image_size", "32x16", "--quiet", "--json")
        verbs = (
            ("embed", crops, place / f"{number}.npz"),
            ("index", "add", place / f"{number}.people", crops),
            ("search", place / f"{number}.people", "--query", crops / "000000.png"),
        )
        peaks = [in_fresh_process("verb", *verb, *options)["mb"] for verb in verbs]
        print(f"| {number:,} | " + " | ".join(f"{peak:.0f}" for peak in peaks) + " |", flush=True)
        figures[number] = peaks
    return figures


def measure_one(what: str, *rest: str) -> dict:
    if what == "verb":
        return measure_verb(list(rest))
    folder, rows, *queries = rest
    if what in ("make", "speed"):
        return {"make": measure_make, "speed": measure_speed}[what](Path(folder), int(rows))
    return measure_search(Path(folder), int(rows), queries=int(queries[0]), exact=what == "exact")


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the larger index; another has a tenth, if that are 10,000")
    parser.add_argument("--crops", type=int, nargs="*", default=[2000, 20_000], help="of the folders that are embedded")
    args = parser.parse_args(argv)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {DIM} numbers")
    with tempfile.TemporaryDirectory() as place:
        return {"searches": compare_searches(Path(place), args.rows), "folders": compare_folders(Path(place), args.crops)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure_one(*sys.argv[2:])))
    else:
        main()
