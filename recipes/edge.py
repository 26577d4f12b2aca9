"""Unsupervised re-ID on the devices of several cameras (distributed edge computing): style, walk, graph of memories, global labels.

Without --data.dataset it generates six cameras, and starts from a small network that is trained with labels on another generated domain,
which is kept and said; with data, it starts from --model.weights FILE. Images never leave their device; what does is counted by kind.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt
from torch import Tensor

from lightning_reid.datamodules import DeviceDataModule, ImageReIDDataModule
from lightning_reid.federation import Client, Federation
from lightning_reid.federation.edge import EdgeOptions, EdgeTraining
from lightning_reid.federation.edge_style import (
    StyleReport,
    by_cyclegan,
    by_statistics,
    shared_pictures,
    statistics_of,
    style_report,
    translated,
)
from lightning_reid.federation.local_training import score_client
from lightning_reid.files import read_json, write_json
from lightning_reid.modules import StyleTransfer, SupervisedReID, TrackletReID
from lightning_reid.recipes.edge_tables import ROWS, EdgeRow, draw_bytes, draw_labels, draw_styles, draw_walk, print_edges, print_styles
from lightning_reid.recipes.workshop.options import RunOptions, adam_arguments, network_arguments
from lightning_reid.recipes.workshop.report import ResultRow, report
from lightning_reid.recipes.workshop.run_folder import RunFolder
from lightning_reid.recipes.workshop.small_run import SMALL_CROPS, SMALL_NETWORK, parse_or_small_run
from lightning_reid.recipes.workshop.stages import Stage
from lightning_reid.records import ReIDDataset

logger = logging.getLogger(__name__)

SMALL_RUN = {
    **(SMALL_CROPS | SMALL_NETWORK),
    **{"data.dataset": "generated-people,people=60,cameras=6", "data.batch_size": 32, "data.erasing_probability": 0.0},
    **{
        "edge.visits": 3,
        "edge.incremental_visits": 3,
        "edge.method": "one_per_camera",
        "edge.alpha": 0,
        "start_from": "duke-like",
        "style_size": [64, 32],
    },
}
START, CEILING = "direct transfer", "supervised"


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, prog="edge.py")
    RunOptions.add_to(parser, output="runs/edge")
    parser.add_argument("--start_from", type=str | None, default=None, help="labeled data set that the first network is trained on")
    parser.add_argument("--start_epochs", type=PositiveInt, default=25, help="passes over it")
    parser.add_argument("--supervised_epochs", type=PositiveInt, default=20, help="passes of the supervised row over the devices' labels")
    parser.add_argument("--rows", type=list[EdgeRow], default=["walk", "walk + clustering"], help="rows of Table 1 to run")
    parser.add_argument("--ablation", action="store_true", help="all rows of Table 1, and ours beside them")
    parser.add_argument("--style", type=Literal["statistics", "cyclegan"], default="statistics", help="of the rows with style")
    parser.add_argument("--share_style_images", action="store_true", help="camera 1's owner says that some of its pictures may cross")
    parser.add_argument("--num_style_images", type=PositiveInt, default=300, help="of camera 1, for cyclegan")
    parser.add_argument("--style_size", type=tuple[int, int], default=(256, 256), help="height and width in pixels, for cyclegan")
    parser.add_argument("--score_visits", type=bool, default=True, help="score the model after every visit, for a curve")
    parser.add_class_arguments(DeviceDataModule, "data", skip={"seed", "p", "k", "val_identities", "split"})
    parser.add_class_arguments(TrackletReID, "model", skip={"num_labels", "statistics", "classifier_init", "negatives", "update_all", "lr"})
    parser.add_class_arguments(EdgeOptions, "edge", skip={"seed"})
    parser.add_class_arguments(StyleTransfer, "transfer", skip={"seed"})
    small = "six cameras of people, and training a small network on another generated domain to start from"
    cfg = parse_or_small_run(parser, argv, SMALL_RUN, named=["data.dataset", "data.root", "model.weights", "start_from"], generating=small)
    if cfg.start_from is None and cfg.model.weights is None and not cfg.model.pretrained:
        parser.error("a walk that starts from random weights learns nothing: give --model.weights FILE, or --start_from LABELED_DATA")
    return cfg


class Experiment:
    """The devices, what they start from, and one row after another."""

    def __init__(self, cfg: Namespace, folder: RunFolder) -> None:
        self.cfg, self.run, self.output = cfg, RunOptions.of(cfg), Path(cfg.output)
        sizes = {name: cfg.data[name] for name in ("root", "image_size", "crop_padding", "num_workers", "erasing_probability")}
        options = sizes | {"seed": cfg.seed, "val_identities": 0}
        self.whole = ImageReIDDataModule(cfg.data.dataset, p=2, k=2, **options)
        self.known = None if cfg.start_from is None else ImageReIDDataModule(cfg.start_from, needs_test=False, **options)
        folder.read(self.whole, *([] if self.known is None else [self.known]))
        self.devices = {f"camera{camid:03d}": self._device(camid) for camid in sorted({one.camid for one in self.whole.dataset.train})}
        self.first_row, self.start = self._start()

    def _device(self, camid: int) -> DeviceDataModule:
        dataset, name = self.whole.dataset, f"{self.whole.dataset.name}, camera {camid}"
        records = tuple(one for one in dataset.train if one.camid == camid and one.pid > 0)
        options = self.cfg.data.as_dict() | {"dataset": name, "seed": self.cfg.seed}
        data = DeviceDataModule(**options)
        data.serve(ReIDDataset(name, records, dataset.query, dataset.gallery))
        return data

    def make(self, **arguments: Any) -> TrackletReID:
        """A device's module; its first weights are ``start``'s."""
        options = self.cfg.model.as_dict() | {"pretrained": False, "weights": None}
        return TrackletReID(**(options | arguments))

    def _start(self) -> tuple[ResultRow, dict[str, Tensor]]:
        """The network that all devices begin with, and its scores."""
        stage = Stage(self.run, START)
        options = self.cfg.model.as_dict()
        if self.known is None:
            stage.seed_everything()
            module: Any = TrackletReID(**options)
        else:
            epochs = self.cfg.start_epochs
            told = network_arguments(self.cfg.model) | adam_arguments(1e-3, epochs)
            print(f"starts from a network trained with labels on {self.cfg.start_from}, kept in {stage.folder}")
            self.known.p, self.known.k = 16, 4
            module, _ = stage.train(lambda: SupervisedReID(neck="none", **told), self.known, epochs)
        start = {name: tensor for name, tensor in module.state_dict().items() if name.startswith("network.")}
        return self._scored(stage, start), start

    def _scored(self, stage: Stage, weights: Mapping[str, Tensor], costs: Mapping[str, float] | None = None) -> ResultRow:
        row = stage.finished_row()
        if row is not None:
            return row
        module = self.make()
        module.load_state_dict(module.state_dict() | dict(weights))
        return stage.score(stage.trainer(1, [], validate_every_n_epochs=None), module, self.whole, costs)

    def supervised(self) -> ResultRow:
        """What the same network learns with everybody's labels in one place."""
        epochs, stage = self.cfg.supervised_epochs, Stage(self.run, CEILING)
        told = network_arguments(self.cfg.model) | adam_arguments(3.5e-4, epochs)

        def build() -> SupervisedReID:
            module = SupervisedReID(neck="none", **told)
            module.load_state_dict(module.state_dict() | self.start)
            return module

        people = len({one.pid for one in self.whole.dataset.train})
        self.whole.p, self.whole.k = min(16, people), 4
        return stage.row(build, self.whole, epochs)

    def row(self, name: EdgeRow) -> ResultRow:
        """A row of Table 1, or one of ours."""
        told, stage = ROWS[name], Stage(self.run, name, told=ROWS[name])
        options = EdgeOptions(**(self.cfg.edge.as_dict() | told.get("edge", {})), seed=self.cfg.seed)
        stage.claim()
        devices = self.styled(stage.folder / "style") if told.get("style") else self.devices
        how: dict[str, Any] = {name: getattr(self.run, name) for name in ("accelerator", "resume", "quiet")}
        training = EdgeTraining(devices, self.make, self.start, options, stage.folder, **how)
        if self.cfg.score_visits and not told.get("average"):
            training.after_visit = self._score_visit
        weights = training.averaged(options.visits) if told.get("average") else training.walk()
        costs = {"labels": float("nan"), "contradictions": float("nan"), "pair F %": float("nan")}
        if told.get("labels"):
            for cycle in range(options.cycles):
                banks = training.memories(weights, cycle)
                labels = training.labels(banks, cycle)
                graph = training.report(banks, labels)
                weights = training.learn_labels(weights, banks, labels, cycle)
            costs = {"labels": graph.labels, "contradictions": graph.contradictions, "pair F %": 100 * graph.f_score}
            print_edges(name, graph)
            draw_labels(self.output / f"{stage.folder.name}-labels.png", devices, labels)
        draw_bytes(self.output / f"{stage.folder.name}-bytes.png", training.bytes, list(self.devices.values()))
        draw_walk(self.output / f"{stage.folder.name}-walk.png", stage.folder)
        return self._scored(stage, weights, costs | {"MB": sum(one.hub for one in training.bytes.values()) / 1e6})

    def styled(self, folder: Path) -> dict[str, DeviceDataModule]:
        """The devices, all but the first in the colors, or the style, of the first camera."""
        cfg, (first, *others) = self.cfg, [*self.devices]
        style, module = statistics_of(self.devices[first]), self.make()
        module.load_state_dict(module.state_dict() | self.start)
        told: dict[str, StyleReport] = {}
        found = {first: self.devices[first]}
        options = {name: value for name, value in cfg.data.as_dict().items() if name not in ("dataset", "batch_size", "image_size")}
        pictures = (
            shared_pictures(self.devices[first], cfg.num_style_images, share_style_images=cfg.share_style_images, seed=cfg.seed)
            if cfg.style == "cyclegan"
            else []
        )
        for name in others:
            own = self.devices[name]
            if cfg.style == "statistics":
                translate = by_statistics(own, style)
            else:
                learned = StyleTransfer(**cfg.transfer, seed=cfg.seed)
                how: dict[str, Any] = {"accelerator": self.run.accelerator, "seed": cfg.seed, "quiet": self.run.quiet}
                translate = by_cyclegan(own, pictures, learned, folder / f"{name}-cyclegan", image_size=tuple(cfg.style_size), **how)
            found[name] = translated(own, translate, folder / name, seed=cfg.seed, **options)
            told[name] = style_report(module, own, found[name], style)
        print_styles(told)
        draw_styles(folder / "style.png", self.devices, found)
        return found

    def _score_visit(self, walk: Federation) -> None:
        done = walk.rounds[-1].report
        file = walk.output / "visits.json"
        told = read_json(file, {"visits": dict}, way_on="remove it, and the curve begins anew")["visits"] if file.is_file() else {}
        if done.used and str(done.round) not in told:
            module = self.make()
            tensors = {one: tensor for one, tensor in walk.state.tensors.items() if one.startswith("network.")}
            module.load_state_dict(module.state_dict() | self.start | tensors)
            scores = score_client(Client("everybody", module, self.whole), self.run.accelerator, walk.output)
            write_json(file, {"visits": told | {str(done.round): [done.used[0], scores["mAP"]]}})


def main(argv: Sequence[str] | None = None) -> list[ResultRow]:
    cfg, began = parse(argv), time.monotonic()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # else every local fit says that it begins and ends
    with RunFolder(cfg, ignored=("rows", "ablation")) as folder:
        experiment = Experiment(cfg, folder)
        asked: Sequence[EdgeRow] = [*ROWS] if cfg.ablation else cfg.rows
        rows = [experiment.first_row, experiment.supervised(), *(experiment.row(name) for name in asked)]
        stamp = experiment.make().protocol_stamp(experiment.whole)
        report(experiment.output, rows, stamp, title=f"devices of {cfg.data.dataset}", began=began)
        return rows


if __name__ == "__main__":
    main()
