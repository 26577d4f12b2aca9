"""Small fits of pipelines, and of the unsplit modules that they must equal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from lightning_reid.modules import SupervisedReID, VideoReID
from lightning_reid.modules.reid_module import ReIDModule
from lightning_reid.networks import group_batch_norm
from lightning_reid.pipeline import PipelineStrategy

NARROW = {"channels": [16, 16, 32, 32], "layers": [1, 2, 3, 1]}
PEOPLE, ROWS = 4, 16
ADAM: dict[str, Any] = {"optimizer": "adam", "lr": 1e-3}
EPOCHS: dict[str, Any] = {"steps": 2, "max_epochs": 2}


class Batches(Dataset[dict[str, Tensor]]):
    """Batches of four people with four images or clips each, the same each time; dealt to so many groups, those of a group in a row."""

    def __init__(
        self, count: int, length: int | None, dtype: torch.dtype = torch.float64, *, masked: bool = False, first: int = 0, dealt: int = 1
    ) -> None:
        self.count, self.length, self.dtype, self.masked, self.first, self.dealt = count, length, dtype, masked, first, dealt

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(self.first + number)
        clip, size = ((), (64, 32)) if self.length is None else ((self.length,), (64, 16))
        pictures = torch.randn(ROWS, *clip, 3, *size, generator=generator, dtype=torch.float64).to(self.dtype)
        pids = torch.arange(PEOPLE).repeat_interleave(ROWS // PEOPLE)[torch.randperm(ROWS, generator=generator)]
        rows = {"pids": pids, "camids": torch.zeros_like(pids), "indices": torch.arange(ROWS) + ROWS * number}
        masks = {"masks": torch.rand(ROWS, *clip, *size, generator=generator) < 0.9} if self.masked else {}
        batch = {"images" if self.length is None else "clips": pictures, **rows, **masks}
        return {name: torch.cat([value[group :: self.dealt] for group in range(self.dealt)]) for name, value in batch.items()}


class Deals(pl.Callback):
    """Deals the rows of a batch to so many groups while a step sees it, as a pipeline does with its micro-batches."""

    def __init__(self, groups: int) -> None:
        self.groups = groups

    @override
    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        rows = len(batch["pids"])
        self._order = torch.cat([torch.arange(group, rows, self.groups) for group in range(self.groups)])
        self._turn(batch, self._order)

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._turn(batch, self._order.argsort())

    def _turn(self, batch: dict[str, Tensor], order: Tensor) -> None:
        for name, value in batch.items():
            batch[name] = value[order]


class Told(pl.Callback):
    """Keeps the loss and the gradients of every step, and what was logged."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.gradients: list[dict[str, Tensor]] = []
        self.logged: list[dict[str, float]] = []

    @override
    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        self.gradients.append({name: one.grad.clone() for name, one in pl_module.named_parameters() if one.grad is not None})

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))
        self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def built(kind: str, **options: Any) -> ReIDModule:
    """A narrow module, the same each time, whose attention does not begin as the identity, which would hide it."""
    torch.manual_seed(0)
    options = {"optimizer": "sgd", "lr": 0.01} | options
    if kind == "image":
        made: ReIDModule = SupervisedReID(PEOPLE, backbone="resnet18", backbone_options=NARROW, pooling="gem", **options)
    elif kind in ("mobilenetv2_050", "osnet_x0_25"):
        made = SupervisedReID(PEOPLE, backbone=kind, **options)
    else:
        stripes = {"stripes": 4} if kind == "stenvan" else {}
        made = VideoReID(kind, {"backbone": "resnet18", **NARROW, **stripes}, num_classes=PEOPLE, **options)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("bn.weight"):
                parameter.uniform_(generator=torch.Generator().manual_seed(1))
    return made


def fitted(
    module: pl.LightningModule,
    strategy: Any,
    devices: int,
    *,
    steps: int = 3,
    precision: Any = "64-true",
    masked: bool = False,
    ckpt_path: Any = None,
    first: int = 0,
    dealt: int = 1,
    **options: Any,
) -> tuple[Told, pl.Trainer]:
    """Fit for some steps, one epoch, on batches that every process gets; their rows dealt to so many groups, as a pipeline deals them."""
    told = Told()
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    callbacks = [told, *options.pop("callbacks", [])]
    trainer = pl.Trainer(
        **quiet | {"accelerator": "cpu", "devices": devices, "strategy": strategy, "precision": precision, "max_epochs": 1} | options,
        use_distributed_sampler=False,
        limit_val_batches=0,
        callbacks=callbacks,
    )
    length = None if isinstance(module, SupervisedReID) else 4
    batches = Batches(steps, length, torch.float64 if precision == "64-true" else torch.float32, masked=masked, first=first, dealt=dealt)
    trainer.fit(module, DataLoader(batches, batch_size=None), ckpt_path=ckpt_path, weights_only=True)
    return told, trainer


def told_of(told: Told, module: pl.LightningModule) -> dict[str, Any]:
    """What a fit left, in plain tensors that travel between processes."""
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    return {"losses": told.losses, "gradients": told.gradients, "state": state, "logged": told.logged}


def in_pipeline(
    kind: str, devices: int, module: Mapping[str, Any], strategy: Mapping[str, Any], trainer: Mapping[str, Any]
) -> dict[str, Any]:
    """What a pipeline of this process and others leaves."""
    made = built(kind, **module)
    told, _ = fitted(made, PipelineStrategy(**{"microbatches": 4, "stage_costs": "equal"} | dict(strategy)), devices, **trainer)
    return told_of(told, made)


def unsplit(kind: str, module: Mapping[str, Any], groups: int, trainer: Mapping[str, Any]) -> dict[str, Any]:
    """What one process leaves whose BatchNorm normalizes over so many groups."""
    made = built(kind, **module)
    group_batch_norm(made.network, num_groups=groups)
    told, _ = fitted(made, "auto", 1, dealt=groups, **trainer)
    return told_of(told, made)


def largest_difference(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> float:
    """Between tensors of one name, over the names of ``some``, which are all among those of ``others``."""
    return max((tensor.double() - others[name].double()).abs().max().item() for name, tensor in some.items())


class SavedAfterTheFirstEpoch(pl.Callback):
    """Saves a checkpoint there, as a run does that is stopped later."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.file)


def saved_and_finished(folder: Path, devices: int) -> dict[str, Any]:
    """A run of two epochs in a pipeline that saves after the first; and after the last, when it is whole again."""
    module = built("stenvan", **ADAM).double()
    saving = SavedAfterTheFirstEpoch(folder / "first.ckpt")
    told, trainer = fitted(module, PipelineStrategy(stage_costs="equal"), devices, callbacks=[saving], **EPOCHS)
    trainer.save_checkpoint(folder / "end.ckpt")
    return told_of(told, module)


def resumed(file: Path, devices: int, **options: Any) -> dict[str, Any]:
    module = built("stenvan", **ADAM).double()
    strategy: Any = PipelineStrategy(stage_costs="equal", **options)
    told, _ = fitted(module, strategy, devices, ckpt_path=file, **EPOCHS)
    return told_of(told, module)
