"""What the video networks take in time and memory: the forward pass and the training step of one clip, eager and compiled.

    python benchmarks/video_speed.py --only times block
    python benchmarks/video_speed.py --only memory
    python benchmarks/video_speed.py --only times --compiled --passes forward --t8_only
    python benchmarks/video_speed.py --only times --compiled --passes training --t8_only --networks STE-NVAN
    python benchmarks/video_speed.py --small                        # narrow networks, small frames: does it run?

ResNet-50 with random weights, 256x128 pixels, float32. "training" is forward, backward and Adam; a batch of one clip has no variance, so
the BNNeck keeps its statistics. CF-AAN is taken with T = 6 as in the text, and with T = 8 for comparison; ratios are to the networks of
the same T, in the same mode and round: all are run in turn, the order reversed every other round, and medians are taken.

Memory is the peak of one call over the process before it (after a call to warm up, gradients and Adam's state given back), each in a
process of its own, on Linux. The block is one of conv3 (512 channels, 32 x 16 positions), without gradients, against the plain
``softmax(Q K^T) V`` that writes all its weights.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.networks import CFAAN, NVAN, STENVAN, VideoResNet50
from lightning_reid.networks.video.network import VideoNetwork
from lightning_reid.networks.video.non_local import NonLocalBlock

PASSES = ("forward", "training")
NETWORKS = ("ResNet-50", "NVAN", "STE-NVAN", "CF-AAN", "CF-AAN reduced")


class Setting(NamedTuple):
    """Sizes of everything measured."""

    size: tuple[int, int]
    lengths: tuple[int, int]
    block: tuple[int, int, int]
    block_lengths: tuple[int, ...]
    backbone: dict[str, Any]
    stripes: int
    cfaan: dict[str, Any]
    reduction: int


FULL = Setting((256, 128), (8, 6), (512, 32, 16), (4, 8, 16, 32), {"backbone": "resnet50"}, 16, {}, 8)
NARROW = {"backbone": "resnet18", "channels": [8, 16, 32, 64]}
SMALL = Setting((64, 32), (4, 2), (16, 8, 4), (4, 16), NARROW, 4, {"heads": 4, "scales": 2}, 2)


class Step(NamedTuple):
    """One network that a forward pass or a training step can be run of."""

    network: VideoNetwork
    call: Callable[[Tensor], Any]
    clips: Tensor
    optimizer: torch.optim.Optimizer | None

    def run(self) -> None:
        """Once, and wait for the end."""
        if self.optimizer is None:
            with torch.no_grad():
                self.call(self.clips)
            return
        self.call(self.clips).embedding.square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


class PlainNonLocalBlock(NonLocalBlock):
    """The same block as its equation stands: all THW x THW weights are written."""

    @override
    def forward(self, clips: Tensor) -> Tensor:
        frames = clips.flatten(0, 1)
        query, key, value = (
            embed(frames).unflatten(0, clips.shape[:2]).permute(0, 1, 3, 4, 2).flatten(1, 3) for embed in (self.theta, self.phi, self.g)
        )
        attended = (query @ key.mT).softmax(2) @ value
        answers = attended.unflatten(1, (clips.shape[1], *clips.shape[3:])).permute(0, 1, 4, 2, 3)
        return clips + self.bn(self.w_z(answers.flatten(0, 1))).unflatten(0, clips.shape[:2])


def build(name: str, length: int, setting: Setting) -> VideoNetwork:
    cfaan = {"clip_length": length, "image_size": setting.size, **setting.cfaan, **setting.backbone}
    networks: dict[str, Callable[[], VideoNetwork]] = {
        "ResNet-50": lambda: VideoResNet50(**setting.backbone),
        "NVAN": lambda: NVAN(**setting.backbone),
        "STE-NVAN": lambda: STENVAN(stripes=setting.stripes, **setting.backbone),
        "CF-AAN": lambda: CFAAN(**cfaan),
        "CF-AAN reduced": lambda: CFAAN(**cfaan, channel_reduction=setting.reduction),
    }
    torch.manual_seed(0)
    return networks[name]().to(memory_format=torch.channels_last)  # as VideoReID has it


def chosen(args: argparse.Namespace, setting: Setting) -> dict[int, list[str]]:
    """Names by T; frames are halved twice in STE-NVAN, which T = 6 does not allow."""
    names = {setting.lengths[0]: args.networks}
    return names if args.t8_only else names | {setting.lengths[1]: [name for name in args.networks if name != "STE-NVAN"]}


def new_step(name: str, length: int, passing: str, mode: str, setting: Setting, backend: str) -> Step:
    network = build(name, length, setting)
    network.train(passing == "training")
    network.neck.eval()
    clips = torch.randn(1, length, 3, *setting.size, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4) if passing == "training" else None
    call = torch.compile(network, backend=backend) if mode == "compiled" else network
    return Step(network, call, clips, optimizer)


def milliseconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def measure_times(length: int, names: list[str], passing: str, modes: list[str], rounds: int, setting: Setting, backend: str):
    """Milliseconds of each round ``[rounds]`` by (name, mode)."""
    torch.compiler.reset()  # networks share their code, and torch compiles one piece of code for eight callers only
    steps = {(name, mode): new_step(name, length, passing, mode, setting, backend) for name in names for mode in modes}
    laps: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    for step in steps.values():
        step.run()
    for number in range(rounds):
        for key in steps if number % 2 else reversed(steps):
            steps[key].run()  # another network has been here: its weights and buffers are to leave the caches before the clock runs
            laps[key].append(milliseconds(steps[key].run))
    return {key: np.array(lap) for key, lap in laps.items()}


def print_times(length: int, passing: str, laps: dict[tuple[str, str], np.ndarray]) -> list[dict[str, Any]]:
    rows = []
    for (name, mode), lap in laps.items():
        row: dict[str, Any] = {"network": name, "T": length, "pass": passing, "mode": mode, "ms": float(np.median(lap))}
        for other in ("ResNet-50", "NVAN"):
            row[f"to {other}"] = float(np.median(lap / laps[other, mode]))
        row["eager / this"] = float(np.median(laps[name, "eager"] / lap))
        rows.append(row)
        print(
            f"| {name} | {length} | {passing} | {mode} | {row['ms']:.0f} | {row['to ResNet-50']:.2f} | {row['to NVAN']:.2f} | "
            f"{row['eager / this']:.2f} |",
            flush=True,
        )
    return rows


def status(field: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process, in MB; ``ru_maxrss`` would begin with the peak of the process that started this one."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def peak_over(work: Callable[[], Any]) -> float:
    """Peak of resident memory while ``work`` runs over what was resident before, in MB."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the warm-up freed but malloc kept would hide as much of the peak
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("VmRSS")
    work()
    return status("VmHWM") - before


def memory_of_network(name: str, length: int, passing: str, mode: str, setting: Setting, backend: str) -> float:
    step = new_step(name, length, passing, mode, setting, backend)
    step.run()
    if step.optimizer is not None:
        step.optimizer.state.clear()
    return peak_over(step.run)


def measure_block(kind: str, length: int, setting: Setting) -> dict[str, float]:
    channels, height, width = setting.block
    torch.manual_seed(0)
    block = {"fused": NonLocalBlock, "plain": PlainNonLocalBlock}[kind](channels).eval()
    nn.init.ones_(block.bn.weight)
    clips = torch.randn(1, length, channels, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        block(clips[:, :1])
        extra_mb = peak_over(lambda: block(clips))
        return {"extra_mb": extra_mb, "ms": min(milliseconds(lambda: block(clips)) for _ in range(2)), "sum": block(clips).sum().item()}


def in_fresh_process(args: argparse.Namespace, *what: Any) -> Any:
    options = ["--one", json.dumps(what), "--threads", str(args.threads), "--backend", args.backend, *(["--small"] if args.small else [])]
    return json.loads(subprocess.run([sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE, text=True).stdout)


def report_times(args: argparse.Namespace, setting: Setting, modes: list[str]) -> list[dict[str, Any]]:
    print("| network | T | pass | mode | ms | to ResNet-50 | to NVAN | eager / this |")
    print("|---|---:|---|---|---:|---:|---:|---:|")
    rows = []
    for length, names in chosen(args, setting).items():
        for passing in args.passes:
            laps = measure_times(length, names, passing, modes, args.rounds, setting, args.backend)
            rows += print_times(length, passing, laps)
    gains = {f"{row['pass']}, {row['mode']}": 1 / row["to NVAN"] for row in rows if row["network"] == "STE-NVAN"}
    if not gains:
        return rows
    reached = "; ".join(f"{what} {gain:.2f}" for what, gain in gains.items())
    print(f"\nSTE-NVAN is to be at least 2 times as fast as NVAN: {reached} times.\n")
    return rows


def report_memory(args: argparse.Namespace, setting: Setting, modes: list[str]) -> list[dict[str, Any]]:
    print("| network | T | pass | mode | peak over the process before, MB |\n|---|---:|---|---|---:|")
    rows = []
    for length, names in chosen(args, setting).items():
        for name, passing, mode in ((name, passing, mode) for passing in args.passes for mode in modes for name in names):
            extra_mb = in_fresh_process(args, "network", name, length, passing, mode)
            rows.append({"network": name, "T": length, "pass": passing, "mode": mode, "extra_mb": extra_mb})
            print(f"| {name} | {length} | {passing} | {mode} | {extra_mb:.0f} |", flush=True)
    print()
    return rows


def report_block(args: argparse.Namespace, setting: Setting) -> list[dict[str, Any]]:
    print("| T | positions | ours, MB | softmax(QK)V, MB | ours, ms | softmax(QK)V, ms |\n|---:|---:|---:|---:|---:|---:|")
    rows = []
    for length in setting.block_lengths:
        fused, plain = (in_fresh_process(args, "block", kind, length) for kind in ("fused", "plain"))
        positions = length * setting.block[1] * setting.block[2]
        rows.append({"T": length, "fused": fused, "plain": plain})
        print(
            f"| {length} | {positions} | {fused['extra_mb']:.0f} | {plain['extra_mb']:.0f} | {fused['ms']:.0f} | {plain['ms']:.0f} |",
            flush=True,
        )
    return rows


def main(argv: list[str] | None = None) -> dict[str, list[dict[str, Any]]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reports = {"times": report_times, "memory": report_memory, "block": lambda args, setting, _: report_block(args, setting)}
    parser.add_argument("--only", nargs="+", choices=list(reports), default=list(reports), help="what to measure")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="ResNet-50 and NVAN are always added")
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=list(PASSES), help="forward pass, training step")
    parser.add_argument("--compiled", action="store_true", help="torch.compile beside eager; each network takes a minute or two to compile")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--t8_only", action="store_true", help="leave out the clips of the second length")
    parser.add_argument("--rounds", type=int, default=3, help="timed calls of each network")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of the arithmetic")
    parser.add_argument("--small", action="store_true", help="narrow resnet18, 64x32 pixels, T = 4 and 2")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.networks = [name for name in NETWORKS if name in {*args.networks, "ResNet-50", "NVAN"}]
    torch.set_num_threads(args.threads)
    setting = SMALL if args.small else FULL
    if args.one:
        what, *values = args.one
        figure = memory_of_network(*values, setting, args.backend) if what == "network" else measure_block(*values, setting)
        print(json.dumps(figure))
        return {}
    print(f"torch {torch.__version__}, {args.threads} thread(s), medians of {args.rounds} rounds, one clip of {setting.size} pixels\n")
    modes = ["eager", "compiled"] if args.compiled else ["eager"]
    return {name: reports[name](args, setting, modes) for name in args.only}


if __name__ == "__main__":
    main()
