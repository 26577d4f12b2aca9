"""Small generated data shared by the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from pair_of_processes import PairOfProcesses

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
if "PYTEST_XDIST_WORKER" in os.environ:  # one thread each: the workers share the cores, and so do the processes that tests start
    # before torch is imported, which looks at it once: nothing above and no plugin imports it
    os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("without deadlines", deadline=None)  # a busy machine fails no test
settings.load_profile("without deadlines")


LONGEST = ("test_flower_deployment.py", "test_flower_edge_deployment.py", "test_stopped_runs.py")
"""Files with tests of a minute, some of which wait most of it."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests go first, the slowest before all, whole, so that no worker begins one when the others end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.name not in LONGEST, item.path not in slow))


def pytest_collection_finish() -> None:
    """Let autograd count its devices before any test: the first backward pass does, and begins a thread for each.

    A fake tensor, in an export or a compilation, sets up a guard of CUDA that counts as one where there is none, and beside such a thread
    torch refuses to train in a forked child.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.ones((), requires_grad=True).backward()


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
    from forked import forked

    from lightning_reid.drafts import draft_beside

    process = forked(int)
    process.join()

    def draft(path: Path) -> Path:
        mine = draft_beside(path)
        return mine.with_name(mine.name.replace(f"_{os.getpid()}_", f"_{process.pid}_"))

    return draft


@pytest.fixture(scope="session")
def two_processes() -> Iterator[PairOfProcesses]:
    """``two_processes(function, *arguments)``: what a function of a test module returns in each of two gloo processes."""
    from pair_of_processes import PairOfProcesses

    pair = PairOfProcesses()
    yield pair
    pair.end()


@pytest.fixture
def in_one_and_two_processes(tmp_path: Path, two_processes: PairOfProcesses) -> Callable[..., tuple[Any, Any, Any]]:
    """``run(function, *arguments, one=(), two=())``: what a function returns in this process, and in each of two under DDP over gloo.

    The function is called with settings for a Trainer of so many processes that shows nothing and leaves nothing behind, the arguments, and
    further ones, ``one`` or ``two``.
    """
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    settings = quiet | {"accelerator": "cpu", "num_sanity_val_steps": 0, "default_root_dir": tmp_path}

    from pair_of_processes import undone

    def run(function: Callable[..., Any], *arguments: Any, one: Sequence[Any] = (), two: Sequence[Any] = ()) -> tuple[Any, Any, Any]:
        with undone():
            alone = function(settings | {"devices": 1}, *arguments, *one)
        first, second = two_processes(function, settings | {"devices": 2, "strategy": "ddp"}, *arguments, *two)
        return alone, first, second

    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)
