"""Supervised video re-ID under DistributedDataParallel: two gloo processes share the work and end with one score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from typing_extensions import override

from lightning_reid.callbacks import RankListLogger, RedetectAndLink
from lightning_reid.datamodules import VideoReIDDataModule
from lightning_reid.datamodules.generated import GeneratedBoxDetector, GeneratedTracklets
from lightning_reid.modules import VideoReID
from lightning_reid.networks import EmbeddingNetwork, build_backbone


class Recorder(pl.Callback):
    def __init__(self) -> None:
        self.drawn: list[list[int]] = []

    @override
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.drawn.append(batch["indices"].tolist())


def fit(settings: dict[str, Any], folder: Path, output: Path, p: int) -> dict[str, Any]:
    pl.seed_everything(0, verbose=False)
    narrow = {"backbone": "resnet18", "channels": [8, 8, 16, 16], "layers": [1, 2, 2, 1]}
    sizes = dict(image_size=(64, 32), clip_length=4, p=p, k=2, eval_batch_size=3)
    data = VideoReIDDataModule(folder, test_clips="all", num_workers=0, val_identities=0, **sizes)
    model = VideoReID("stenvan", {**narrow, "stripes": 4}, lr=1e-3)
    options = {key: value for key, value in narrow.items() if key != "backbone"}
    extractor = EmbeddingNetwork(build_backbone("resnet18", **options))
    recorder, aligned = Recorder(), RedetectAndLink(GeneratedBoxDetector(folder), extractor, output / f"cache-{settings['devices']}")
    trainer = pl.Trainer(**settings, max_epochs=2, callbacks=[aligned, RankListLogger(output / "ranks.png"), recorder])
    untrained = trainer.validate(model, data, verbose=False)[0]
    trainer.fit(model, data)
    trained = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    weights = sum(float(parameter.detach().double().sum()) for parameter in model.network.parameters())
    return {"untrained": untrained, "trained": trained, "drawn": recorder.drawn, "weights": weights, "report": vars(aligned.report)}


def test_two_gloo_processes_draw_redetect_and_score_what_one_does(tmp_path, in_one_and_two_processes):
    folder = tmp_path / "tracklets"
    GeneratedTracklets(num_train_pids=8, num_test_pids=4, num_distractors=2, frames=(3, 9), height=64, width=32).write(
        folder, progress=False
    )
    one, *two = in_one_and_two_processes(fit, folder, tmp_path, one=(4,), two=(2,))  # the same global batch of 4 x 2 clips
    assert two[0]["report"] == two[1]["report"] == one["report"]
    assert one["report"]["redetected"] > one["report"]["kept_whole"]
    for whole, first, second in zip(one["drawn"], two[0]["drawn"], two[1]["drawn"], strict=True):
        assert first + second == whole
    assert two[0]["untrained"] == two[1]["untrained"]
    assert two[0]["untrained"] == pytest.approx(one["untrained"], abs=1e-6)
    # each process normalizes and mines in its own half of the batch: the ranks agree with each other, not with one process
    assert two[0]["weights"] == two[1]["weights"] != one["weights"]
    assert two[0]["trained"] == two[1]["trained"]
    assert 0 < two[0]["trained"]["val/mAP"] < 1
