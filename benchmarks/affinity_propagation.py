"""Time and memory of affinity propagation against scikit-learn's, of the sparse variant, and of the SG-AP search against cold runs.

    python benchmarks/affinity_propagation.py                                   # all at 4,000 points: about two minutes
    python benchmarks/affinity_propagation.py --measures dense --points 12936
    python benchmarks/affinity_propagation.py --measures sparse --points 32621
    python benchmarks/affinity_propagation.py --measures guided_sparse --points 32621
    python benchmarks/affinity_propagation.py --measures curve --output curve.png

Embeddings are generated around identity centers, 17.2 images an identity as in Market-1501; the similarity is minus the squared distance,
the preference its median. Every figure is taken in a process of its own; memory is what a run adds to the process that already holds the
similarity. "peer" is scikit-learn in float64 (it has no float32). "search" is ``semantics_guided_preference`` with a sixth of
the identities labeled, "cold" one run of ``affinity_propagation`` at the p* it found; "guided_sparse" is all of
``semantics_guided_affinity_propagation(neighbors=k)``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.cluster import AffinityPropagation as ByScikitLearn
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from lightning_reid.clustering import (
    affinity_propagation,
    clustering_agreement,
    semantics_guided_affinity_propagation,
    sparse_affinity_propagation,
)
from lightning_reid.clustering.semantics_guided import semantics_guided_preference
from lightning_reid.clustering.similarity_ranking import similarity_ranking
from lightning_reid.clustering.sparse_affinity_propagation import similarity_graph

DIM, MARKET_SHARE, CURVE = 256, 751 / 12936, (500, 1000, 2000, 4000, 8000)


def generated(points: int, noise: float) -> tuple[Tensor, Tensor]:
    """L2-normalized float32 embeddings around identity centers, and the identities, those of one identity together."""
    draw = torch.Generator().manual_seed(0)
    num_ids = max(2, round(points * MARKET_SHARE))
    pids = torch.randint(num_ids, (points,), generator=draw).sort().values
    embeddings = torch.randn(num_ids, DIM, generator=draw)[pids] + noise * torch.randn(points, DIM, generator=draw)
    return torch.nn.functional.normalize(embeddings), pids


def minus_distances(embeddings: Tensor, dtype: torch.dtype) -> Tensor:
    points = embeddings.to(dtype)
    similarity = torch.empty(len(points), len(points), dtype=dtype)
    for rows, part in zip(similarity.split(1024), points.split(1024)):  # a whole second matrix would set the memory's peak
        rows.copy_((2 * part @ points.T - 2).clamp_(max=0))
    similarity.diagonal().zero_()
    return similarity


def middle(similarity: Tensor) -> float:
    """The median of the similarities of up to 1,000 points: enough to set a preference."""
    some = similarity[:: max(1, len(similarity) // 1000)]
    return float(some.median())


def resident(field: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process, in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def forget_the_peak() -> float:
    """Start the high-water mark anew; what is resident now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def measured(found: Any, start: float, before: float) -> dict[str, float]:
    return {"seconds": time.perf_counter() - start, "extra_mb": resident("VmHWM") - before, "iterations": found.iterations}


def measure_ours(points: int, noise: float, dtype: torch.dtype) -> dict[str, float]:
    embeddings, pids = generated(points, noise)
    affinity_propagation(minus_distances(embeddings[:200], dtype), -1.0)
    similarity = minus_distances(embeddings, dtype)
    preference = middle(similarity)
    before, start = forget_the_peak(), time.perf_counter()
    found = affinity_propagation(similarity, preference)
    figures = measured(found, start, before)
    return figures | {"clusters": len(found.exemplars), "v_measure": clustering_agreement(found.labels, pids).v_measure}


def measure_peer(points: int, noise: float) -> dict[str, float]:
    embeddings, pids = generated(points, noise)
    similarity = minus_distances(embeddings, torch.float64)
    preference = middle(similarity)
    peer = ByScikitLearn(affinity="precomputed", random_state=0, preference=preference)
    ByScikitLearn(affinity="precomputed", random_state=0).fit(similarity[:200, :200].numpy())
    before, start = forget_the_peak(), time.perf_counter()
    peer.fit(similarity.numpy())
    figures = {"seconds": time.perf_counter() - start, "extra_mb": resident("VmHWM") - before, "iterations": peer.n_iter_}
    agreement = clustering_agreement(torch.from_numpy(peer.labels_), pids)
    return figures | {"clusters": agreement.num_clusters, "v_measure": agreement.v_measure}


def measure_sparse(points: int, noise: float, k: int) -> dict[str, float]:
    embeddings, pids = generated(points, noise)
    sparse_affinity_propagation(similarity_graph(embeddings[:300], 20), -1.0)
    before, start = forget_the_peak(), time.perf_counter()
    graph = similarity_graph(embeddings, k)
    searched = time.perf_counter()
    found = sparse_affinity_propagation(graph, float(graph.similarities.median()))
    figures = measured(found, start, before) | {"graph_seconds": searched - start, "pairs_each": len(graph.columns) / points}
    return figures | {"clusters": len(found.exemplars), "v_measure": clustering_agreement(found.labels, pids).v_measure}


def measure_search(points: int, noise: float, dtype: torch.dtype) -> dict[str, float]:
    embeddings, pids = generated(points, noise)
    similarity = minus_distances(embeddings, dtype)
    labels = pids[pids < max(1, int(pids.max() + 1) // 6)]
    before, start = forget_the_peak(), time.perf_counter()
    search = semantics_guided_preference(similarity, labels)
    seconds = time.perf_counter() - start
    extra = resident("VmHWM") - before
    start = time.perf_counter()
    found = affinity_propagation(similarity, similarity_ranking(similarity) * search.preference)
    cold = time.perf_counter() - start
    probes = [f"{probe.count}{' exact' if probe.exact else ''} in {probe.iterations}" for probe in search.history]
    print("probes:", "; ".join(probes), f"(wanted {search.wanted}); {search.reason}", file=sys.stderr)
    return {
        "seconds": seconds,
        "extra_mb": extra,
        "cold_seconds": cold,
        "cold_iterations": found.iterations,
        "to_cold": seconds / cold,
        "probes": len(search.history),
        "iterations": sum(probe.iterations for probe in search.history),
        "matched": search.matched,
        "violations": len(search.violations),
    }


def measure_guided_sparse(points: int, noise: float, k: int) -> dict[str, float]:
    embeddings, pids = generated(points, noise)
    num_labeled = int((pids < max(1, int(pids.max() + 1) // 6)).sum())
    sparse_affinity_propagation(similarity_graph(embeddings[:300], 20), -1.0)
    before, start = forget_the_peak(), time.perf_counter()
    found = semantics_guided_affinity_propagation(embeddings[:num_labeled], pids[:num_labeled], embeddings[num_labeled:], neighbors=k)
    figures = measured(found.clusters, start, before) | {"probes": len(found.search.history), "matched": found.search.matched}
    agreement = clustering_agreement(found.clusters.labels, pids[num_labeled:])
    return figures | {"clusters": agreement.num_clusters, "v_measure": agreement.v_measure}


ONE = {
    "float32": lambda args: measure_ours(args.points, args.noise, torch.float32),
    "float64": lambda args: measure_ours(args.points, args.noise, torch.float64),
    "peer": lambda args: measure_peer(args.points, args.noise),
    "sparse": lambda args: measure_sparse(args.points, args.noise, args.k),
    "search": lambda args: measure_search(args.points, args.noise, torch.float32),
    "guided_sparse": lambda args: measure_guided_sparse(args.points, args.noise, args.k),
}
MEASURES = {
    "dense": ("float32",),
    "peer": ("peer", "float64"),
    "sparse": ("sparse",),
    "search": ("search",),
    "guided_sparse": ("guided_sparse",),
    "curve": (),
}


def in_fresh_process(one: str, points: int, args: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", one, "--points", str(points), "--noise", str(args.noise), "--k", str(args.k)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return found


def interleaved(one: str, points: int, args: argparse.Namespace) -> dict[str, float]:
    """Medians over ``--rounds`` processes."""
    rounds = [in_fresh_process(one, points, args) for _ in range(args.rounds)]
    return {name: float(np.median([found[name] for found in rounds])) for name in rounds[0]}


def draw_curve(args: argparse.Namespace) -> None:
    """Time and memory against N, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for one, name in {
        "peer": "scikit-learn, float64",
        "float64": "dense, float64",
        "float32": "dense, float32",
        "sparse": "sparse",
    }.items():
        found = [interleaved(one, points, args) for points in args.curve]
        for axis, figure_of in zip(axes, ("seconds", "extra_mb")):
            axis.loglog(args.curve, [max(row[figure_of], 1e-3) for row in found], marker="o", label=name)
        for points, row in zip(args.curve, found):
            print(f"{one} {points:,}: " + ", ".join(f"{key} {value:.3g}" for key, value in row.items()), flush=True)
    for axis, label in zip(axes, ("seconds", "memory beside the similarity, MB")):
        axis.set(xlabel="points", ylabel=label)
        axis.set_xticks(args.curve, [f"{points:,}" for points in args.curve])
        axis.xaxis.set_minor_formatter("")
        axis.grid(True, which="both", alpha=0.3)
    axes[0].legend()
    figure.savefig(args.output, dpi=120)
    print(f"drawn in {args.output}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=4000, help="N of all measures but the curve")
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=["dense", "peer", "sparse", "search"], help="which to take")
    parser.add_argument("--noise", type=float, default=1.0, help="spread around an identity's center, in units of that between the centers")
    parser.add_argument("--k", type=int, default=100, help="neighbors in the sparse variant")
    parser.add_argument("--rounds", type=int, default=1, help="processes a figure, of which the median is printed")
    parser.add_argument("--curve", nargs="+", type=int, default=list(CURVE), help="the N of the curve")
    parser.add_argument("--output", default="affinity_propagation.png", help="where the curve is drawn")
    parser.add_argument("--one", choices=ONE, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of iterations is printed
            print(json.dumps(ONE[args.one](args)))
        return
    print(f"{args.points:,} x {DIM}, noise {args.noise}, {torch.get_num_threads()} threads")
    for measure in args.measures:
        for one in MEASURES[measure]:
            found = interleaved(one, args.points, args)
            print(f"{one}: " + ", ".join(f"{name} {value:.3g}" for name, value in found.items()), flush=True)
        if measure == "curve":
            draw_curve(args)


if __name__ == "__main__":
    main()
