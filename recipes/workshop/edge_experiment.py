"""The devices of a recipe, what they start from, and one row after another."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor

from lightning_reid.clustering import global_labels
from lightning_reid.clustering.graph_report import GraphReport, graph_report
from lightning_reid.clustering.memories import tracklet_memories
from lightning_reid.datamodules import DeviceDataModule, ImageReIDDataModule
from lightning_reid.datamodules.device_images import of_camera
from lightning_reid.federated.traffic import STATISTICS_BYTES, Ledger
from lightning_reid.federation import Client
from lightning_reid.federation.edge import EdgeTraining, rows_of
from lightning_reid.federation.edge_device import Bank, EdgeDevice, device_embeddings, true_people
from lightning_reid.federation.edge_hub import DevicesHere
from lightning_reid.federation.edge_options import EdgeOptions
from lightning_reid.federation.edge_style import (
    StyleReport,
    by_cyclegan,
    by_statistics,
    public_pictures,
    shared_addresses,
    statistics_of,
    style_report,
    translated,
)
from lightning_reid.federation.local_training import score_client
from lightning_reid.federation.server import FederationServer
from lightning_reid.files import read_json, write_json
from lightning_reid.modules import StyleTransfer, SupervisedReID, TrackletReID
from lightning_reid.recipes.workshop.edge_pictures import (
    draw_bytes,
    draw_labels,
    draw_styles,
    draw_walk,
    print_graphs,
    print_styles,
    print_traffic,
    stored_bytes,
)
from lightning_reid.recipes.workshop.edge_rows import ROWS, EdgeRow, RowOptions
from lightning_reid.recipes.workshop.edge_times import print_parts, time_parts
from lightning_reid.recipes.workshop.options import RunOptions, adam_arguments, network_arguments
from lightning_reid.recipes.workshop.report import ResultRow
from lightning_reid.recipes.workshop.run_folder import RunFolder
from lightning_reid.recipes.workshop.stages import Stage

START, CEILING = "direct transfer", "supervised"
MOST_ALPHA = 3
"""Of the text's Fig. 3."""


@dataclass(frozen=True)
class Learned:
    """What the devices of a row came to.

    Attributes:
        training: Of the row.
        weights: Of the network that is scored, or of the one that walked, where a row with labels goes on.
    """

    training: EdgeTraining
    weights: dict[str, Tensor]


class EdgeExperiment:
    """The devices of cameras, the network that all begin with, and the rows of a table.

    Args:
        cfg: Parsed options of ``edge.py``.
        folder: Of the run.
    """

    def __init__(self, cfg: Namespace, folder: RunFolder) -> None:
        self.cfg, self.run, self.output = cfg, RunOptions.of(cfg), Path(cfg.output)
        options = {name: told for name, told in cfg.data.as_dict().items() if name not in ("dataset", "batch_size")}
        options |= {"seed": cfg.seed, "val_identities": 0}
        self.whole = ImageReIDDataModule(cfg.data.dataset, p=2, k=2, **options)
        self.known = None if cfg.start_from is None else ImageReIDDataModule(cfg.start_from, p=2, k=2, needs_test=False, **options)
        folder.read(self.whole, *([] if self.known is None else [self.known]))
        self.camids = {f"camera{camid:03d}": camid for camid in sorted({one.camid for one in self.whole.dataset.train})}
        self.devices = {name: self._device(camid) for name, camid in self.camids.items()}
        EdgeOptions(**cfg.edge.as_dict(), seed=cfg.seed).check_cameras(len(self.devices))
        self.graphs: dict[EdgeRow, dict[str, GraphReport]] = {}
        self._done: dict[EdgeRow, Learned] = {}
        self._walks: dict[EdgeRow, Learned] = {}
        self._styled: dict[str, DeviceDataModule] = {}
        self._style_bytes = 0
        self.first_row, self.start = self._start()

    def _device(self, camid: int) -> DeviceDataModule:
        dataset = of_camera(self.whole.dataset, camid)
        data = DeviceDataModule(**(self.cfg.data.as_dict() | {"dataset": f"{dataset.name}, camera {camid}", "seed": self.cfg.seed}))
        data.serve(dataset)
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
            self.known.p, self.known.k = min(16, self.known.num_classes), 4
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
        stage, learned = Stage(self.run, name, told=ROWS[name].as_json()), self._learned(name)
        row = stage.finished_row()
        if row is not None:
            return row
        module = self.make()
        module.load_state_dict(module.state_dict() | learned.weights)
        if ROWS[name].own_statistics or learned.training.options.statistics == "local":
            told = learned.training.hub.statistics()
            module.camera_statistics = {camid: told[device] for device, camid in self.camids.items() if told[device]}
        return stage.score(stage.trainer(1, [], validate_every_n_epochs=None), module, self.whole)

    def print_times(self) -> None:
        """Time and print what the parts take here; those of a device on the one with the most images."""
        module = self.make()
        module.load_state_dict(module.state_dict() | self.start)
        banks = {
            name: tracklet_memories(device_embeddings(module, data), data.tracklets, data.num_tracklets)
            for name, data in self.devices.items()
        }
        largest = max(self.camids, key=lambda name: self.devices[name].num_images)
        transfer = StyleTransfer(**self.cfg.transfer, seed=self.cfg.seed)
        with tempfile.TemporaryDirectory() as folder:
            how: dict[str, Any] = {"folder": Path(folder), "accelerator": self.run.accelerator, "style_size": tuple(self.cfg.style_size)}
            parts = time_parts(module, transfer, self._device(self.camids[largest]), banks, **how)
        print_parts(parts, str(module.device))

    def _learned(self, name: EdgeRow) -> Learned:
        """What the devices of a row end with; rows share the walk, and whatever else they have in common."""
        if name not in self._done:
            told = ROWS[name]
            if told.of is not None:
                self._done[name] = self._learned(told.of)
            elif told.labels:
                self._done[name] = self._with_labels(name, told)
            else:
                self._done[name] = self._without_labels(name)
        return self._done[name]

    def _walked(self, name: EdgeRow) -> Learned:
        """What a row without labels comes to before its end, where rows with labels go on."""
        if name not in self._walks:
            training = self._training(name, ROWS[name])
            self._walks[name] = Learned(training, training.averaged(training.options.visits) if ROWS[name].average else training.walk())
        return self._walks[name]

    def _without_labels(self, name: EdgeRow) -> Learned:
        walked = self._walked(name)
        training, weights = copy.copy(walked.training), walked.weights
        if training.options.statistics in ("averaged", "local"):  # which every device takes of the network that all have
            training.ledger = copy.deepcopy(training.ledger)
            weights = training.unified(weights)
        self._draw(name, training)
        return Learned(training, weights)

    def _with_labels(self, name: EdgeRow, told: RowOptions) -> Learned:
        walk = self._walked("style + walk" if told.style else "walk") if told.walks else None
        training, weights = self._training(name, told), self.start
        if walk is not None:
            training.ledger, weights = copy.deepcopy(walk.training.ledger), walk.weights
        for cycle in range(training.options.cycles):
            banks = training.memories(weights, cycle)
            labels = training.labels(banks, cycle)
            weights = training.learn_labels(weights, banks, labels, cycle)
        devices = self._devices_of(told)
        self.graphs[name] = self._by_alpha(training.options, banks, devices)
        print_graphs(name, self.graphs[name], training.options)
        draw_labels(self.output / f"{Stage(self.run, name).folder.name}-labels.png", devices, labels)
        weights = training.unified(weights)
        self._draw(name, training, None if walk is None else walk.training.output)
        return Learned(training, weights)

    def _by_alpha(self, options: EdgeOptions, banks: Mapping[str, Bank], devices: Mapping[str, DeviceDataModule]) -> dict[str, GraphReport]:
        """What labels would come to with other numbers of triangles, and what those of this row come to."""
        people = torch.cat([true_people(devices[name]) for name in banks])
        asked = {f"{alpha}": alpha for alpha in range(min(MOST_ALPHA, len(banks) - 2) + 1)} | {
            f"this run's, {options.alpha}": options.alpha
        }
        rows, camids = rows_of(banks)
        found = {name: global_labels(rows, camids, alpha, options.method, repeated=options.repeated) for name, alpha in asked.items()}
        return {name: graph_report(rows, camids, labels, people) for name, labels in found.items()}

    def _training(self, name: EdgeRow, told: RowOptions) -> EdgeTraining:
        stage = Stage(self.run, name, told=told.as_json())
        stage.claim()
        options = EdgeOptions(**(self.cfg.edge.as_dict() | told.edge), seed=self.cfg.seed)
        members = [
            EdgeDevice(one, data, self.make, self.start, options, stage.folder / "devices" / one, self.run.accelerator)
            for one, data in self._devices_of(told).items()
        ]
        how: dict[str, Any] = {"resume": self.run.resume, "quiet": self.run.quiet}
        if self.cfg.score_visits and not told.average:
            how["after_visit"] = self._score_visit
        training = EdgeTraining(DevicesHere(members), self.make, self.start, options, stage.folder, **how)
        if told.style:
            self._count_style(training.ledger)
        return training

    def _count_style(self, ledger: Ledger) -> None:
        size = STATISTICS_BYTES if self.cfg.style == "statistics" else self._style_bytes
        first, *others = self.devices
        ledger.add_hub("style", first, up=size)
        for name in others:
            ledger.add_hub("style", name, down=size)
            ledger.add_direct("style", first, name, size)

    def _devices_of(self, told: RowOptions) -> Mapping[str, DeviceDataModule]:
        if not told.style:
            return self.devices
        if not self._styled:
            self._styled = self.styled(self.output / "style")
        return self._styled

    def _draw(self, name: EdgeRow, training: EdgeTraining, before: Path | None = None) -> None:
        stem = self.output / Stage(self.run, name).folder.name
        images = sum(stored_bytes(data) for data in self.devices.values())
        middle = sum(tensor.numel() * tensor.element_size() for one, tensor in self.start.items() if one.startswith(training.middle))
        averaging = 2 * len(self.devices) * training.options.visits * training.options.epochs * middle
        print_traffic(name, training.ledger, images, averaging)
        draw_bytes(stem.with_name(f"{stem.name}-bytes.png"), training.ledger.totals(), images)
        draw_walk(stem.with_name(f"{stem.name}-walk.png"), [folder for folder in (before, training.output) if folder is not None])

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
        crossing = shared_addresses(first, cfg.num_style_images, share_style_images=cfg.share_style_images, seed=cfg.seed)
        self._style_bytes = stored_bytes(first, crossing)
        return [first.picture(address) for address in crossing]

    def _score_visit(self, walk: FederationServer) -> None:
        done = walk.rounds[-1].report
        file = walk.output / "visits.json"
        told = read_json(file, {"visits": dict}, way_on="remove it, and the curve begins anew")["visits"] if file.is_file() else {}
        if done.used and str(done.round) not in told:
            module = self.make()
            tensors = {one: tensor for one, tensor in walk.state.tensors.items() if one.startswith("network.")}
            module.load_state_dict(module.state_dict() | self.start | tensors)
            scores = score_client(Client("everybody", module, self.whole), self.run.accelerator, walk.output)
            write_json(file, {"visits": told | {str(done.round): [done.used[0], scores["mAP"]]}})
