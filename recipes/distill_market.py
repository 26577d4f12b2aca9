"""Knowledge distillation on Market-1501: a large teacher guides a small student (Liu et al. 2020, Tables 2 and 3).

Without --data.root or --data.dataset it generates a small data set and trains small networks: minutes on two CPU cores.
With them, the defaults are the text's (ResNet-50 teaches MobileNetV2, 256x128, T = 5, alpha = 0.1, 60 epochs).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt
from pytorch_lightning.callbacks import Timer

from lightning_reid.callbacks import RankListLogger
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.modules import DistilledReID, ImageReIDModule, SupervisedReID
from lightning_reid.recipes.workshop.costs import image_network_costs
from lightning_reid.recipes.workshop.curves import LOSS, SCORE, draw_curves, draw_heat_map
from lightning_reid.recipes.workshop.options import RunOptions
from lightning_reid.recipes.workshop.report import ResultRow, report
from lightning_reid.recipes.workshop.run_folder import RunFolder, is_first_process
from lightning_reid.recipes.workshop.small_run import NO_ERASING, SMALL_CROPS, SMALL_NETWORK, parse_or_small_run
from lightning_reid.recipes.workshop.stages import Stage

ROW_OPTIONS = ("grid",)  # only choose which rows there are: a resumed run may give others
SMALL_RUN = {
    **(SMALL_CROPS | NO_ERASING | {"data.dataset": "market-like", "epochs": 10}),
    **{name.replace("model", "teacher"): value for name, value in SMALL_NETWORK.items()},
    **{"teacher.lr": 1e-3, "teacher.milestones": [6, 8], "model.student": "resnet18", "model.pooling": "gem"},
    **{"model.backbone_options": {"channels": [8, 16, 32, 64], "layers": [1, 1, 1, 1]}},
    **{"model.lr": 1e-3, "model.milestones": [6, 8], "model.alpha": 0.5},
}
TEACHER, STUDENT, DISTILLED = "teacher", "student alone", "distilled student"
TEMPERATURES, ALPHAS = (1, 2, 5, 10), (0.1, 0.3, 0.5)
"""Of Table 2."""


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(description=__doc__, prog="distill_market.py")
    RunOptions.add_to(parser, output="runs/distill")
    parser.add_argument("--epochs", type=PositiveInt, default=60, help="passes over the training images, of teacher and students alike")
    parser.add_argument("--grid", action="store_true", help="also every T and alpha of Table 2, with a heat map of their scores")
    given = "a SupervisedReID trained on the same data set; none: train one"
    parser.add_argument("--teacher_checkpoint", type=str | None, default=None, help=given)
    parser.add_class_arguments(ImageReIDDataModule, "data", skip={"seed"})
    parser.add_class_arguments(SupervisedReID, "teacher")
    parser.add_class_arguments(DistilledReID, "model", skip={"teacher", "teacher_options", "backbone"})
    # what a teacher knows of the classes that are not the first is what smoothed labels make it forget (Mueller et al. 2019)
    parser.set_defaults({"teacher.milestones": [40, 50], "model.milestones": [40, 50], "teacher.label_smoothing": 0.0})
    parser.set_defaults({"data.val_identities": 0})  # the papers' protocol: the last model is scored, nothing is selected
    return parser


def parse(argv: list[str] | None) -> Namespace:
    return parse_or_small_run(build_parser(), argv, SMALL_RUN, generating="a small one and training small networks on it")


class Rows:
    """Trains the rows of the tables, each a stage of its own; those already trained by an interrupted run are read back."""

    def __init__(self, cfg: Namespace, folder: RunFolder) -> None:
        self.cfg, self.run = cfg, RunOptions.of(cfg)
        self.data = ImageReIDDataModule(**cfg.data, seed=cfg.seed)
        folder.read(self.data)

    def teacher(self) -> tuple[ResultRow, Path]:
        """The teacher's row, and the checkpoint that students learn from."""
        stage, given = Stage(self.run, TEACHER), self.cfg.teacher_checkpoint
        if given is None:
            return self._train(stage, lambda: SupervisedReID(**self.cfg.teacher)), stage.checkpoint
        model = SupervisedReID.load_from_checkpoint(given, map_location="cpu", weights_only=True)
        trainer = stage.trainer(self.cfg.epochs, [RankListLogger(stage.folder / "rank_list.png")], validate_every_n_epochs=None)
        return stage.finished_row() or stage.score(trainer, model, self.data, self._costs(model, trainer, minutes=0.0)), Path(given)

    def student(self, name: str, teacher: Path | None, **options: Any) -> ResultRow:
        """A student of the teacher, or one that learns alone; of the same first weights in either case."""
        stage = Stage(self.run, name, seeded_as=STUDENT, told=options)
        alone = {"alpha": 0.0, "embeddings": "none"} if teacher is None else {}
        options = self.cfg.model.as_dict() | options | alone | {"teacher": None if teacher is None else str(teacher)}
        return self._train(stage, lambda: DistilledReID(**options))

    def _train(self, stage: Stage, build: Callable[[], ImageReIDModule]) -> ResultRow:
        timer, every = Timer(), max(1, self.cfg.epochs // 4)
        callbacks = [timer, RankListLogger(stage.folder / "rank_list.png")]

        def costs(model: ImageReIDModule, trainer: pl.Trainer) -> dict[str, float]:
            return self._costs(model, trainer, (timer.time_elapsed("train") - timer.time_elapsed("validate")) / 60)

        return stage.train_and_score(build, self.data, self.cfg.epochs, callbacks, validate_every_n_epochs=every, costs=costs)[1]

    def _costs(self, model: ImageReIDModule, trainer: pl.Trainer, minutes: float) -> dict[str, float]:
        return image_network_costs(model.network, self.data.image_size, trainer.strategy.root_device) | {"min of training": minutes}


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
    cfg, began = parse(argv), time.monotonic()
    with RunFolder(cfg, ignored=ROW_OPTIONS) as folder:
        rows = Rows(cfg, folder)
        teacher, checkpoint = rows.teacher()
        results = [teacher, rows.student(STUDENT, None), rows.student(DISTILLED, checkpoint)]
        cells = grid(rows, checkpoint, results[-1]) if cfg.grid else {}
        if is_first_process():
            stamp, output, title = rows.data.protocol_stamp(), Path(cfg.output), f"knowledge distillation on {cfg.data.dataset}"
            curves = {row.name: Stage(rows.run, row.name).metrics_files for row in results}
            draw_curves(output / "curves.png", curves, panels=(SCORE, LOSS), stamp=stamp)
            report(output, results, stamp, title=title, began=began)
            if cells:
                scores = {cell: row.scores["mAP"] for cell, row in cells.items()}
                labels = ("temperature T", "alpha, the teacher's share", "mAP (%)")
                draw_heat_map(output / "grid.png", scores, labels=labels, factor=100, stamp=stamp)
                report(output / "grid", list(cells.values()), stamp, title=f"T and alpha, {title}", began=began)
        return [*results, *cells.values()]


if __name__ == "__main__":
    main()
