"""Checkpoints on a disk: whole at every moment, the one before as a fallback, damage and foreign content told apart."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import pickle
import random
import resource
import tempfile
import time
from pathlib import Path

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy

from lightning_reid import files
from lightning_reid.checkpoints import DurableCheckpointIO
from lightning_reid.networks.archives import damage_of
from lightning_reid.recipes.workshop.stages import RunOptions, Stage


class Foreign:
    pass


def saved(path, epochs) -> None:
    for epoch in epochs:
        DurableCheckpointIO().save_checkpoint(
            {"epoch": epoch, "global_step": 10 * epoch, "weight": torch.full((1000,), float(epoch))}, path
        )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def flip_a_weight(content: bytes) -> bytes:
    return content[:2000] + bytes([content[2000] ^ 1]) + content[2001:]


DAMAGES = {
    "flipped": (flip_a_weight, "its checksum is wrong"),
    "cut": (lambda content: content[:3000], "it is cut short or overwritten"),
    "empty": (lambda content: b"", "it is empty"),
    "zeroed": (lambda content: bytes(len(content)), "torch.save does not write"),
}


def test_two_checkpoints_stay_and_nothing_else(tmp_path):
    saved(tmp_path / "new" / "last.ckpt", range(1, 5))
    assert names(tmp_path / "new") == ["last.ckpt", "last.ckpt.previous"]
    assert [torch.load(path, weights_only=True)["epoch"] for path in sorted((tmp_path / "new").iterdir())] == [4, 3]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_aloud(tmp_path, caplog, damage):
    path = tmp_path / "last.ckpt"
    saved(path, (1, 2))
    change, told = DAMAGES[damage]
    path.write_bytes(change(path.read_bytes()))
    content = DurableCheckpointIO().load_checkpoint(path)
    assert (content["epoch"], content["weight"].unique().tolist()) == (1, [1.0])
    assert f"the checkpoint {path} is damaged, it" in caplog.text
    assert told in caplog.text
    assert f"{path}.previous takes its place, of epoch 1 and step 10; what was trained since then is lost" in caplog.text


def test_a_damaged_checkpoint_never_takes_the_place_of_the_whole_one_before(tmp_path, caplog):
    path = tmp_path / "last.ckpt"
    saved(path, (1, 2))
    path.write_bytes(flip_a_weight(path.read_bytes()))
    saved(path, (3,))
    assert DurableCheckpointIO().load_checkpoint(path)["epoch"] == 3
    assert torch.load(f"{path}.previous", weights_only=True)["epoch"] == 1
    assert caplog.text == ""


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("weights_only", [None, True, False])
def test_without_a_whole_one_before_the_file_and_the_way_on_are_named(tmp_path, damage, weights_only):
    path = tmp_path / "last.ckpt"
    saved(path, (1, 2))
    for file in tmp_path.iterdir():
        file.write_bytes(DAMAGES[damage][0](file.read_bytes()))
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged.*last\.ckpt\.previous is damaged.*start a new run") as caught:
        DurableCheckpointIO().load_checkpoint(path, weights_only=weights_only)
    assert "weights_only" not in str(caught.value)
    (tmp_path / "last.ckpt.previous").unlink()
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged.*no whole one before .*last\.ckpt"):
        DurableCheckpointIO().load_checkpoint(path, weights_only=weights_only)


def test_a_whole_checkpoint_with_foreign_classes_is_refused_and_not_replaced_by_the_one_before(tmp_path, caplog):
    path = tmp_path / "last.ckpt"
    saved(path, (1,))
    DurableCheckpointIO().save_checkpoint({"epoch": 2, "hyper_parameters": {"net": Foreign()}}, path)
    for weights_only in (None, True):
        with pytest.raises(ValueError, match=r"last\.ckpt is not damaged, but holds .*Foreign, which is not loaded.*ignore=") as caught:
            DurableCheckpointIO().load_checkpoint(path, weights_only=weights_only)
        assert "weights_only" not in str(caught.value)
    assert isinstance(DurableCheckpointIO().load_checkpoint(path, weights_only=False)["hyper_parameters"]["net"], Foreign)
    assert caplog.text == ""


def test_a_whole_file_of_something_else_is_refused_for_what_it_is_and_not_replaced_by_the_one_before(tmp_path, caplog):
    path = tmp_path / "last.ckpt"
    saved(path, (1, 2))
    path.write_bytes(pickle.dumps({"a": 1}))
    for weights_only in (None, False):
        with pytest.raises(ValueError, match=r"last\.ckpt is no checkpoint of Lightning, it is a plain pickle.*Resume from another file"):
            DurableCheckpointIO().load_checkpoint(path, weights_only=weights_only)
    assert caplog.text == ""
    path.write_bytes(pickle.dumps({"a": 1})[:-3])
    assert DurableCheckpointIO().load_checkpoint(path)["epoch"] == 1


def test_an_old_checkpoint_that_is_cut_gives_way_to_the_one_before_aloud(tmp_path, caplog):
    path = tmp_path / "last.ckpt"
    saved(path, (1, 2))
    torch.save({"epoch": 2, "weight": torch.ones(1000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:2000])
    assert DurableCheckpointIO().load_checkpoint(path)["epoch"] == 1
    assert f"the checkpoint {path} is damaged, it is cut short or overwritten (unexpected EOF" in caplog.text


def test_a_checkpoint_of_another_library_is_read(tmp_path):
    for name, zipped in (("new.ckpt", True), ("old.ckpt", False)):
        torch.save({"epoch": 7}, tmp_path / name, _use_new_zipfile_serialization=zipped)
        assert DurableCheckpointIO().load_checkpoint(tmp_path / name) == {"epoch": 7}
    torch.save([1], tmp_path / "list.ckpt")
    with pytest.raises(ValueError, match=r"list\.ckpt holds a list, expected a checkpoint of Lightning"):
        DurableCheckpointIO().load_checkpoint(tmp_path / "list.ckpt")


def test_a_checkpoint_that_is_gone_gives_way_to_the_one_before_aloud(tmp_path, caplog):
    path = tmp_path / "last.ckpt"
    saved(path, (1, 2))
    path.unlink()
    assert DurableCheckpointIO().load_checkpoint(path)["epoch"] == 1
    assert f"the checkpoint {path} is gone: {path}.previous takes its place, of epoch 1 and step 10; what was trained" in caplog.text
    (tmp_path / "last.ckpt.previous").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"last\.ckpt is gone; the checkpoint .*previous is damaged, it is empty; there is no whole one before"
    ):
        DurableCheckpointIO().load_checkpoint(path)


def test_a_checkpoint_that_was_never_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*best\.ckpt: name the \.ckpt file"):
        DurableCheckpointIO().load_checkpoint(tmp_path / "best.ckpt")


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_save_that_fails_at_any_step_leaves_the_checkpoint_of_before(tmp_path, monkeypatch, step):
    path = tmp_path / "last.ckpt"
    saved(path, (1, 2))

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*{"write": (torch, "save"), "fsync": (files.os, "fsync"), "replace": (files.os, "replace")}[step], fail)
    with pytest.raises(OSError, match=r"cannot write .*last\.ckpt: No space left on device. Choose another folder .*or free the disk"):
        saved(path, (3,))
    monkeypatch.undo()
    assert DurableCheckpointIO().load_checkpoint(path)["epoch"] == 2
    assert names(tmp_path) == ["last.ckpt", "last.ckpt.previous"]


def test_a_full_disk_during_a_save_is_an_oserror_that_names_the_file(tmp_path):
    saved(tmp_path / "last.ckpt", (1,))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))  # no file may grow above 3000 bytes; Python ignores the signal
    try:
        with pytest.raises(OSError, match=r"cannot write .*last\.ckpt: File too large"):
            saved(tmp_path / "last.ckpt", (2,))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert DurableCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")["epoch"] == 1
    assert names(tmp_path) == ["last.ckpt"]


def test_the_trainer_saves_resumes_and_falls_back(tmp_path, caplog, fit_line):
    fit_line(tmp_path, 2)
    fit_line(tmp_path, 3, ckpt_path=tmp_path / "last.ckpt")
    path = tmp_path / "last.ckpt"
    unbroken = torch.load(path, weights_only=True)
    assert unbroken["epoch"] == 2
    path.write_bytes(path.read_bytes()[:-500])
    with caplog.at_level(logging.WARNING):
        fit_line(tmp_path, 3, ckpt_path=path)
    assert "what was trained since then is lost" in caplog.text
    again = torch.load(path, weights_only=True)
    assert again["global_step"] == unbroken["global_step"] == 6
    torch.testing.assert_close(again["state_dict"], unbroken["state_dict"], rtol=0, atol=0)


def test_a_stage_whose_last_checkpoint_is_gone_goes_on_from_the_one_before_and_not_from_the_beginning(tmp_path, caplog, fit_line):
    stage = Stage(RunOptions(output=str(tmp_path), resume=True), "HSR")
    stage.claim()
    assert stage.resume_from() is None
    fit_line(stage.folder, 2)
    stage.checkpoint.unlink()
    trainer = fit_line(stage.folder, 3, ckpt_path=stage.resume_from())
    assert "takes its place, of epoch 0 and step 2" in caplog.text
    assert trainer.global_step == 6
    assert trainer.fit_loop.epoch_progress.total.started == 3


def test_a_checkpoint_that_lightning_removes_takes_its_fallback_along(tmp_path):
    saved(tmp_path / "last.ckpt", (1, 2))
    DurableCheckpointIO().remove_checkpoint(tmp_path / "last.ckpt")
    DurableCheckpointIO().remove_checkpoint(tmp_path / "last.ckpt")
    assert names(tmp_path) == []


def test_a_save_clears_what_a_killed_one_left(tmp_path, draft_of_a_dead_process):
    for name in ("last.ckpt", "last.ckpt.previous"):
        draft_of_a_dead_process(tmp_path / name).write_bytes(b"half")
    saved(tmp_path / "last.ckpt", (1,))
    assert names(tmp_path) == ["last.ckpt"]


def test_lightning_does_not_take_the_fallback_for_another_last_checkpoint(tmp_path, fit_line):
    trainer = fit_line(tmp_path, 2, save_last=True)
    assert (tmp_path / "last.ckpt.previous").is_file()
    assert [Path(path).name for path in trainer.checkpoint_callback._find_last_checkpoints(trainer)] == ["last.ckpt"]


def test_only_the_first_rank_writes(tmp_path, monkeypatch):
    for rank, written in ((0, True), (1, False)):
        strategy = DDPStrategy(checkpoint_io=DurableCheckpointIO())
        monkeypatch.setattr(DDPStrategy, "global_rank", rank)
        strategy.save_checkpoint({"epoch": 1}, tmp_path / f"{rank}.ckpt")
        assert (tmp_path / f"{rank}.ckpt").is_file() == written
    assert strategy.load_checkpoint(tmp_path / "0.ckpt") == {"epoch": 1}


def test_storage_options_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"storage_options are not taken, got .*key"):
        DurableCheckpointIO().save_checkpoint({}, tmp_path / "last.ckpt", storage_options={"key": 1})


def save_for_ever(path, latest) -> None:
    if Path("/dev/shm").is_dir():
        os.environ["TMPDIR"] = tempfile.tempdir = "/dev/shm"  # another file system than the target's
    for epoch in itertools.count(latest.value + 1):
        DurableCheckpointIO().save_checkpoint({"epoch": epoch, "weight": torch.full((2_000_000,), float(epoch))}, path)
        latest.value = epoch


@pytest.mark.slow
def test_whenever_a_process_is_killed_a_whole_checkpoint_is_there(tmp_path):
    path, moments, context = tmp_path / "last.ckpt", random.Random(0), multiprocessing.get_context("fork")
    latest, drafts_left = context.Value("q", 0, lock=False), 0
    for kill in range(20):
        process = context.Process(target=save_for_ever, args=(path, latest))
        process.start()
        while latest.value == 0:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.2))
        process.kill()
        process.join()
        drafts_left += len(names(tmp_path)) > 2
        with path.open("rb") as file:
            assert damage_of(file) is None, kill
        content = DurableCheckpointIO().load_checkpoint(path)
        assert content["weight"].unique().tolist() == [content["epoch"]]
        assert content["epoch"] in (latest.value, latest.value + 1)
    assert drafts_left  # some kill came in the middle of a save
    saved(path, (1,))
    assert names(tmp_path) == ["last.ckpt", "last.ckpt.previous"]
