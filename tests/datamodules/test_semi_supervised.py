from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_reid.datamodules import SemiSupervisedDataModule
from lightning_reid.datamodules.catalog import read_prepared
from lightning_reid.datamodules.unlabeled_views import view_batches
from lightning_reid.protocols import EvaluatedData, LabeledData, TargetData
from lightning_reid.records import IN_TRIPLET_LOSSES, InterCameraPairs, LabeledEmbeddings, TargetState

SMALL = {"image_size": (64, 32), "labeled": 4, "p": 4, "k": 2, "unlabeled_per_batch": 4, "num_workers": 0}


def data_on(folder: Path | str, **options: Any) -> SemiSupervisedDataModule:
    data = SemiSupervisedDataModule(str(folder), **(SMALL | options))
    data.prepare_data()
    data.setup("fit")
    return data


def batches_of(data: SemiSupervisedDataModule, epoch: int = 0, rank: int = 0, world_size: int = 1) -> list[dict[str, Any]]:
    data.trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank, world_size=world_size)  # type: ignore[assignment]
    return list(data.train_dataloader())


def publish(data: SemiSupervisedDataModule, labels: torch.Tensor) -> None:
    camids = torch.tensor([record.camid for record in data.target_records])
    data.set_target_state(TargetState(0, labels, camids))


def some_labels(data: SemiSupervisedDataModule) -> torch.Tensor:
    """Three pseudo-identities, and one image in four not believed in."""
    rows = torch.arange(len(data.target_records))
    return torch.where(rows % 4 == 3, -1, rows % 3)


def pixels(batch: dict[str, Any]) -> torch.Tensor:
    return torch.cat([batch["images"], batch["unlabeled"]["images"]] if "unlabeled" in batch else [batch["images"]])


# --- what is hidden


def test_records_of_the_unlabeled_part_hold_no_identity_and_ground_truth_does(market_folder):
    data = data_on(market_folder)
    everyone = {record.path: record.pid for record in read_prepared(str(market_folder), None).train}
    assert {record.pid for record in data.target_records} == {-1}
    assert data.ground_truth().tolist() == [everyone[record.path] for record in data.target_records]
    assert data.dataset.train == data.labeled_records + data.target_records
    assert {record.path for record in data.dataset.train} == set(everyone)
    assert not set(data.ground_truth().tolist()) & {record.pid for record in data.labeled_records}


def test_no_loader_tells_an_unlabeled_identity(market_folder):
    data = data_on(market_folder)
    assert all((batch["pids"] == -1).all() for batch in data.target_dataloader())
    hidden = {pid for batch in batches_of(data) for pid in batch["pids"][batch["rows"] >= 0].tolist()}
    assert hidden == set()


def test_ground_truth_handed_out_cannot_change_what_is_held(market_folder):
    data = data_on(market_folder)
    data.ground_truth().fill_(0)
    assert (data.ground_truth() > 0).all()


def test_it_is_what_callbacks_and_modules_ask_for(market_folder):
    data = data_on(market_folder)
    assert all(isinstance(data, protocol) for protocol in (TargetData, LabeledData, EvaluatedData))
    assert data.num_classes == 4
    assert data.labeled_pids.unique().tolist() == [0, 1, 2, 3]
    assert len(data.labeled_pids) == len(data.labeled_records)
    assert sum(len(batch["indices"]) for batch in data.labeled_dataloader()) == len(data.labeled_records)


# --- guides


def test_the_images_of_guides_are_the_first_unlabeled_ones_and_their_names_are_told_apart(market_folder):
    data, without = data_on(market_folder, labeled=6, guides=2), data_on(market_folder, labeled=6)
    everyone = {record.path: record.pid for record in read_prepared(str(market_folder), None).train}
    shown = [everyone[record.path] for record in data.target_records]
    num_guides = len(data.guide_pids)
    assert num_guides + len(data.labeled_records) == len(without.labeled_records)
    assert set(shown[:num_guides]) <= {record.pid for record in without.labeled_records}
    assert not set(shown[:num_guides]) & (set(shown[num_guides:]) | {record.pid for record in data.labeled_records})
    assert len(set(zip(shown, data.guide_pids.tolist(), strict=False))) == 2  # a name each
    assert data.guide_pids.unique().tolist() == [0, 1]
    assert {record.pid for record in data.target_records} == {-1}
    assert data.ground_truth().tolist() == shown
    assert shown[num_guides:] == without.ground_truth().tolist()
    assert (data.num_classes, len(without.guide_pids)) == (4, 0)
    assert "6 identities labeled (labeled=6, split_seed=0), 2 of which only guide (guides=2)" in data.dataset.notes


def test_guides_are_trained_on_by_their_pseudo_labels_alone(market_folder):
    data = data_on(market_folder, labeled=6, guides=2)
    labels = torch.arange(len(data.target_records)) % 3
    publish(data, labels)
    guides = [pid for batch in batches_of(data) for pid, row in zip(batch["pids"], batch["rows"]) if 0 <= row < len(data.guide_pids)]
    assert guides
    assert set(torch.stack(guides).tolist()) <= {4, 5, 6}


def test_a_checkpoint_of_other_guides_is_refused_and_one_of_none_loads_where_there_are_none(market_folder):
    data = data_on(market_folder, labeled=6, guides=2)
    saved = data.state_dict()
    data.load_state_dict(saved)
    with pytest.raises(ValueError, match=r"trained with 2 guides .* not the 0 of guides=0"):
        data_on(market_folder, labeled=6).load_state_dict(saved)
    old = {name: value for name, value in data_on(market_folder, labeled=6).state_dict().items() if name != "guide_identities"}
    data_on(market_folder, labeled=6).load_state_dict(old)


@pytest.mark.parametrize(("guides", "message"), [(1, "lets 1 of 6"), (5, "lets 5 of 6"), ("1/12", "lets 0 of 6"), ("x", "guides must be")])
def test_guides_that_cannot_guide_or_leave_nobody_to_train_on_are_refused(market_folder, guides, message):
    with pytest.raises(ValueError, match=message):
        data_on(market_folder, labeled=6, guides=guides, p=2)


# --- batches before pseudo-labels


def test_before_pseudo_labels_a_batch_holds_labeled_images_and_pairs_of_unlabeled_views(market_folder):
    data = data_on(market_folder)
    for batch in batches_of(data):
        assert batch["images"].shape == (8, 3, 64, 32)
        assert (batch["pids"].view(4, 2) == batch["pids"].view(4, 2)[:, :1]).all()
        assert torch.equal(batch["pids"], data.labeled_pids[batch["indices"]])
        assert (batch["rows"] == -1).all()
        views = batch["unlabeled"]
        assert views["images"].shape == (8, 3, 64, 32)
        first, second = views["rows"].view(4, 2).unbind(1)
        assert torch.equal(first, second)
        assert len(first.unique()) == 4
        assert not any(torch.equal(*pair) for pair in views["images"].view(4, 2, 3, 64, 32))


def test_both_parts_of_a_batch_are_normalized(market_folder):
    data = data_on(market_folder)
    batch = data.on_after_batch_transfer(batches_of(data)[0], 0)
    assert batch["images"].dtype == batch["unlabeled"]["images"].dtype == torch.float32


def test_without_unlabeled_images_a_batch_there_are_only_labeled_ones(market_folder):
    assert all("unlabeled" not in batch for batch in batches_of(data_on(market_folder, unlabeled_per_batch=0)))


# --- batches with pseudo-labels


def test_with_pseudo_labels_a_batch_mixes_labeled_and_pseudo_identities_and_leaves_out_noise(market_folder):
    data = data_on(market_folder, p=4)
    labels = some_labels(data)
    publish(data, labels)
    batches = batches_of(data)
    drawn = {int(pid) for batch in batches for pid in batch["pids"]}
    assert drawn == set(range(4 + 3))
    for batch in batches:
        assert "unlabeled" not in batch
        assert len(batch["pids"].unique()) == 4
        is_target = batch["rows"] >= 0
        assert torch.equal(batch["pids"][is_target], 4 + labels[batch["rows"][is_target]])
        assert torch.equal(batch["pids"][~is_target], data.labeled_pids[batch["indices"][~is_target]])
        assert torch.equal(batch["indices"][is_target], len(data.labeled_records) + batch["rows"][is_target])
        assert (labels[batch["rows"][is_target]] >= 0).all()


def test_pseudo_labels_of_which_none_is_believed_leave_the_labeled_images(market_folder):
    data = data_on(market_folder)
    publish(data, torch.full((len(data.target_records),), -1))
    assert all((batch["rows"] == -1).all() for batch in batches_of(data))


def test_a_state_of_another_size_is_refused_and_forgetting_starts_over(market_folder):
    data = data_on(market_folder)
    three = TargetState(0, torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"the state labels 3 images, but .* has \d+ unlabeled images"):
        data.set_target_state(three)
    publish(data, some_labels(data))
    data.forget_target_state()
    assert "unlabeled" in batches_of(data)[0]


# --- seeds, ranks, resumption


@pytest.mark.parametrize("labeled_only", [True, False], ids=["before pseudo-labels", "with pseudo-labels"])
def test_two_ranks_see_together_what_one_process_sees(market_folder, labeled_only):
    together = {"p": 4, "unlabeled_per_batch": 6}
    each = {"p": 2, "unlabeled_per_batch": 3}
    one, two = data_on(market_folder, **together), data_on(market_folder, **each)
    if not labeled_only:
        publish(one, some_labels(one))
        publish(two, some_labels(two))
    whole, ranks = batches_of(one, epoch=3), [batches_of(two, epoch=3, rank=rank, world_size=2) for rank in range(2)]
    assert len(whole) == len(ranks[0]) == len(ranks[1]) > 1
    for batch, *parts in zip(whole, *ranks, strict=True):
        for name in ("images", "pids", "camids", "indices", "rows"):
            assert torch.equal(batch[name], torch.cat([part[name] for part in parts]))
        for name in ("images", "rows") if labeled_only else ():
            assert torch.equal(batch["unlabeled"][name], torch.cat([part["unlabeled"][name] for part in parts]))


def test_draws_and_pixels_are_a_function_of_seed_and_epoch(market_folder):
    again = [torch.cat([pixels(batch) for batch in batches_of(data_on(market_folder, seed=5, split_seed=0), epoch=2)]) for _ in range(2)]
    assert torch.equal(*again)
    data = data_on(market_folder, seed=5, split_seed=0)
    assert not torch.equal(again[0], torch.cat([pixels(batch) for batch in batches_of(data, epoch=3)]))
    other = data_on(market_folder, seed=6, split_seed=0)
    assert other.target_records == data.target_records
    assert not torch.equal(again[0], torch.cat([pixels(batch) for batch in batches_of(other, epoch=2)]))


def test_a_restored_module_draws_as_the_one_that_was_saved(market_folder, tmp_path):
    data = data_on(market_folder)
    camids, num_images = torch.tensor([record.camid for record in data.target_records]), len(data.target_records)
    labels, embeddings = some_labels(data), torch.zeros(num_images, 2)
    num_clusters = int(labels.max()) + 1
    soft = torch.rand(num_images, num_clusters, generator=torch.Generator().manual_seed(0))
    believed = {"exemplars": torch.arange(num_clusters), "soft_labels": soft, "space": IN_TRIPLET_LOSSES}
    data.set_target_state(TargetState(7, labels, camids, embeddings, labeled=LabeledEmbeddings(embeddings[:4], labels[:4]), **believed))
    torch.save(data.state_dict(), tmp_path / "data.pt")
    restored = data_on(market_folder)
    restored.load_state_dict(torch.load(tmp_path / "data.pt", weights_only=True))
    assert restored.target_state is not None
    assert restored.target_state.iteration == 7
    assert restored.target_state.embeddings is None
    assert restored.target_state.labeled is None
    assert torch.equal(restored.target_state.exemplars, believed["exemplars"])
    assert torch.equal(restored.target_state.soft_labels, soft)
    for before, after in zip(batches_of(data), batches_of(restored), strict=True):
        assert torch.equal(before["images"], after["images"])
        assert torch.equal(before["soft_labels"], after["soft_labels"])


def test_mined_pairs_which_no_batch_would_hold_are_refused(market_folder):
    data = data_on(market_folder)
    num_images = len(data.target_records)
    pairs = InterCameraPairs(torch.zeros(num_images, 1, dtype=torch.int64), torch.ones(num_images, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="leave InterCameraMining out"):
        data.set_target_state(TargetState(0, some_labels(data), torch.zeros(num_images, dtype=torch.int64), neighbors=pairs))


def test_a_module_restored_before_the_first_pseudo_labels_has_none(market_folder):
    restored = data_on(market_folder)
    restored.load_state_dict(data_on(market_folder).state_dict())
    assert restored.target_state is None


def test_a_checkpoint_of_another_split_is_refused(market_folder):
    with pytest.raises(ValueError, match=r"with 4 labeled identities, and they are not the 4 of labeled=4, split_seed=1"):
        data_on(market_folder, split_seed=1).load_state_dict(data_on(market_folder, split_seed=0).state_dict())


class Recorder(pl.LightningModule):
    """Learns nothing of use and notes what it was given; believes in pseudo-labels from the end of the first epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.ones(1)), []

    def training_step(self, batch, batch_idx):
        views = batch.get("unlabeled", {"rows": torch.empty(0)})
        self.seen.append((self.current_epoch, batch["indices"].tolist(), views["rows"].tolist(), pixels(batch).double().sum().item()))
        return self.weight * batch["images"].mean()

    def on_train_epoch_end(self):
        if self.current_epoch == 0:
            publish(self.trainer.datamodule, some_labels(self.trainer.datamodule))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def fit(data: SemiSupervisedDataModule, epochs: int, folder: Path, resume: Path | None = None) -> Recorder:
    module = Recorder()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    sampling = {"limit_val_batches": 0}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=epochs, default_root_dir=folder, **quiet, **sampling)
    trainer.fit(module, data, ckpt_path=resume)
    trainer.save_checkpoint(folder / "last.ckpt")
    return module


def test_labels_published_between_epochs_change_the_next_epoch_also_with_workers_and_after_a_restart(market_folder, tmp_path):
    unbroken = fit(data_on(market_folder, num_workers=2), 3, tmp_path).seen
    assert all(rows for epoch, _, rows, _ in unbroken if epoch == 0)
    assert not any(rows for epoch, _, rows, _ in unbroken if epoch > 0)
    fit(data_on(market_folder), 2, tmp_path)
    resumed = fit(data_on(market_folder, num_workers=2), 3, tmp_path, resume=tmp_path / "last.ckpt").seen
    assert resumed == [step for step in unbroken if step[0] == 2] != []


@given(
    num_images=st.integers(1, 40),
    per_batch=st.integers(1, 8),
    steps=st.integers(1, 12),
    world_size=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_views_come_in_pairs_distinct_within_a_step_where_there_are_enough(num_images, per_batch, steps, world_size, seed):
    per_batch = min(per_batch, num_images)
    draw = {"num_batches": steps * world_size, "world_size": world_size}
    plan = view_batches(num_images, per_batch, generator=np.random.default_rng(seed), **draw)
    assert plan.shape == (steps * world_size, 2 * per_batch)
    assert torch.equal(plan[:, ::2], plan[:, 1::2])
    enough = num_images >= per_batch * world_size
    for step in plan[:, ::2].reshape(-1, per_batch * (world_size if enough else 1)):
        assert len(step.unique()) == len(step)
    assert 0 <= int(plan.min()) <= int(plan.max()) < num_images
    if enough:
        one = view_batches(num_images, per_batch * world_size, num_batches=steps, generator=np.random.default_rng(seed))
        assert torch.equal(one, plan.reshape(steps, -1))


# --- other image sets, and bad input


def write_images(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture = np.random.default_rng(number).integers(0, 255, (20 + number % 3, 16, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / name), picture)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_vehicles_of_veri776_are_split_by_name(tmp_path):
    names = [f"image_train/{pid:04d}_c{camera:03d}_0001{camera:04d}_0.jpg" for pid in range(1, 7) for camera in (1, 2, 3)]
    write_images(tmp_path / "VeRi", [*names, "image_query/0008_c001_00010001_0.jpg", "image_test/0008_c002_00010002_0.jpg"])
    data = data_on("veri776", root=str(tmp_path), labeled="1/3", p=2)
    assert (data.num_classes, len(data.target_records)) == (2, 12)
    assert batches_of(data)[0]["unlabeled"]["images"].shape == (8, 3, 64, 32)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_birds_of_cub200_have_no_cameras_and_are_split_by_name(tmp_path):
    classes = [1, 1, 1, 2, 2, 2, 3, 3, 3, 101, 101]
    names = [f"{pid:03d}.Bird/{number}.jpg" for number, pid in enumerate(classes)]
    folder = tmp_path / "CUB_200_2011"
    write_images(folder / "images", names)
    (folder / "images.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(names, 1)), encoding="utf-8")
    lines = "".join(f"{number} {pid}\n" for number, pid in enumerate(classes, 1))
    (folder / "image_class_labels.txt").write_text(lines, encoding="utf-8")
    data = data_on("cub200", root=str(tmp_path), labeled=2, p=2, unlabeled_per_batch=8)
    assert {record.camid for record in data.dataset.train} == {0}
    assert batches_of(data)[0]["unlabeled"]["rows"].unique().tolist() == [0, 1, 2]  # fewer images than a batch asks for


def test_labeling_too_few_too_many_or_all_dies_in_setup(market_folder):
    with pytest.raises(ValueError, match="has 2 labeled identities, but a batch wants P=4: label more, or lower p to 2"):
        data_on(market_folder, labeled=2)
    with pytest.raises(ValueError, match="labels 1: at least 2 are needed"):
        data_on(market_folder, labeled=1, p=1)
    with pytest.raises(ValueError, match="asks for more identities than exist: there are 10"):
        data_on(market_folder, labeled=11)
    with pytest.raises(ValueError, match="leaves no unlabeled image"):
        data_on(market_folder, labeled=10)


def test_a_labeled_identity_with_one_image_is_said_and_repeated(tmp_path, caplog):
    names = ["1_c1_1.png", "2_c1_1.png", "2_c2_2.png", "3_c1_1.png", "3_c2_1.png"]
    write_images(tmp_path / "bounding_box_train", names)
    seed = next(seed for seed in range(20) if 1 in np.random.default_rng(seed).permutation([1, 2, 3])[:2])
    with caplog.at_level(logging.WARNING):
        data = data_on(tmp_path, labeled=2, p=2, seed=seed, needs_test=False)
    assert "1 of 2 labeled identities have one image" in caplog.text
    assert "2 unlabeled images: a batch holds these instead of 4" in caplog.text
    batch = batches_of(data)[0]
    lonely = batch["indices"][batch["pids"] == 0]
    assert len(lonely) == 2
    assert lonely[0] == lonely[1]


@pytest.mark.parametrize("wrong", [{"labeled": "2"}, {"labeled": "half"}, {"unlabeled_per_batch": -1}, {"p": 0}])
def test_arguments_out_of_range_die_in_the_constructor(wrong):
    with pytest.raises(ValueError, match=r"must|need"):
        SemiSupervisedDataModule(**wrong)
