"""What the networks that come with the library cost: size, multiply-adds, images a second on one core, in PyTorch and in ONNX Runtime.

    python benchmarks/shipped_networks.py

The peer is timm's MobileNetV2 at 128x64 with random weights, the usual small backbone of re-ID. All are run in turn, the order reversed
every other round, on one thread; the ratio is the median over these rounds of the peer's time to the network's. "ONNX off by" is the
largest difference of a number of an embedding between the two. Memory is what a forward pass of 32 images adds to the process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from lightning_reid.inference import export_onnx
from lightning_reid.inference.onnx_export import onnx_milliseconds
from lightning_reid.networks import EmbeddingNetwork, build_backbone, count_multiply_adds, from_pretrained, shipped_names
from lightning_reid.networks.shipped import FOLDERS
from lightning_reid.networks.weights import MODEL_WEIGHTS

PEER, PEER_SIZE, BATCHES = "mobilenetv2_100", (128, 64), (1, 32)
MEMORY = """
import json, resource, torch
from lightning_reid import from_pretrained
torch.set_num_threads(1)
network = from_pretrained({name!r})
images = torch.rand(32, 3, *network.image_size)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with torch.inference_mode():
    network(images)
print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))
"""


def networks() -> dict[str, EmbeddingNetwork]:
    peer = EmbeddingNetwork(build_backbone(PEER)).eval()
    peer.image_size = PEER_SIZE
    return {name: from_pretrained(name) for name in shipped_names()} | {PEER: peer}


@torch.inference_mode()
def seconds_a_batch(found: dict[str, EmbeddingNetwork], batch: int, rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in found}
    images = {name: torch.rand(batch, 3, *(network.image_size or PEER_SIZE)) for name, network in found.items()}
    for number in range(rounds + 1):
        for name in list(found) if number % 2 else reversed(list(found)):
            began = time.perf_counter()
            found[name](images[name])
            times[name].append(time.perf_counter() - began)
    return {name: taken[1:] for name, taken in times.items()}  # the first round warms up


def measure(rounds: int) -> dict[str, dict[str, float]]:
    found = networks()
    rows: dict[str, dict[str, float]] = {}
    times = {batch: seconds_a_batch(found, batch, rounds) for batch in BATCHES}
    for name, network in found.items():
        shape = (1, 3, *(network.image_size or PEER_SIZE))
        rows[name] = {
            "parameters": sum(one.numel() for one in network.parameters()),
            "megabytes": (FOLDERS / name / MODEL_WEIGHTS).stat().st_size / 1e6 if name in shipped_names() else float("nan"),
            "multiply_adds": sum(count_multiply_adds(network, shape)),
            **{f"images/s, batch {batch}": batch / float(np.median(times[batch][name])) for batch in BATCHES},
            "to peer": float(np.median(np.divide(times[BATCHES[-1]][PEER], times[BATCHES[-1]][name]))),
        }
        if name in shipped_names():
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "network.onnx"
                rows[name]["ONNX off by"] = export_onnx(network, file, torch.randn(4, *shape[1:]))
                rows[name]["ONNX, ms an image"] = onnx_milliseconds(file, shape)
            told = subprocess.run([sys.executable, "-c", MEMORY.format(name=name)], capture_output=True, text=True, check=True)
            rows[name]["MB of memory"] = json.loads(told.stdout.splitlines()[-1])
    return rows


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="batches of each size that each network is passed")
    args = parser.parse_args(argv)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = measure(args.rounds)
    finally:
        torch.set_num_threads(threads)
    print(f"one thread, torch {torch.__version__}")
    print("| network | M parameters | MB in the wheel | M multiply-adds | images/s, 1 at a time | 32 at a time | to MobileNetV2 |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, row in rows.items():
        rates = " | ".join(f"{row[f'images/s, batch {batch}']:.0f}" for batch in BATCHES)
        print(
            f"| {name} | {row['parameters'] / 1e6:.2f} | {row['megabytes']:.2f} | {row['multiply_adds'] / 1e6:.0f} | {rates}"
            f" | {row['to peer']:.2f} |"
        )
    for name in shipped_names():
        told = rows[name]
        print(
            f"{name}: {told['ONNX, ms an image']:.2f} ms an image in ONNX Runtime, embeddings off by {told['ONNX off by']:.1e};"
            f" a pass of 32 images adds {told['MB of memory']:.0f} MB"
        )
    return rows


if __name__ == "__main__":
    main()
