"""Checkpoints at URLs that fsspec serves, here its store in memory: uploaded, read back, pointed to."""

from __future__ import annotations

import io
import json
import logging

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from lightning_reid.checkpoints import DurableCheckpointIO, latest_upload

URL = "memory://run/HSR/last.ckpt"


@pytest.fixture
def store():
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def saved(*epochs) -> None:
    for epoch in epochs:
        DurableCheckpointIO().save_checkpoint({"epoch": epoch, "global_step": 10 * epoch, "weight": torch.full((1000,), float(epoch))}, URL)


def loaded() -> int:
    content = DurableCheckpointIO().load_checkpoint(URL)
    assert content["weight"].unique().tolist() == [content["epoch"]]
    return content["epoch"]


def uploads(store) -> list[str]:
    """Latest first."""
    names = [str(path).rpartition("/")[2] for path in store.ls("/run/HSR", detail=False)]
    return sorted((name for name in names if name != "last.ckpt"), key=lambda name: int(name.split(".")[2].split("-")[0]), reverse=True)


def damage(store, name) -> None:
    content = store.cat_file(f"/run/HSR/{name}")
    store.pipe_file(f"/run/HSR/{name}", content[:2000] + bytes([content[2000] ^ 1]) + content[2001:])


def test_at_most_two_uploads_stay_and_the_latest_is_loaded(store):
    for epoch in range(1, 13):
        saved(epoch)
        assert loaded() == epoch
        assert len(uploads(store)) == min(epoch, 2)
    pointer = json.loads(store.cat_file("/run/HSR/last.ckpt"))
    assert [one["name"] for one in pointer["generations"]] == uploads(store)


def test_a_trainer_saves_at_a_url_and_resumes_from_it_as_from_a_disk(store, tmp_path, fit_line):
    for place in ("memory://run/HSR", str(tmp_path)):
        torch.manual_seed(0)
        fit_line(place, 2)
        fit_line(place, 4, ckpt_path=f"{place}/last.ckpt")
    remote, local = (DurableCheckpointIO().load_checkpoint(f"{place}/last.ckpt") for place in ("memory://run/HSR", tmp_path))
    assert (remote["epoch"], remote["global_step"]) == (local["epoch"], local["global_step"]) == (3, 8)
    torch.testing.assert_close(remote["state_dict"], local["state_dict"], rtol=0, atol=0)


def test_checkpoints_that_lightning_rotates_leave_no_upload_behind(store, fit_line):
    fit_line("memory://run/HSR", 4, filename="{epoch}")
    assert [str(path).rpartition("/")[2].split(".")[0] for path in store.ls("/run/HSR", detail=False)] == ["epoch=3"] * 2


def test_a_damaged_upload_gives_way_to_the_one_before_aloud(store, caplog):
    saved(1, 2)
    latest, previous = uploads(store)
    damage(store, latest)
    assert loaded() == 1
    assert f"the checkpoint memory://run/HSR/{latest} is damaged, its checksum is wrong" in caplog.text
    assert f"memory://run/HSR/{previous} takes its place, of epoch 1 and step 10" in caplog.text
    store.rm_file(f"/run/HSR/{latest}")
    assert loaded() == 1
    damage(store, previous)
    with pytest.raises(ValueError, match=rf"{latest} is damaged, it is empty.*no whole one before {URL}"):
        loaded()


def test_a_damaged_pointer_is_said_and_the_latest_whole_upload_taken(store, caplog):
    saved(1, 2)
    store.pipe_file("/run/HSR/last.ckpt", b'{"format": "light')
    assert loaded() == 2
    assert f"the pointer {URL} is damaged" in caplog.text
    damage(store, uploads(store)[0])
    saved(3)
    assert [torch.load(io.BytesIO(store.cat_file(f"/run/HSR/{name}")), weights_only=True)["epoch"] for name in uploads(store)] == [3, 1]
    assert loaded() == 3


def test_a_save_keeps_the_whole_upload_and_not_the_damaged_one_of_the_same_size(store):
    saved(1, 2)
    latest, previous = uploads(store)
    damage(store, latest)
    saved(3)
    assert uploads(store)[1:] == [previous]
    damage(store, uploads(store)[0])
    assert loaded() == 1


def test_a_pointer_to_nothing_is_said_and_the_latest_whole_upload_taken(store, caplog):
    saved(1, 2)
    pointer = json.loads(store.cat_file("/run/HSR/last.ckpt")) | {"generations": []}
    store.pipe_file("/run/HSR/last.ckpt", json.dumps(pointer).encode())
    assert loaded() == 2
    assert f"the pointer {URL} is damaged" in caplog.text
    for name in uploads(store):
        store.rm_file(f"/run/HSR/{name}")
    with pytest.raises(ValueError, match=rf"^there is no whole one at {URL}. Resume from another"):
        loaded()


@pytest.mark.parametrize("method", ["upload cut", "upload refused", "pointer lost", "pointer refused"])
def test_a_save_that_fails_leaves_the_checkpoint_of_before(store, monkeypatch, method):
    saved(1, 2)
    before, pipe_file = uploads(store), MemoryFileSystem.pipe_file

    def fail(self, path, value, **options):
        what, how = method.split()
        if path.endswith(".ckpt") != (what == "pointer"):
            pipe_file(self, path, value, **options)
        elif how == "refused":
            raise OSError(28, "No space left on device")
        elif how == "cut":
            pipe_file(self, path, value[:-100], **options)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", fail)
    with pytest.raises(OSError, match=rf"cannot save the checkpoint {URL}: .*Check the store's room and rights"):
        saved(3)
    monkeypatch.undo()
    assert uploads(store) == before
    assert loaded() == 2


@pytest.mark.parametrize("zipped", [True, False])
def test_a_plain_checkpoint_at_the_url_is_read_and_kept_as_the_one_before(store, zipped):
    buffer = io.BytesIO()
    torch.save({"epoch": 1, "weight": torch.ones(1000)}, buffer, _use_new_zipfile_serialization=zipped)
    store.pipe_file("/run/HSR/last.ckpt", buffer.getvalue())
    assert loaded() == 1
    saved(2)
    assert loaded() == 2
    damage(store, uploads(store)[0])
    assert loaded() == 1


def test_removing_a_checkpoint_removes_pointer_and_uploads_alone(store):
    saved(1, 2)
    store.pipe_file("/run/HSR/other.ckpt", b"mine")
    DurableCheckpointIO().remove_checkpoint(URL)
    assert [str(path) for path in store.ls("/run/HSR", detail=False)] == ["/run/HSR/other.ckpt"]
    with pytest.raises(FileNotFoundError, match=f"no checkpoint at {URL}: name the .ckpt file, or start a new run"):
        loaded()


def test_what_cannot_be_removed_is_said_and_stops_nothing(store, monkeypatch, caplog):
    saved(1, 2)

    def refuse(self, path):
        raise PermissionError(13, "Access denied")

    monkeypatch.setattr(MemoryFileSystem, "rm_file", refuse)
    with caplog.at_level(logging.WARNING):
        saved(3)
    assert f"of {URL} cannot be removed" in caplog.text
    assert loaded() == 3


def test_the_latest_upload_is_a_file_that_torch_reads(store):
    saved(1, 2)
    with fsspec.open(latest_upload(URL)) as file:
        assert torch.load(file, weights_only=True)["epoch"] == 2
