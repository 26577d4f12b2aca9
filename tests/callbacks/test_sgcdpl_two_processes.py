"""SGC-DPL under DistributedDataParallel: two gloo processes believe, select and score what one process does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from typing_extensions import override

from lightning_reid.callbacks import AffinityPseudoLabels, ClusterStripLogger, ProgressiveSelection
from lightning_reid.datamodules import SemiSupervisedDataModule
from lightning_reid.modules import SGCDPL


class Recorder(pl.Callback):
    def __init__(self) -> None:
        self.labels: list[list[int]] = []
        self.drawn: list[list[int]] = []
        self.views: list[list[int]] = []

    @override
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        state = trainer.datamodule.target_state
        self.labels.append([] if state is None else state.labels.tolist())
        self.drawn.append(batch["indices"].tolist())
        self.views.append(batch["unlabeled"]["rows"].tolist() if "unlabeled" in batch else [])


def fit(settings: dict[str, Any], folder: Path, pictures: Path, guides: int, p: int, unlabeled: int) -> dict[str, Any]:
    pl.seed_everything(0, verbose=False)
    sizes = {"image_size": (64, 32), "p": p, "k": 4, "num_workers": 0, "eval_batch_size": 13}
    data = SemiSupervisedDataModule(folder, labeled=4 + guides, guides=guides, unlabeled_per_batch=unlabeled, **sizes)
    network = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
    recorder = Recorder()
    initial = SGCDPL(bn_group=16, lr=0.0005, **network)
    pl.Trainer(**settings, max_epochs=1, callbacks=[recorder]).fit(initial, data)
    model = SGCDPL(bn_group=8, lr=0.0005, **network)
    model.start_from(initial)
    clustering = AffinityPseudoLabels(every_n_epochs=1, damping=0.7)
    selection = ProgressiveSelection(threshold_from="exemplars" if guides else "pairs")
    strips = ClusterStripLogger(pictures / "strips.png")
    trainer = pl.Trainer(**settings, max_epochs=2, callbacks=[clustering, selection, strips, recorder])
    trainer.fit(model, data)
    scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    result = {"labels": recorder.labels, "drawn": recorder.drawn, "views": recorder.views, "scores": scores}
    return result | {"metrics": clustering.metrics | selection.metrics, "strips": strips.strips}


@pytest.mark.parametrize("guides", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_two_gloo_processes_have_the_labels_the_selection_and_the_scores_of_one(guides, market_folder, tmp_path, in_one_and_two_processes):
    # the same global batch: 4 x 4 images and 8 pairs of views
    one, *two = in_one_and_two_processes(fit, market_folder, tmp_path, guides, one=(4, 8), two=(2, 4))
    for name in ("labels", "metrics", "strips", "scores"):
        assert two[0][name] == two[1][name], name
    assert two[0]["labels"] == one["labels"]
    assert two[0]["metrics"] == pytest.approx(one["metrics"], rel=1e-3, abs=1e-6)
    for name in ("drawn", "views"):
        for whole, first, second in zip(one[name], two[0][name], two[1][name], strict=True):
            assert first + second == whole, name
    assert any(one["views"])
    assert two[0]["scores"] == pytest.approx(one["scores"], abs=1e-4)
    assert one["scores"]["val/mAP"] > 0
