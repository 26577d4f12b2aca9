"""HSR under DistributedDataParallel: two gloo processes believe, and score, what one process does."""

from __future__ import annotations

import textwrap

import pytest

SCRIPT = textwrap.dedent(
    """
    import json, sys
    import pytorch_lightning as pl, torch
    from lightning_reid.callbacks import InterCameraMining, PartBasedHomogeneity, PseudoLabelClustering, RankListLogger
    from lightning_reid.datamodules import CrossDomainDataModule
    from lightning_reid.modules import HSR

    source, output, devices, p, target = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]

    class Recorder(pl.Callback):
        def __init__(self):
            self.labels, self.drawn = [], []
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.labels.append(trainer.datamodule.target_state.labels.tolist())
            self.drawn.append(batch["indices"].tolist())

    pl.seed_everything(0, verbose=False)
    data = CrossDomainDataModule(source, target, image_size=(64, 32), p=p, k=4, source_p=4, num_workers=0, eval_batch_size=13)
    narrow = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
    model = HSR(backbone="resnet18", backbone_options=narrow, min_samples=2, bn_group=8, lr=0.01)
    recorder = Recorder()
    callbacks = [
        PseudoLabelClustering(every_n_epochs=1, k1=10, k2=3, min_samples=2), PartBasedHomogeneity(num_std=0.5), InterCameraMining(k=5),
        RankListLogger(output + "/ranks.png"), recorder,
    ]
    trainer = pl.Trainer(
        accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=2, callbacks=callbacks, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0,
        default_root_dir=output,
    )
    trainer.fit(model, data)
    scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    result = {"labels": recorder.labels, "drawn": recorder.drawn, "scores": scores}
    json.dump(result, open(f"{output}/{devices}-{trainer.global_rank}.json", "w"))
    """
)


def test_two_gloo_processes_have_the_labels_and_the_scores_of_one(market_folder, duke_folder, in_one_and_two_processes):
    # the same global batch: 4 x 4 images, normalised and mined in groups of 8
    one, *two = in_one_and_two_processes(
        SCRIPT,
        duke_folder,
        one=(4, market_folder),
        two=(2, market_folder),
    )
    assert two[0]["labels"] == two[1]["labels"] == one["labels"]
    for whole, first, second in zip(one["drawn"], two[0]["drawn"], two[1]["drawn"], strict=True):
        assert first + second == whole
    assert two[0]["scores"] == two[1]["scores"]
    assert two[0]["scores"] == pytest.approx(one["scores"], abs=1e-4)
    assert one["scores"]["val/mAP"] > 0
