"""One fit of a video network in processes that were just started, and what each of them saw of its steps: time, memory or scores.

Used by ``pipeline_costs.py`` and ``pipeline_tables.py``. The first step is not measured: it makes what Adam keeps.

- ``"time"``: wall and CPU seconds of a step, seconds a clip with all that lies between two steps, and when each stage computed which
  micro-batch.
- ``"memory"``: the highest resident memory of those steps (``VmHWM``, reset after the first) over what was resident when everything was
  imported, the processes had met and the clips were there, before the network was built. ``ru_maxrss`` would begin with the peak of the
  process that started this one, and hold that of building the network, when every process has all of it. What is freed goes back to the
  system at once (``MALLOC_MMAP_THRESHOLD_``): what malloc keeps for later is not needed, and not the same from run to run.
- ``"tensors"``: the most bytes that tensors which are there at one time have, counted after every operation. It lacks what an operation
  takes for itself, and has the clips.
- ``"scores"``: mAP and rank-1 on the test part after each epoch, with the interval of the last mAP by bootstrap over people.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import Strategy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_reid.datamodules import VideoReIDDataModule
from lightning_reid.metrics import bootstrap_interval
from lightning_reid.modules import VideoReID
from lightning_reid.networks.unit_costs import measure_units
from lightning_reid.pipeline import PipelineStrategy

Way = Literal["unsplit", "ddp", "pipeline"]
Measure = Literal["time", "memory", "tensors", "scores"]
CLIPS_A_PERSON = 4
"""Of a batch of tracklets; random clips are two a person."""
RETURNED_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
PATIENCE = 1200
"""Seconds that a run may take."""
MB = 1e6


@dataclass(frozen=True)
class Run:
    """What is run.

    Attributes:
        network: ``"baseline"``, ``"nvan"``, as ``VideoReID`` names them.
        way: ``"unsplit"`` in one process, ``"ddp"`` or ``"pipeline"``.
        processes: How many.
        batch: Clips a step, over all processes together.
        image_size: (height, width) in pixels.
        clip_length: T.
        network_options: Of the network.
        pipeline: Arguments of ``PipelineStrategy``.
        steps: That are measured, after the first; of ``"scores"`` as many as the epochs have.
        measure: What is measured.
        folder: Tracklets in the layout of MARS; ``None`` takes random clips.
        epochs: Of ``"scores"``.
        lr: Learning rate.
        seed: Of weights and draws.
    """

    network: str
    way: Way
    processes: int
    batch: int
    image_size: tuple[int, int] = (128, 64)
    clip_length: int = 4
    network_options: dict[str, Any] = field(default_factory=lambda: {"backbone": "resnet50"})
    pipeline: dict[str, Any] = field(default_factory=dict)
    steps: int = 2
    measure: Measure = "time"
    folder: str | None = None
    epochs: int = 1
    lr: float = 1e-4
    seed: int = 0

    @property
    def batch_of_a_process(self) -> int:
        """Clips that a process is given: DDP's are shared out, a pipeline's are the same everywhere."""
        return self.batch // self.processes if self.way == "ddp" else self.batch

    def strategy(self) -> str | Strategy:
        """What a Trainer is given."""
        return {"unsplit": "auto", "ddp": "ddp"}.get(self.way) or PipelineStrategy(**self.pipeline)


class RunError(RuntimeError):
    """A process of a run ended with an error, or not in time."""


def run(order: Run) -> list[dict[str, Any]]:
    """What each process of a run tells, in the order of the ranks; each has one thread.

    Raises:
        RunError: One ended with an error, which is told, or took more than ``PATIENCE``.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (RETURNED_AT_ONCE if order.measure == "memory" else {})
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", __file__, json.dumps(asdict(order)), folder]
        processes = [
            subprocess.Popen([*command, str(rank)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for rank in range(order.processes)
        ]
        _wait_for(processes)
        return [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(order.processes)]


def _wait_for(processes: Sequence[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + PATIENCE
    try:
        for process in processes:
            said = process.communicate(timeout=max(1, deadline - time.monotonic()))[1]
            if process.returncode:
                raise RunError(said[-3000:])
    except subprocess.TimeoutExpired as late:
        raise RunError(f"not done in {PATIENCE} s") from late
    finally:
        for process in processes:
            process.kill()
            process.wait()


def stamp() -> dict[str, Any]:
    """The machine and what else runs on it: figures of time belong to it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    load = [round(one, 2) for one in os.getloadavg()]
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return {"cpu": model, "cores": os.cpu_count(), "load": load, "torch": torch.__version__, "lightning": pl.__version__, "when": when}


def bytes_of_units(network: str, options: dict[str, Any], clip: tuple[int, ...], *, kept_rows: int) -> list[float]:
    """Bytes of each unit in training: weights, gradients and what Adam keeps, and activations of so many clips; cuts may balance them.

    Args:
        network: As ``VideoReID`` names it.
        options: Of the network.
        clip: ``(T, 3, H, W)``.
        kept_rows: Clips whose activations are kept at one time.
    """
    torch.manual_seed(0)
    model = VideoReID(network, dict(options), num_classes=2).network  # type: ignore[arg-type]
    clips = torch.randn(2, *clip)
    units = model.units(clips)
    kept = [cost.kept_bytes / len(clips) for cost in measure_units(model, units, clips, repeats=1)]
    weights = [sum(one.nbytes for name in unit.modules for one in model.get_submodule(name).parameters()) for unit in units]
    return [4 * weight + kept_rows * activations for weight, activations in zip(weights, kept, strict=True)]


def told_stamp(machine: dict[str, Any]) -> str:
    """A stamp as a line below a table."""
    return f"{machine['cores']} cores of {machine['cpu']}, load {machine['load'][0]}, torch {machine['torch']}, {machine['when']}"


class Tensors(TorchDispatchMode):
    """The bytes of all tensors that operations were given or gave and that are still there, most of all at any time."""

    def __init__(self, *known: Tensor) -> None:
        super().__init__()
        self._storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._see(known)
        self.most = self.now()

    def _see(self, values: Any) -> None:
        for value in tree_iter(values):
            if isinstance(value, Tensor) and not value.is_meta:
                storage = value.untyped_storage()
                self._storages[id(storage)] = weakref.ref(storage)

    def now(self) -> int:
        """Bytes that are there now."""
        there = {key: storage for key, reference in self._storages.items() if (storage := reference()) is not None}
        self._storages = {key: self._storages[key] for key in there}
        return sum(storage.nbytes() for storage in there.values())

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self._see((args, kwargs, found))
        self.most = max(self.most, self.now())
        return found


class Watch(pl.Callback):
    """Measures the steps after the first."""

    def __init__(self, measure: Measure, clips: Sequence[Tensor], batch: int) -> None:
        self.measure, self.clips, self.batch = measure, clips, batch
        self.before = resident("VmRSS")
        self.told: dict[str, Any] = {"losses": []}
        self._wall: list[float] = []
        self._tensors: Tensors | None = None

    @override
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if len(self._wall) == 1:
            self._begin(trainer, pl_module)
        self._began = time.perf_counter()

    def _begin(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.measure == "memory":
            given_back()
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
            self.told["steady_mb"] = resident("VmRSS") - self.before
        elif self.measure == "tensors":
            kept = [value for state in trainer.optimizers[0].state.values() for value in state.values()]
            gradients = [one.grad for one in module.parameters() if one.grad is not None]
            self._tensors = Tensors(*module.state_dict(keep_vars=True).values(), *gradients, *kept, *self.clips)
            self.told["steady_mb"] = self._tensors.most / MB
            self._tensors.__enter__()
        self._first_ended, self._cpu = time.perf_counter(), time.process_time()

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.told["losses"].append(float(outputs["loss"]))
        self._wall.append(time.perf_counter() - self._began)
        if isinstance(trainer.strategy, PipelineStrategy):
            self.told["spans"] = [list(span) for span in trainer.strategy.split.pipeline.spans]

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds, steps = self._wall[1:], len(self._wall) - 1
        self.told |= {"seconds": median(seconds), "cpu_seconds": (time.process_time() - self._cpu) / steps}
        self.told["seconds_a_clip"] = (time.perf_counter() - self._first_ended) / steps / self.batch
        if self.measure == "memory":
            self.told["peak_mb"] = resident("VmHWM") - self.before
        elif self._tensors is not None:
            self._tensors.__exit__(None, None, None)
            self.told["peak_mb"] = self._tensors.most / MB


class Scores(pl.Callback):
    """Keeps what each epoch's validation finds."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {"mAP": [], "R1": []}

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for name in ("mAP", "R1"):
            self.told[name].append(float(trainer.callback_metrics[f"val/{name}"]))
        assert isinstance(pl_module, VideoReID)
        found = pl_module.last_scores
        assert found is not None
        self.told |= {"people": found.num_people, "queries": found.num_queries}
        self.told["interval"] = bootstrap_interval(found.average_precision, found.query_pids, generator=torch.Generator().manual_seed(0))

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.told["steps_an_epoch"] = trainer.global_step // trainer.current_epoch


def resident(line: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process, in MB."""
    found = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(line))
    return int(found.split()[1]) * 1024 / MB


def given_back() -> None:
    """Give the system back what was freed."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def met(order: Run, folder: Path, rank: int) -> Iterator[None]:
    """The processes of a run as one group, which Lightning takes for one that somebody else made."""
    if order.processes == 1 and order.way != "pipeline":
        yield
        return
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(order.processes)}
    dist.init_process_group("gloo", rank=rank, world_size=order.processes, init_method=f"file://{folder}/meeting")
    dist.barrier()
    try:
        yield
    finally:
        dist.destroy_process_group()


class RandomClips(pl.LightningDataModule):
    """Batches of two clips each of people without looks, under DDP others in each process; by its sizes a pipeline is cut."""

    def __init__(self, order: Run, rank: int) -> None:
        super().__init__()
        self.p, self.k, self.image_size, self.clip_length = order.batch_of_a_process // 2, 2, order.image_size, order.clip_length
        generator, rows = torch.Generator().manual_seed(rank if order.way == "ddp" else 0), order.batch_of_a_process
        numbers = {"pids": torch.arange(rows) // 2, "camids": torch.zeros(rows, dtype=torch.int64), "indices": torch.arange(rows)}
        shape = (rows, order.clip_length, 3, *order.image_size)
        self.batches = [{"clips": torch.randn(shape, generator=generator)} | numbers for _ in range(order.steps + 1)]

    @override
    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]  # a list is a data set


def tracklets(order: Run) -> VideoReIDDataModule:
    """Batches of some people with four clips each; an epoch shows every person once."""
    return VideoReIDDataModule(
        str(order.folder),
        image_size=order.image_size,
        clip_length=order.clip_length,
        p=order.batch_of_a_process // CLIPS_A_PERSON,
        k=CLIPS_A_PERSON,
        num_workers=0,
        seed=order.seed,
        val_identities=0,
    )


def work(order: Run, folder: Path, rank: int) -> dict[str, Any]:
    """One process' part of a run."""
    torch.set_num_threads(1)
    with met(order, folder, rank):
        data = RandomClips(order, rank) if order.folder is None else tracklets(order)
        given_back()
        watch: Watch | Scores = Scores()
        if order.measure != "scores":
            random = [batch["clips"] for batch in data.batches] if isinstance(data, RandomClips) else []
            watch = Watch(order.measure, random, order.batch)
        milestones = [order.epochs * 6 // 10, order.epochs * 85 // 100]
        classes = 625 if order.folder is None else None
        torch.manual_seed(order.seed)
        module = VideoReID(
            order.network,  # type: ignore[arg-type]
            dict(order.network_options),
            num_classes=classes,
            lr=order.lr,
            milestones=milestones if order.measure == "scores" else [],
        )
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=order.processes,
            strategy=order.strategy(),
            max_epochs=order.epochs if order.measure == "scores" else -1,
            max_steps=-1 if order.measure == "scores" else order.steps + 1,
            limit_val_batches=1.0 if order.measure == "scores" else 0,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
            callbacks=[watch],
        )
        trainer.fit(module, data)
    return watch.told


if __name__ == "__main__":
    told_run, told_folder, told_rank = sys.argv[1:]
    answer = work(Run(**json.loads(told_run)), Path(told_folder), int(told_rank))
    (Path(told_folder) / f"{told_rank}.json").write_text(json.dumps(answer))
