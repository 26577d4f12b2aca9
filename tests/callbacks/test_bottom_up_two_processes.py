"""Bottom-up clustering under DistributedDataParallel: two gloo processes merge the clusters and keep the table of one."""

from __future__ import annotations

import textwrap

import pytest

SCRIPT = textwrap.dedent(
    """
    import json, sys
    import pytorch_lightning as pl, torch
    from lightning_reid.callbacks import BottomUpClustering
    from lightning_reid.datamodules import UnlabeledDataModule
    from lightning_reid.modules import BottomUpReID

    folder, output, devices, batch_size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

    class Recorder(pl.Callback):
        def __init__(self):
            self.labels, self.drawn = [], []
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.labels.append(trainer.datamodule.target_state.labels.tolist())
            self.drawn.append(batch["indices"].tolist())

    pl.seed_everything(0, verbose=False)
    data = UnlabeledDataModule(folder, image_size=(64, 32), batch_size=batch_size, crop_padding=2, num_workers=0, eval_batch_size=13)
    network = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
    model = BottomUpReID(dropout=0.0, bn_group=8, lr=0.0005, **network)
    recorder, clustering = Recorder(), BottomUpClustering(every_n_epochs=1, initial_epochs=1, merge_share=0.2)
    trainer = pl.Trainer(
        accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=3, callbacks=[clustering, recorder],
        logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0,
        default_root_dir=output,
    )
    trainer.fit(model, data)
    scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    result = {"labels": recorder.labels, "drawn": recorder.drawn, "table": model.table.flatten().tolist(), "scores": scores}
    json.dump(result, open(f"{output}/{devices}-{trainer.global_rank}.json", "w"))
    """
)


def test_two_gloo_processes_have_the_clusters_the_table_and_the_scores_of_one(market_folder, in_one_and_two_processes):
    one, *two = in_one_and_two_processes(SCRIPT, market_folder, one=(16,), two=(8,))
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
