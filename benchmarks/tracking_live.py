"""Live tracking under load: dropped frames, latency, memory and open files of the command that users start, in a process of its own.

    python benchmarks/tracking_live.py VIDEO DETECTOR                                   # three cameras for a minute, then nine
    python benchmarks/tracking_live.py VIDEO DETECTOR --cameras 1 --seconds 3600        # an hour

VIDEO, 768x576 at 10 frames a second (PETS 2009 S2.L1), is played by every camera at its own rate, again and again; DETECTOR is the SSDLite
graph in ONNX. The command is ``track_cameras.py run --no-page`` by the shipped network, all else as it is by default but for the scores
that suit this detector. What it reports itself, dropped frames and latency (from capture until a frame's numbers are shown), is read from
its ``results.json``; memory, descriptors and CPU time are those that the kernel tells of its process, once a second, from when its cameras
run until it is asked to end: the picture that it draws then does not count. "Early" is after --early seconds: by then each part of the
program has worked and allocated what it keeps.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

RATE = 10
"""Frames a second of the video."""
THREADS = 3
"""Of a camera, beside those of all; once there are more, the cameras run."""
ENDS_WITHIN = 120.0
"""Seconds from the wish that a run ends to its results."""


class Sample(NamedTuple):
    """Of a process: when, seconds since the first sample, resident megabytes, open descriptors, threads, CPU seconds."""

    when: float
    seconds: float
    resident: float
    descriptors: int
    threads: int
    cpu: float


def sample(pid: int) -> Sample | None:
    """What the kernel tells of a process; ``None`` if it has ended."""
    process = Path(f"/proc/{pid}")
    try:
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        if "VmRSS" not in status:
            return None
        ticks = (process / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
        descriptors = len(list((process / "fd").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return None
    resident = int(status["VmRSS"].split()[0]) * 1024 / 1e6
    now = time.monotonic()
    return Sample(now, now, resident, descriptors, int(status["Threads"]), sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"))


def command(args: argparse.Namespace, cameras: int, output: Path) -> list[str]:
    """What is started: that many cameras play the video."""
    named = [f"{number}={args.video}" for number in range(1, cameras + 1)]
    options = ["--loop=true", f"--output={output}", f"--detector={args.detector}", "--onnx.min_score=0.1"]
    run = ["lightning_reid.recipes.track_cameras", "run", "--cameras", *named]
    return [sys.executable, "-m", *run, "--no-page", "--quiet", *options, *args.recipe]


def watch(args: argparse.Namespace, cameras: int) -> tuple[dict[str, Any], list[Sample]]:
    """What a run reports, and samples of its process from when its cameras run until it is asked to end.

    Raises:
        RuntimeError: The run has failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        output, samples = Path(folder) / "run", list[Sample]()
        with (Path(folder) / "told").open("w+", encoding="utf-8") as told:
            process = subprocess.Popen(command(args, cameras, output), stdout=told, stderr=told)
            try:
                while process.poll() is None and (not samples or samples[-1].seconds < args.seconds):
                    one = sample(process.pid)
                    if one is not None and one.threads > THREADS * cameras:
                        samples.append(one._replace(seconds=one.seconds - (samples[0].when if samples else one.when)))
                    time.sleep(1)
                process.send_signal(signal.SIGINT)
                process.wait(ENDS_WITHIN)
            finally:
                process.kill()
            told.seek(0)
            if process.returncode or not samples:
                raise RuntimeError(f"the run has failed:\n{told.read()}")
        return json.loads((output / "results.json").read_text(encoding="utf-8")), samples


def row_of(results: dict[str, Any], samples: Sequence[Sample], early: float) -> dict[str, float]:
    """What is told of a run."""
    each = results["cameras"].values()
    settled = [one for one in samples if one.seconds >= early] or samples[-1:]
    first, last, begun = settled[0], settled[-1], samples[0]
    return {
        "cameras": len(each),
        "seconds": last.seconds,
        "tracked": sum(one["frames tracked"] for one in each),
        "fps": sum(one["frames tracked"] for one in each) / len(each) / results["seconds"],
        "dropped": sum(one["frames dropped"] for one in each),
        "clips dropped": sum(one["clips dropped"] for one in each),
        "latency p50": max(one["latency p50"] for one in each),
        "latency p95": max(one["latency p95"] for one in each),
        "cores": (last.cpu - begun.cpu) / (last.seconds - begun.seconds) if last is not begun else 0.0,
        "identities": results["identities"],
        "early": first.resident,
        "late": last.resident,
        "most": max(one.resident for one in settled),
        "descriptors early": first.descriptors,
        "descriptors": max(one.descriptors for one in settled),
        "threads early": first.threads,
        "threads": max(one.threads for one in settled),
    }


def report(rows: Sequence[dict[str, float]]) -> str:
    lines = [
        "| cameras | seconds | frames tracked | a second and camera | dropped | clips dropped | p50, ms | p95, ms | cores | identities |"
        " resident early, MB | at the end | at most | descriptors early, at most | threads early, at most |",
        "|---:" * 15 + "|",
    ]
    for row in rows:
        cells = [f"{row[name]:,.0f}" for name in ("cameras", "seconds", "tracked")] + [f"{row['fps']:.1f}"]
        cells += [f"{row[name]:,.0f}" for name in ("dropped", "clips dropped")]
        cells += [f"{1e3 * row[name]:.0f}" for name in ("latency p50", "latency p95")] + [
            f"{row['cores']:.2f}",
            f"{row['identities']:,.0f}",
        ]
        cells += [f"{row['early']:.0f}", *(f"{row[name]:.0f} ({row[name] / row['early'] - 1:+.1%})" for name in ("late", "most"))]
        cells += [f"{row[f'{name} early']:.0f}, {row[name]:.0f}" for name in ("descriptors", "threads")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> list[dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, help=f"a file of {RATE} frames a second")
    parser.add_argument("detector", type=Path, help="SSDLite, or another graph that OnnxDetector takes by its defaults")
    parser.add_argument("--cameras", type=int, nargs="+", default=[3, 9], help="how many play it, one run each")
    parser.add_argument("--seconds", type=float, default=60.0, help="that the cameras of a run are watched")
    parser.add_argument("--early", type=float, help="seconds after which memory counts; default 300, or a quarter of a shorter run")
    parser.add_argument("--recipe", nargs="*", default=[], help="options of track_cameras.py run, as --max_distance=0")
    args = parser.parse_args(argv)
    early = args.early if args.early is not None else min(300.0, args.seconds / 4)
    rows = []
    for cameras in args.cameras:
        rows.append(row_of(*watch(args, cameras), early))
        print(json.dumps(rows[-1]), flush=True)
    print(report(rows))
    return rows


if __name__ == "__main__":
    main()
