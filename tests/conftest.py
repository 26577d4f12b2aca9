"""Small generated data shared by the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
if "PYTEST_XDIST_WORKER" in os.environ:  # one thread each: the workers share the cores, and so do the processes that tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def market_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten training and six test people in the Market layout, 64 x 32 pixels."""
    from lightning_reid.datamodules.generated import GeneratedPedestrians

    people = GeneratedPedestrians(
        "market-like", num_train_pids=10, num_test_pids=6, images_per_camera=3, num_distractors=4, height=64, width=32
    )
    return people.write(tmp_path_factory.mktemp("data") / "market", progress=False)


@pytest.fixture(scope="session")
def duke_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training and four test people in the Duke layout, 64 x 32 pixels."""
    from lightning_reid.datamodules.generated import GeneratedPedestrians

    people = GeneratedPedestrians(
        "duke-like", num_train_pids=8, num_test_pids=4, images_per_camera=3, num_distractors=2, height=64, width=32
    )
    return people.write(tmp_path_factory.mktemp("data") / "duke", progress=False)


@pytest.fixture
def draft_of_a_dead_process() -> Callable[[Path], Path]:
    """``draft_of_a_dead_process(path)``: the name of a draft of ``path`` whose writer has ended; nothing is made."""
    from lightning_reid.drafts import draft_beside

    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    def draft(path: Path) -> Path:
        mine = draft_beside(path)
        return mine.with_name(mine.name.replace(f"_{os.getpid()}_", f"_{process.pid}_"))

    return draft


@pytest.fixture
def in_one_and_two_processes(tmp_path: Path) -> Callable[..., tuple[dict, dict, dict]]:
    """``run(script, folder, one, two)``: what a script leaves as JSON when one process runs it, and each of two under DDP over gloo.

    The script is called with ``folder``, an output folder, the number of processes and further arguments, ``one`` or ``two``, and writes
    ``output/<processes>-<rank>.json``.
    """

    def run(script: str, folder: Path, one: Sequence[object], two: Sequence[object]) -> tuple[dict, dict, dict]:
        path = tmp_path / "fit.py"
        path.write_text(script, encoding="utf-8")
        inherited = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")}
        for devices, further in ((1, one), (2, two)):
            command = [sys.executable, str(path), str(folder), str(tmp_path), str(devices), *map(str, further)]
            finished = subprocess.run(
                command, env=inherited | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False
            )
            assert finished.returncode == 0, finished.stderr[-3000:]
        first, second, third = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
        return first, second, third

    return run
