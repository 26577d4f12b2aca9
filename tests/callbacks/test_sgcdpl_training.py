"""SGC-DPL in a real Trainer: labels in time, callbacks that compose, resume, and everything that can go wrong."""

from __future__ import annotations

import logging

import pytest
import pytorch_lightning as pl
import torch
from sklearn.exceptions import ConvergenceWarning
from typing_extensions import override

from lightning_reid.callbacks import (
    AffinityPseudoLabels,
    ClusterStripLogger,
    EmbeddingProjector,
    InterCameraMining,
    PartBasedHomogeneity,
    ProgressiveSelection,
    PseudoLabelClustering,
)
from lightning_reid.datamodules import CrossDomainDataModule, ImageReIDDataModule, SemiSupervisedDataModule
from lightning_reid.modules import HSR, SGCDPL
from lightning_reid.records import LabeledEmbeddings, TargetState

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
NUM_LABELED = 4


class Recorder(pl.Callback):
    """Keeps what each step trained on and lost."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, list[int], list[int], float]] = []
        self.states: list[tuple[int, list[int]]] = []
        self.rows: list[list[int]] = []
        self.soft: list[torch.Tensor | None] = []

    @override
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.steps.append((trainer.current_epoch, batch["indices"].tolist(), batch["pids"].tolist(), float(outputs["loss"])))
        state = trainer.datamodule.target_state
        self.states.append((-1, []) if state is None else (state.iteration, state.labels.tolist()))
        self.rows.append(batch["rows"].tolist())
        self.soft.append(batch.get("soft_labels"))


def data_on(folder, **options) -> SemiSupervisedDataModule:
    settings = {"labeled": NUM_LABELED, "image_size": (64, 32), "p": 4, "k": 2, "unlabeled_per_batch": 4, "num_workers": 0}
    return SemiSupervisedDataModule(str(folder), **(settings | options))


@pytest.fixture
def data(market_folder) -> SemiSupervisedDataModule:
    return data_on(market_folder)


def sgcdpl(**options) -> SGCDPL:
    torch.manual_seed(0)
    return SGCDPL(**options, **TINY)


def clustering(**options) -> AffinityPseudoLabels:
    return AffinityPseudoLabels(**({"every_n_epochs": 2, "damping": 0.7} | options))


def everything(**options) -> list[pl.Callback]:
    return [clustering(), ProgressiveSelection(**options)]


def test_without_callbacks_it_is_the_initialization_with_pairs_of_views_or_without(data, market_folder, tmp_path, trainer_with):
    trainer = trainer_with(tmp_path, [], max_epochs=1, limit_val_batches=0)
    trainer.fit(sgcdpl(), data)
    assert trainer.callback_metrics["train/loss_augmented"] > 0
    trainer = trainer_with(tmp_path, [], max_epochs=1, limit_val_batches=0)
    trainer.fit(sgcdpl(), data_on(market_folder, unlabeled_per_batch=0))
    assert "train/loss_augmented" not in trainer.callback_metrics


def test_labels_exist_before_the_first_batch_is_drawn_also_with_workers(data, tmp_path, trainer_with):
    data.num_workers = 2
    recorder = Recorder()
    trainer_with(tmp_path, [*everything(), recorder], limit_val_batches=0).fit(sgcdpl(), data)
    assert {epoch for epoch, *_ in recorder.steps} == {0, 1, 2, 3}
    assert {iteration for iteration, _ in recorder.states} == {0, 1}
    for (_, _, pids, _), (_, labels), rows in zip(recorder.steps, recorder.states, recorder.rows, strict=True):
        for pid, row in zip(pids, rows, strict=True):
            assert pid < NUM_LABELED if row < 0 else pid == NUM_LABELED + labels[row] >= NUM_LABELED  # labels of its own iteration


def test_soft_labels_ride_in_the_batch_and_are_zero_for_labeled_images(data, tmp_path, trainer_with):
    recorder = Recorder()
    trainer_with(tmp_path, [clustering(), recorder], max_epochs=1, limit_val_batches=0).fit(sgcdpl(), data)
    state = data.target_state
    for soft, rows in zip(recorder.soft, recorder.rows, strict=True):
        sums = soft.sum(1)
        torch.testing.assert_close(sums, (torch.tensor(rows) >= 0).float())
        for values, row in zip(soft, rows, strict=True):
            assert row < 0 or torch.equal(values, state.soft_labels[row])
    assert torch.equal(state.soft_labels.argmax(1), state.labels)  # the nearest exemplar is that of the own cluster
    assert torch.equal(state.labels[state.exemplars], torch.arange(state.num_clusters))


def test_the_iteration_is_logged(data, tmp_path, trainer_with):
    trainer = trainer_with(tmp_path, everything(), max_epochs=2)
    trainer.fit(sgcdpl(), data)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["cluster/labeled_identities"] == NUM_LABELED
    assert logged["cluster/num_identities"] == 6
    assert logged["cluster/preference"] < 0
    assert logged["cluster/probes"] >= 2
    assert logged["select/threshold"] == logged["select/labeled_threshold"] > 0
    for name in ("cluster/v_measure", "select/fraction", "select/precision", "select/labeled_error", "val/mAP"):
        assert 0 <= logged[name] <= 1, name


def test_guides_are_clustered_with_the_others_and_tell_preference_and_threshold(market_folder, tmp_path, trainer_with):
    for neighbors in (None, 8):
        data = data_on(market_folder, labeled=6, guides=2, p=3)
        callbacks = [
            clustering(neighbors=neighbors, picture=str(tmp_path / "search.png")),
            ProgressiveSelection(threshold_from="exemplars"),
        ]
        trainer = trainer_with(tmp_path, callbacks, max_epochs=1, limit_val_batches=0)
        trainer.fit(sgcdpl(), data)
        state, logged = data.target_state, trainer.callback_metrics
        assert len(state.labels) == len(data.target_records)
        assert logged["cluster/labeled_identities"] == 2
        assert logged["cluster/labeled_exemplars"] == int((state.exemplars < len(data.guide_pids)).sum())
        assert torch.equal(state.labeled.embeddings, state.embeddings[: len(data.guide_pids)])
        own = (state.embeddings - state.embeddings[state.exemplars[state.soft_labels.argmax(1)]]).square().sum(1)
        assert torch.equal(state.labels >= 0, own < logged["select/threshold"])
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")


def test_a_threshold_from_exemplars_without_guides_is_refused(data, tmp_path, trainer_with):
    with pytest.raises(ValueError, match=r"wants labeled people among the clustered images: give guides= to SemiSupervisedDataModule"):
        trainer_with(tmp_path, everything(threshold_from="exemplars"), limit_val_batches=0).fit(sgcdpl(), data)
    with pytest.raises(ValueError, match=r"labeled_quantile=0.5 is one of pairs .* give one of the two"):
        ProgressiveSelection(labeled_quantile=0.5, threshold_from="exemplars")


def test_the_threshold_grows_by_the_step_and_what_is_not_selected_is_never_drawn(data, tmp_path, trainer_with):
    class Thresholds(pl.Callback):
        def __init__(self) -> None:
            self.seen: list[tuple[float, float]] = []

        @override
        def on_train_epoch_start(self, trainer, pl_module) -> None:
            self.seen.append((selection.metrics["select/threshold"], selection.metrics["select/labeled_threshold"]))

    selection, thresholds, recorder = ProgressiveSelection(step=2.5), Thresholds(), Recorder()
    trainer_with(tmp_path, [clustering(), selection, thresholds, recorder], max_epochs=6, limit_val_batches=0).fit(sgcdpl(), data)
    assert [round(tau - labeled, 6) for tau, labeled in thresholds.seen] == [0, 0, 2.5, 2.5, 5, 5]
    for (_, labels), rows in zip(recorder.states, recorder.rows, strict=True):
        assert all(labels[row] >= 0 for row in rows if row >= 0)


@pytest.mark.parametrize("guides", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_run_equals_an_unbroken_one_batch_for_batch(guides, market_folder, tmp_path, trainer_with):
    people = {"labeled": NUM_LABELED + guides, "guides": guides}
    selecting = {"threshold_from": "exemplars" if guides else "pairs"}
    whole, first, second = Recorder(), Recorder(), Recorder()
    options = {"iteration_epochs": 2, "milestones": [1]}
    trainer = trainer_with(
        tmp_path, [*everything(**selecting), ClusterStripLogger(tmp_path / "a.png"), whole], max_epochs=5, limit_val_batches=0
    )
    trainer.fit(sgcdpl(**options), data_on(market_folder, **people))

    class StopAfterThirdEpoch(pl.Callback):
        @override
        def on_train_epoch_end(self, trainer, pl_module) -> None:
            trainer.should_stop = trainer.current_epoch == 2

    strips = ClusterStripLogger(tmp_path / "b.png")
    stopped = trainer_with(tmp_path, [*everything(**selecting), strips, first, StopAfterThirdEpoch()], max_epochs=5, limit_val_batches=0)
    stopped.fit(sgcdpl(**options), data_on(market_folder, **people))  # epoch 2 is the first of iteration 1: the run stops in mid-iteration
    stopped.save_checkpoint(tmp_path / "middle.ckpt")
    torch.manual_seed(999)
    resumed_strips = ClusterStripLogger(tmp_path / "b.png")
    resumed = trainer_with(tmp_path, [*everything(**selecting), resumed_strips, second], max_epochs=5, limit_val_batches=0)
    module = SGCDPL(**options, **TINY)
    resumed.fit(module, data_on(market_folder, **people), ckpt_path=tmp_path / "middle.ckpt", weights_only=True)
    assert second.steps
    assert first.steps + second.steps == whole.steps
    assert first.states + second.states == whole.states
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    for name, values in trainer.lightning_module.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], values, rtol=0, atol=0, msg=name)


def test_table_3_2_is_a_choice_of_callbacks_and_those_of_hsr_compose(market_folder, tmp_path, trainer_with):
    choices: dict[str, list[pl.Callback]] = {
        "AP, hard": [clustering(preference="median", labels="hard")],
        "AP, number": [clustering(preference=-1.0, labels="hard")],
        "AP, soft": [clustering(preference="median")],
        "SG-AP over neighbors": [clustering(neighbors=8), ProgressiveSelection()],
        "AP over neighbors": [clustering(neighbors=8, preference="median"), ProgressiveSelection()],
        "DBSCAN": [PseudoLabelClustering(2, k1=10, k2=3, min_samples=2), ProgressiveSelection()],
        "SG-AP, PBH": [clustering(labels="hard"), PartBasedHomogeneity(num_std=0.5), ProgressiveSelection()],
    }
    for name, callbacks in choices.items():
        data, recorder = data_on(market_folder), Recorder()
        trainer_with(tmp_path, [*callbacks, recorder], max_epochs=1, limit_val_batches=0).fit(sgcdpl(), data)
        assert {pid for _, _, pids, _ in recorder.steps for pid in pids} >= set(range(NUM_LABELED)), name
        assert (recorder.soft[0] is None) == ("soft" not in name and "SG-AP over" not in name and "AP over" not in name), name


def test_the_pictures_are_drawn(data, tmp_path, trainer_with):
    callbacks: list[pl.Callback] = [
        clustering(picture=str(tmp_path / "search.png")),
        ProgressiveSelection(picture=str(tmp_path / "threshold.png")),
        EmbeddingProjector(tmp_path / "clusters.png"),
        ClusterStripLogger(tmp_path / "strips.png"),
    ]
    trainer_with(tmp_path, callbacks, max_epochs=1, limit_val_batches=0).fit(sgcdpl(), data)
    for name in ("search", "threshold", "clusters", "strips"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name


def test_the_order_of_callbacks_is_checked(data, tmp_path, trainer_with):
    wrong: list[list[pl.Callback]] = [
        [ProgressiveSelection(), clustering()],
        [ProgressiveSelection()],
        [clustering(labels="hard"), ProgressiveSelection(), PartBasedHomogeneity()],
    ]
    for callbacks in wrong:
        with pytest.raises(ValueError, match=r"put \w+ before it in the callback list"):
            trainer_with(tmp_path, callbacks, limit_val_batches=0).fit(sgcdpl(), data)


def test_parts_that_do_not_fit_together_are_refused_in_words(data, market_folder, duke_folder, tmp_path, trainer_with):
    sizes = {"image_size": (64, 32), "p": 4, "num_workers": 0}
    unlabeled = CrossDomainDataModule(str(duke_folder), str(market_folder), source_p=4, **sizes)
    with pytest.raises(ValueError, match=r"AffinityPseudoLabels is guided by labeled images .* SemiSupervisedDataModule, got CrossDomain"):
        trainer_with(tmp_path, [clustering()], limit_val_batches=0).fit(HSR(**TINY), unlabeled)
    with pytest.raises(ValueError, match="SGCDPL wants labeled identities beside unlabeled images"):
        trainer_with(tmp_path, [], limit_val_batches=0).fit(sgcdpl(), unlabeled)
    with pytest.raises(ValueError, match="SGCDPL is fitted on a datamodule that holds pseudo-labels, got ImageReIDDataModule"):
        trainer_with(tmp_path, [], limit_val_batches=0).fit(sgcdpl(), ImageReIDDataModule(str(market_folder), **sizes))
    with pytest.raises(ValueError, match="HSR knows no labeled identities"):
        trainer_with(tmp_path, [clustering()], limit_val_batches=0).fit(HSR(**TINY), data)
    with pytest.raises(ValueError, match="PartBasedHomogeneity splits clusters, of which soft labels would not know"):
        trainer_with(tmp_path, [clustering(), PartBasedHomogeneity()], limit_val_batches=0).fit(sgcdpl(), data)
    with pytest.raises(ValueError, match="its batches hold no mined pairs: leave InterCameraMining out"):
        trainer_with(tmp_path, [clustering(), InterCameraMining(k=3)], limit_val_batches=0).fit(sgcdpl(), data_on(market_folder))


def test_plain_affinity_propagation_serves_hsr_with_hard_labels_and_refuses_soft_ones(market_folder, duke_folder, tmp_path, trainer_with):
    def target() -> CrossDomainDataModule:
        return CrossDomainDataModule(str(duke_folder), str(market_folder), image_size=(64, 32), p=4, source_p=4, num_workers=0)

    plain = {"preference": "median"}
    trainer = trainer_with(tmp_path, [clustering(labels="hard", **plain), InterCameraMining(k=3)], max_epochs=1, limit_val_batches=0)
    trainer.fit(HSR(min_samples=1, **TINY), target())
    assert trainer.callback_metrics["train/loss_icm"] > 0
    with pytest.raises(ValueError, match="HSR learns hard labels"):
        trainer_with(tmp_path, [clustering(**plain)], limit_val_batches=0).fit(HSR(min_samples=1, **TINY), target())


def test_affinity_propagation_that_does_not_converge_is_used_or_refused_as_asked(data, tmp_path, trainer_with):
    trainer = trainer_with(tmp_path, [clustering(max_iter=16)], max_epochs=1, limit_val_batches=0)
    with pytest.warns(ConvergenceWarning, match="did not converge in 16 iterations"):
        trainer.fit(sgcdpl(), data)
    assert trainer.callback_metrics["cluster/converged"] == 0
    data.forget_target_state()
    with pytest.raises(RuntimeError, match="did not converge in 16 iterations"):
        trainer_with(tmp_path, [clustering(max_iter=16, unconverged="refuse")], limit_val_batches=0).fit(sgcdpl(), data)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_first_clustering_must_find_clusters_and_a_later_one_keeps_the_labels(data, tmp_path, trainer_with, caplog):
    for options, message in (
        ({"preference": -8.0}, r"preference=-8.0.* found 1 cluster\(s\) .* Give a larger preference"),
        (
            {"preference": -0.5, "max_iter": 3},
            r"found 0 cluster\(s\) and 100% noise .* Raise damping \(0.9\) or max_iter: no exemplar emerged",
        ),
    ):
        with pytest.raises(RuntimeError, match=message):
            trainer_with(tmp_path, [clustering(**options)], limit_val_batches=0).fit(sgcdpl(), data)
    callback, recorder = clustering(), Recorder()

    class Spoil(pl.Callback):
        @override
        def on_train_epoch_start(self, trainer, pl_module) -> None:
            callback.preference, callback.max_iter = "median", 1  # no exemplar emerges from one iteration

    with caplog.at_level(logging.WARNING):
        trainer_with(tmp_path, [callback, recorder, Spoil()], limit_val_batches=0).fit(sgcdpl(), data)
    assert "the labels of iteration 0 are kept" in caplog.text
    assert {iteration for iteration, _ in recorder.states} == {0}


def test_a_nan_embedding_stops_at_the_step_that_met_it(data, tmp_path, trainer_with):
    model = sgcdpl()
    torch.nn.init.constant_(next(model.network.backbone.parameters()), float("nan"))
    with pytest.raises(ValueError, match=r"labeled: \d+ of \d+ rows hold NaN"):
        trainer_with(tmp_path, [clustering()], limit_val_batches=0).fit(model, data)


def test_a_classifier_of_other_labeled_identities_is_refused(data, market_folder, tmp_path, trainer_with):
    model = sgcdpl()
    trainer_with(tmp_path, [], max_epochs=1, limit_val_batches=0).fit(model, data)
    with pytest.raises(ValueError, match="rows for 4 labeled identities, the datamodule has 5"):
        trainer_with(tmp_path, [], max_epochs=1, limit_val_batches=0).fit(model, data_on(market_folder, labeled=5))


@pytest.mark.parametrize(
    "wrong",
    [
        {"every_n_epochs": 0},
        {"preference": "minimum"},
        {"labels": "fuzzy"},
        {"soft_distance": "cosine"},
        {"temperature": 0.0},
        {"temperature": "warm"},
        {"damping": 0.2},
        {"neighbors": 0},
        {"unconverged": "hide"},
    ],
)
def test_clustering_arguments_out_of_range_die_in_the_constructor(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        AffinityPseudoLabels(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"step": -1.0}, {"step": float("nan")}, {"num_bins": 1}, {"labeled_quantile": 1.0}, {"threshold_from": "x"}]
)
def test_selection_arguments_out_of_range_die_in_the_constructor(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        ProgressiveSelection(**wrong)


def test_strip_arguments_out_of_range_die_in_the_constructor():
    with pytest.raises(ValueError, match="max_images must be a whole number of at least 2, got 1"):
        ClusterStripLogger(max_images=1)


def people(scale: float, *, apart: float = 4.0) -> torch.Tensor:
    """Embeddings of three people, eight images each."""
    centers = apart * torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).repeat_interleave(8, 0)
    return scale * (centers + torch.randn(24, 2, generator=torch.Generator().manual_seed(0)))


def test_soft_labels_that_are_one_hot_are_told_and_a_temperature_of_the_data_softens_them_alike_at_any_scale(caplog):
    text, data = AffinityPseudoLabels(preference="median"), AffinityPseudoLabels(preference="median", temperature="own-exemplar")
    found = text.find_clusters(people(30.0, apart=2.0), None, None)
    assert found.metrics["cluster/soft_max"] > 0.999
    assert "soft labels are one-hot: the largest entry is 1 in the median, at a temperature of 1" in caplog.text
    caplog.clear()
    soft = {scale: data.find_clusters(people(scale, apart=2.0), None, None) for scale in (1.0, 30.0)}
    assert soft[1.0].metrics["cluster/soft_max"] < 0.99
    assert caplog.text == ""
    torch.testing.assert_close(soft[1.0].soft_labels, soft[30.0].soft_labels, rtol=1e-3, atol=1e-4)
    assert soft[30.0].metrics["cluster/temperature"] == pytest.approx(900 * soft[1.0].metrics["cluster/temperature"], rel=1e-4)


def test_a_selection_of_everything_is_told_and_a_quantile_of_memorized_images_selects_less(caplog):
    pids = torch.arange(3).repeat_interleave(8)
    memorized = LabeledEmbeddings(20 * people(0.01) + 100 * torch.nn.functional.one_hot(pids, 3)[:, :2], pids)
    embeddings, exemplars = people(1.0), torch.tensor([0, 8, 16])
    state = TargetState(0, pids, torch.arange(24), embeddings=embeddings, exemplars=exemplars, labeled=memorized)
    _, metrics = ProgressiveSelection().refine(state, pids + 1)
    assert metrics["select/fraction"] == 1
    assert "100.00 % of the images are selected in the first iteration already" in caplog.text
    caplog.clear()
    _, metrics = ProgressiveSelection(labeled_quantile=0.8).refine(state, pids + 1)
    assert 0 < metrics["select/fraction"] < 0.99
    assert caplog.text == ""
