"""Whose drafts are cleared away: a dead process's, never a live one's; and those of hosts that cannot be asked, after a day."""

from __future__ import annotations

import time

import psutil
import pytest
from forked import FORKED, forked

from lightning_reid import drafts
from lightning_reid.drafts import draft_beside
from lightning_reid.files import folder_written_whole, remove_drafts_of, remove_partial_files, write_atomically, write_json


def keep_writing(path, kind, pipe):
    def write(file):
        file.write_text("half")
        pipe.send("writing")
        time.sleep(600)

    if kind == "file":
        write_atomically(path, write)
    else:
        with folder_written_whole(path) as draft:
            write(draft / "1.jpg")


@pytest.fixture
def writer():
    """``writer(path, kind)``: a process in the middle of writing a file or folder."""
    started = []

    def start(path, kind="file"):
        here, there = FORKED.Pipe()
        started.append(forked(keep_writing, path, kind, there))
        assert here.poll(60)
        assert here.recv() == "writing"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.join()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("name", "kind"), [("table.md", "file"), ("market", "folder")])
def test_the_draft_of_a_killed_process_goes_and_that_of_a_live_one_stays(tmp_path, writer, name, kind):
    killed, living = writer(tmp_path / "HSR" / name, kind), writer(tmp_path / "HSR" / name, kind)
    assert len(names(tmp_path / "HSR")) == 2
    killed.kill()
    time.sleep(0.2)  # it is dead, and its parent has not asked: a zombie
    removed = remove_partial_files(tmp_path)
    assert [f"_{killed.pid}_" in path.name for path in removed] == [True]
    assert [f"_{living.pid}_" in one for one in names(tmp_path / "HSR")] == [True]
    assert remove_partial_files(tmp_path, alone=True) == []
    living.kill()
    living.join()
    assert len(remove_drafts_of(tmp_path / "HSR" / name)) == 1
    assert names(tmp_path / "HSR") == []


def test_a_process_that_got_the_number_of_a_dead_writer_does_not_keep_its_draft(tmp_path, monkeypatch):
    draft = draft_beside(tmp_path / "table.md")
    draft.write_text("half")
    assert remove_partial_files(tmp_path) == []
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: time.time() + 60)
    assert remove_partial_files(tmp_path) == [draft]


def test_the_draft_of_another_host_is_left_for_a_day_unless_nobody_writes_there(tmp_path, monkeypatch):
    for name in ("young", "locked"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".table.other-host_1_0a1b2c3d.partial.md").write_text("half")
    assert remove_partial_files(tmp_path) == []
    assert len(remove_partial_files(tmp_path / "locked", alone=True)) == 1
    now = time.time()
    monkeypatch.setattr(drafts.time, "time", lambda: now + 23 * 3600)
    assert remove_partial_files(tmp_path) == []
    monkeypatch.setattr(drafts.time, "time", lambda: now + 25 * 3600)
    assert len(remove_partial_files(tmp_path)) == 1


def test_what_is_not_named_as_a_draft_is_left_alone(tmp_path):
    write_json(tmp_path / "results.json", {})
    for name in (
        ".table-x81kq2.md",
        ".market.k3j2h1g4.partial",
        "notes.partial.md",
        ".host_1.partial",
        ".table.partial.md",
        "table.host_1_0a1b2c3d.partial.md",
    ):
        (tmp_path / name).write_text("mine")
    before = names(tmp_path)
    assert remove_partial_files(tmp_path, alone=True) == []
    assert names(tmp_path) == before


def test_only_drafts_of_the_same_name_go_with_it(tmp_path, draft_of_a_dead_process):
    for name in ("last.ckpt", "best.ckpt"):
        draft_of_a_dead_process(tmp_path / name).write_text("half")
    assert [path.name[:6] for path in remove_drafts_of(tmp_path / "last.ckpt")] == [".last."]
    assert [name[:6] for name in names(tmp_path)] == [".best."]


def test_a_draft_that_cannot_be_removed_is_said_and_stops_nothing(tmp_path, monkeypatch, caplog, draft_of_a_dead_process):
    draft = draft_of_a_dead_process(tmp_path / "a.md")
    draft.write_text("half")

    def refuse(path):
        raise PermissionError(1, "Read-only file system")

    monkeypatch.setattr(drafts.Path, "unlink", refuse)
    assert remove_partial_files(tmp_path) == []
    assert f"{draft} was left by a process that has ended, and cannot be removed (Read-only file system)" in caplog.text


@pytest.mark.parametrize("name", ["a" * 250, "ü" * 120 + ".json", ".hidden", "two.dots.md"])
def test_any_name_that_the_disk_takes_can_be_drafted(tmp_path, name):
    write_json(tmp_path / name, {})
    assert names(tmp_path) == [name]
    draft = draft_beside(tmp_path / name)
    draft.write_text("half")
    assert list(drafts.drafts_of(tmp_path / name)) == list(drafts.drafts_below(tmp_path)) == [draft]


def test_a_folder_that_is_not_there_has_no_drafts(tmp_path):
    assert remove_partial_files(tmp_path / "gone") == remove_drafts_of(tmp_path / "gone" / "table.md") == []
