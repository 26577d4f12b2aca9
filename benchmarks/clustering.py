"""What ``jaccard_distance`` and ``dbscan`` cost beside the exact nearest-neighbor search alone, and how much memory they take.

    python benchmarks/clustering.py --size market
    python benchmarks/clustering.py --size 100k
    python benchmarks/clustering.py --size market --device cuda

Embeddings are generated around identity centers, 17.2 images an identity as in Market-1501. Time and memory are measured in processes of
their own; times are medians of interleaved rounds. "plain" is chunks of ``embeddings @ embeddings.T`` and ``topk``; "search" is
``nearest_neighbors``; "up_to_eps" is ``jaccard_distance`` told the radius of DBSCAN; "dense" is the usual implementation with N x N
matrices, without its search, its row loops run on some of the rows and scaled.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_reid.clustering import clustering_agreement, dbscan, jaccard_distance, nearest_neighbors

K1, K2, EPS, MIN_SAMPLES = 30, 6, 0.6, 4


class Size(NamedTuple):
    """How many points of how many numbers, and how often the time is taken."""

    points: int
    dim: int
    rounds: int

    @property
    def ids(self) -> int:
        """As many images an identity as in Market-1501."""
        return max(1, round(self.points * 751 / 12936))


SIZES = {"small": Size(3000, 512, 3), "market": Size(12936, 2048, 3), "100k": Size(100_000, 128, 1)}


def generated(size: Size, noise: float, device: str) -> tuple[Tensor, Tensor]:
    """L2-normalized embeddings around identity centers, and the identities."""
    draw = torch.Generator().manual_seed(0)
    pids = torch.randint(size.ids, (size.points,), generator=draw)
    embeddings = torch.randn(size.ids, size.dim, generator=draw)[pids]
    for rows in embeddings.split(1024):  # a view: the whole noise at once would set the memory's peak
        rows.add_(noise * torch.randn(rows.shape, generator=draw))
        rows.div_(rows.norm(dim=1, keepdim=True))
    return embeddings.to(device), pids


def seconds(work: Callable[[], Any], device: str) -> float:
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def plain_search(embeddings: Tensor) -> None:
    norms = embeddings.square().sum(1)
    for rows in torch.arange(len(embeddings)).split(1024):
        torch.addmm(norms, embeddings[rows], embeddings.T, alpha=-2).topk(K1, largest=False)


def measure_time(size: Size, noise: float, device: str) -> dict[str, float]:
    embeddings, pids = generated(size, noise, device)
    jaccard_distance(embeddings[:1000], K1, K2)
    laps: dict[str, list[float]] = {"plain": [], "search": [], "jaccard": [], "up_to_eps": [], "dbscan": []}
    kept: dict[str, Any] = {}
    for _ in range(size.rounds):
        laps["plain"].append(seconds(lambda: plain_search(embeddings), device))
        laps["search"].append(seconds(lambda: nearest_neighbors(embeddings, K1), device))
        laps["jaccard"].append(seconds(lambda: kept.update(distance=jaccard_distance(embeddings, K1, K2)), device))
        laps["up_to_eps"].append(seconds(lambda: jaccard_distance(embeddings, K1, K2, max_distance=EPS), device))
        laps["dbscan"].append(seconds(lambda: kept.update(labels=dbscan(kept["distance"], EPS, MIN_SAMPLES)), device))
    agreement = clustering_agreement(kept["labels"], pids)
    return {name: float(np.median(values)) for name, values in laps.items()} | {
        "to_plain": float(np.median(np.divide(laps["jaccard"], laps["plain"]))),
        "to_search": float(np.median(np.divide(laps["jaccard"], laps["search"]))),
        "labels": float(np.median(np.add(laps["jaccard"], laps["dbscan"]))),
        "entries": kept["distance"].nnz / size.points,
        "clusters": agreement.num_clusters,
        "v_measure": agreement.v_measure,
    }


def resident(field: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process, in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def measure_memory(size: Size, noise: float, device: str) -> dict[str, float]:
    embeddings, _ = generated(size, noise, device)
    dbscan(jaccard_distance(embeddings[:1000], K1, K2), EPS)  # what the libraries load once
    before = resident("VmRSS")
    dbscan(jaccard_distance(embeddings, K1, K2, max_distance=EPS), EPS, MIN_SAMPLES)
    up_to_eps = resident("VmHWM") - before
    distance = jaccard_distance(embeddings, K1, K2)
    dbscan(distance, EPS, MIN_SAMPLES)
    return {"up_to_eps_mb": up_to_eps, "extra_mb": resident("VmHWM") - before, "result_mb": (distance.nnz * 8 + size.points * 4) / 1e6}


def measure_dense(size: Size, noise: float, device: str) -> dict[str, float]:
    """The usual loops over rows of dense matrices, for ``some`` of the rows; the search is not counted."""
    if size.points > 20_000:
        return {"dense": float("nan"), "difference": float("nan")}
    embeddings, _ = generated(size, noise, "cpu")
    ranked = nearest_neighbors(embeddings, K1)[0].numpy()
    start = time.perf_counter()
    weights = dense_weights(embeddings, ranked)
    shared = time.perf_counter() - start
    columns = [np.flatnonzero(weights[:, m]) for m in range(size.points)]
    some = np.linspace(0, size.points - 1, 300).astype(int)
    start = time.perf_counter()
    rows = [dense_row(weights, columns, i) for i in some]
    scaled = (time.perf_counter() - start) * size.points / len(some)
    ours = jaccard_distance(embeddings, K1, K2)[some].tocoo()
    table = np.ones((len(some), size.points), np.float32)
    table[ours.row, ours.col] = ours.data
    return {"dense": shared + scaled, "difference": float(np.abs(table - np.stack(rows)).max())}


def dense_weights(embeddings: Tensor, ranked: np.ndarray) -> np.ndarray:
    total = len(embeddings)

    def reciprocal(i, k):
        return ranked[i, :k][(ranked[ranked[i, :k], :k] == i).any(1)]

    halves = [reciprocal(j, round(K1 / 2) + 1) for j in range(total)]
    weights = np.zeros((total, total), np.float32)
    for i in range(total):
        core = reciprocal(i, K1)
        near = np.unique(
            np.concatenate([core, *(halves[j] for j in core if 3 * len(np.intersect1d(halves[j], core)) > 2 * len(halves[j]))])
        )
        weights[i, near] = torch.softmax(-(embeddings[near] - embeddings[i]).square().sum(1), 0).numpy()
    return np.stack([weights[ranked[i, :K2]].mean(0) for i in range(total)])


def dense_row(weights: np.ndarray, columns: list[np.ndarray], i: int) -> np.ndarray:
    common = np.zeros(len(weights), np.float32)
    for m in np.flatnonzero(weights[i]):
        common[columns[m]] += np.minimum(weights[i, m], weights[columns[m], m])
    return np.maximum(1 - common / (2 - common), 0)


MEASURES = {"time": measure_time, "memory": measure_memory, "dense": measure_dense}


def in_fresh_process(measure: str, args: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", measure, "--size", args.size, "--noise", str(args.noise), "--device", args.device]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="market", help="market: three minutes on two cores; 100k: five")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where the embeddings lie")
    parser.add_argument("--noise", type=float, default=1.3, help="spread around an identity's center, in units of that between the centers")
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=list(MEASURES), help="which to take")
    parser.add_argument("--one", choices=MEASURES, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    size = SIZES[args.size]
    if args.one:
        print(json.dumps(MEASURES[args.one](size, args.noise, args.device)))
        return
    print(f"{size.points:,} x {size.dim}, k1={K1}, k2={K2}, noise {args.noise}; {args.device}, {torch.get_num_threads()} threads")
    for measure in args.measures:
        found = in_fresh_process(measure, args)
        print(f"{measure}: " + ", ".join(f"{name} {value:.3g}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
