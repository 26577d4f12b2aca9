"""Train, prune under constraints (CAIE, thesis chapter 6), fine-tune and export: a video network (section 8.4.1), or one of images.

Without --data.root or --data.dataset it generates a small data set and trains a small network: minutes on two CPU cores.
With them, the defaults are STE-NVAN at 256x128, pruned to 75 % of its multiply-adds; --images takes an image network instead.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt
from torch import Tensor

from lightning_reid.callbacks import CAIEPruning, RankListLogger
from lightning_reid.datamodules import ImageReIDDataModule, VideoReIDDataModule
from lightning_reid.modules import SupervisedReID, VideoReID
from lightning_reid.networks import VideoNetworkName
from lightning_reid.runners import (
    ResultRow,
    RunOptions,
    Stage,
    export_onnx,
    onnx_milliseconds,
    print_table,
    pruned_network_costs,
    write_report,
)

SMALL_RUN: dict[str, Any] = {
    "data.image_size": [64, 32],
    "data.num_workers": 0,
    "model.lr": 1e-3,
    "model.milestones": [12, 17],
    "caie.filters_per_step": 12,
    "caie.batches_per_step": 5,
    "epochs": 20,
    "tuning_epochs": 10,
}
SMALL_CLIPS: dict[str, Any] = {
    "data.dataset": "mars-like",
    "data.clip_length": 4,
    "model.network_options": {"backbone": "resnet18", "channels": [32, 64, 128, 256], "layers": [1, 2, 3, 1], "stripes": 4},
}
SMALL_IMAGES: dict[str, Any] = {
    "data.dataset": "market-like",
    "data.crop_padding": 4,
    "data.erasing_probability": 0.0,
    "model.backbone": "resnet18",
    "model.backbone_options": {"channels": [32, 64, 128, 256], "layers": [1, 1, 1, 1]},
    "model.pooling": "gem",
}
TRAINED, PRUNED, TUNED = "trained", "pruned", "fine-tuned"
ReIDModule = SupervisedReID | VideoReID
EXPORTED_INPUTS = 8


def build_parser(images: bool) -> ArgumentParser:
    parser = ArgumentParser(description=__doc__, prog="prune_caie.py")
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    RunOptions.add_to(parser, output="runs/caie")
    parser.add_argument("--images", action="store_true", help="an image network; --data and --model are of images then")
    parser.add_argument("--network", type=VideoNetworkName, default="stenvan", help="which video network")
    parser.add_argument("--epochs", type=PositiveInt, default=200, help="passes over the data before pruning")
    parser.add_argument("--checkpoint", type=str | None, default=None, help="prune this trained module instead of training one")
    parser.add_argument("--pruning_lr", type=PositiveFloat, default=1e-3, help="learning rate while pruning and fine-tuning (SGD)")
    parser.add_argument("--pruning_epochs", type=PositiveInt, default=1000, help="give up pruning after so many passes")
    parser.add_argument("--tuning_epochs", type=PositiveInt, default=30, help="passes of fine-tuning; the rate falls twice")
    parser.add_class_arguments(ImageReIDDataModule if images else VideoReIDDataModule, "data", skip={"seed"})
    parser.add_class_arguments(SupervisedReID if images else VideoReID, "model", skip=set() if images else {"network"})
    parser.add_class_arguments(CAIEPruning, "caie", skip={"stop", "network"})
    parser.set_defaults({"caie.constraints": {"flops": 0.75}})
    return parser


def parse(argv: Sequence[str] | None) -> Namespace:
    argv = sys.argv[1:] if argv is None else argv
    images = "--images" in argv
    parser = build_parser(images)
    cfg = parser.parse_args(argv)
    if cfg.data.root is None and cfg.data.dataset == parser.get_default("data.dataset"):
        parser.set_defaults(SMALL_RUN | (SMALL_IMAGES if images else SMALL_CLIPS))
        cfg = parser.parse_args(argv)
        print("no data set named (--data.root, --data.dataset): generating a small one and training a small network on it")
    return cfg


class Pruning:
    """The three stages; those that an interrupted run finished are read back."""

    def __init__(self, cfg: Namespace) -> None:
        self.cfg, self.run = cfg, RunOptions.of(cfg)
        make = ImageReIDDataModule if cfg.images else VideoReIDDataModule
        self.data = make(**cfg.data, seed=self.run.seed)
        self.data.prepare_data()
        self.data.setup()

    def train(self) -> tuple[ResultRow | None, Path]:
        """The row before pruning, and the checkpoint that is pruned; no row for a checkpoint that was given."""
        if self.cfg.checkpoint is not None:
            return None, Path(self.cfg.checkpoint)
        stage = Stage(self.run, TRAINED)
        model = SupervisedReID(**self.cfg.model) if self.cfg.images else VideoReID(self.cfg.network, **self.cfg.model)
        return self._fit(stage, model, self.cfg.epochs, [])[0], stage.checkpoint

    def prune(self, checkpoint: Path) -> tuple[ResultRow, Path]:
        """The row right after pruning, and the checkpoint of the small network."""
        stage, small = Stage(self.run, PRUNED), Stage(self.run, PRUNED).folder / "small.ckpt"
        finished = stage.finished_row()
        if finished is not None and small.is_file():
            return finished, small
        model, pruning = self._load(checkpoint, milestones=[]), CAIEPruning(**self.cfg.caie)
        trainer = stage.trainer(self.cfg.pruning_epochs, [pruning], validate_every_n_epochs=None)
        trainer.fit(model, self.data, ckpt_path=stage.resume_from(), weights_only=True)
        if not pruning.done:
            raise RuntimeError(f"{self.cfg.pruning_epochs} epochs of pruning left {pruning.history[-1:]}: raise --pruning_epochs")
        model.materialise(pruning.plan)
        trainer.save_checkpoint(small, weights_only=True)
        return stage.score(trainer, model, self.data, self._costs(model)), small

    def tune(self, small: Path) -> tuple[ResultRow, ReIDModule]:
        """The row after fine-tuning, and the module."""
        epochs = self.cfg.tuning_epochs
        model = self._load(small, milestones=[epochs // 3, 2 * epochs // 3])
        return self._fit(Stage(self.run, TUNED), model, epochs, [RankListLogger(Stage(self.run, TUNED).folder / "rank_list.png")])

    def export(self, model: ReIDModule, path: Path) -> str:
        """Write the network as ONNX; what was compared and how fast it is, in a sentence."""
        inputs = self._inputs()[:EXPORTED_INPUTS]
        difference = export_onnx(model.network, path, inputs)
        milliseconds = onnx_milliseconds(path, (1, *inputs.shape[1:]))
        return f"{path}: embeddings within {difference:.1e} of PyTorch's on {len(inputs)} inputs, {milliseconds:.2f} ms each by onnxruntime"

    def _load(self, checkpoint: Path, milestones: list[int]) -> ReIDModule:
        cls: type[ReIDModule] = SupervisedReID if self.cfg.images else VideoReID
        options = {"optimizer": "sgd", "lr": self.cfg.pruning_lr, "weight_decay": 1e-4, "warmup_epochs": 0, "milestones": milestones}
        return cls.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True, **options).train()

    def _fit(self, stage: Stage, model: ReIDModule, epochs: int, callbacks: list[pl.Callback]) -> tuple[ResultRow, ReIDModule]:
        trainer = stage.trainer(epochs, callbacks, validate_every_n_epochs=None)
        trainer.fit(model, self.data, ckpt_path=stage.resume_from(), weights_only=True)
        return stage.finished_row() or stage.score(trainer, model, self.data, self._costs(model)), model

    def _costs(self, model: ReIDModule) -> dict[str, float]:
        return pruned_network_costs(model.network, (1, *self._inputs().shape[1:]))

    def _inputs(self) -> Tensor:
        loader = self.data.embedding_loader(*self.data.evaluation_records())
        batch = next(iter(loader))
        batch = self.data.on_after_batch_transfer(batch, 0)
        inputs: Tensor = batch["images"] if self.cfg.images else batch["clips"]
        return inputs


def main(argv: Sequence[str] | None = None) -> list[ResultRow]:
    cfg = parse(argv)
    began = time.monotonic()
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    pruning = Pruning(cfg)
    trained, checkpoint = pruning.train()
    pruned, small = pruning.prune(checkpoint)
    tuned, model = pruning.tune(small)
    results = [row for row in (trained, pruned, tuned) if row is not None]
    if pl.utilities.rank_zero_only.rank == 0:
        output, stamp = Path(cfg.output), model.protocol_stamp(pruning.data)
        title = f"pruned to {', '.join(f'{share:.0%} of {name}' for name, share in cfg.caie.constraints.items())} on {cfg.data.dataset}"
        write_report(output, results, stamp, title=title, seconds=time.monotonic() - began)
        print_table(results, stamp, title)
        print(pruning.export(model, output / "network.onnx"))
    return results


if __name__ == "__main__":
    main()
