"""Devices that learn together, on generated cameras: five seeds, paired differences on the same queries.

``python benchmarks/edge_ordering.py --weights FILE`` runs the stages of ``recipes/edge.py`` from MobileNetV2 with ImageNet weights (a file,
which is not shipped) on six cameras and 60 people, crops of 96x48, tested on 60 others in the same cameras. What the seed changes: people,
places, the walk, draws, augmentations. The first network and the walk are run once a seed and shared by the arms behind them. Three laps of
one epoch each for the walk, and as many for the labels; learning rates 0.01 and 0.001.

Fixed before any of its seeds was run; learning rates and numbers of visits are those that throw-away runs on other people had found, seed
100 was for seeing that it runs. Only the arm of labels behind a walk with frozen statistics came later, when that walk had been seen to be
the best of seeds 1 and 2. Primary is the first comparison, labels over the start, asked to be above zero; it was named so afterwards.
Finished arms are read back from ``--output``.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from read_back import WAY_ON, refuse_other_settings
from result_files import parse_options, write_scores
from torch import Tensor

from lightning_reid.clustering import global_labels
from lightning_reid.clustering.graph_report import graph_report
from lightning_reid.datamodules import DeviceDataModule, ImageReIDDataModule
from lightning_reid.datamodules.generated import GeneratedPedestrians
from lightning_reid.federation import Client
from lightning_reid.federation.edge import EdgeTraining, rows_of
from lightning_reid.federation.edge_device import Bank, EdgeDevice, true_people
from lightning_reid.federation.edge_hub import DevicesHere
from lightning_reid.federation.edge_options import EdgeOptions
from lightning_reid.federation.local_training import score_client
from lightning_reid.files import read_json, write_json
from lightning_reid.modules import TrackletReID
from lightning_reid.recipes.workshop.seeds import seed_comparison
from lightning_reid.records import ReIDDataset

TOLD = {
    "benchmark": "edge_ordering",
    "primary_named": "afterwards",
    "table": "labels across devices",
    "unit": "points of mAP",
    "protocol": "Six generated cameras and 60 people, crops of 96x48, MobileNetV2 from ImageNet weights, tested on 60 others in the "
    "same cameras; three laps of one epoch for the walk, three for the labels. Fixed before its seeds but for the arm of "
    "labels behind a walk with frozen statistics, which was added when seeds 1 and 2 had been seen; the primary comparison "
    "was named afterwards.",
}
IMAGE_SIZE = (96, 48)
PEOPLE = {"num_train_pids": 60, "num_test_pids": 60, "images_per_camera": 7, "num_distractors": 60}
LEARNING = {"visits": 3, "incremental_visits": 3, "lr": 0.01, "walking_lr_factor": 0.1}
START, WALK, LABELS = "start", "walk", "labels: one a camera, alpha 0"
WALKS: dict[str, dict[str, Any]] = {
    WALK: {},
    "walk, random heads": {"classifier_init": "random"},
    "walk, one visit of 3 epochs": {"visits": 1, "epochs": 3},
    "walk, frozen statistics": {"statistics": "frozen"},
}
AVERAGED = "federated averaging"
BEHIND: dict[str, dict[str, Any]] = {
    LABELS: {"method": "one_per_camera", "alpha": 0},
    **{f"labels: components, alpha {alpha}": {"method": "components", "alpha": alpha} for alpha in range(4)},
    "labels: one a camera, average of the last lap": {"method": "one_per_camera", "alpha": 0, "unify": "average"},
    "labels: one a camera, local classifier": {"method": "one_per_camera", "alpha": 0, "label_classifier": "local"},
    "labels: one a camera, memories not centered": {"method": "one_per_camera", "alpha": 0, "centered": False},
}
WITHOUT_WALK = "labels without a walk"
FROZEN = "labels: one a camera, alpha 0, frozen statistics"
STATISTICS = ("averaged", "local")
PAIRS = (
    (LABELS, START),
    (LABELS, WALK),
    (WALK, START),
    ("walk, random heads", START),
    (WALK, "walk, random heads"),
    (WALK, "walk, one visit of 3 epochs"),
    (WALK, AVERAGED),
    (WALK, "walk, frozen statistics"),
    *((f"{arm}, statistics {kind}", arm) for arm in (WALK, LABELS) for kind in STATISTICS),
    *((LABELS, name) for name in BEHIND if name != LABELS),
    (LABELS, WITHOUT_WALK),
    (FROZEN, "walk, frozen statistics"),
    (FROZEN, LABELS),
)
PRIMARY = PAIRS[0]


class Seed:
    """The devices of one seed, and what they come to.

    Args:
        seed: Of people, places and training.
        weights: File of the first network.
        output: Folder of all seeds.
    """

    def __init__(self, seed: int, weights: Path, output: Path) -> None:
        self.seed, self.weights, self.folder = seed, weights, output / f"seed{seed}"
        self.scores_file = self.folder / "scores.json"
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        told = {"people": PEOPLE, "image_size": IMAGE_SIZE, "learning": LEARNING, "walks": WALKS, "behind": BEHIND}
        self.settings = told | {"weights": digest}
        self.rows: dict[str, dict[str, float]] = {}
        if self.scores_file.is_file():
            self.rows = read_json(self.scores_file, way_on=WAY_ON)
            refuse_other_settings(self.scores_file, self.rows.pop("settings", None), self.settings)
        crops = self.folder / "crops"
        height, width = IMAGE_SIZE
        GeneratedPedestrians("market-like", seed=seed, height=height, width=width, **PEOPLE).write(crops)
        options: dict[str, Any] = {"image_size": IMAGE_SIZE, "crop_padding": 4, "num_workers": 0, "seed": seed}
        self.whole = ImageReIDDataModule(str(crops), p=2, k=2, val_identities=0, **options)
        self.whole.setup()
        dataset = self.whole.dataset
        self.camids = {f"camera{camid}": camid for camid in sorted({one.camid for one in dataset.train})}
        self.data = {}
        for name, camid in self.camids.items():
            device = DeviceDataModule(name, batch_size=32, **options)
            device.serve(ReIDDataset(name, tuple(one for one in dataset.train if one.camid == camid)))
            self.data[name] = device
        self.start = {name: one for name, one in self.make().state_dict().items() if name.startswith("network.")}

    def make(self, **arguments: Any) -> TrackletReID:
        """A module with the weights of the first network."""
        return TrackletReID(backbone="mobilenetv2_100", weights=str(self.weights), pretrained=False, **arguments)

    def training(self, name: str, told: Mapping[str, Any]) -> EdgeTraining:
        """Devices that learn as an arm has it, in a folder of its own."""
        options = EdgeOptions(**(LEARNING | {"seed": self.seed} | dict(told)))
        folder = self._folder_of(name)
        members = [EdgeDevice(one, data, self.make, self.start, options, folder / one, "cpu") for one, data in self.data.items()]
        return EdgeTraining(DevicesHere(members), self.make, self.start, options, folder, resume=True, quiet=True)

    def score(self, name: str, weights: Mapping[str, Tensor], statistics: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
        """Score a network on everybody's queries, unless it was scored before."""
        module = self.make()
        module.load_state_dict(module.state_dict() | dict(weights))
        if statistics is not None:
            module.camera_statistics = {self.camids[one]: dict(told) for one, told in statistics.items()}
        scores = score_client(Client("everybody", module, self.whole), "cpu", self.folder)
        self.keep(name, {"mAP": scores["mAP"], "R1": scores["R1"]})

    def keep(self, name: str, told: Mapping[str, float]) -> None:
        """Add to a row, in the file too."""
        self.rows[name] = self.rows.get(name, {}) | dict(told)
        write_json(self.scores_file, self.rows | {"settings": self.settings})
        print(f"seed {self.seed}: {name} " + ", ".join(f"{score} {value:.4g}" for score, value in self.rows[name].items()), flush=True)

    def run(self) -> dict[str, dict[str, float]]:
        """All arms, those that are there already read back."""
        if START not in self.rows:
            self.score(START, self.start)
        for name, told in WALKS.items():
            if name not in self.rows:
                self.score(name, self.training(name, told).walk())
                if name != WALK:
                    shutil.rmtree(self._folder_of(name))
        if AVERAGED not in self.rows:
            training = self.training(AVERAGED, {})
            self.score(AVERAGED, training.averaged(LEARNING["visits"]))
            shutil.rmtree(self._folder_of(AVERAGED))
        walk = self.training(WALK, {})
        walked = walk.walk()
        self.other_statistics(WALK, walk, walked)
        banks = walk.memories(walked)
        for name, told in BEHIND.items():
            if name not in self.rows:
                self.behind(name, told, walked)
        if WITHOUT_WALK not in self.rows:
            self.behind(WITHOUT_WALK, BEHIND[LABELS], self.start)
        if FROZEN not in self.rows:
            told = BEHIND[LABELS] | {"statistics": "frozen"}
            self.behind(FROZEN, told, self.training(FROZEN, told).walk())
        self.graph(banks)
        return self.rows

    def behind(self, name: str, told: Mapping[str, Any], weights: dict[str, Tensor]) -> None:
        """Labels across cameras by a model, and the walk that learns them."""
        training = self.training(name, told)
        banks = training.memories(weights)
        learned = training.learn_labels(weights, banks, training.labels(banks))
        if name == LABELS:
            self.other_statistics(name, training, learned)
        self.score(name, learned)
        shutil.rmtree(self._folder_of(name))

    def other_statistics(self, name: str, training: EdgeTraining, weights: dict[str, Tensor]) -> None:
        """Score a model with averaged statistics, and each camera's images with that camera's own."""
        averaged, local = (f"{name}, statistics {kind}" for kind in STATISTICS)
        if averaged not in self.rows or local not in self.rows:
            training.options = EdgeOptions(**(LEARNING | {"seed": self.seed, "statistics": "averaged"}))
            self.score(averaged, training.unified(weights))
            training.hub.install({one: tensor for one, tensor in weights.items() if one.startswith(training.middle)})
            self.score(local, weights, training.hub.statistics())

    def graph(self, banks: Mapping[str, Bank]) -> None:
        """What labels come to, by method and alpha."""
        rows, camids = rows_of(banks)
        people = torch.cat([true_people(self.data[name]) for name in banks])
        for method in ("one_per_camera", "components"):
            for alpha in range(4):
                found = graph_report(rows, camids, global_labels(rows, camids, alpha, method), people)
                told = {"classes": found.labels, "people": found.people, "contradictions": found.contradictions, "pair F": found.f_score}
                self.keep(f"graph: {method}, alpha {alpha}", told | {"right edges": found.right_edges})

    def _folder_of(self, name: str) -> Path:
        return self.folder / name.replace(" ", "-").replace(",", "").replace(":", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="state dict of timm's mobilenetv2_100, trained on ImageNet")
    parser.add_argument("--output", type=Path, default=Path("runs/edge_ordering"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    arguments, _ = parse_options(parser, None)
    found = {seed: Seed(seed, arguments.weights, arguments.output).run() for seed in arguments.seeds}
    scores = {seed: {name: row for name, row in rows.items() if not name.startswith("graph")} for seed, rows in found.items()}
    if len(found) < 2:
        return
    mAP = {seed: {name: row["mAP"] for name, row in rows.items()} for seed, rows in scores.items()}
    summary = seed_comparison(mAP, PAIRS, PRIMARY)
    print(summary)
    write_scores(arguments, TOLD, mAP, PAIRS, PRIMARY)
    write_json(arguments.output / "summary.json", {"scores": found, "mAP": summary})


if __name__ == "__main__":
    main()
