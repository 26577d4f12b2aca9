from __future__ import annotations

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from lightning_reid.datamodules import VideoReIDDataModule
from lightning_reid.datamodules.generated import GeneratedTracklets
from lightning_reid.datamodules.samplers import evaluation_batches, identity_batches
from lightning_reid.packed_tracklets import write_packed_tracklet
from lightning_reid.protocols import EvaluatedData, LabeledData, ResizedData, TrackletData

SMALL = {"image_size": (32, 16), "clip_length": 4, "p": 2, "k": 2, "num_workers": 0, "eval_batch_size": 5, "val_identities": 0}


@pytest.fixture(scope="module")
def mars(tmp_path_factory):
    """Five training and three test people in the layout of MARS, tracklets of 3 to 9 frames of 32 x 16 pixels."""
    people = GeneratedTracklets("mars-like", num_train_pids=5, num_test_pids=3, num_distractors=2, frames=(3, 9), height=32, width=16)
    return people.write(tmp_path_factory.mktemp("data") / "mars", progress=False)


def data_on(folder, *, rank: int = 0, world_size: int = 1, epoch: int = 0, **options) -> VideoReIDDataModule:
    data = VideoReIDDataModule(str(folder), **(SMALL | options))
    data.prepare_data()
    data.setup("fit")
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, current_epoch=epoch)
    return data


def batches_of(data: VideoReIDDataModule, stage: str = "train") -> list[dict[str, torch.Tensor]]:
    loader = data.train_dataloader() if stage == "train" else data.val_dataloader()
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def test_it_keeps_the_promises_that_modules_and_callbacks_rely_on(mars):
    data = data_on(mars)
    assert all(isinstance(data, protocol) for protocol in (LabeledData, ResizedData, EvaluatedData, TrackletData))


def test_training_batches_hold_p_identities_with_k_normalized_clips(mars):
    data = data_on(mars)
    batches = batches_of(data)
    assert len(batches) == 2  # five identities, two a batch: an epoch shows each at most once
    for batch in batches:
        assert batch["clips"].shape == (4, 4, 3, 32, 16)
        assert batch["clips"].dtype == torch.float32
        assert batch["clips"].abs().max() < 3
        assert batch["clips"].is_contiguous()
        assert "masks" not in batch
        assert (batch["pids"].view(2, 2) == batch["pids"].view(2, 2)[:, :1]).all()
        records = [data.dataset.train[row] for row in batch["indices"]]
        assert batch["camids"].tolist() == [record.camid for record in records]
    assert len(torch.cat([batch["pids"] for batch in batches]).unique()) == 4
    assert data.num_classes == 5


def test_an_epoch_of_tracklets_draws_about_as_many_clips_as_there_are_tracklets(mars):
    data = VideoReIDDataModule(str(mars), **SMALL, epoch="tracklets")
    data.setup("fit")
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, current_epoch=0)
    assert len(data.train_dataloader()) == len(data.dataset.train) // 4 > 2


@given(num_pids=st.integers(4, 40), p=st.integers(1, 4), world_size=st.integers(1, 3), seed=st.integers(0, 9))
def test_an_epoch_of_identities_shows_each_once_but_those_that_fill_no_step(num_pids, p, world_size, seed):
    if p * world_size > num_pids:
        return
    labels = torch.arange(num_pids).repeat_interleave(3)
    plan = identity_batches(labels, p, 2, generator=np.random.default_rng(seed), world_size=world_size, epoch="identities")
    shown = labels[plan][:, ::2].flatten().tolist()
    assert len(shown) == len(set(shown)) == num_pids // (p * world_size) * p * world_size


def test_evaluation_batches_are_queries_then_gallery_with_their_own_numbers(mars):
    data = data_on(mars)
    query, gallery = data.evaluation_records()
    batches = batches_of(data, "val")
    joined = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    assert joined["clips"].shape == (len(query) + len(gallery), 4, 3, 32, 16)
    assert joined["clips"].dtype == torch.float32
    assert joined["is_query"].tolist() == [True] * len(query) + [False] * len(gallery)
    assert joined["indices"].tolist() == [*range(len(query)), *range(len(gallery))]
    assert joined["pids"].tolist() == [record.pid for record in (*query, *gallery)]
    assert joined["second_pids"].tolist() == [-1] * len(joined["pids"])
    assert max(len(batch["clips"]) for batch in batches) == 5
    assert {record.paths for record in query} <= {record.paths for record in gallery}


def test_all_clips_of_a_tracklet_are_in_one_batch_and_batches_stay_small(mars):
    data = data_on(mars, test_clips="all", clip_length=2)
    query, gallery = data.evaluation_records()
    batches = batches_of(data, "val")
    assert torch.cat([batch["num_clips"] for batch in batches]).tolist() == [-(-len(record.paths) // 2) for record in (*query, *gallery)]
    for batch in batches:
        assert len(batch["clips"]) == batch["num_clips"].sum()
        assert len(batch["clips"]) <= 5


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=40), max_size=st.integers(1, 20), world_size=st.integers(1, 5))
def test_ranks_take_equally_many_tracklets_and_batches_and_miss_none(sizes, max_size, world_size):
    ranks = [evaluation_batches(sizes, max_size, rank, world_size) for rank in range(world_size)]
    rows = [[row for batch in batches for row in batch] for batches in ranks]
    assert {row for rank in rows for row in rank} == set(range(len(sizes)))
    assert len({len(rank) for rank in rows}) == 1
    assert sum(map(len, rows)) < len(sizes) + world_size
    assert len({len(batches) for batches in ranks}) == 1
    assert all(batch for batches in ranks for batch in batches)
    assert all(len(batch) == 1 or sum(sizes[row] for row in batch) <= max_size for batches in ranks for batch in batches)


def test_two_ranks_draw_what_one_with_twice_the_batch_draws(mars):
    one = batches_of(data_on(mars, p=4))
    two = [batches_of(data_on(mars, p=2, rank=rank, world_size=2)) for rank in range(2)]
    assert torch.equal(torch.cat([two[0][0]["clips"], two[1][0]["clips"]]), one[0]["clips"])


def test_two_ranks_evaluate_every_tracklet(mars):
    ranks = [batches_of(data_on(mars, rank=rank, world_size=2), "val") for rank in range(2)]
    seen = {
        (bool(is_query), int(index))
        for batches in ranks
        for batch in batches
        for is_query, index in zip(batch["is_query"], batch["indices"])
    }
    query, gallery = data_on(mars).evaluation_records()
    assert len(seen) == len(query) + len(gallery)


def test_the_stamp_tells_clips_size_and_corrections(mars, tmp_path):
    data = data_on(mars)
    stamp = data.protocol_stamp()
    assert stamp.transform == "RRS, T=4, first of each chunk, resize 32x16, ImageNet normalization"
    assert stamp.num_gallery == sum(record.pid != -1 for record in data.dataset.gallery) < len(data.dataset.gallery)
    name = Path(data.dataset.query[0].paths[0]).name
    (tmp_path / "fixes.csv").write_text(f"tracklet,pid,second_pid\n{name},,77\n")
    data = data_on(mars, corrections=str(tmp_path / "fixes.csv"), test_clips="all")
    assert data.protocol_stamp().transform.endswith("labels corrected by fixes.csv")
    assert "all frames in interleaved clips, T=4" in data.protocol_stamp().transform
    batch = batches_of(data, "val")[0]
    assert batch["second_pids"][0] == 77
    assert sum(record.second_pid == 77 for record in data.dataset.gallery) == 1


def test_sparse_tracklets_keep_one_of_each_person_in_each_camera(mars):
    data = data_on(mars, sparse_tracklets=True)
    pairs = [(record.pid, record.camid) for record in data.dataset.train]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == {(record.pid, record.camid) for record in data_on(mars).dataset.train}
    assert data.dataset.train == data_on(mars, sparse_tracklets=True).dataset.train
    assert data.dataset.train != data_on(mars, sparse_tracklets=True, seed=3).dataset.train
    assert f"trained on {len(pairs)} of" in data.dataset.notes[-1]


def test_each_tracklet_is_named_once_and_its_original_frames_can_be_read(mars):
    data = data_on(mars, image_size=(16, 8))
    records = data.tracklet_records()
    assert len({record.paths for record in records}) == len(records) == len(data.dataset.train) + len(data.dataset.gallery)
    frames = data.read_frames(records[0])
    assert [frame.shape for frame in frames] == [(3, 32, 16)] * len(records[0].paths)


@pytest.fixture
def processed(mars, tmp_path):
    """Packed tracklets in which frames are black and the left half is padding."""
    data, files = data_on(mars), {}
    for number, record in enumerate(data.tracklet_records()):
        files[record.paths] = tmp_path / f"{number}.safetensors"
        frames = torch.zeros(len(record.paths), 3, 32, 16, dtype=torch.uint8)
        boxes = torch.tensor([8, 0, 16, 32], dtype=torch.int32).repeat(len(frames), 1)
        write_packed_tracklet(files[record.paths], frames, boxes)
    return files


def test_processed_tracklets_are_served_with_masks_for_training_and_testing_until_taken_back(mars, processed):
    data = data_on(mars)
    before = batches_of(data)
    data.serve_processed(processed)
    left = torch.arange(16) < 8
    for batch in batches_of(data, "val"):
        assert batch["masks"].shape == (*batch["clips"].shape[:2], 32, 16)
        assert batch["masks"].dtype == torch.bool
        assert (batch["masks"] == ~left).all()
        assert "pictures" not in batch
    masks = torch.cat([batch["masks"][:, 0, 0] for batch in batches_of(data)])
    assert {tuple(mask.tolist()) for mask in masks} == {tuple(left.tolist()), tuple((~left).tolist())}  # mirrored with their clips
    assert "processed tracklets" in data.protocol_stamp().transform
    data.serve_processed(None)
    assert torch.equal(batches_of(data)[0]["clips"], before[0]["clips"])
    assert "processed" not in data.protocol_stamp().transform


def test_a_tracklet_without_a_processed_one_is_named(mars, processed):
    data = data_on(mars)
    missing = data.tracklet_records()[3]
    del processed[missing.paths]
    with pytest.raises(ValueError, match=rf"1 of \d+ tracklets .* begins with {missing.paths[0]}"):
        data.serve_processed(processed)


def test_a_packed_cache_gives_the_same_batches_as_the_images(mars, tmp_path):
    plain = batches_of(data_on(mars)) + batches_of(data_on(mars, test_clips="all"), "val")
    options = {"packed": str(tmp_path / "cache"), "packed_encoding": "raw"}
    packed = batches_of(data_on(mars, **options)) + batches_of(data_on(mars, test_clips="all", **options), "val")
    assert len(plain) == len(packed)
    assert all(torch.equal(one["clips"], other["clips"]) for one, other in zip(plain, packed))


def test_a_packed_cache_decodes_no_image_and_its_jpeg_stands_in_the_stamp(mars, tmp_path, monkeypatch):
    data = data_on(mars, packed=str(tmp_path / "cache"), packed_encoding="jpeg")
    monkeypatch.setattr("lightning_reid.datamodules.images.load_image", lambda path: pytest.fail(f"{path} was decoded"))
    batches_of(data)
    batches_of(data, "val")
    assert "compressed again as JPEG" in data.protocol_stamp().transform


def test_setup_without_prepare_data_names_what_is_not_packed(mars, tmp_path):
    data = VideoReIDDataModule(str(mars), packed=str(tmp_path / "cache"), **SMALL)
    with pytest.raises(RuntimeError, match=r"32x16-raw does not hold .* call prepare_data\(\)"):
        data.setup("fit")


@pytest.fixture
def damaged(mars, tmp_path):
    """A copy with one frame of zero bytes, and its name."""
    folder = Path(shutil.copytree(mars, tmp_path / "damaged"))
    victim = min((folder / "bbox_train").glob("*/*.jpg"))
    victim.write_bytes(b"")
    return folder, victim.name


@pytest.mark.parametrize("packed", [False, True])
def test_an_unreadable_frame_is_named_before_training(damaged, tmp_path, packed):
    folder, name = damaged
    with pytest.raises(RuntimeError, match=f"{name}.*zero bytes"):
        data_on(folder, packed=str(tmp_path / "cache") if packed else None)


def test_unreadable_frames_can_be_left_out_with_a_count(damaged, caplog):
    folder, name = damaged
    with caplog.at_level(logging.WARNING):
        data = data_on(folder, unreadable="skip")
    assert name not in {Path(path).name for record in data.tracklet_records() for path in record.paths}
    assert data.dataset.notes[-1] == "1 unreadable frames left out, and 0 tracklets that had no other"
    assert name in caplog.text


def test_fewer_identities_than_p_dies_in_setup_and_says_what_to_do(mars):
    with pytest.raises(ValueError, match="has 5 training identities, but a batch wants P=6: lower p to 5"):
        data_on(mars, p=6)


def test_k_larger_than_an_identity_has_is_said(mars, caplog):
    with caplog.at_level(logging.WARNING):
        data_on(mars, k=500)
    assert "5 of 5 identities" in caplog.text
    assert "fewer than K=500 tracklets" in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"p": 0},
        {"clip_length": 0},
        {"image_size": (0, 64)},
        {"erasing_probability": 1.5},
        {"test_clips": "every"},
        {"epoch": "long"},
        {"num_workers": -1},
    ],
)
def test_arguments_out_of_range_die_in_the_constructor(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be .* got"):
        VideoReIDDataModule(**wrong)


def test_a_name_that_is_nothing_lists_the_video_sets():
    with pytest.raises(
        ValueError, match=r"'marz' is neither an existing folder .*mars, dukemtmc-video, ilids-vid, prid2011-video, mars-like"
    ):
        VideoReIDDataModule("marz").setup("fit")


def test_a_missing_data_root_and_a_split_where_there_is_one_only_are_errors(tmp_path, mars):
    with pytest.raises(FileNotFoundError, match="MARS"):
        VideoReIDDataModule("mars", root=str(tmp_path)).setup("fit")
    with pytest.raises(ValueError, match="one split only, got split=3"):
        data_on(mars, split=3)


def test_a_table_of_tracklets_without_a_test_part_can_be_trained_on_but_not_scored(mars, tmp_path):
    lines = ["path,pid,camid,tracklet,split"]
    for number, record in enumerate(data_on(mars).dataset.train):
        lines += [f"{path},{record.pid},{record.camid},{number},train" for path in record.paths]
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    data = data_on(tmp_path / "mine.csv", needs_test=False, allow_paths_outside=True)
    assert len(batches_of(data)) == 2
    with pytest.raises(ValueError, match="0 queries and 0 gallery tracklets: nothing to score"):
        data.val_dataloader()
    with pytest.raises(ValueError, match="no row of split 'query'"):
        data_on(tmp_path / "mine.csv", allow_paths_outside=True)
    with pytest.raises(ValueError, match=r"mine.csv, line 2: .* leads out of .* say allow_paths_outside=True"):
        data_on(tmp_path / "mine.csv", needs_test=False)


class Recorder(pl.LightningModule):
    """Remembers what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.shown: dict[int, list[torch.Tensor]] = {}

    @override
    def training_step(self, batch, batch_idx):
        self.shown.setdefault(self.current_epoch, []).append(batch["clips"].sum((1, 2, 3, 4)))
        return self.layer(batch["clips"].mean().view(1, 1)).sum()

    @override
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def test_a_resumed_run_sees_the_pixels_of_an_unbroken_one(mars, tmp_path):
    def trainer(max_epochs: int) -> pl.Trainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        mine = {"default_root_dir": str(tmp_path)}
        return pl.Trainer(max_epochs=max_epochs, enable_checkpointing=False, **quiet, **mine)

    def data() -> VideoReIDDataModule:
        return VideoReIDDataModule(str(mars), **(SMALL | {"num_workers": 2, "erasing_probability": 0.5}))

    unbroken, begun, resumed = Recorder(), Recorder(), Recorder()
    trainer(2).fit(unbroken, datamodule=data())
    first = trainer(1)
    first.fit(begun, datamodule=data())
    first.save_checkpoint(tmp_path / "half.ckpt")
    trainer(2).fit(resumed, datamodule=data(), ckpt_path=str(tmp_path / "half.ckpt"))
    assert list(resumed.shown) == [1]
    assert all(torch.equal(one, other) for one, other in zip(unbroken.shown[1], resumed.shown[1], strict=True))
    assert not torch.equal(unbroken.shown[0][0], unbroken.shown[1][0])
