"""A run that is kept in a store: lost here, it goes on elsewhere and ends as an unbroken one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from lying_store import LyingFileSystem

from lightning_reid.datamodules.blocks import BlockStore, StoreError, pack
from lightning_reid.datamodules.catalog import read_prepared
from lightning_reid.recipes import supervised_market
from lightning_reid.recipes.workshop.stored_run import StoredRun, local_output

TINY = ["--model.backbone=resnet18", '--model.backbone_options={"channels":[4,4,8,8],"layers":[1,1,1,1]}', "--accelerator=cpu", "--quiet"]
SIZES = ["--data.image_size=[32,16]", "--data.p=4", "--data.k=2", "--data.num_workers=0", "--data.val_identities=0", "--epochs=3"]


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    LyingFileSystem.honest()
    on_another_machine(tmp_path / "one", monkeypatch)
    monkeypatch.setattr("lightning_reid.datamodules.blocks.store.time.sleep", lambda _: None)


def on_another_machine(home: Path, monkeypatch) -> None:
    """Where nothing of a run is left."""
    home.mkdir()
    monkeypatch.setattr(Path, "home", lambda: home)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "supervised" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_run_whose_machine_is_lost_goes_on_elsewhere_as_if_unbroken(market_folder, tmp_path, monkeypatch):
    arguments = [*TINY, *SIZES, f"--data.dataset={market_folder}"]
    supervised_market.main([*arguments, f"--output={tmp_path / 'unbroken'}"])
    url = f"lying://{tmp_path}/store/run"
    monkeypatch.setattr("lightning_reid.recipes.workshop.stored_run.SECONDS_BETWEEN", 0.05)

    class LostError(BaseException):
        pass

    running, honest_enter = [], StoredRun.__enter__
    monkeypatch.setattr(StoredRun, "__enter__", lambda stored: running.append(stored) or honest_enter(stored))
    honest_step = torch.optim.Adam.step

    def step(self, *arguments, **options):
        here = Path(local_output(url))
        if (here / "supervised" / "last.ckpt.previous").is_file():  # in the third epoch
            running[0].push()
            running[0]._stop.set()
            monkeypatch.setattr(StoredRun, "__exit__", lambda *_: None)  # of a lost machine nothing is brought any more
            raise LostError
        return honest_step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    with pytest.raises(LostError):
        supervised_market.main([*arguments, f"--output={url}"])
    monkeypatch.undo()
    LyingFileSystem.honest()
    on_another_machine(tmp_path / "two", monkeypatch)
    with pytest.raises(FileExistsError, match="holds a run: give --resume to go on with it, or another --output"):
        supervised_market.main([*arguments, f"--output={url}"])
    supervised_market.main([*arguments, f"--output={url}", "--resume"])
    shutil.rmtree(tmp_path / "two")
    on_another_machine(tmp_path / "three", monkeypatch)
    stored = StoredRun(url, tmp_path / "looked")
    stored.pull()
    unbroken, ended = weights_of(tmp_path / "unbroken"), weights_of(tmp_path / "looked")
    assert all(unbroken[name].equal(ended[name]) for name in unbroken)
    rows = [json.loads((one / "results.json").read_text())["rows"] for one in (tmp_path / "unbroken", tmp_path / "looked")]
    assert rows[0]["supervised"]["mAP"] == rows[1]["supervised"]["mAP"]


def test_what_is_pointed_to_is_whole_whenever_the_machine_is_lost(tmp_path, monkeypatch):
    folder, url = tmp_path / "run", f"lying://{tmp_path}/store"
    folder.mkdir()
    stored = StoredRun(url, folder)
    honest_write, left = BlockStore.write, [0]

    def dies(store, name, content):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        honest_write(store, name, content)

    for turn in range(4):
        for name in ("weights", "scores"):
            (folder / name).write_text(f"{name} {turn}")
        for writes in (0, 1, 1):  # none of it, an object, the other one: what was written is not written again
            left[0] = writes
            with monkeypatch.context() as patch:
                patch.setattr(BlockStore, "write", dies)
                with pytest.raises(KeyboardInterrupt):
                    stored.push()
            if turn:
                seen = StoredRun(url, tmp_path / "seen")
                seen.pull()
                assert {(tmp_path / "seen" / name).read_text() for name in ("weights", "scores")} == {
                    f"weights {turn - 1}",
                    f"scores {turn - 1}",
                }
        assert stored.push()
        assert not stored.push()
    assert len([*(tmp_path / "store" / "objects").iterdir()]) <= 3 * 2 + 2


def test_a_store_that_keeps_other_bytes_is_named_and_the_pointer_stays(tmp_path):
    folder, url = tmp_path / "run", f"lying://{tmp_path}/store"
    folder.mkdir()
    (folder / "weights").write_text("one")
    stored = StoredRun(url, folder)
    stored.push()
    (folder / "weights").write_text("two")
    LyingFileSystem.wrong_wholes = 1
    with pytest.raises(StoreError, match="does not give back weights as it was written"):
        stored.push()
    StoredRun(url, tmp_path / "seen").pull()
    assert (tmp_path / "seen" / "weights").read_text() == "one"


def test_what_could_not_be_brought_is_not_lost_to_an_older_state_of_the_store(tmp_path):
    folder, url = tmp_path / "run", f"lying://{tmp_path}/store"
    folder.mkdir()
    (folder / "weights").write_text("one")
    StoredRun(url, folder).push()
    (folder / "weights").write_text("two")  # and the store is away
    again = StoredRun(url, folder)
    again.resume()
    assert (folder / "weights").read_text() == "two"
    assert again.push()
    other = StoredRun(url, tmp_path / "other")
    other.resume()
    assert (tmp_path / "other" / "weights").read_text() == "two"
    (tmp_path / "other" / "weights").write_text("three")
    other.push()
    last = StoredRun(url, folder)
    last.resume()  # the store is ahead: another machine went on
    assert (folder / "weights").read_text() == "three"


def test_a_damaged_store_takes_nothing_from_the_folder(tmp_path):
    folder, url = tmp_path / "run", f"lying://{tmp_path}/store"
    folder.mkdir()
    (folder / "weights").write_text("mine")
    StoredRun(url, folder).push()
    (object_file,) = (tmp_path / "store" / "objects").iterdir()
    object_file.write_text("other")
    with pytest.raises(StoreError, match="with other bytes than were written"):
        StoredRun(url, folder).pull()
    assert (folder / "weights").read_text() == "mine"
    assert {one.name for one in tmp_path.iterdir()} >= {"run", "store"}
    assert not [one for one in tmp_path.iterdir() if "partial" in one.name]


def test_two_runs_are_not_kept_in_one_place(tmp_path):
    folder, url = tmp_path / "run", f"lying://{tmp_path}/store"
    folder.mkdir()
    (folder / "weights").write_text("mine")
    mine, other = StoredRun(url, folder), StoredRun(url, tmp_path / "other")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "weights").write_text("theirs")
    other.push()
    with pytest.raises(StoreError, match=r"another run was kept in .* meanwhile, and stays there: this one is whole in"):
        mine.push()
    StoredRun(url, tmp_path / "seen").pull()
    assert (tmp_path / "seen" / "weights").read_text() == "theirs"


def test_a_pointer_that_leads_out_of_the_run_is_refused(tmp_path):
    store = BlockStore(f"lying://{tmp_path}/store")
    store.write("objects/aa", b"mine")
    store.write_json("pointer.json", {"files": {"../outside": "aa"}})
    with pytest.raises(StoreError, match="names a file outside of its run"):
        StoredRun(store.url, tmp_path / "run").pull()
    assert not (tmp_path / "outside").exists()
    store.write_json("pointer.json", {"files": [1]})
    with pytest.raises(StoreError, match="of something else: give another --output"):
        StoredRun(store.url, tmp_path / "run").pull()


def test_a_store_of_pictures_that_goes_away_within_an_epoch_stops_a_run_by_name_which_goes_on_later(market_folder, tmp_path, monkeypatch):
    pack(read_prepared(str(market_folder), None), BlockStore(str(tmp_path / "blocks")), block_bytes=40_000, progress=False)
    arguments = [*TINY, *SIZES, f"--data.dataset=lying://{tmp_path / 'blocks'}", "--data.block_cache_gb=0"]
    monkeypatch.setattr("lightning_reid.datamodules.images.KEPT_BYTES", 0)  # as of a set that memory does not hold
    supervised_market.main([*arguments, f"--output={tmp_path / 'unbroken'}"])
    honest_step, output = torch.optim.Adam.step, tmp_path / "run"

    def step(self, *arguments, **options):
        if (output / "supervised" / "last.ckpt").is_file():  # in the second epoch
            LyingFileSystem.failures = 10**9
        return honest_step(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        with pytest.raises(StoreError, match=r"did not give \d{5}\.zip: ConnectionError\. Is the endpoint up"):
            supervised_market.main([*arguments, f"--output={output}"])
    LyingFileSystem.honest()
    supervised_market.main([*arguments, f"--output={output}", "--resume"])
    unbroken, ended = weights_of(tmp_path / "unbroken"), weights_of(output)
    assert all(unbroken[name].equal(ended[name]) for name in unbroken)
