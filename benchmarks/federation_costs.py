"""What a federation costs beside its clients' training: seconds a client and round, and the memory of the average.

    python benchmarks/federation_costs.py

Overhead is the wall time of the rounds without the clients' own fits: sending, averaging, and writing the states of the server and of the
clients. Memory is the peak of a process of its own that averages ResNet-50 states as they come, beside that of a process that makes one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import torch
from torch import Tensor

from lightning_reid.datamodules import FederatedDataModule
from lightning_reid.federated import FedPav, Reply, payload_bytes
from lightning_reid.modules import SupervisedReID
from lightning_reid.networks import EmbeddingNetwork, build_backbone
from lightning_reid.runners import Client, Federation

SMALL = {"channels": [16, 32, 64, 128], "layers": [1, 1, 1, 1]}


def overhead(backbone: str, num_clients: int, rounds: int, steps: int) -> dict[str, float]:
    """Seconds a client and round, of the fits and beside them."""
    sizes = {"image_size": (64, 32), "p": 8, "k": 4, "num_workers": 0}
    data = FederatedDataModule(["market-like"], "identity", num_clients=num_clients, held_out=0.3, **sizes)
    data.prepare_data()
    data.setup()
    options = {"backbone_options": SMALL} if backbone == "resnet18" else {}
    members = [Client(name, SupervisedReID(backbone, **options), one) for name, one in data.clients.items()]
    for member in members:
        records = member.data.dataset
        people = sorted({record.pid for record in records.train})[: member.data.p]
        kept = [record for record in records.train if record.pid in people][: member.data.p * member.data.k * steps]
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


def resnet50_state(value: float) -> dict[str, Tensor]:
    """A client's network, filled with a number."""
    network = EmbeddingNetwork(build_backbone("resnet50"))
    return {f"network.{name}": torch.full_like(tensor, value) for name, tensor in network.state_dict().items()}


def averaged(num_clients: int, pipe: Connection) -> None:
    """Average so many states, made one after another; sends the peak in MB."""
    strategy = FedPav()
    first = resnet50_state(0.0)
    if num_clients:
        state = strategy.begin(first, [f"{k:03d}" for k in range(num_clients)])

        def replies() -> Iterator[Reply]:
            for k in range(num_clients):
                yield Reply(f"{k:03d}", resnet50_state(float(k)), 100)

        strategy.aggregate(state, replies())
    pipe.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, payload_bytes(first) / 1e6))


def memory(counts: tuple[int, ...]) -> tuple[dict[int, float], float]:
    """MB over a process that makes one state, by number of clients; MB of a state."""
    peaks = {}
    for count in (0, *counts):
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=averaged, args=(count, there))
        process.start()
        peaks[count], size = here.recv()
        process.join()
    return {count: peaks[count] - peaks[0] for count in counts}, size


def main(argv: list[str] | None = None) -> dict[str, dict]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "resnet50"], help="resnet18 is a narrow one")
    parser.add_argument("--clients", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=2, help="of a local fit, about (default: %(default)s)")
    parser.add_argument("--states", type=int, nargs="*", default=[2, 10], help="ResNet-50 states averaged (default: 2 and 10)")
    arguments = parser.parse_args(argv)
    found: dict[str, dict] = {}
    for backbone in arguments.backbones:
        found[backbone] = row = overhead(backbone, arguments.clients, arguments.rounds, arguments.steps)
        print(
            f"{backbone}: {row['overhead']:.3f} s a client and round beside fits of {row['fit']:.2f} s, {row['payload MB']:.1f} MB one way"
        )
    if arguments.states:
        more, size = memory(tuple(arguments.states))
        found["memory"] = more
        text = ", ".join(f"{count} clients {extra:.0f} MB" for count, extra in more.items())
        print(f"averaging ResNet-50 states of {size:.0f} MB: {text} more than holding one")
    return found


if __name__ == "__main__":
    main()
