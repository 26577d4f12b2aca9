"""Knowledge distillation on Market-1501: a large teacher guides a small student (Liu et al. 2020, Tables 2 and 3).

Without --data.root or --data.dataset it generates a small data set and trains small networks: minutes on two CPU cores.
With them, the defaults are the text's (ResNet-50 teaches MobileNetV2, 256x128, T = 5, alpha = 0.1, 60 epochs).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt
from pytorch_lightning.callbacks import Timer

from lightning_reid.callbacks import RankListLogger
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.modules import DistilledReID, ImageReIDModule, SupervisedReID
from lightning_reid.runners import (
    LOSS,
    SCORE,
    ResultRow,
    RunFolder,
    RunOptions,
    Stage,
    draw_curves,
    draw_heat_map,
    image_network_costs,
    print_table,
    write_report,
)

SMALL_RUN: dict[str, Any] = {
    "data.dataset": "market-like",
    "data.image_size": [64, 32],
    "data.crop_padding": 4,
    "data.erasing_probability": 0.0,
    "data.num_workers": 0,
    "teacher.backbone": "resnet18",
    "teacher.backbone_options": {"channels": [32, 64, 128, 256], "layers": [1, 1, 1, 1]},
    "teacher.pooling": "gem",
    "teacher.lr": 1e-3,
    "teacher.milestones": [6, 8],
    "model.student": "resnet18",
    "model.backbone_options": {"channels": [8, 16, 32, 64], "layers": [1, 1, 1, 1]},
    "model.pooling": "gem",
    "model.lr": 1e-3,
    "model.milestones": [6, 8],
    "model.alpha": 0.5,
    "epochs": 10,
}
TEACHER, STUDENT, DISTILLED = "teacher", "student alone", "distilled student"
TEMPERATURES, ALPHAS = (1, 2, 5, 10), (0.1, 0.3, 0.5)
"""Of Table 2."""


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(description=__doc__, prog="distill_market.py")
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    RunOptions.add_to(parser, output="runs/distill")
    parser.add_argument("--epochs", type=PositiveInt, default=60, help="passes over the training images, of teacher and students alike")
    parser.add_argument("--grid", action="store_true", help="also every T and alpha of Table 2, with a heat map of their scores")
    parser.add_argument(
        "--teacher_checkpoint",
        type=str | None,
        default=None,
        help="a SupervisedReID trained on the same data set; none: train one",
    )
    parser.add_class_arguments(ImageReIDDataModule, "data", skip={"seed"})
    parser.add_class_arguments(SupervisedReID, "teacher")
    parser.add_class_arguments(DistilledReID, "model", skip={"teacher", "teacher_options", "backbone"})
    # what a teacher knows of the classes that are not the first is what smoothed labels make it forget (Mueller et al. 2019)
    parser.set_defaults({"teacher.milestones": [40, 50], "model.milestones": [40, 50], "teacher.label_smoothing": 0.0})
    parser.set_defaults({"data.val_identities": 0})  # the papers' protocol: the last model is scored, nothing is selected
    return parser


def parse(argv: list[str] | None) -> Namespace:
    parser = build_parser()
    cfg = parser.parse_args(argv)
    if cfg.data.root is None and cfg.data.dataset == parser.get_default("data.dataset"):
        parser.set_defaults(SMALL_RUN)
        cfg = parser.parse_args(argv)
        print("no data set named (--data.root, --data.dataset): generating a small one and training small networks on it")
    return cfg


class Rows:
    """Trains the rows of the tables, each a stage of its own; those already trained by an interrupted run are read back."""

    def __init__(self, cfg: Namespace) -> None:
        self.cfg, self.run = cfg, RunOptions.of(cfg)
        self.data = ImageReIDDataModule(**cfg.data, seed=self.run.seed)
        self.data.prepare_data()  # a missing folder is found now, not after the teacher was trained
        self.data.setup()

    def teacher(self) -> tuple[ResultRow, Path]:
        """The teacher's row, and the checkpoint that students learn from."""
        stage, given = Stage(self.run, TEACHER), self.cfg.teacher_checkpoint
        if given is None:
            stage.seed_everything()
            return self._train(stage, SupervisedReID(**self.cfg.teacher)), stage.checkpoint
        model = SupervisedReID.load_from_checkpoint(given, map_location="cpu", weights_only=True)
        finished = stage.finished_row()
        return finished or self._score(stage, self._trainer(stage, []), model, minutes=0.0), Path(given)

    def student(self, name: str, teacher: Path | None, **options: Any) -> ResultRow:
        """A student of the teacher, or one that learns alone; of the same first weights in either case."""
        stage = Stage(self.run, name, seeded_as=STUDENT, told=options)
        stage.seed_everything()
        alone = {"alpha": 0.0, "embeddings": "none"} if teacher is None else {}
        source = None if teacher is None else str(teacher)
        return self._train(stage, DistilledReID(**(self.cfg.model.as_dict() | options | alone), teacher=source))

    def _train(self, stage: Stage, model: ImageReIDModule) -> ResultRow:
        timer = Timer()
        trainer = self._trainer(stage, [timer])
        stage.fit(trainer, model, self.data)
        minutes = (timer.time_elapsed("train") - timer.time_elapsed("validate")) / 60
        return stage.finished_row() or self._score(stage, trainer, model, minutes)

    def _trainer(self, stage: Stage, callbacks: list[pl.Callback]) -> pl.Trainer:
        callbacks = [*callbacks, RankListLogger(stage.folder / "rank_list.png")]
        return stage.trainer(self.cfg.epochs, callbacks, validate_every_n_epochs=max(1, self.cfg.epochs // 4))

    def _score(self, stage: Stage, trainer: pl.Trainer, model: ImageReIDModule, minutes: float) -> ResultRow:
        costs = image_network_costs(model.network, self.data.image_size, trainer.strategy.root_device)
        return stage.score(trainer, model, self.data, costs | {"min of training": minutes})


def grid(rows: Rows, teacher: Path, distilled: ResultRow) -> dict[tuple[float, float], ResultRow]:
    """The rows of Table 2 by (T, alpha)."""
    chosen = (rows.cfg.model.temperature, rows.cfg.model.alpha)
    return {
        (temperature, alpha): distilled
        if (temperature, alpha) == chosen
        else rows.student(f"T={temperature}, alpha={alpha}", teacher, temperature=temperature, alpha=alpha)
        for temperature in TEMPERATURES
        for alpha in ALPHAS
    }


def main(argv: list[str] | None = None) -> list[ResultRow]:
    cfg = parse(argv)
    began = time.monotonic()
    with RunFolder(cfg, ignored=("grid",)) as folder:
        rows = Rows(cfg)
        folder.holds(rows.data.dataset)
        teacher, checkpoint = rows.teacher()
        results = [teacher, rows.student(STUDENT, None), rows.student(DISTILLED, checkpoint)]
        cells = grid(rows, checkpoint, results[-1]) if cfg.grid else {}
        if pl.utilities.rank_zero_only.rank == 0:
            stamp, output, seconds = rows.data.protocol_stamp(), Path(cfg.output), time.monotonic() - began
            title = f"knowledge distillation on {cfg.data.dataset}"
            curves = {row.name: Stage(rows.run, row.name).metrics_files for row in results}
            draw_curves(output / "curves.png", curves, panels=(SCORE, LOSS), stamp=stamp)
            write_report(output, results, stamp, title=title, seconds=seconds)
            print_table(results, stamp, title)
            if cells:
                draw_heat_map(
                    output / "grid.png",
                    {cell: row.scores["mAP"] for cell, row in cells.items()},
                    labels=("temperature T", "alpha, the teacher's share", "mAP (%)"),
                    factor=100,
                    stamp=stamp,
                )
                write_report(output / "grid", list(cells.values()), stamp, title=f"T and alpha, {title}", seconds=seconds)
                print_table(list(cells.values()), stamp, f"T and alpha, {title}")
        return [*results, *cells.values()]


if __name__ == "__main__":
    main()
