"""SGC-DPL under DistributedDataParallel: two gloo processes believe, select and score what one process does."""

from __future__ import annotations

import textwrap

import pytest

SCRIPT = textwrap.dedent(
    """
    import json, sys
    import pytorch_lightning as pl, torch
    from lightning_reid.callbacks import AffinityPseudoLabels, ClusterStripLogger, ProgressiveSelection
    from lightning_reid.datamodules import SemiSupervisedDataModule
    from lightning_reid.modules import SGCDPL

    folder, output, devices, p, u = sys.argv[1:3] + [int(value) for value in sys.argv[3:6]]

    class Recorder(pl.Callback):
        def __init__(self):
            self.labels, self.drawn, self.views = [], [], []
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            state = trainer.datamodule.target_state
            self.labels.append([] if state is None else state.labels.tolist())
            self.drawn.append(batch["indices"].tolist())
            self.views.append(batch["unlabeled"]["rows"].tolist() if "unlabeled" in batch else [])

    pl.seed_everything(0, verbose=False)
    sizes = {"image_size": (64, 32), "p": p, "k": 4, "num_workers": 0, "eval_batch_size": 13}
    data = SemiSupervisedDataModule(folder, labeled=4, unlabeled_per_batch=u, **sizes)
    network = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}

    def fit(model, callbacks, epochs):
        trainer = pl.Trainer(
            accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=epochs, callbacks=callbacks,
            logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0,
            default_root_dir=output,
        )
        trainer.fit(model, data)
        return trainer

    recorder = Recorder()
    initial = SGCDPL(bn_group=16, lr=0.0005, **network)
    fit(initial, [recorder], 1)
    model = SGCDPL(bn_group=8, lr=0.0005, **network)
    model.start_from(initial)
    clustering, selection = AffinityPseudoLabels(every_n_epochs=1, damping=0.7), ProgressiveSelection()
    strips = ClusterStripLogger(f"{output}/strips.png")
    trainer = fit(model, [clustering, selection, strips, recorder], 2)
    scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    result = {"labels": recorder.labels, "drawn": recorder.drawn, "views": recorder.views, "scores": scores}
    result |= {"metrics": clustering.metrics | selection.metrics, "strips": strips.strips}
    json.dump(result, open(f"{output}/{devices}-{trainer.global_rank}.json", "w"))
    """
)


def test_two_gloo_processes_have_the_labels_the_selection_and_the_scores_of_one(market_folder, in_one_and_two_processes):
    # the same global batch: 4 x 4 images and 8 pairs of views
    one, *two = in_one_and_two_processes(
        SCRIPT,
        market_folder,
        one=(4, 8),
        two=(2, 4),
    )
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
