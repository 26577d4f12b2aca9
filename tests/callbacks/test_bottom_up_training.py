"""Bottom-up clustering in a real Trainer: clusters that merge in time, a table that starts anew, runs that go on where they stopped."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from typing_extensions import override

from lightning_reid.callbacks import BottomUpClustering
from lightning_reid.datamodules import ImageReIDDataModule, UnlabeledDataModule
from lightning_reid.modules import BottomUpReID
from lightning_reid.records import TargetState

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}, "optimizer": "sgd", "lr": 0.01}


class Recorder(pl.Callback):
    """Keeps what each step believed and lost."""

    def __init__(self) -> None:
        self.clusters: list[int] = []
        self.losses: list[float] = []
        self.drawn: list[list[int]] = []
        self.right: list[bool] = []

    @override
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        state = trainer.datamodule.target_state
        self.clusters.append(state.num_clusters)
        self.losses.append(float(outputs["loss"]))
        self.drawn.append(batch["indices"].tolist())
        self.right.append(torch.equal(state.labels[batch["indices"]], batch["pids"]))


def unlabeled(folder) -> UnlabeledDataModule:
    return UnlabeledDataModule(str(folder), image_size=(64, 32), batch_size=16, crop_padding=2, num_workers=0)


@pytest.fixture
def data(market_folder) -> UnlabeledDataModule:
    return unlabeled(market_folder)


def module(**options) -> BottomUpReID:
    torch.manual_seed(0)
    return BottomUpReID(**(TINY | options))


def fit(data, trainer_with, folder, epochs: int, path=None, **options):
    recorder, clustering = Recorder(), BottomUpClustering(every_n_epochs=1, initial_epochs=2, merge_share=0.2)
    model, saving = module(**options), ModelCheckpoint(folder, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    trainer = trainer_with(folder, [clustering, recorder, saving], max_epochs=epochs, limit_val_batches=0, enable_checkpointing=True)
    trainer.fit(model, data, ckpt_path=path, weights_only=path is not None or None)
    return recorder, clustering, model


def test_every_image_is_a_cluster_first_then_a_share_merges_after_each_iteration(data, tmp_path, trainer_with):
    recorder, clustering, model = fit(data, trainer_with, tmp_path, 4)
    images = len(data.target_records)
    steps = images // 16
    gone = int(0.2 * images)
    assert recorder.clusters == [images] * 2 * steps + [images - gone] * steps + [images - 2 * gone] * steps
    assert all(recorder.right)
    for epoch in range(4):  # one pass over the images, none twice
        drawn = [row for batch in recorder.drawn[epoch * steps : (epoch + 1) * steps] for row in batch]
        assert len(set(drawn)) == len(drawn)
    assert recorder.losses[0] == pytest.approx(torch.tensor(float(images)).log().item(), abs=1e-4)  # a table of zeros tells nothing apart
    assert model.table.shape == (images - 2 * gone, 16)
    lengths = model.table.norm(dim=1)
    assert set(lengths.round(decimals=4).tolist()) <= {0.0, 1.0}
    assert clustering.metrics["cluster/num_clusters"] == images - 2 * gone


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_run_that_goes_on_after_any_epoch_believes_and_learns_what_one_that_never_stopped_does(
    data, market_folder, tmp_path, trainer_with, epoch
):
    whole, _, unbroken = fit(data, trainer_with, tmp_path, 4)
    rest, _, resumed = fit(unlabeled(market_folder), trainer_with, tmp_path, 4, tmp_path / f"epoch={epoch}.ckpt")
    steps = len(whole.drawn) // 4 * (3 - epoch)
    assert len(rest.drawn) == steps
    assert (rest.drawn, rest.clusters, rest.losses) == (whole.drawn[-steps:], whole.clusters[-steps:], whole.losses[-steps:])
    assert torch.equal(resumed.table, unbroken.table)
    for name, tensor in unbroken.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_fits_that_follow_each_other_merge_once_at_their_start(data, tmp_path, trainer_with):
    clustering, model, sizes = BottomUpClustering(initial_epochs=99, num_merges=3, merge_at_start=True), module(), []
    for _ in range(3):
        trainer_with(tmp_path, [clustering], max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(model, data)
        sizes.append(data.target_state.num_clusters)
    images = len(data.target_records)
    assert sizes == [images, images - 3, images - 6]
    assert model.table.shape[0] == images - 6


def test_a_profile_spreads_the_mergings_over_the_steps_that_are_left(data, tmp_path, trainer_with, monkeypatch):
    data.setup()
    images = len(data.target_records)
    monkeypatch.setattr("lightning_reid.callbacks.bottom_up_clustering.dbscan", lambda *_, **__: torch.arange(images) % 10)
    clustering = BottomUpClustering(every_n_epochs=1, initial_epochs=1, profile_steps=4)
    trainer = trainer_with(tmp_path, [clustering], max_epochs=5, limit_train_batches=1, limit_val_batches=0)
    trainer.fit(module(), data)
    merges = -(-(images - 10) // 4)
    assert data.target_state.num_clusters == max(2, images - 4 * merges)
    assert clustering.state_dict()["num_merges"] == merges
    again = BottomUpClustering(profile_steps=4)
    again.load_state_dict(clustering.state_dict())
    assert again.merges_a_step(images) == merges
    with pytest.raises(ValueError, match="give profile_steps or num_merges, got 3 and 2"):
        BottomUpClustering(profile_steps=3, num_merges=2)


def test_merging_ends_with_two_clusters(data, tmp_path, trainer_with):
    clustering = BottomUpClustering(every_n_epochs=1, initial_epochs=1, merge_share=0.7)
    trainer_with(tmp_path, [clustering], max_epochs=4, limit_train_batches=1, limit_val_batches=0).fit(module(), data)
    assert data.target_state.num_clusters == 2


def test_what_cannot_work_is_said_before_anything_is_trained(data, market_folder, tmp_path, trainer_with):
    labeled = ImageReIDDataModule(str(market_folder), image_size=(64, 32), p=4, k=4, num_workers=0)
    with pytest.raises(ValueError, match="wants a datamodule with target images"):
        trainer_with(tmp_path, [BottomUpClustering()]).fit(module(), labeled)
    with pytest.raises(RuntimeError, match="BottomUpReID found no clusters: add BottomUpClustering"):
        trainer_with(tmp_path, []).fit(module(), data)
    for wrong in ({"initial_epochs": -1}, {"merge_share": 1.0}, {"num_merges": 0}, {"size_penalty": -0.1}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a"):
            BottomUpClustering(**wrong)
    for wrong in ({"temperature": 0.0}, {"momentum": 1.0}, {"dropout": 1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a"):
            module(**wrong)


@pytest.mark.parametrize(("embeddings", "clusters"), [(torch.eye(40), 0), (torch.ones(40, 4), 1)], ids=["all noise", "all the same"])
def test_a_profile_that_finds_no_people_says_so_and_leaves_it_to_the_share(embeddings, clusters, caplog):
    clustering = BottomUpClustering(profile_steps=2, merge_share=0.1, k1=4, k2=1)
    first = clustering.find_clusters(embeddings, None, None)
    state = TargetState(0, first.labels, torch.zeros(40, dtype=torch.int64), embeddings)
    assert clustering.find_clusters(embeddings, None, state).metrics["cluster/merges"] == 4
    assert f"the profile finds {clusters} clusters among 40 images" in caplog.text
