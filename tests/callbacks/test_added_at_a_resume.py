"""Callbacks that were not there when a run began, or are there no more when it goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from typing_extensions import override

from lightning_reid.callbacks import (
    AffinityPseudoLabels,
    BottomUpClustering,
    CAIEPruning,
    ClusterStripLogger,
    CPOPruning,
    EmbeddingProjector,
    HardNegativeSampling,
    InterCameraMining,
    NMILogger,
    PartBasedHomogeneity,
    ProgressiveSelection,
    PseudoLabelClustering,
    RankListLogger,
)
from lightning_reid.datamodules import CrossDomainDataModule, PublicAndLocalDataModule, SemiSupervisedDataModule, UnlabeledDataModule
from lightning_reid.modules import HSR, SGCDPL, BottomUpReID, FedFRClient
from lightning_reid.records import ReIDDataset, TargetState

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}, "optimizer": "sgd", "lr": 0.01}
SMALL = {"image_size": (32, 16), "num_workers": 0}


class Recorder(pl.Callback):
    """Keeps what each step trained on."""

    def __init__(self) -> None:
        self.drawn: list[list[int]] = []
        self.mined: list[bool] = []
        self.iterations: list[int] = []

    @override
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        state = getattr(trainer.datamodule, "target_state", None)
        self.iterations.append(-1 if state is None else state.iteration)
        self.drawn.append(batch["indices"].tolist())
        self.mined.append("icm" in batch)


class Stop(pl.Callback):
    """Ends the fit after so many epochs, and leaves a checkpoint there."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    @override
    def on_train_epoch_end(self, trainer, pl_module) -> None:
        trainer.should_stop = trainer.current_epoch + 1 == self.epochs


def density(**options) -> PseudoLabelClustering:
    return PseudoLabelClustering(**({"every_n_epochs": 2, "k1": 10, "k2": 3, "min_samples": 2} | options))


class Domains:
    """HSR on the two small domains: 3 of 6 epochs, then the others, the clusterings before epochs 0, 2 and 4."""

    def __init__(self, source: Path, target: Path, trainer_with: Callable[..., pl.Trainer]) -> None:
        self.folders, self.trainer_with = (str(source), str(target)), trainer_with

    def data(self) -> pl.LightningDataModule:
        return CrossDomainDataModule(*self.folders, p=4, k=2, source_p=4, **SMALL)

    def module(self) -> pl.LightningModule:
        torch.manual_seed(0)
        return HSR(min_samples=2, **TINY)

    def begin(self, folder: Path, *callbacks: pl.Callback) -> Path:
        trainer = self.trainer_with(folder, [*callbacks, Stop(3)], 6, limit_val_batches=0, limit_train_batches=1)
        trainer.fit(self.module(), self.data())
        trainer.save_checkpoint(folder / "begun.ckpt")
        return folder / "begun.ckpt"

    def resume(self, folder: Path, begun: Path, *callbacks: pl.Callback, **options) -> tuple[Recorder, TargetState, pl.Trainer]:
        recorder, data = Recorder(), self.data()
        trainer = self.trainer_with(folder, [*callbacks, recorder], 6, **({"limit_val_batches": 0, "limit_train_batches": 1} | options))
        trainer.fit(self.module(), data, ckpt_path=begun, weights_only=True)
        return recorder, getattr(data, "target_state", None), trainer


class Labeled(Domains):
    """SGC-DPL likewise."""

    @override
    def data(self) -> pl.LightningDataModule:
        return SemiSupervisedDataModule(self.folders[1], labeled=4, p=4, k=2, unlabeled_per_batch=4, **SMALL)

    @override
    def module(self) -> pl.LightningModule:
        torch.manual_seed(0)
        return SGCDPL(**TINY)


@pytest.fixture(scope="module")
def domains(duke_folder, market_folder, trainer_with) -> Domains:
    return Domains(duke_folder, market_folder, trainer_with)


@pytest.fixture(scope="module")
def clustered(domains, tmp_path_factory) -> Path:
    """A run that was begun with a clustering alone."""
    return domains.begin(tmp_path_factory.mktemp("clustered"), density())


@pytest.fixture(scope="module")
def refined(domains, tmp_path_factory) -> Path:
    """A run that was begun with both refinements."""
    return domains.begin(tmp_path_factory.mktemp("refined"), density(), PartBasedHomogeneity(num_std=0.5), InterCameraMining(k=5))


@pytest.fixture(scope="module")
def labeled(duke_folder, market_folder, trainer_with) -> Labeled:
    return Labeled(duke_folder, market_folder, trainer_with)


@pytest.fixture(scope="module")
def labeled_clustered(labeled, tmp_path_factory) -> Path:
    """A run on partly labeled images that was begun with a clustering alone."""
    return labeled.begin(tmp_path_factory.mktemp("labeled"), density())


def test_inter_camera_mining_that_is_added_begins_with_the_next_clustering_and_says_so(domains, clustered, tmp_path, caplog):
    without, _, _ = domains.resume(tmp_path, clustered, density())
    with caplog.at_level(logging.WARNING):
        recorder, state, trainer = domains.resume(tmp_path, clustered, density(), InterCameraMining(k=5))
    assert [text for text in caplog.messages if "begins with" in text] == [
        "InterCameraMining begins with the next clustering: iteration 1, which this fit goes on from, was clustered without it,"
        " and does not hold the embeddings that it works on"
    ]
    assert recorder.iterations == [1, 2, 2]
    assert recorder.mined == [False, True, True]
    assert recorder.drawn[:1] == without.drawn[:1]  # what is left of iteration 1 is as it would have been
    assert trainer.callback_metrics["icm/num_pairs"] > 0
    assert state.neighbors is not None


def test_part_based_homogeneity_that_is_added_begins_with_the_next_clustering(domains, clustered, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        _, state, trainer = domains.resume(tmp_path, clustered, density(), PartBasedHomogeneity(num_std=0.5))
    assert "PartBasedHomogeneity begins with the next clustering: iteration 1" in caplog.text
    assert "the embeddings and parts that it works on" in caplog.text
    assert state.parts is not None
    assert trainer.callback_metrics["pbh/num_imperfect"] >= 0


def test_a_module_that_gives_no_halves_is_refused_before_they_are_missed(domains, tmp_path):
    class Whole(HSR):
        @override
        def embed(self, images, with_parts=False):
            return super().embed(images)

    with pytest.raises(ValueError, match=r"upper and lower halves, of which Whole\.embed\(with_parts=True\) gives none"):
        domains.trainer_with(tmp_path, [density(), PartBasedHomogeneity()]).fit(Whole(min_samples=2, **TINY), domains.data())


def test_progressive_selection_that_is_added_begins_with_the_next_clustering(labeled, labeled_clustered, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        _, state, trainer = labeled.resume(tmp_path, labeled_clustered, density(), ProgressiveSelection())
    assert "ProgressiveSelection begins with the next clustering: iteration 1" in caplog.text
    assert state.exemplars is not None
    assert 0 < trainer.callback_metrics["select/fraction"] <= 1


def test_what_was_refined_before_a_resume_is_not_refined_again_and_nothing_is_said(domains, refined, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        domains.resume(tmp_path, refined, density(), PartBasedHomogeneity(num_std=0.5), InterCameraMining(k=5))
    assert "begins with" not in caplog.text


def test_a_refinement_that_is_left_out_ends_with_its_iteration_and_it_is_said(domains, refined, tmp_path, caplog):
    with caplog.at_level(logging.WARNING), pytest.warns(UserWarning, match="Please add the following callbacks"):
        recorder, state, _ = domains.resume(tmp_path, refined, density())
    for name in ("PartBasedHomogeneity", "InterCameraMining"):
        assert f"{name} is left out from now on: what it made of iteration 1 stays until the next clustering" in caplog.text
    assert recorder.mined == [True, False, False]
    assert state.neighbors is None


def test_refinements_without_a_clustering_are_refused_also_at_a_resume(domains, refined, tmp_path):
    with pytest.raises(ValueError, match="put TargetClustering before it"):
        domains.resume(tmp_path, refined, InterCameraMining(k=5))


def test_pictures_that_are_added_leave_out_what_has_no_embeddings_and_say_so(domains, clustered, tmp_path, caplog):
    strips, projector = ClusterStripLogger(tmp_path / "strips.png"), EmbeddingProjector(tmp_path / "clusters.png", every_n_iterations=1)
    with caplog.at_level(logging.WARNING):
        domains.resume(tmp_path, clustered, density(), strips, projector)
    assert "ClusterStripLogger draws from the next clustering on" in caplog.text
    assert caplog.text.count("EmbeddingProjector cannot draw iteration") == 0  # it looks after the clustering, at iteration 2
    assert {strip["iteration"] for strip in strips.strips} <= {2}
    assert (tmp_path / "clusters.png").is_file()


def test_the_picture_of_a_last_iteration_that_a_resumed_run_cannot_draw_is_not_left_out_in_silence(domains, clustered, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        domains.resume(tmp_path, clustered, density(every_n_epochs=9), EmbeddingProjector(tmp_path / "clusters.png"))
    assert caplog.text.count("EmbeddingProjector cannot draw iteration 1") == 1
    assert not (tmp_path / "clusters.png").exists()
    caplog.clear()
    drawn = domains.begin(tmp_path, density(), EmbeddingProjector(tmp_path / "clusters.png"))  # iteration 1, when the fit stops
    with caplog.at_level(logging.WARNING):
        domains.resume(tmp_path, drawn, density(every_n_epochs=9), EmbeddingProjector(tmp_path / "clusters.png"))
    assert "cannot draw" not in caplog.text


def test_what_looks_at_validation_or_prunes_can_be_added_or_left_out(domains, clustered, tmp_path):
    pruning = CAIEPruning({"params": 0.9}, filters_per_step=8, batches_per_step=1, stop=False)
    looking = (RankListLogger(tmp_path / "ranks.png", num_queries=2), NMILogger())
    _, _, trainer = domains.resume(tmp_path, clustered, density(), *looking, pruning, limit_val_batches=1.0, check_val_every_n_epoch=3)
    assert (tmp_path / "ranks.png").is_file()
    assert 0 <= trainer.callback_metrics["val/NMI"] <= 1
    assert pruning.done
    trainer.save_checkpoint(tmp_path / "pruned.ckpt")
    with pytest.warns(UserWarning, match="Please add the following callbacks: .*CAIEPruning"):
        domains.resume(tmp_path, tmp_path / "pruned.ckpt", density())


def test_cpo_that_is_added_begins_its_search_with_the_first_batch(domains, clustered, tmp_path):
    pruning = CPOPruning(1.0, retrain_epochs=1, reference=0.9, search="uniform")
    _, _, trainer = domains.resume(tmp_path, clustered, density(), pruning, limit_val_batches=1.0, check_val_every_n_epoch=1)
    assert [row["trial"] for row in pruning.history] == [1, 2, 3]
    assert trainer.current_epoch == 6


def test_another_clustering_takes_over_with_the_next_iteration(labeled, labeled_clustered, tmp_path):
    def affinity() -> AffinityPseudoLabels:
        return AffinityPseudoLabels(every_n_epochs=2, damping=0.7)

    recorder, state, _ = labeled.resume(tmp_path, labeled_clustered, affinity())
    assert recorder.iterations == [1, 2, 2]
    assert state.soft_labels is not None
    recorder, state, _ = labeled.resume(tmp_path, labeled.begin(tmp_path, affinity()), density())
    assert recorder.iterations == [1, 2, 2]
    assert state.soft_labels is None


def test_a_clustering_that_is_added_to_the_initialization_clusters_before_its_first_batch(labeled, tmp_path):
    begun = labeled.begin(tmp_path)
    recorder, _, _ = labeled.resume(tmp_path, begun, density())
    assert recorder.iterations == [0, 1, 1]


def test_a_clustering_that_is_left_out_leaves_its_labels(domains, clustered, tmp_path):
    recorder, _, _ = domains.resume(tmp_path, clustered)
    assert recorder.iterations == [1] * 3


def test_bottom_up_clustering_does_not_merge_what_another_clustering_left_as_noise(market_folder, tmp_path, trainer_with):
    class Images(Domains):
        @override
        def data(self):
            return UnlabeledDataModule(self.folders[1], batch_size=8, crop_padding=2, **SMALL)

        @override
        def module(self):
            torch.manual_seed(0)
            return BottomUpReID(**TINY)

    images = Images(market_folder, market_folder, trainer_with)
    begun = images.begin(tmp_path, density(eps=0.3))
    with pytest.raises(ValueError, match=r"BottomUpClustering merges clusters, and \d+ of \d+ images are in none of iteration 1"):
        images.resume(tmp_path, begun, BottomUpClustering(every_n_epochs=1))


def test_hard_negatives_that_are_added_begin_with_the_next_fit_and_do_not_start_learned_proxies_over(
    market_folder, tmp_path, trainer_with, caplog
):
    def parts() -> tuple[FedFRClient, PublicAndLocalDataModule]:
        torch.manual_seed(0)
        people = UnlabeledDataModule(str(market_folder), **SMALL)
        people.setup()
        train = people.dataset.train
        half = sorted({record.pid for record in train})[5]
        local, public = (tuple(record for record in train if (record.pid < half) == own) for own in (True, False))
        data = PublicAndLocalDataModule(ReIDDataset("local", local), ReIDDataset("public", public), batch_size=8, **SMALL)
        return FedFRClient(data.num_local, data.num_public, **TINY), data

    trainer = trainer_with(tmp_path, [], 1, limit_val_batches=0, limit_train_batches=1)
    trainer.fit(*parts())
    trainer.save_checkpoint(tmp_path / "begun.ckpt")
    (module, data), sampling = parts(), HardNegativeSampling(1.0)
    with caplog.at_level(logging.WARNING):
        resumed = trainer_with(tmp_path, [sampling], 2, limit_val_batches=0, limit_train_batches=1)
        resumed.fit(module, data, ckpt_path=tmp_path / "begun.ckpt", weights_only=True)
    assert "HardNegativeSampling begins with the next fit" in caplog.text
    assert sampling.share == 1.0
    learned = module.local_proxies.detach().clone()
    trainer_with(tmp_path, [sampling], 1, limit_val_batches=0, limit_train_batches=0).fit(module, data)
    assert torch.equal(module.local_proxies, learned)
