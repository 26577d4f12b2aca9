"""Tiny fits under all sorts of Trainers, and what each epoch must have shown, worked out by hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from quiet_trainer import QUIET
from torch import Tensor
from typing_extensions import override

from lightning_reid.callbacks import BottomUpClustering, InterCameraMining, PseudoLabelClustering
from lightning_reid.callbacks.target_clustering import FoundClusters
from lightning_reid.clustering.pair_masks import inter_camera_masks
from lightning_reid.datamodules import (
    CrossDomainDataModule,
    ImageReIDDataModule,
    SemiSupervisedDataModule,
    UnlabeledDataModule,
    VideoReIDDataModule,
)
from lightning_reid.datamodules.clip_sampling import rrs_train_frames
from lightning_reid.datamodules.generated import GeneratedTracklets
from lightning_reid.datamodules.loading import load_image
from lightning_reid.datamodules.samplers import identity_batches, inter_camera_batches, shuffled_batches
from lightning_reid.datamodules.transforms import TrainTransform, resized, seeded
from lightning_reid.modules import HSR, SGCDPL, BottomUpReID, SupervisedReID, VideoReID
from lightning_reid.normalization import normalize_images

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}}
SIZE = (16, 8)
EPOCHS = 3
SEED = 3


class OtherLabelsEveryEpoch(PseudoLabelClustering):
    """Labels that change with every epoch, and how many images have one: epochs differ in length and in identities."""

    def __init__(self, soft: bool = False) -> None:
        super().__init__(every_n_epochs=1)
        self.soft = soft

    @override
    def find_clusters(self, embeddings, labeled, previous):
        iteration = 0 if previous is None else previous.iteration + 1
        labels = torch.arange(len(embeddings)) % (3 + iteration)
        labels[torch.arange(len(embeddings)) % 7 < (3, 0, 4, 1)[iteration % 4]] = -1  # three sevenths are noise, then none, ...
        soft = torch.rand(len(labels), 3 + iteration, generator=torch.Generator().manual_seed(iteration)) if self.soft else None
        return FoundClusters(labels, soft_labels=soft, metrics={"cluster/eps": 0.5})


@dataclass
class Shown:
    """A batch as a step saw it."""

    rows: list[int]
    pids: list[int]
    pixels: Tensor
    further: dict[str, Tensor] = field(default_factory=dict)


def assert_same(one: Shown, other: Shown) -> None:
    assert one.rows == other.rows
    assert one.pids == other.pids
    assert torch.equal(one.pixels, other.pixels)
    assert one.further.keys() == other.further.keys()
    assert all(torch.equal(one.further[name], other.further[name]) for name in other.further)


class Watch(pl.Callback):
    """Keeps what every step was shown, what was believed when its epoch began, and how often it was validated."""

    def __init__(self) -> None:
        self.shown: dict[int, list[Shown]] = defaultdict(list)
        self.states: dict[int, Any] = {}
        self.validations: dict[int, int] = defaultdict(int)

    @override
    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.states[trainer.current_epoch] = getattr(trainer.datamodule, "target_state", None)

    @override
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        further = {name: batch["icm"][name] for name in ("images", "positives", "negatives")} if "icm" in batch else {}
        further |= {name: batch[name] for name in ("soft_labels",) if name in batch}
        shown = Shown(batch["indices"].tolist(), batch["pids"].tolist(), batch["clips" if "clips" in batch else "images"].clone(), further)
        self.states.setdefault(trainer.current_epoch, getattr(trainer.datamodule, "target_state", None))  # resumed in mid-epoch
        self.shown[trainer.current_epoch].append(shown)

    @override
    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        self.validations[trainer.current_epoch] += not trainer.sanity_checking


def drawn_images(data: ImageReIDDataModule, epoch: int, rows: Tensor, first_position: int = 0) -> list[Tensor]:
    """The augmented batches of a plan, image by image."""
    transform, position, batches = TrainTransform(SIZE, crop_padding=2, erasing_probability=0.5), first_position, []
    for batch in rows:
        images = []
        for row in batch.tolist():
            with seeded(SEED, epoch, position):
                images.append(transform(load_image(data.dataset.train[row].path)))
            position += 1
        batches.append(normalize_images(torch.stack(images)))
    return batches


def plain(labels: Tensor, rows: Tensor, pixels: list[Tensor]) -> list[Shown]:
    return [Shown(batch.tolist(), labels[batch].tolist(), images) for batch, images in zip(rows, pixels, strict=True)]


class Supervised:
    """How to fit on images with labels, and what each epoch must show."""

    assert_same = staticmethod(assert_same)
    works_between_epochs = False

    def __init__(self, folder) -> None:
        self.folder = folder

    def data(self, workers: int) -> ImageReIDDataModule:
        return ImageReIDDataModule(
            str(self.folder), image_size=SIZE, p=4, k=2, crop_padding=2, num_workers=workers, seed=SEED, eval_batch_size=8
        )

    def module(self) -> pl.LightningModule:
        return SupervisedReID(**TINY)

    def callbacks(self) -> list[pl.Callback]:
        return []

    def trainer(self, folder, *more: pl.Callback, **settings: Any) -> tuple[pl.Trainer, Watch]:
        watch = Watch()
        options = QUIET | {"max_epochs": EPOCHS, "num_sanity_val_steps": 0, "default_root_dir": folder} | settings
        return pl.Trainer(callbacks=[*self.callbacks(), watch, *more], **options), watch

    def check(self, watch: Watch, data, most: float | None = None) -> list[int]:
        """Every epoch that was seen is the one worked out by hand, or as much of its beginning as was asked for; their lengths."""
        lengths = []
        for epoch, shown in watch.shown.items():
            expected = self.epoch(data, epoch, watch.states[epoch])
            allowed = len(expected) if most is None else int(len(expected) * most) if isinstance(most, float) else min(most, len(expected))
            assert len(shown) == allowed, f"epoch {epoch}"
            for mine, theirs in zip(shown, expected):
                assert_same(mine, theirs)
            lengths.append(len(shown))
        return lengths

    def epoch(self, data, epoch: int, state) -> list[Shown]:
        labels = torch.tensor([record.pid for record in data.dataset.train]).unique(return_inverse=True)[1]
        rows = identity_batches(labels, 4, 2, generator=np.random.default_rng([SEED, epoch]))
        return plain(labels, rows, drawn_images(data, epoch, rows))


class Clustered(Supervised):
    """HSR with inter-camera mining, clustered anew after every epoch."""

    works_between_epochs = True

    def data(self, workers: int) -> CrossDomainDataModule:
        folder = str(self.folder)
        return CrossDomainDataModule(
            folder, folder, image_size=SIZE, p=4, k=2, source_p=2, crop_padding=2, num_workers=workers, seed=SEED, eval_batch_size=8
        )

    def module(self) -> pl.LightningModule:
        return HSR(**TINY)

    def callbacks(self) -> list[pl.Callback]:
        return [OtherLabelsEveryEpoch(), InterCameraMining(k=4)]

    def epoch(self, data, epoch: int, state) -> list[Shown]:
        generator = np.random.default_rng([SEED, epoch])
        rows = identity_batches(state.labels, min(4, 3 + state.iteration), 2, generator=generator)
        mined = inter_camera_batches(state.neighbors, state.labels, 4, 2, num_batches=len(rows), generator=generator)
        batches = plain(state.labels, rows, drawn_images(data, epoch, rows))
        for batch, beside, images in zip(batches, mined, drawn_images(data, epoch, mined, first_position=rows.numel()), strict=True):
            positives, negatives = inter_camera_masks(beside, state.labels, state.neighbors)
            batch.further = {"images": images, "positives": positives, "negatives": negatives}
        return batches


class BottomUp(Supervised):
    """Bottom-up clustering, merged after every epoch."""

    works_between_epochs = True

    def data(self, workers: int) -> UnlabeledDataModule:
        options = {"image_size": SIZE, "crop_padding": 2, "num_workers": workers, "seed": SEED, "eval_batch_size": 8}
        return UnlabeledDataModule(str(self.folder), batch_size=12, erasing_probability=0.5, **options)

    def module(self) -> pl.LightningModule:
        return BottomUpReID(**TINY)

    def callbacks(self) -> list[pl.Callback]:
        return [BottomUpClustering(every_n_epochs=1, initial_epochs=1, merge_share=0.3)]

    def epoch(self, data, epoch: int, state) -> list[Shown]:
        rows = shuffled_batches(len(state.labels), 12, generator=np.random.default_rng([SEED, epoch]))
        return plain(state.labels, rows, drawn_images(data, epoch, rows))


class SemiSupervised(Supervised):
    """SGC-DPL with soft labels, clustered anew after every epoch."""

    works_between_epochs = True

    def data(self, workers: int) -> SemiSupervisedDataModule:
        options = {"image_size": SIZE, "crop_padding": 2, "num_workers": workers, "seed": SEED, "eval_batch_size": 8}
        return SemiSupervisedDataModule(str(self.folder), labeled=4, p=4, k=2, **options)

    def module(self) -> pl.LightningModule:
        return SGCDPL(**TINY)

    def callbacks(self) -> list[pl.Callback]:
        return [OtherLabelsEveryEpoch(soft=True)]

    def epoch(self, data, epoch: int, state) -> list[Shown]:
        labels = torch.cat([data.labeled_pids, torch.where(state.labels >= 0, 4 + state.labels, -1)])
        rows = identity_batches(labels, 4, 2, generator=np.random.default_rng([SEED, epoch]))
        batches, num_labeled = plain(labels, rows, drawn_images(data, epoch, rows)), len(data.labeled_pids)
        for batch in batches:
            soft = [
                torch.zeros(state.soft_labels.shape[1]) if row < num_labeled else state.soft_labels[row - num_labeled] for row in batch.rows
            ]
            batch.further = {"soft_labels": torch.stack(soft)}
        return batches


class Video(Supervised):
    """Clips."""

    def data(self, workers: int) -> VideoReIDDataModule:
        return VideoReIDDataModule(str(self.folder), image_size=SIZE, clip_length=2, p=2, k=2, num_workers=workers, seed=SEED)

    def module(self) -> pl.LightningModule:
        return VideoReID("baseline", TINY["backbone_options"] | {"backbone": "resnet18"})

    def epoch(self, data, epoch: int, state) -> list[Shown]:
        train = data.dataset.train
        labels = torch.tensor([record.pid for record in train]).unique(return_inverse=True)[1]
        rows = identity_batches(labels, 2, 2, generator=np.random.default_rng([SEED, epoch]), epoch="identities")
        batches = []
        for number, batch in enumerate(rows.tolist()):
            clips = []
            for place, row in enumerate(batch):
                generator = np.random.default_rng((SEED, epoch, number * 4 + place))
                frames = [
                    resized(load_image(train[row].paths[frame]), *SIZE) for frame in rrs_train_frames(len(train[row].paths), 2, generator)
                ]
                clip = torch.stack(frames)
                clips.append(clip.flip(-1) if generator.random() < 0.5 else clip)
            batches.append(Shown(batch, labels[batch].tolist(), normalize_images(torch.stack(clips))))
        return batches


SUBJECTS = {"supervised": Supervised, "HSR": Clustered, "BUC": BottomUp, "SGC-DPL": SemiSupervised, "video": Video}


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory):
    """Images and tracklets of a few people, 32 x 16 pixels."""
    from lightning_reid.datamodules.generated import GeneratedPedestrians

    folder = tmp_path_factory.mktemp("tiny")
    people = {"num_train_pids": 10, "num_test_pids": 3, "height": 32, "width": 16}
    GeneratedPedestrians("market-like", images_per_camera=2, num_distractors=1, **people).write(folder / "market", progress=False)
    for file in (folder / "market" / "bounding_box_train").glob("*_c[56]s*"):  # four cameras are enough
        file.unlink()
    GeneratedTracklets("mars-like", num_distractors=1, frames=(3, 5), **people).write(folder / "mars", progress=False)
    return {name: folder / ("mars" if name == "video" else "market") for name in SUBJECTS}


@pytest.fixture
def subject(tiny_folders) -> Callable[[str], Supervised]:
    """``subject(name)``: how to fit one, and what its epochs must show."""
    return lambda name: SUBJECTS[name](tiny_folders[name])
