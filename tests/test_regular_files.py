"""What is no file is named, and not waited for."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from lightning_reid.regular_files import NoRegularFileError, read_regular


def test_a_file_is_read_whole_also_by_a_link(tmp_path):
    (tmp_path / "a").write_bytes(b"\0a\r\n")
    (tmp_path / "b").symlink_to("a")
    assert read_regular(tmp_path / "a") == read_regular(str(tmp_path / "b")) == b"\0a\r\n"


def listening(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a pipe"),
        (os.mkdir, "a folder"),
        (listening, "a socket"),
        (lambda path: Path(path).symlink_to("/dev/zero"), "a device"),
    ],
)
def test_what_is_no_file_is_named_by_what_it_is(tmp_path, monkeypatch, make, kind):
    monkeypatch.chdir(tmp_path)  # the names of sockets are short
    make("a")
    with pytest.raises(NoRegularFileError, match=f"a is {kind} where a file was expected: give a file"):
        read_regular("a")


def test_a_file_that_is_not_there_or_that_no_file_can_be_called_is_named(tmp_path):
    (tmp_path / "a").symlink_to("gone")
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "a")):
        read_regular(tmp_path / "a")
    with pytest.raises(ValueError, match="null"):
        read_regular("a\0b")
