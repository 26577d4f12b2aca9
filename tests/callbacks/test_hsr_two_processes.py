"""HSR under DistributedDataParallel: two gloo processes believe, and score, what one process does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from typing_extensions import override

from lightning_reid.callbacks import InterCameraMining, PartBasedHomogeneity, PseudoLabelClustering, RankListLogger
from lightning_reid.datamodules import CrossDomainDataModule
from lightning_reid.modules import HSR


class Recorder(pl.Callback):
    def __init__(self) -> None:
        self.labels: list[list[int]] = []
        self.drawn: list[list[int]] = []

    @override
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.labels.append(trainer.datamodule.target_state.labels.tolist())
        self.drawn.append(batch["indices"].tolist())


def fit(settings: dict[str, Any], source: Path, target: Path, pictures: Path, p: int) -> dict[str, Any]:
    pl.seed_everything(0, verbose=False)
    data = CrossDomainDataModule(source, target, image_size=(64, 32), p=p, k=4, source_p=4, num_workers=0, eval_batch_size=13)
    narrow = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
    model = HSR(backbone="resnet18", backbone_options=narrow, min_samples=2, bn_group=8, lr=0.01)
    recorder = Recorder()
    callbacks = [
        PseudoLabelClustering(every_n_epochs=1, k1=10, k2=3, min_samples=2),
        PartBasedHomogeneity(num_std=0.5),
        InterCameraMining(k=5),
        RankListLogger(pictures / "ranks.png"),
        recorder,
    ]
    trainer = pl.Trainer(**settings, max_epochs=2, callbacks=callbacks)
    trainer.fit(model, data)
    scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    return {"labels": recorder.labels, "drawn": recorder.drawn, "scores": scores}


def test_two_gloo_processes_have_the_labels_and_the_scores_of_one(market_folder, duke_folder, tmp_path, in_one_and_two_processes):
    # the same global batch: 4 x 4 images, normalized and mined in groups of 8
    one, *two = in_one_and_two_processes(fit, duke_folder, market_folder, tmp_path, one=(4,), two=(2,))
    assert two[0]["labels"] == two[1]["labels"] == one["labels"]
    for whole, first, second in zip(one["drawn"], two[0]["drawn"], two[1]["drawn"], strict=True):
        assert first + second == whole
    assert two[0]["scores"] == two[1]["scores"]
    assert two[0]["scores"] == pytest.approx(one["scores"], abs=1e-4)
    assert one["scores"]["val/mAP"] > 0
