"""Train, prune, fine-tune, export: the stages that recipes of pruning share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from torch import Tensor

from lightning_reid.callbacks import FilterPruning, RankListLogger
from lightning_reid.datamodules import ImageReIDDataModule, VideoReIDDataModule
from lightning_reid.inference.onnx_export import export_onnx, onnx_milliseconds
from lightning_reid.modules import ReIDModule
from lightning_reid.networks.archives import require_whole
from lightning_reid.recipes.workshop.costs import network_costs
from lightning_reid.recipes.workshop.options import RunOptions
from lightning_reid.recipes.workshop.report import ResultRow, report
from lightning_reid.recipes.workshop.run_folder import read_now
from lightning_reid.recipes.workshop.stages import Stage

EXPORTED_INPUTS = 8
"""Crops, or clips, that an exported network is compared on."""


@dataclass
class PruningRun:
    """Stages that a resumed run does not train twice.

    Attributes:
        run: Options of the recipe.
        data: Is prepared and set up here.
        module_class: What is trained, pruned and loaded from checkpoints.
    """

    run: RunOptions
    data: ImageReIDDataModule | VideoReIDDataModule
    module_class: type[ReIDModule]

    def __post_init__(self) -> None:
        read_now(self.data)

    def stage(self, name: str) -> Stage:
        """A stage of the recipe; to be seeded before its module is built."""
        return Stage(self.run, name)

    def fit(self, name: str, model: ReIDModule, epochs: int) -> tuple[ResultRow, Path]:
        """An ordinary training; its row and its checkpoint."""
        stage = self.stage(name)
        trainer = stage.trainer(epochs, [RankListLogger(stage.folder / "rank_list.png")], validate_every_n_epochs=None)
        stage.fit(trainer, model, self.data)
        return stage.finished_row() or stage.score(trainer, model, self.data, self.costs(model)), stage.checkpoint

    def prune(
        self, name: str, model: ReIDModule, pruning: FilterPruning, *, max_epochs: int, validate_every_n_epochs: int | None
    ) -> tuple[ResultRow, Path]:
        """A fit that prunes; the row of the materialized network right after it, and its checkpoint.

        Raises:
            RuntimeError: The last epoch came before pruning was done.
        """
        stage = self.stage(name)
        small, finished = stage.folder / "small.ckpt", stage.finished_row()
        if finished is not None and small.is_file():
            return finished, small
        trainer = stage.trainer(max_epochs, [pruning], validate_every_n_epochs=validate_every_n_epochs)
        stage.fit(trainer, model, self.data)
        if not pruning.done:
            raise RuntimeError(f"pruning was not done after {max_epochs} epochs, its last step left {pruning.history[-1:]}: give it more")
        model.materialize(pruning.plan)
        trainer.save_checkpoint(small, weights_only=True)
        return stage.score(trainer, model, self.data, self.costs(model)), small

    def load(self, checkpoint: Path, **options: Any) -> ReIDModule:
        """A module to be trained on, with other options of its optimizer.

        Raises:
            ValueError: The file is damaged.
        """
        require_whole(checkpoint)
        model = self.module_class.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True, **options)
        return model.train()

    def costs(self, model: ReIDModule) -> dict[str, float]:
        """Columns of the table, timed on the CPU, where exported networks are timed too."""
        return network_costs(model.network, self.inputs().shape[1:], torch.device("cpu"))

    def inputs(self) -> Tensor:
        """Images or clips of the test set, normalized."""
        batch: dict[str, Tensor] = next(iter(self.data.embedding_loader(*self.data.evaluation_records())))
        batch = self.data.on_after_batch_transfer(batch, 0)
        return batch["clips" if "clips" in batch else "images"][:EXPORTED_INPUTS]

    @rank_zero_only
    def finish(self, results: list[ResultRow], model: ReIDModule, title: str, began: float) -> None:
        """Write and print the table, and export the network beside it; on the first process only."""
        output = Path(self.run.output)
        report(output, results, model.protocol_stamp(self.data), title=title, began=began)
        Console().print(self.export(model, output / "network.onnx"), soft_wrap=True)

    def export(self, model: ReIDModule, path: Path) -> str:
        """Write the network as ONNX; what was compared and how fast it is, in a sentence."""
        inputs = self.inputs()
        difference = export_onnx(model.network, path, inputs)
        milliseconds = onnx_milliseconds(path, (1, *inputs.shape[1:]))
        return f"{path}: embeddings within {difference:.1e} of PyTorch's on {len(inputs)} inputs, {milliseconds:.2f} ms each by onnxruntime"
