"""HSR in a real Trainer: labels in time, order of the callbacks, resume, and everything that can go wrong with clusters."""

from __future__ import annotations

import logging

import pytest
import pytorch_lightning as pl
import torch
from typing_extensions import override

from lightning_reid.callbacks import EmbeddingProjector, InterCameraMining, PartBasedHomogeneity, PseudoLabelClustering, RankListLogger
from lightning_reid.callbacks.target_clustering import FoundClusters
from lightning_reid.datamodules import CrossDomainDataModule
from lightning_reid.modules import HSR

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}


class Recorder(pl.Callback):
    """Keeps what each step trained on and lost."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, list[int], list[int], float]] = []
        self.states: list[tuple[int, list[int]]] = []

    @override
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.steps.append((trainer.current_epoch, batch["indices"].tolist(), batch["pids"].tolist(), float(outputs["loss"])))
        self.states.append((trainer.datamodule.target_state.iteration, trainer.datamodule.target_state.labels.tolist()))


@pytest.fixture
def data(market_folder, duke_folder) -> CrossDomainDataModule:
    return CrossDomainDataModule(str(duke_folder), str(market_folder), image_size=(64, 32), p=4, k=4, source_p=4, num_workers=0)


def clustering(**options) -> PseudoLabelClustering:
    return PseudoLabelClustering(**({"every_n_epochs": 2, "k1": 10, "k2": 3, "min_samples": 2} | options))


def hsr(**options) -> HSR:
    torch.manual_seed(0)
    return HSR(**({"min_samples": 2} | options), **TINY)


def everything() -> list[pl.Callback]:
    return [clustering(), PartBasedHomogeneity(num_std=0.5), InterCameraMining(k=5)]


def test_labels_exist_before_the_first_batch_is_drawn_also_with_workers(data, tmp_path, trainer_with):
    data.num_workers = 2
    recorder = Recorder()
    trainer = trainer_with(tmp_path, [*everything(), recorder], limit_val_batches=0)
    trainer.fit(hsr(), data)
    assert {epoch for epoch, *_ in recorder.steps} == {0, 1, 2, 3}
    assert {iteration for iteration, _ in recorder.states} == {0, 1}
    for (_, indices, pids, _), (_, labels) in zip(recorder.steps, recorder.states):
        assert pids == [labels[index] for index in indices]  # drawn with the labels of its own iteration
        assert min(pids) >= 0


def test_metrics_of_the_iteration_are_logged_before_and_after_pbh_and_for_icm(data, tmp_path, trainer_with):
    trainer = trainer_with(
        tmp_path, [*everything(), EmbeddingProjector(tmp_path / "clusters.png"), RankListLogger(tmp_path / "ranks.png")], max_epochs=2
    )
    trainer.fit(hsr(), data)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["cluster/num_clusters"] >= 2
    assert logged["cluster/eps"] == pytest.approx(0.6)
    for name in (
        "cluster/noise_fraction",
        "cluster/v_measure",
        "pbh/v_measure",
        "pbh/homogeneity",
        "icm/precision",
        "icm/rank_hard_positive_fraction",
    ):
        assert 0 <= logged[name] <= 1, name
    assert logged["pbh/homogeneity"] >= logged["cluster/homogeneity"]  # splitting can only make clusters purer
    assert logged["icm/num_pairs"] >= 1
    assert logged["train/loss_icm"] > 0
    for picture in ("clusters.png", "ranks.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_a_resumed_run_equals_an_unbroken_one_batch_for_batch(data, market_folder, duke_folder, tmp_path, trainer_with):
    whole, first, second = Recorder(), Recorder(), Recorder()
    trainer_with(tmp_path, [*everything(), whole], max_epochs=5, limit_val_batches=0).fit(hsr(), data)

    def fresh() -> CrossDomainDataModule:
        return CrossDomainDataModule(str(duke_folder), str(market_folder), image_size=(64, 32), p=4, k=4, source_p=4, num_workers=0)

    class StopAfterThirdEpoch(pl.Callback):
        @override
        def on_train_epoch_end(self, trainer, pl_module) -> None:
            trainer.should_stop = trainer.current_epoch == 2

    stopped = trainer_with(tmp_path, [*everything(), first, StopAfterThirdEpoch()], max_epochs=5, limit_val_batches=0)
    stopped.fit(hsr(), fresh())  # epoch 2 is the first of iteration 1: the run stops in mid-iteration
    stopped.save_checkpoint(tmp_path / "middle.ckpt")
    torch.manual_seed(999)
    resumed_data = fresh()
    resumed = trainer_with(tmp_path, [*everything(), second], max_epochs=5, limit_val_batches=0)
    resumed.fit(HSR(min_samples=2, **TINY), resumed_data, ckpt_path=tmp_path / "middle.ckpt", weights_only=True)
    assert second.steps
    assert first.steps + second.steps == whole.steps
    assert first.states + second.states == whole.states


def test_leaving_icm_out_is_the_baseline_and_the_order_of_callbacks_is_checked(data, tmp_path, trainer_with):
    trainer = trainer_with(tmp_path, [clustering()], max_epochs=1, limit_val_batches=0)
    trainer.fit(hsr(), data)
    assert "train/loss_icm" not in trainer.callback_metrics
    for wrong in (
        [PartBasedHomogeneity(), clustering()],
        [clustering(), InterCameraMining(), PartBasedHomogeneity()],
        [InterCameraMining()],
    ):
        data.forget_target_state()
        with pytest.raises(ValueError, match=r"put \w+ before it in the callback list"):
            trainer_with(tmp_path, wrong, limit_val_batches=0).fit(hsr(), data)


def test_pairs_with_a_noise_end_train_only_where_mining_is_told_to_take_them(data, tmp_path, trainer_with):
    class Mined(pl.Callback):
        def __init__(self) -> None:
            self.batches: list[dict] = []

        @override
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            self.batches.append(batch)

    class OneCamera(PseudoLabelClustering):
        """The images of the first camera by their true people; the others are noise, so that every pair across cameras has such an end."""

        @override
        def find_clusters(self, embeddings, labeled, previous) -> FoundClusters:
            pids, camids = data.ground_truth(), torch.tensor([record.camid for record in data.target_records])
            labels = torch.where(camids == 1, torch.unique(pids, return_inverse=True)[1], -1)
            return FoundClusters(labels, metrics={"cluster/eps": 0.5})

    def fit(with_noise: bool) -> tuple[list[dict], pl.Trainer]:
        data.forget_target_state()
        seen = Mined()
        mining = InterCameraMining(k=1, with_noise=with_noise)
        trainer = trainer_with(tmp_path, [OneCamera(every_n_epochs=2), mining, seen], max_epochs=1, limit_val_batches=0)
        trainer.fit(hsr(), data)
        return seen.batches, trainer

    without, _ = fit(False)
    with_noise, trainer = fit(True)
    assert without
    assert not any("icm" in batch for batch in without)
    assert all(batch["icm"]["positives"].any() for batch in with_noise)
    assert trainer.callback_metrics["train/loss_icm"].isfinite()
    assert trainer.callback_metrics["train/loss_icm"] > 0


def test_whether_noise_is_mined_is_in_the_checkpoint_and_those_from_before_have_none(data, tmp_path, trainer_with):
    trainer_with(tmp_path, [clustering(), InterCameraMining(k=5, with_noise=True)], max_epochs=1, limit_val_batches=0).fit(hsr(), data)
    kept = data.state_dict()
    data.load_state_dict(kept)
    assert data.target_state.neighbors.with_noise
    del kept["with_noise"]
    data.load_state_dict(kept)
    assert not data.target_state.neighbors.with_noise


def test_without_clustering_the_module_says_what_is_missing(data, tmp_path, trainer_with):
    with pytest.raises(RuntimeError, match="add PseudoLabelClustering"):
        trainer_with(tmp_path, [], limit_val_batches=0).fit(hsr(), data)


def test_the_first_clustering_must_find_clusters(data, tmp_path, trainer_with):
    with pytest.raises(RuntimeError, match=r"found 0 cluster\(s\) and 100% noise among \d+ target images.*Raise eps"):
        trainer_with(tmp_path, [clustering(eps=1e-9, min_samples=5)], limit_val_batches=0).fit(hsr(), data)
    with pytest.raises(RuntimeError, match=r"found 1 cluster\(s\).*Lower eps"):
        trainer_with(tmp_path, [clustering(eps=0.999999, k1=200, k2=1)], limit_val_batches=0).fit(hsr(), data)


def test_a_later_iteration_that_finds_only_noise_keeps_the_labels_and_trains_on(data, tmp_path, caplog, trainer_with):
    callback, recorder = clustering(min_samples=3), Recorder()

    class Spoil(pl.Callback):
        @override
        def on_train_epoch_start(self, trainer, pl_module) -> None:
            callback.min_samples = 10_000  # more than there are images: nothing is dense

    with caplog.at_level(logging.WARNING):
        trainer_with(tmp_path, [callback, recorder, Spoil()], limit_val_batches=0).fit(hsr(), data)
    assert "the labels of iteration 0 are kept" in caplog.text
    assert {iteration for iteration, _ in recorder.states} == {0}
    assert {epoch for epoch, *_ in recorder.steps} == {0, 1, 2, 3}


def test_fewer_pseudo_identities_than_p_shrink_the_batch_and_it_is_said(data, tmp_path, caplog, trainer_with):
    data.p, recorder = 500, Recorder()
    with caplog.at_level(logging.WARNING):
        trainer_with(tmp_path, [clustering(), recorder], max_epochs=1, limit_val_batches=0).fit(hsr(), data)
    assert "instead of 500" in caplog.text
    assert len(recorder.steps[0][1]) == 4 * len(set(recorder.steps[0][2]))


def test_more_clusters_than_the_classifier_holds_is_an_error(data, tmp_path, trainer_with):
    with pytest.raises(ValueError, match=r"clusters, but max_clusters=2: raise it"):
        trainer_with(tmp_path, [clustering()], limit_val_batches=0).fit(hsr(max_clusters=2), data)


def test_a_nan_embedding_stops_at_the_step_that_met_it(data, tmp_path, trainer_with):
    model = hsr()
    torch.nn.init.constant_(model.network.backbone.get_parameter(next(iter(dict(model.network.backbone.named_parameters())))), float("nan"))
    with pytest.raises(ValueError, match=r"(?i)embeddings.*(nan|finite)"):
        trainer_with(tmp_path, [clustering()], limit_val_batches=0).fit(model, data)


def test_icm_with_a_single_camera_is_refused_in_setup(market_folder, duke_folder, tmp_path, trainer_with):
    for part in ("bounding_box_train", "query", "bounding_box_test"):
        (tmp_path / part).mkdir()
        for crop in (market_folder / part).glob("*_c1s*" if part == "bounding_box_train" else "*"):
            (tmp_path / part / crop.name).write_bytes(crop.read_bytes())
    data = CrossDomainDataModule(str(duke_folder), str(tmp_path), image_size=(64, 32), p=4, source_p=4, num_workers=0)
    with pytest.raises(ValueError, match=r"all target images have camid \{1\}: leave the callback out"):
        trainer_with(tmp_path, [clustering(), InterCameraMining()], limit_val_batches=0).fit(hsr(), data)


def test_a_state_of_another_data_set_is_refused(data, market_folder, tmp_path, trainer_with):
    trainer_with(tmp_path, [clustering()], max_epochs=1, limit_val_batches=0).fit(hsr(), data)
    carried = data.state_dict() | {"labels": torch.zeros(3, dtype=torch.int64)}
    with pytest.raises(ValueError, match=r"labels 3 images, but .* has \d+ unlabeled images"):
        data.load_state_dict(carried)


@pytest.mark.parametrize("wrong", [{"every_n_epochs": 0}, {"eps": 1.5}, {"rho": 0.0}, {"min_samples": 0}])
def test_clustering_arguments_out_of_range_die_in_the_constructor(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a"):
        PseudoLabelClustering(**wrong)
