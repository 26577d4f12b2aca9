from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import signal
from pathlib import Path

import pytest
from another_user import as_another_user

from lightning_reid import files
from lightning_reid.files import folder_written_whole, write_atomically, write_json


def test_json_is_written_into_a_folder_made_for_it(tmp_path):
    write_json(tmp_path / "new" / "results.json", {"mAP": 0.5})
    assert json.loads((tmp_path / "new" / "results.json").read_text()) == {"mAP": 0.5}
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["results.json"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_mode_of_the_umask_and_a_replaced_one_keeps_its_own(tmp_path, umask, mode):
    def modes():
        return [file.stat().st_mode & 0o777 for file in sorted(tmp_path.iterdir())]

    path, previous = tmp_path / "last.ckpt", tmp_path / "last.ckpt.previous"
    modes_within, before = [], os.umask(umask)
    try:
        write_atomically(path, lambda file: file.write_text("first"))
        assert modes() == [mode]
        path.chmod(0o640)
        write_atomically(path, lambda file: modes_within.append(file.stat().st_mode & 0o777), previous=previous)
        assert modes_within == [0o640]
        assert modes() == [0o640, 0o640]
    finally:
        os.umask(before)


def write_on_a_full_disk(path, outcome) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails with an error instead of a signal
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        write_atomically(path, lambda file: file.write_bytes(b"x" * 100_000))
    except OSError as error:
        outcome.put(str(error))


def test_a_full_disk_is_named_and_what_was_there_stays(tmp_path):
    path = tmp_path / "last.ckpt"
    path.write_text("the old one")
    context = multiprocessing.get_context("fork")
    outcome = context.SimpleQueue()
    child = context.Process(target=write_on_a_full_disk, args=(path, outcome))
    child.start()
    child.join()
    assert "cannot write" in (message := outcome.get())
    assert "last.ckpt" in message
    assert "free the disk" in message
    assert path.read_text() == "the old one"
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_an_error_while_writing_leaves_nothing_behind(tmp_path):
    def break_off(file) -> None:
        file.write_text("half")
        raise KeyError("interrupted")

    with pytest.raises(KeyError, match="interrupted"):
        write_atomically(tmp_path / "table.md", break_off)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*runs.*results\.json.*Choose another folder \(--output\)"):
        write_json(tmp_path / "runs" / "results.json", {})


def test_a_read_only_folder_is_named():
    def write(folder):
        folder.chmod(0o500)
        with pytest.raises(OSError, match="cannot write"):
            write_json(folder / "results.json", {})

    as_another_user(write)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_step_that_fails_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch, step):
    (tmp_path / "table.md").write_text("the old one")

    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.os, step, fail)
    with pytest.raises(OSError, match=r"cannot write .*table\.md: Input/output error. Choose another folder"):
        write_atomically(tmp_path / "table.md", lambda file: file.write_text("the new one"), previous=tmp_path / "table.md.previous")
    monkeypatch.undo()
    assert (tmp_path / "table.md").read_text() == "the old one"
    assert {file.name for file in tmp_path.iterdir()} <= {"table.md", "table.md.previous"}
    assert all(file.read_text() == "the old one" for file in tmp_path.iterdir())


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_the_return(tmp_path, monkeypatch):
    told, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda handle: (told.append(str(Path(f"/proc/self/fd/{handle}").readlink())), fsync(handle)))
    monkeypatch.setattr(files.os, "replace", lambda draft, path: (told.append("renamed"), replace(draft, path)))
    write_atomically(tmp_path / "table.md", lambda file: file.write_text("the new one"))
    draft, renamed, folder = told
    assert draft.endswith(".partial.md")
    assert renamed == "renamed"
    assert folder == str(tmp_path)


@pytest.mark.parametrize("links", [True, False])
def test_the_file_of_before_is_kept_with_links_and_without(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(files.os, "link", lambda *paths: (_ for _ in ()).throw(OSError(errno.EPERM, "Operation not permitted")))
    path, previous = tmp_path / "last.ckpt", tmp_path / "last.ckpt.previous"
    for content in ("first", "second", "third"):
        write_atomically(path, lambda file, content=content: file.write_text(content), previous=previous)
    assert (path.read_text(), previous.read_text()) == ("third", "second")
    assert {file.name for file in tmp_path.iterdir()} == {path.name, previous.name}


def test_on_a_disk_that_is_really_full_the_old_file_stays_alone(small_disk):
    path = small_disk / "last.ckpt"
    write_atomically(path, lambda file: file.write_bytes(b"x" * 150_000))
    with pytest.raises(OSError, match=r"cannot write .*last\.ckpt: No space left on device") as caught:
        write_atomically(path, lambda file: file.write_bytes(b"y" * 150_000))
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"x" * 150_000
    assert [file.name for file in small_disk.iterdir()] == ["last.ckpt"]


def test_a_folder_is_there_with_all_its_files_or_not_at_all(tmp_path):
    def fill(name):
        with folder_written_whole(tmp_path / "set") as draft:
            (draft / name).write_text("")
            if name == "interrupted":
                raise KeyError(name)

    with pytest.raises(KeyError):
        fill("interrupted")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "set").mkdir()
    fill("1.jpg")
    with pytest.raises(OSError, match="not empty"):
        fill("2.jpg")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["set", "set/1.jpg"]
