"""Modules that are fitted and scored in a pipeline on real datamodules: the scores of one process, and what it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pipelined import Deals
from torch import nn
from typing_extensions import override

from lightning_reid.callbacks import PartBasedHomogeneity, PseudoLabelClustering, RankListLogger
from lightning_reid.datamodules import CrossDomainDataModule, ImageReIDDataModule, VideoReIDDataModule
from lightning_reid.datamodules.generated import GeneratedTracklets
from lightning_reid.modules import HSR, DistilledReID, VideoReID
from lightning_reid.modules.reid_module import ReIDModule
from lightning_reid.networks import EmbeddingNetwork, build_backbone, group_batch_norm
from lightning_reid.networks.teacher import Teacher
from lightning_reid.pipeline import PipelineStrategy

NARROW = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
MICROBATCHES = 2
IN_PIPELINE = {"devices": 2, "strategy": "pipeline"}


class Drawn(pl.Callback):
    def __init__(self) -> None:
        self.drawn: list[list[int]] = []
        self.logged: list[dict[str, float]] = []

    @override
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.drawn.append(batch["indices"].tolist())
        self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")})


def run(
    settings: dict[str, Any], module: ReIDModule, data: pl.LightningDataModule, callbacks: list[pl.Callback], **options: Any
) -> dict[str, Any]:
    """Score untrained, fit, score: what is logged, drawn and learned."""
    if settings["strategy"] == "pipeline":
        settings = settings | {"strategy": PipelineStrategy(MICROBATCHES, stage_costs="equal")}
    else:
        group_batch_norm(module.network, num_groups=MICROBATCHES)
        callbacks = [Deals(MICROBATCHES), *callbacks]
    drawn = Drawn()
    trainer = pl.Trainer(**settings, callbacks=[*callbacks, drawn], **options)
    untrained = trainer.validate(module, data, verbose=False)[0] if not isinstance(module, HSR) else {}
    trainer.fit(module, data)
    scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    tested = trainer.test(module, data, verbose=False)[0]
    predicted = [batch["embeddings"].sum(1).tolist() for batch in trainer.predict(module, data) or ()]
    weights = sum(float(one.detach().double().abs().sum()) for one in module.parameters())
    return {
        "untrained": untrained,
        "scores": scores,
        "tested": tested,
        "predicted": predicted,
        "weights": weights,
        "drawn": drawn.drawn,
        "logged": drawn.logged,
    }


def video(settings: dict[str, Any], folder: Path, pictures: Path) -> dict[str, Any]:
    pl.seed_everything(0, verbose=False)
    sizes: dict[str, Any] = {"image_size": (64, 32), "clip_length": 4, "p": 4, "k": 2, "eval_batch_size": 3}
    data = VideoReIDDataModule(folder, test_clips="all", num_workers=0, val_identities=0, **sizes)
    module = VideoReID("stenvan", {"backbone": "resnet18", "stripes": 4, **NARROW}, clips_per_pass=5, num_classes=8, lr=1e-3)
    return run(settings, module, data, [RankListLogger(pictures / "ranks.png")], max_epochs=2)


def distilled(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    pl.seed_everything(0, verbose=False)
    large = EmbeddingNetwork(build_backbone("resnet18", channels=[8, 16, 16, 32], layers=[1, 1, 1, 1]))
    teacher = Teacher(large, nn.Linear(32, 10, bias=False))
    module = DistilledReID("resnet18", teacher, alpha=0.5, embeddings="relational", num_classes=10, backbone_options=NARROW, lr=5e-4)
    asked: list[int] = []
    teacher.register_forward_hook(lambda *_: asked.append(1))
    data = ImageReIDDataModule(folder, image_size=(64, 32), p=4, k=4, num_workers=0, val_identities=0, eval_batch_size=7)
    return run(settings, module, data, [], max_epochs=2, limit_train_batches=2) | {"asked": len(asked)}


def hsr(settings: dict[str, Any], source: Path, target: Path) -> dict[str, Any]:
    pl.seed_everything(0, verbose=False)
    data = CrossDomainDataModule(source, target, image_size=(64, 32), p=4, k=4, source_p=4, num_workers=0, eval_batch_size=13)
    module = HSR(backbone="resnet18", backbone_options=NARROW, min_samples=2, lr=0.01)
    clustering = PseudoLabelClustering(every_n_epochs=1, k1=10, k2=3, min_samples=2)
    return run(settings, module, data, [clustering, PartBasedHomogeneity(num_std=0.5)], max_epochs=2)


def quiet(folder: Path) -> dict[str, Any]:
    shown = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return shown | {"accelerator": "cpu", "num_sanity_val_steps": 0, "default_root_dir": folder}


@pytest.fixture
def in_one_and_in_a_pipeline(tmp_path, two_processes):
    """``(unsplit, [rank 0's, rank 1's])`` of a function above."""
    from pair_of_processes import undone

    def both(function, *arguments):
        with undone():
            alone = function(quiet(tmp_path) | {"devices": 1, "strategy": "auto"}, *arguments)
        return alone, two_processes(function, quiet(tmp_path) | IN_PIPELINE, *arguments)

    return both


def assert_same(alone: dict[str, Any], ranks: list[dict[str, Any]]) -> None:
    for mine in ranks:
        assert mine["drawn"] == alone["drawn"]  # both processes of the pipeline get every batch
        assert mine["untrained"] == pytest.approx(alone["untrained"], abs=1e-5)
        assert mine["logged"] == [pytest.approx(step, abs=1e-3) for step in alone["logged"]]
        assert mine["weights"] == pytest.approx(alone["weights"], rel=1e-4)
    first, second = ranks
    for name in ("untrained", "scores", "tested", "predicted", "logged"):
        assert first[name] == second[name]
    assert sum(map(len, first["predicted"])) == sum(map(len, alone["predicted"])) > 0
    assert first["scores"]["val/mAP"] == first["tested"]["test/mAP"] > 0


def test_clips_of_uneven_last_batches_are_scored_as_by_one_process(tmp_path, in_one_and_in_a_pipeline):
    people = GeneratedTracklets(num_train_pids=8, num_test_pids=4, num_distractors=2, frames=(3, 9), height=64, width=32)
    folder = people.write(tmp_path / "tracklets", progress=False)
    alone, ranks = in_one_and_in_a_pipeline(video, folder, tmp_path)
    assert_same(alone, ranks)


def test_a_student_learns_in_a_pipeline_and_the_last_stage_alone_asks_the_teacher(market_folder, in_one_and_in_a_pipeline):
    alone, ranks = in_one_and_in_a_pipeline(distilled, market_folder)
    assert_same(alone, ranks)
    assert [mine["asked"] for mine in ranks] == [0, alone["asked"]]
    assert alone["asked"] == 4
    assert {"train/loss_kd", "train/loss_embedding", "train/teacher_accuracy"} <= set(ranks[0]["logged"][0])


def test_hsr_clusters_and_learns_in_a_pipeline(market_folder, duke_folder, in_one_and_in_a_pipeline):
    alone, ranks = in_one_and_in_a_pipeline(hsr, duke_folder, market_folder)
    assert_same(alone, ranks)
