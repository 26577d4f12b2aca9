"""Bottom-up clustering in a real Trainer: clusters that merge in time, a table that starts anew, runs that go on where they stopped."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from typing_extensions import override

from lightning_reid.callbacks import BottomUpClustering
from lightning_reid.clustering import merge_closest_clusters
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
    for wrong in (
        {"initial_epochs": -1},
        {"merge_share": 1.0},
        {"num_merges": 0},
        {"size_penalty": -0.1},
        {"portions": 0},
        {"size_penalty_images": 0},
    ):
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


def a_chain_beside_pairs() -> Tensor:
    """Forty points in a row, each a little farther from the last than that one was, and thirty pairs a little wider than those gaps."""
    gaps = torch.linspace(0.10, 0.11, 39, dtype=torch.float64)
    row = torch.cat([torch.zeros(1, dtype=torch.float64), gaps.cumsum(0)])
    pairs = torch.stack([10.0 * torch.arange(1, 31), 10.0 * torch.arange(1, 31) + 0.15], 1).flatten()
    return torch.cat([row, pairs])[:, None].double()


def test_merging_in_portions_counts_sizes_anew_so_that_a_chain_is_held_back(caplog):
    embeddings = a_chain_beside_pairs()
    state = TargetState(0, torch.arange(100), torch.arange(100))
    options = {"num_merges": 39, "size_penalty": 0.003}
    at_once, in_portions = (BottomUpClustering(**options, portions=portions).find_clusters(embeddings, None, state) for portions in (1, 39))
    assert at_once.metrics["cluster/largest_share"] == 0.4
    assert "one cluster of 61 holds 40 of 100 images, the mean is 1.6: merging chains people together" in caplog.text
    by_hand = state.labels
    for _ in range(39):
        by_hand = merge_closest_clusters(embeddings, by_hand, 1, size_penalty=0.003)
    assert torch.equal(in_portions.labels, by_hand)
    assert in_portions.metrics["cluster/largest_share"] <= 0.1
    assert in_portions.metrics["cluster/merges"] == 39 == 100 - (int(in_portions.labels.max()) + 1)


def test_uneven_portions_and_more_portions_than_merges_take_away_as_many_clusters():
    embeddings, state = a_chain_beside_pairs(), TargetState(0, torch.arange(100), torch.arange(100))
    for portions in (4, 50):
        found = BottomUpClustering(num_merges=10, portions=portions).find_clusters(embeddings, None, state)
        assert int(found.labels.max()) + 1 == 90


def test_a_size_penalty_for_another_number_of_images_is_scaled_to_those_at_hand():
    embeddings, halves = a_chain_beside_pairs(), torch.cat([torch.arange(2).repeat_interleave(20), torch.arange(2, 62)])
    state, options = TargetState(0, halves, torch.arange(100)), {"num_merges": 1, "size_penalty": 1e-4}
    as_it_is = BottomUpClustering(**options).find_clusters(embeddings, None, state)
    scaled = BottomUpClustering(**options, size_penalty_images=12_936).find_clusters(embeddings, None, state)
    assert (as_it_is.labels[:40] == 0).all()  # the halves of the chain merge, 0.011 + 0.004 apart
    assert torch.equal(scaled.labels, merge_closest_clusters(embeddings, halves, 1, size_penalty=1e-4 * 129.36))
    assert scaled.labels[0] != scaled.labels[39]
    assert (scaled.labels[40::2] == scaled.labels[41::2]).sum() == 1  # a pair does
