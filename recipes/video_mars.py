"""Supervised video re-ID: NVAN, STE-NVAN, CF-AAN or their baseline, on tracklets as they are or re-detected and linked (thesis, chapter 2).

Without --data.root or --data.dataset it generates noisy tracklets and trains a small network: minutes on two CPU cores.
With them, the defaults are the thesis' (ResNet-50, 256x128, 8 frames a clip, Adam 1e-4, 200 epochs).
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from lightning_reid.callbacks import RankListLogger, RedetectAndLink
from lightning_reid.datamodules import VideoReIDDataModule
from lightning_reid.metrics import ProtocolStamp
from lightning_reid.modules import VideoReID
from lightning_reid.networks import VIDEO_TABLES, VideoNetworkName, VideoTableRow
from lightning_reid.runners import (
    LOSS,
    SCORE,
    RedetectOptions,
    ResultRow,
    RunFolder,
    RunOptions,
    Stage,
    draw_curves,
    network_costs,
    print_table,
    write_report,
)

SMALL_RUN: dict[str, Any] = {
    "data.dataset": "mars-like",
    "data.image_size": [64, 32],
    "data.clip_length": 4,
    "data.num_workers": 0,
    "video.network_options": {"backbone": "resnet18", "channels": [32, 64, 128, 256], "layers": [1, 2, 3, 1]},
    "video.lr": 1e-3,
    "video.milestones": [12, 17],
    "redetection.detector": "generated",
    "epochs": 20,
}
TABLES_HEIGHT = 256
"""Image height that the numbers of stripes in the text's tables are for."""
SAID_ALREADY = ("clip_length",)
ORIGINAL, ALIGNED = "tracklets as they are", "re-detected and linked"


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(description=__doc__, prog="video_mars.py")
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    parser.add_argument("--model", type=VideoNetworkName, default="stenvan", help="which network; the baseline is a ResNet, frame by frame")
    tables = f"train every row of these tables of the text instead, of {' '.join(VIDEO_TABLES)}; of all of them where none is named"
    parser.add_argument("--ablation", type=str, nargs="*", default=None, metavar="TABLE", help=tables)
    parser.add_argument("--epochs", type=PositiveInt, default=200, help="passes over the training identities")
    RunOptions.add_to(parser, output="runs/video")
    parser.add_class_arguments(VideoReIDDataModule, "data", skip={"seed"})
    parser.add_class_arguments(VideoReID, "video", skip={"network"})
    parser.add_argument("--redetect", action="store_true", help="train on re-detected and linked tracklets, too; --redetection says how")
    parser.add_class_arguments(RedetectOptions, "redetection")
    parser.set_defaults({"data.val_identities": 0})  # the papers' protocol: the last model is scored, nothing is selected
    return parser


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = build_parser()
    cfg = parser.parse_args(argv)
    if cfg.data.root is None and cfg.data.dataset == parser.get_default("data.dataset"):
        parser.set_defaults(SMALL_RUN)
        cfg = parser.parse_args(argv)
        print("no data set named (--data.root, --data.dataset): generating noisy tracklets and training a small network on them")
    unknown = set(cfg.ablation or ()) - set(VIDEO_TABLES)
    if unknown:
        parser.error(f"--ablation takes the tables {', '.join(VIDEO_TABLES)}, got {', '.join(sorted(unknown))}")
    if cfg.ablation == []:
        cfg.ablation = list(VIDEO_TABLES)
    height = cfg.data.image_size[0]
    if height != TABLES_HEIGHT and (cfg.model == "stenvan" or cfg.ablation):
        print(f"numbers of stripes are for images of {TABLES_HEIGHT} rows: at {height} rows, 16 become {scaled_stripes(cfg, 16)}")
    return cfg


def network_options(cfg: Namespace, row: VideoTableRow) -> dict[str, Any]:
    """The row's options on the backbone that was asked for, fitted to the images: relative positions and stripes depend on their size."""
    asked = cfg.video.network_options or {}
    options = {**asked, **row.options}
    if row.network == "cfaan":
        options["image_size"] = tuple(cfg.data.image_size)
    stripes = row.options.get("stripes", 16)
    if row.network == "stenvan" and stripes is not None and "stripes" not in asked:
        options["stripes"] = scaled_stripes(cfg, stripes)
    return options


def asked_rows(cfg: Namespace) -> dict[str, list[VideoTableRow]]:
    """Title of each table to its rows."""
    if cfg.ablation:
        return {f"table {number}": list(VIDEO_TABLES[number]) for number in cfg.ablation}
    length, redetected = cfg.data.clip_length, cfg.redetect
    rows = [VideoTableRow(f"{cfg.model}, {ALIGNED if redetected else ORIGINAL}", cfg.model, length, redetected=redetected)]
    if redetected and cfg.redetection.checkpoint is None:  # it is trained in any case
        rows.insert(0, VideoTableRow(f"baseline, {ORIGINAL}", "baseline", length))
    return {cfg.model: rows}


def scaled_stripes(cfg: Namespace, stripes: int) -> int:
    """As many rows of pixels a stripe as in the text."""
    return max(1, stripes * cfg.data.image_size[0] // TABLES_HEIGHT)


class Rows:
    """Trains the rows of the tables, each network once, in however many tables it stands."""

    def __init__(self, run: RunOptions, cfg: Namespace) -> None:
        self.run, self.cfg, self.redetect = run, cfg, RedetectOptions(**cfg.redetection.as_dict())
        self._trained: dict[str, tuple[ResultRow, Stage]] = {}

    def train(self, row: VideoTableRow) -> tuple[ResultRow, Stage]:
        """The scores, under the row's name, and the stage that trained it."""
        options = network_options(self.cfg, row)
        settings = f"{row.network}{' aligned' * row.redetected} T{row.clip_length}"
        said = [f"{name} {value}" for name, value in row.options.items() if name not in SAID_ALREADY]
        key = re.sub(r"[^\w.-]+", " ", " ".join([settings, *said])).strip()  # names a folder
        if key not in self._trained:
            self._trained[key] = self._fit(Stage(self.run, key, seeded_as="video", told=options), row, options)
        result, stage = self._trained[key]
        return replace(result, name=row.name), stage

    def extractor(self, clip_length: int) -> Path:
        """What tells the candidates of re-detection apart: the checkpoint that was named, or the baseline on the tracklets as they are."""
        if self.cfg.redetection.checkpoint is not None:
            return Path(self.cfg.redetection.checkpoint)
        return self.train(VideoTableRow("extractor", "baseline", clip_length))[1].checkpoint

    def _fit(self, stage: Stage, row: VideoTableRow, options: dict[str, Any]) -> tuple[ResultRow, Stage]:
        cfg, extractor = self.cfg, self.extractor(row.clip_length) if row.redetected else None
        finished = stage.finished_row()
        if finished is not None:
            return finished, stage
        stage.seed_everything()
        data = data_of(cfg, row.clip_length)
        callbacks: list[pl.Callback] = [RankListLogger(stage.folder / "rank_list.png")]
        if extractor is not None:
            detector, picture = self.redetect.build_detector(data.folder), stage.folder / "redetected.png"
            callbacks.insert(0, self.redetect.build_callback(detector, extractor, Path(self.run.output), picture))
        model = VideoReID(row.network, **(cfg.video.as_dict() | {"network_options": options}))
        trainer = stage.trainer(cfg.epochs, callbacks, validate_every_n_epochs=max(1, cfg.epochs // 4))
        stage.fit(trainer, model, data)
        if trainer.is_global_zero and isinstance(callbacks[0], RedetectAndLink):
            print(f"{stage.name}: {callbacks[0].report}")
        costs = network_costs(model.network, (row.clip_length, 3, *cfg.data.image_size), trainer.strategy.root_device)
        return stage.score(trainer, model, data, costs), stage


def data_of(cfg: Namespace, clip_length: int) -> VideoReIDDataModule:
    return VideoReIDDataModule(**(cfg.data.as_dict() | {"clip_length": clip_length}), seed=cfg.seed)


def read_data(cfg: Namespace, clip_length: int) -> VideoReIDDataModule:
    data = data_of(cfg, clip_length)
    data.prepare_data()
    data.setup()
    return data


def stamp_of(cfg: Namespace, data: VideoReIDDataModule, rows: Sequence[VideoTableRow]) -> ProtocolStamp:
    """What the scores of a table must be read with."""
    stamp, scoring = data.protocol_stamp(), cfg.video
    if len({row.clip_length for row in rows}) > 1:
        stamp = replace(stamp, transform=stamp.transform.replace(f"T={rows[0].clip_length}", "T as each row says"))
    return replace(stamp, protocol=scoring.protocol, ap=scoring.ap, metric=scoring.metric, reranked=scoring.rerank)


def main(argv: Sequence[str] | None = None) -> dict[str, list[ResultRow]]:
    cfg = parse(argv)
    began = time.monotonic()
    run, asked = RunOptions.of(cfg), asked_rows(cfg)
    with RunFolder(cfg, ignored=("ablation",)) as folder:
        stamps = {}
        for title, rows in asked.items():  # a missing folder is found now, not after a network was trained
            data = read_data(cfg, rows[0].clip_length)
            stamps[title] = stamp_of(cfg, data, rows)
        folder.holds(data.dataset)
        trainer, tables = Rows(run, cfg), {}
        if any(row.redetected for rows in asked.values() for row in rows):
            trainer.redetect.build_detector(data_of(cfg, 1).folder)  # a missing file is found now, not after the baseline was trained
        for title, rows in asked.items():
            trained = [trainer.train(row) for row in rows]
            tables[title] = [result for result, _ in trained]
            if pl.utilities.rank_zero_only.rank == 0:
                output = Path(run.output) / title.replace(" ", "-") if len(asked) > 1 else Path(run.output)
                heading, curves = f"{title} on {cfg.data.dataset}", {result.name: stage.metrics_files for result, stage in trained}
                draw_curves(output / "curves.png", curves, panels=(SCORE, LOSS), stamp=stamps[title])
                write_report(output, tables[title], stamps[title], title=heading, seconds=time.monotonic() - began)
                print_table(tables[title], stamps[title], heading)
        return tables


if __name__ == "__main__":
    main()
