"""The devices of a recipe, what they start from, and one row after another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from torch import Tensor

from lightning_reid.datamodules import DeviceDataModule, ImageReIDDataModule
from lightning_reid.federation import Client, Federation
from lightning_reid.federation.edge import EdgeOptions, EdgeTraining
from lightning_reid.federation.edge_style import (
    StyleReport,
    by_cyclegan,
    by_statistics,
    public_pictures,
    shared_pictures,
    statistics_of,
    style_report,
    translated,
)
from lightning_reid.federation.local_training import score_client
from lightning_reid.files import read_json, write_json
from lightning_reid.modules import StyleTransfer, SupervisedReID, TrackletReID
from lightning_reid.recipes.workshop.edge_pictures import (
    ROWS,
    EdgeRow,
    draw_bytes,
    draw_labels,
    draw_styles,
    draw_walk,
    print_edges,
    print_styles,
)
from lightning_reid.recipes.workshop.options import RunOptions, adam_arguments, network_arguments
from lightning_reid.recipes.workshop.report import ResultRow
from lightning_reid.recipes.workshop.run_folder import RunFolder
from lightning_reid.recipes.workshop.stages import Stage
from lightning_reid.records import ReIDDataset

START, CEILING = "direct transfer", "supervised"


class EdgeExperiment:
    """The devices of cameras, the network that all begin with, and the rows of a table.

    Args:
        cfg: Parsed options of ``edge.py``.
        folder: Of the run.
    """

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
        pictures = self._style_pictures(self.devices[first]) if cfg.style == "cyclegan" else []
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

    def _style_pictures(self, first: DeviceDataModule) -> list[Tensor]:
        cfg = self.cfg
        if cfg.style_images is not None:
            return public_pictures(cfg.style_images, cfg.num_style_images, seed=cfg.seed)
        return shared_pictures(first, cfg.num_style_images, share_style_images=cfg.share_style_images, seed=cfg.seed)

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
