"""Supervised video re-ID: NVAN, STE-NVAN, CF-AAN or their baseline, on tracklets as they are or re-detected and linked (thesis, chapter 2).

Without --data.root or --data.dataset it generates noisy tracklets and trains a small network: minutes on two CPU cores.
With them, the defaults are the thesis' (ResNet-50, 256x128, 8 frames a clip, Adam 1e-4, 200 epochs).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from lightning_reid.callbacks import RankListLogger, RedetectAndLink
from lightning_reid.datamodules import VideoReIDDataModule
from lightning_reid.modules import VideoReID
from lightning_reid.networks.video.by_name import VideoNetworkName
from lightning_reid.recipes.workshop.costs import network_costs
from lightning_reid.recipes.workshop.curves import LOSS, SCORE, draw_curves
from lightning_reid.recipes.workshop.options import RunOptions
from lightning_reid.recipes.workshop.redetect_options import RedetectOptions
from lightning_reid.recipes.workshop.report import ResultRow, report
from lightning_reid.recipes.workshop.run_folder import RunFolder, is_first_process, read_now
from lightning_reid.recipes.workshop.small_run import parse_or_small_run
from lightning_reid.recipes.workshop.stages import Stage
from lightning_reid.recipes.workshop.video_tables import (
    TABLES_HEIGHT,
    VIDEO_TABLES,
    VideoTableRow,
    asked_rows,
    scaled_stripes,
    stamp_of_table,
)

SMALL_RUN: dict[str, Any] = {
    **{"data.dataset": "mars-like", "data.image_size": [64, 32], "data.clip_length": 4, "data.num_workers": 0},
    **{"model.network_options": {"backbone": "resnet18", "channels": [32, 64, 128, 256], "layers": [1, 2, 3, 1]}},
    **{"model.lr": 1e-3, "model.milestones": [12, 17], "redetection.detector": "generated", "epochs": 20},
}


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(description=__doc__, prog="video_mars.py")
    parser.add_argument("--network", type=VideoNetworkName, default="stenvan", help="the baseline is a ResNet, frame by frame")
    tables = f"train every row of these tables of the text instead, of {' '.join(VIDEO_TABLES)}; of all of them where none is named"
    parser.add_argument("--ablation", type=str, nargs="*", default=None, metavar="TABLE", help=tables)
    parser.add_argument("--epochs", type=PositiveInt, default=200, help="passes over the training identities")
    parser.add_argument("--tested_on", type=str, help="name, folder or table of tracklets to score on, for the test part of --data.dataset")
    RunOptions.add_to(parser, output="runs/video")
    parser.add_class_arguments(VideoReIDDataModule, "data", skip={"seed"})
    parser.add_class_arguments(VideoReID, "model", skip={"network"})
    parser.add_argument("--redetect", action="store_true", help="train on re-detected and linked tracklets, too; --redetection says how")
    parser.add_class_arguments(RedetectOptions, "redetection")
    parser.set_defaults({"data.val_identities": 0})  # the papers' protocol: the last model is scored, nothing is selected
    return parser


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = build_parser()
    cfg = parse_or_small_run(parser, argv, SMALL_RUN, generating="noisy tracklets and training a small network on them")
    unknown = set(cfg.ablation or ()) - set(VIDEO_TABLES)
    if unknown:
        parser.error(f"--ablation takes the tables {', '.join(VIDEO_TABLES)}, got {', '.join(sorted(unknown))}")
    cfg.ablation = list(VIDEO_TABLES) if cfg.ablation == [] else cfg.ablation
    if (rows := cfg.data.image_size[0]) != TABLES_HEIGHT and (cfg.network == "stenvan" or cfg.ablation):
        print(f"numbers of stripes are for images of {TABLES_HEIGHT} rows: at {rows} rows, 16 become {scaled_stripes(16, rows)}")
    return cfg


class Rows:
    """Trains the rows of the tables, each network once, in however many tables it stands."""

    def __init__(self, cfg: Namespace) -> None:
        self.cfg, self.run, self.redetect = cfg, RunOptions.of(cfg), RedetectOptions(**cfg.redetection.as_dict())
        self._trained: dict[str, tuple[ResultRow, Stage]] = {}

    def data(self, row: VideoTableRow, dataset: str | None = None) -> VideoReIDDataModule:
        """The data of a row, of clips as long as its network takes; of another set, which is read, where one is named."""
        other: dict[str, Any] = {} if dataset is None else {"dataset": dataset, "p": 1}  # no batch is made of it, however few its people
        data = VideoReIDDataModule(**(self.cfg.data.as_dict() | {"clip_length": row.clip_length} | other), seed=self.cfg.seed)
        if dataset is not None:
            read_now(data)
        return data

    def train(self, row: VideoTableRow) -> tuple[ResultRow, Stage]:
        """The scores, under the row's name, and the stage that trained it."""
        if row.folder not in self._trained:
            self._trained[row.folder] = self._fit(row, row.fitted(self.cfg.model.network_options or {}, self.cfg.data.image_size))
        result, stage = self._trained[row.folder]
        return replace(result, name=row.name), stage

    def extractor(self, clip_length: int) -> Path:
        """What tells the candidates of re-detection apart: the checkpoint that was named, or the baseline on the tracklets as they are."""
        if self.cfg.redetection.checkpoint is not None:
            return Path(self.cfg.redetection.checkpoint)
        return self.train(VideoTableRow("extractor", "baseline", clip_length))[1].checkpoint

    def _fit(self, row: VideoTableRow, options: dict[str, Any]) -> tuple[ResultRow, Stage]:
        stage, cfg = Stage(self.run, row.folder, seeded_as="video", told=options), self.cfg
        extractor = self.extractor(row.clip_length) if row.redetected else None
        if (finished := stage.finished_row()) is not None:
            return finished, stage
        data, callbacks = self.data(row), list[pl.Callback]([RankListLogger(stage.folder / "rank_list.png")])
        if extractor is not None:
            cache, picture = self.redetect.cache or Path(cfg.output) / "redetected", stage.folder / "redetected.png"
            detector, linking = self.redetect.build_detector(data.folder), self.redetect.linking()
            callbacks.insert(0, RedetectAndLink(detector, extractor, cache, **linking, picture=picture))

        def costs(model: VideoReID, trainer: pl.Trainer) -> dict[str, float]:
            if is_first_process() and isinstance(callbacks[0], RedetectAndLink):
                print(f"{stage.name}: {callbacks[0].report}")
            return network_costs(model.network, (row.clip_length, 3, *cfg.data.image_size), trainer.strategy.root_device)

        build, every = partial(VideoReID, row.network, **(cfg.model.as_dict() | {"network_options": options})), max(1, cfg.epochs // 4)
        scored: dict[str, Any] = {"tested_on": self.data(row, cfg.tested_on) if cfg.tested_on else data, "costs": costs}
        return stage.train_and_score(build, data, cfg.epochs, callbacks, validate_every_n_epochs=every, **scored)[1], stage


def main(argv: Sequence[str] | None = None) -> dict[str, list[ResultRow]]:
    cfg, began = parse(argv), time.monotonic()
    asked, rows = asked_rows(cfg), Rows(cfg)
    with RunFolder(cfg, ignored=("ablation",)) as folder:
        data = {title: rows.data(table[0], cfg.tested_on) for title, table in asked.items()}
        first = rows.data(next(iter(asked.values()))[0]) if cfg.tested_on else next(iter(data.values()))
        read_now(*([first] if cfg.tested_on else data.values()))
        folder.holds(*(one.dataset for one in dict.fromkeys((first, next(iter(data.values()))))))
        if any(row.redetected for table in asked.values() for row in table):
            rows.redetect.build_detector(first.folder)  # a missing file is found now, not after the baseline was trained
        tables = {}
        for title, table in asked.items():
            trained = [rows.train(row) for row in table]
            tables[title] = [result for result, _ in trained]
            if is_first_process():
                output = Path(cfg.output) / title.replace(" ", "-") if len(asked) > 1 else Path(cfg.output)
                stamp = stamp_of_table(data[title].protocol_stamp(), table, cfg.model)
                curves = {result.name: stage.metrics_files for result, stage in trained}
                draw_curves(output / "curves.png", curves, panels=(SCORE, LOSS), stamp=stamp)
                report(output, tables[title], stamp, title=f"{title} on {cfg.tested_on or cfg.data.dataset}", began=began)
        return tables


if __name__ == "__main__":
    main()
