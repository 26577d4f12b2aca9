"""What ``retrieval_scores`` costs beside the bare matrix product of its similarities, and beside the plain evaluation.

    python benchmarks/retrieval.py --size market
    python benchmarks/retrieval.py --size all --device cuda

Embeddings are generated around identity centers with the counts of the official test sets. Every size runs in processes of its own:
one interleaves product and scores and takes medians, one measures peak memory over the embeddings, one compares with the plain
evaluation (whole rows by NumPy, a stable sort of each) on some of the queries, its time scaled to all of them.
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

from lightning_reid.metrics import RetrievalScores, retrieval_scores


class Size(NamedTuple):
    """Counts of a test set; distractors bear pid 0, junk pid -1."""

    queries: int
    matches: int
    distractors: int
    junk: int
    ids: int
    cameras: int
    rounds: int

    @property
    def ranked(self) -> int:
        """Gallery images that are not junk: the columns of the matrix product."""
        return self.matches + self.distractors


SIZES = {
    "market": Size(3368, 13115, 2798, 0, 750, 6, 5),
    "market+junk": Size(3368, 13115, 2798, 3819, 750, 6, 5),
    "market, half": Size(3368, 6558, 1399, 0, 750, 6, 5),
    "msmt17": Size(11659, 82161, 0, 0, 3060, 15, 1),
}
CHOICES = {"market": ["market, half", "market", "market+junk"], "msmt17": ["msmt17"], "all": list(SIZES)}
DIM = 2048


def generated(size: Size, device: str) -> dict[str, Tensor]:
    """Arguments of ``retrieval_scores``: clustered embeddings, hard enough that R1 stays below 1."""
    draw = torch.Generator().manual_seed(0)
    centers = torch.randn(size.ids + 1, DIM, generator=draw)
    shifts = torch.randn(size.cameras, DIM, generator=draw) * 0.7

    def side(pids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        camids = torch.randint(size.cameras, (len(pids),), generator=draw)
        embeddings = torch.empty(len(pids), DIM)
        for rows in torch.arange(len(pids)).split(1024):
            noise = torch.randn(len(rows), DIM, generator=draw) * 3.0
            embeddings[rows] = noise + centers[pids[rows].clamp_min(0)] * (pids[rows, None] > 0) + shifts[camids[rows]]
        return embeddings.to(device), pids.to(device), camids.to(device)

    query, query_pids, query_camids = side(torch.arange(size.queries) % size.ids + 1)
    pids = torch.cat([torch.arange(size.matches) % size.ids + 1, torch.zeros(size.distractors).long(), -torch.ones(size.junk).long()])
    gallery, gallery_pids, gallery_camids = side(pids[torch.randperm(len(pids), generator=draw)])
    names = ("query", "gallery", "query_pids", "gallery_pids", "query_camids", "gallery_camids")
    return dict(zip(names, (query, gallery, query_pids, gallery_pids, query_camids, gallery_camids)))


def seconds(work: Callable[[], Any], device: str) -> float:
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure_time(size: Size, device: str) -> dict[str, float]:
    data = generated(size, device)
    ranked = data["gallery"][data["gallery_pids"] >= 0]
    product, scores = [], []
    torch.mm(data["query"][:64], ranked[:64].T)
    for _ in range(size.rounds):
        product.append(seconds(lambda: torch.mm(data["query"], ranked.T), device))
        scores.append(seconds(lambda: retrieval_scores(**data), device))
    ratios = np.divide(scores, product)
    return {"product": float(np.median(product)), "scores": float(np.median(scores)), "ratio": float(np.median(ratios))}


def resident(field: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process, in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def measure_memory(size: Size, device: str) -> dict[str, float]:
    data = generated(size, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        retrieval_scores(**data)
        return {"extra_mb": (torch.cuda.max_memory_allocated() - before) / 1e6, "peak_mb": torch.cuda.max_memory_allocated() / 1e6}
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of generating the embeddings
    before = resident("VmRSS")
    retrieval_scores(**data)
    return {"extra_mb": resident("VmHWM") - before, "peak_mb": resident("VmHWM")}


def measure_plain(size: Size, device: str) -> dict[str, float]:
    data = generated(size, device)
    num = min(size.queries, 512)
    some = {name: rows[:num] if name.startswith("query") else rows for name, rows in data.items()}
    ours: RetrievalScores = retrieval_scores(**some)
    host = {name: rows.cpu().numpy() for name, rows in some.items()}
    start = time.perf_counter()
    mean_ap, cmc = plain_scores(**host)
    plain = (time.perf_counter() - start) * size.queries / num
    return {"plain": plain, "difference": max(abs(mean_ap - ours.mAP), float(np.abs(cmc - ours.cmc.numpy()).max())), "mAP": ours.mAP}


def plain_scores(query, gallery, query_pids, gallery_pids, query_camids, gallery_camids, max_rank=50):
    """The textbook: the whole matrix, a stable sort of each row, the Market protocol."""
    unit = [torch.nn.functional.normalize(torch.from_numpy(rows)) for rows in (query, gallery)]
    order = np.argsort(-(unit[0] @ unit[1].T).numpy(), axis=1, kind="stable")
    precisions, firsts = [], []
    for i, row in enumerate(order):
        same = gallery_pids[row] == query_pids[i]
        hits = same[~((same & (gallery_camids[row] == query_camids[i])) | (gallery_pids[row] == -1))]
        ranks = hits.nonzero()[0] + 1
        if len(ranks):
            precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
            firsts.append(ranks[0])
    return np.mean(precisions), np.mean(np.array(firsts)[:, None] <= np.arange(1, max_rank + 1), axis=0)


MEASURES = {"time": measure_time, "memory": measure_memory, "plain": measure_plain}


def in_fresh_process(size: str, measure: str, device: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", size, measure, "--device", device]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=CHOICES, default="market", help="market: seconds; msmt17: two minutes and 6 GB")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where the embeddings lie")
    parser.add_argument("--one", nargs=2, metavar=("SIZE", "MEASURE"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        print(json.dumps(MEASURES[args.one[1]](SIZES[args.one[0]], args.device)))
        return
    print(f"{args.device}, torch {torch.__version__}, {torch.get_num_threads()} threads, float32, {DIM} wide")
    print(
        "| set | pairs | product s | scores s | scores / product | ns a pair | plain / scores | mAP | off plain by | extra MB | peak MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name in CHOICES[args.size]:
        size, r = SIZES[name], {}
        for measure in MEASURES:
            r |= in_fresh_process(name, measure, args.device)
        pairs = size.queries * size.ranked
        print(
            f"| {name} | {size.queries:,} x {size.ranked:,} | {r['product']:.3f} | {r['scores']:.3f} | {r['ratio']:.2f} | "
            f"{r['scores'] / pairs * 1e9:.2f} | {r['plain'] / r['scores']:.1f} | {r['mAP']:.3f} | {r['difference']:.0e} | "
            f"{r['extra_mb']:.0f} | {r['peak_mb']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
