"""What a federation costs beside its clients' training: seconds a client and round, and the memory of the average.

    python benchmarks/federation_costs.py

Overhead is the wall time of the rounds without the clients' own fits: sending, averaging, and writing the states of the server and of the
clients. Memory is what a process of its own holds most, over what it held before, while it averages ResNet-50 states as they come (Linux).
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from lightning_reid.datamodules import FederatedData
from lightning_reid.federated import FedPav
from lightning_reid.federated.sharing import payload_bytes
from lightning_reid.federated.strategies import Reply
from lightning_reid.federation import Client, Federation
from lightning_reid.modules import SupervisedReID
from lightning_reid.networks import EmbeddingNetwork, build_backbone

SMALL = {"channels": [16, 32, 64, 128], "layers": [1, 1, 1, 1]}


def overhead(backbone: str, dataset: str, num_clients: int, rounds: int, steps: int) -> dict[str, float]:
    """Seconds a client and round, of the fits and beside them."""
    sizes = {"image_size": (64, 32), "p": 8, "k": 4, "num_workers": 0}
    data = FederatedData([dataset], "identity", num_clients=num_clients, held_out=0.3, **sizes)
    data.prepare_data()
    data.setup()
    options = {"backbone_options": SMALL} if backbone == "resnet18" else {}
    members = [Client(name, SupervisedReID(backbone=backbone, **options), one) for name, one in data.clients.items()]
    for member in members:
        records = member.data.dataset
        p, each = member.data.p, member.data.k * steps
        people = sorted({record.pid for record in records.train})[:p]
        kept = [record for pid in people for record in [one for one in records.train if one.pid == pid][:each]]
        member.data.serve(type(records)(records.name, tuple(kept), records.query, records.gallery))
    with tempfile.TemporaryDirectory() as folder:
        federation = Federation(FedPav(), members, folder, accelerator="cpu", quiet=True)
        began = time.perf_counter()
        federation.fit(rounds)
        total = time.perf_counter() - began
    own = sum(sum(one.seconds.values()) for one in federation.rounds)
    turns = num_clients * rounds
    payload = float(max(federation.rounds[0].report.bytes_up.values()))
    return {"fit": own / turns, "overhead": (total - own) / turns, "payload MB": payload / 1e6}


def resident_mb() -> float:
    """Memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def averaged(num_clients: int, pipe: Connection) -> None:
    """Average so many ResNet-50 states, made one after another; sends what was held most, over before, and a state's size, in MB."""
    network = EmbeddingNetwork(build_backbone("resnet50"))
    first = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    strategy, held = FedPav(), []
    state = strategy.begin(first, [f"{k:03d}" for k in range(num_clients)])
    before = resident_mb()

    def replies() -> Iterator[Reply]:
        for k in range(num_clients):
            yield Reply(f"{k:03d}", {name: torch.full_like(tensor, float(k)) for name, tensor in first.items()}, 100)
            held.append(resident_mb())

    strategy.aggregate(state, replies())
    pipe.send((max(*held, resident_mb()) - before, payload_bytes(first) / 1e6))


def memory(counts: tuple[int, ...]) -> tuple[dict[int, float], float]:
    """MB held while averaging, by number of clients, each in a process of its own; MB of a state."""
    more, size = {}, 0.0
    for count in counts:
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=averaged, args=(count, there))
        process.start()
        more[count], size = here.recv()
        process.join()
    return more, size


def main(argv: list[str] | None = None) -> dict[str, dict]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "resnet50"], help="resnet18 is a narrow one")
    parser.add_argument("--clients", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=2, help="of a local fit, about (default: %(default)s)")
    parser.add_argument("--states", type=int, nargs="*", default=[2, 10], help="ResNet-50 states averaged (default: 2 and 10)")
    parser.add_argument("--dataset", default="market-like", help="dealt to the clients (default: %(default)s)")
    arguments = parser.parse_args(argv)
    found: dict[str, dict] = {}
    for backbone in arguments.backbones:
        found[backbone] = row = overhead(backbone, arguments.dataset, arguments.clients, arguments.rounds, arguments.steps)
        print(
            f"{backbone}: {row['overhead']:.3f} s a client and round beside fits of {row['fit']:.2f} s, {row['payload MB']:.1f} MB one way"
        )
    if arguments.states:
        more, size = memory(tuple(arguments.states))
        found["memory"] = more
        text = ", ".join(f"{count} clients {extra:.0f} MB" for count, extra in more.items())
        print(f"averaging ResNet-50 states of {size:.0f} MB: {text} more than before")
    return found


if __name__ == "__main__":
    main()
