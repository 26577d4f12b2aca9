"""What the orderings of pruning share: two small networks, two tasks on generated crops, training, and scores.

Generated crops (``market-like``, 48x24). Retrieval is mAP on the set's queries and gallery; classification is the accuracy on images of
training identities that were held out.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import read_back
import torch
from result_files import parse_options
from timm.models import register_model
from torch import Tensor, nn
from torchvision.models.vgg import make_layers
from typing_extensions import override

from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.datamodules.labeled_data import Part
from lightning_reid.losses import label_smoothed_cross_entropy
from lightning_reid.modules import SupervisedReID
from lightning_reid.records import ImageRecord, ReIDDataset

DATA = "market-like"
IMAGE, P, K, STEPS_AN_EPOCH = (48, 24), 8, 4, 25
NETWORKS: dict[str, dict[str, Any]] = {
    "vgg": {"backbone": "benchmark_vgg", "backbone_options": {"last_stride": 2}},
    "resnet": {"backbone": "resnet18", "backbone_options": {"channels": [16, 32, 64, 128], "layers": [1, 1, 1, 1]}},
}
TASKS = ("classification", "retrieval")


class PlainVGG(nn.Module):
    """VGG's plan at a quarter of its channels and six convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.features = make_layers([16, "M", 32, "M", 64, 64, "M", 128, 128], batch_norm=True)

    def forward_features(self, images: Tensor) -> Tensor:
        """``[B, 128, H / 8, W / 8]``."""
        features: Tensor = self.features(images)
        return features


@register_model
def benchmark_vgg(pretrained: bool = False, **options: Any) -> nn.Module:
    """Under a name that timm knows, as a user's own network would be."""
    return PlainVGG()


class ImageClassifier(SupervisedReID):
    """Identities as classes, by cross-entropy alone."""

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        logits = self.logits(self.embed_batch(batch))
        return label_smoothed_cross_entropy(logits, batch["pids"], self.hparams["label_smoothing"])

    @override
    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        assert self.classifier is not None
        embeddings, asked = self.embed_batch(batch).embedding, batch["is_query"]
        right = self.classifier(embeddings).argmax(1) == batch["pids"] - 1
        stage = "test" if self.trainer.testing else "val"
        self.log(f"{stage}/accuracy", right[asked].double().mean(), batch_size=int(asked.sum()), on_epoch=True)
        return {"embeddings": embeddings, "indices": batch["indices"], "is_query": asked}

    @override
    def _log_scores(self, stage: str) -> None:
        """There is nothing to retrieve."""


class HeldOutImages(ImageReIDDataModule):
    """Training images of the first identities, every fourth of each held out; they are 1, 2... in the order of their pids."""

    classes = 60

    @override
    def read(self) -> ReIDDataset:
        train, held_out = self.divided()
        return ReIDDataset("held-out images", tuple(train), tuple(held_out[:-1]), tuple(held_out[-1:]))

    def divided(self) -> tuple[list[ImageRecord], list[ImageRecord]]:
        """What is trained on, and every fourth image of each identity."""
        records = super().read().train
        number = {pid: place + 1 for place, pid in enumerate(sorted({record.pid for record in records})[: self.classes])}
        seen: Counter[int] = Counter()
        train: list[ImageRecord] = []
        held_out: list[ImageRecord] = []
        for record in records:
            if record.pid not in number:
                continue
            seen[record.pid] += 1
            (held_out if seen[record.pid] % 4 == 0 else train).append(replace(record, pid=number[record.pid]))
        return train, held_out


class TwiceHeldOutImages(HeldOutImages):
    """Of the held-out images of every identity every other decides (``val``), and the rest are scored on (``test``).

    An identity with one such image has it among the deciding ones or the others in turn.
    The gallery, which nothing is scored on, is a training image of each.
    """

    @override
    def evaluation_records(self, part: Part = "test") -> tuple[tuple[ImageRecord, ...], tuple[ImageRecord, ...]]:
        by_pid: dict[int, list[ImageRecord]] = defaultdict(list)
        for images in super().evaluation_records(part):
            for image in images:
                by_pid[image.pid].append(image)
        first = 0 if part == "val" else 1
        mine = [image for place, pid in enumerate(sorted(by_pid)) for image in by_pid[pid][(first + place) % 2 :: 2]]
        return tuple(mine), tuple({image.pid: image for image in self.dataset.train}.values())

    @override
    def setup(self, stage: str | None = None) -> None:
        self._told_of_validation = True  # that it is on the test part, which it is not
        super().setup(stage)


class Experiment:
    """One network and task at one seed.

    Args:
        network: Of ``NETWORKS``.
        task: Of ``TASKS``.
        seed: Of weights, draws and augmentations.
        epochs: Of training, of 25 steps each.
        data: What is trained and scored on.
    """

    def __init__(self, network: str, task: str, seed: int, epochs: int, data: ImageReIDDataModule) -> None:
        self.network, self.seed, self.epochs, self.data = network, seed, epochs, data
        self.module_class = ImageClassifier if task == "classification" else SupervisedReID
        self.metric = metric_of(task)
        self.data.prepare_data()
        self.data.setup()

    def model(self, weights: Mapping[str, Tensor] | None = None, **options: Any) -> SupervisedReID:
        """The module, of random weights or of ``weights``."""
        torch.manual_seed(self.seed)
        arguments: dict[str, Any] = NETWORKS[self.network] | {"num_classes": self.data.num_classes} | options
        model = self.module_class(**arguments)
        if weights is not None:
            model.load_state_dict(weights)
        return model

    def trainer(
        self, epochs: int = -1, callbacks: Sequence[pl.Callback] = (), *, steps: int = -1, validate_every: int | None = None
    ) -> pl.Trainer:
        """For so many epochs of 25 steps, or so many steps."""
        pl.seed_everything(self.seed, verbose=False)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        batches: dict[str, Any] = {"limit_train_batches": STEPS_AN_EPOCH, "limit_val_batches": 1.0 if validate_every else 0}
        batches |= {"num_sanity_val_steps": 0, "check_val_every_n_epoch": validate_every or 1}
        return pl.Trainer(accelerator="cpu", max_epochs=epochs, max_steps=steps, callbacks=list(callbacks), **quiet, **batches)

    def score(self, model: SupervisedReID) -> float:
        """Accuracy or mAP on the test part, in [0, 1]."""
        return float(self.trainer(1).test(model, self.data, verbose=False)[0][f"test/{self.metric}"])

    def train(self) -> dict[str, Tensor]:
        """Weights of the whole network."""
        model = self.model(optimizer="adam", lr=1e-3, milestones=[self.epochs // 2, self.epochs * 3 // 4])
        self.trainer(self.epochs).fit(model, self.data)
        return model.state_dict()

    def trained(self, output: Path) -> dict[str, Tensor]:
        """``train``, once in a folder."""
        parts = {"epochs": self.epochs, "divided_by": type(self.data).__name__, "val_identities": self.data.val_identities}
        file = output / f"{self.network}-{self.metric}-seed{self.seed}.pt"
        return read_back.weights(file, self.train, shared_settings(self.network) | parts)


def shared_settings(network: str) -> dict[str, Any]:
    """By which everything of a network is measured."""
    data = {"data": DATA, "image": IMAGE, "p": P, "k": K, "steps_an_epoch": STEPS_AN_EPOCH, "classes": HeldOutImages.classes}
    return {"network": NETWORKS[network], "lightning-reid": version("lightning-reid")} | data


def metric_of(task: str) -> str:
    """By which a task is scored."""
    return "accuracy" if task == "classification" else "mAP"


def generated_data(data_class: type[ImageReIDDataModule], seed: int, val_identities: int = 0) -> ImageReIDDataModule:
    """The generated crops, as ``data_class`` divides them."""
    options = {"crop_padding": 4, "erasing_probability": 0.0, "num_workers": 0, "eval_batch_size": 256}
    return data_class(DATA, image_size=IMAGE, p=P, k=K, seed=seed, val_identities=val_identities, **options)


def parse_networks_and_tasks(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the options of a benchmark of all networks and tasks, of which a result file has all, as its protocol."""
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2, 3, 4), help="at least two for a report (default: 0 to 4)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="which (default: all)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="which (default: all)")
    runs = Path("runs/pruning_ordering")
    parser.add_argument("--output", type=Path, default=runs, help="folder of the runs and whole networks (default: %(default)s)")
    arguments, _ = parse_options(parser, argv)
    if arguments.results is not None and ({*arguments.networks}, {*arguments.tasks}) != ({*NETWORKS}, {*TASKS}):
        parser.error("--results is of all networks and tasks, as the protocol has it: leave --networks and --tasks out")
    return arguments
