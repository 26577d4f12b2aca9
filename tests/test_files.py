from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal

import pytest

from lightning_reid.files import write_atomically, write_json


def test_json_is_written_into_a_folder_made_for_it(tmp_path):
    write_json(tmp_path / "new" / "results.json", {"mAP": 0.5})
    assert json.loads((tmp_path / "new" / "results.json").read_text()) == {"mAP": 0.5}
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["results.json"]


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
    with pytest.raises(OSError, match=r"cannot write .*runs.*results\.json.*Choose another --output"):
        write_json(tmp_path / "runs" / "results.json", {})


def test_a_read_only_folder_is_named(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; run as another user")
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="cannot write"):
        write_json(tmp_path / "results.json", {})
