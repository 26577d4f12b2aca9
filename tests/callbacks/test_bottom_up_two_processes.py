"""Bottom-up clustering under DistributedDataParallel: two gloo processes merge the clusters and keep the table of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from typing_extensions import override

from lightning_reid.callbacks import BottomUpClustering
from lightning_reid.datamodules import UnlabeledDataModule
from lightning_reid.modules import BottomUpReID


class Recorder(pl.Callback):
    def __init__(self) -> None:
        self.labels: list[list[int]] = []
        self.drawn: list[list[int]] = []

    @override
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.labels.append(trainer.datamodule.target_state.labels.tolist())
        self.drawn.append(batch["indices"].tolist())


def fit(settings: dict[str, Any], folder: Path, batch_size: int, loss_features: int | None) -> dict[str, Any]:
    pl.seed_everything(0, verbose=False)
    data = UnlabeledDataModule(folder, image_size=(64, 32), batch_size=batch_size, crop_padding=2, num_workers=0, eval_batch_size=13)
    network = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
    model = BottomUpReID(dropout=0.0, bn_group=8, lr=0.0005, loss_features=loss_features, **network)
    recorder, clustering = Recorder(), BottomUpClustering(every_n_epochs=1, initial_epochs=1, merge_share=0.2)
    trainer = pl.Trainer(**settings, max_epochs=3, callbacks=[clustering, recorder])
    trainer.fit(model, data)
    scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    return {"labels": recorder.labels, "drawn": recorder.drawn, "table": model.table.flatten().tolist(), "scores": scores}


@pytest.mark.parametrize("loss_features", [None, pytest.param(24, marks=pytest.mark.slow)])
def test_two_gloo_processes_have_the_clusters_the_table_and_the_scores_of_one(market_folder, in_one_and_two_processes, loss_features):
    one, *two = in_one_and_two_processes(fit, market_folder, one=(16, loss_features), two=(8, loss_features))
    for name in ("labels", "table", "scores"):
        assert two[0][name] == two[1][name], name
    assert two[0]["labels"] == one["labels"]
    assert len({max(labels) for labels in one["labels"]}) == 3
    for whole, first, second in zip(one["drawn"], two[0]["drawn"], two[1]["drawn"], strict=True):
        assert first + second == whole
    # Adam divides by the size of gradients: what rounding makes of them in another order reaches the fourth digit in three epochs
    assert two[0]["table"] == pytest.approx(one["table"], abs=1e-3)
    assert two[0]["scores"] == pytest.approx(one["scores"], abs=1e-4)
    assert one["scores"]["val/mAP"] > 0
