from __future__ import annotations

import threading
import time

import pytest

from lightning_reid.datamodules.late_progress import late_progress, late_status


def test_short_work_shows_nothing_and_long_work_a_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # takes the captured stream for a terminal
    assert list(late_progress(range(3), "quick work", total=3, after=60)) == [0, 1, 2]
    assert "quick work" not in capsys.readouterr().err
    assert list(late_progress(range(3), "slow work", total=3, after=0)) == [0, 1, 2]
    assert "slow work" in capsys.readouterr().err
    assert list(late_progress(range(3), "other rank", total=3, after=0, disable=True)) == [0, 1, 2]
    assert "other rank" not in capsys.readouterr().err


def test_an_error_in_the_work_comes_through():
    def work():
        yield 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(late_progress(work(), "work", total=2, after=0))


def test_work_in_one_piece_is_told_once_it_takes_long_and_only_then(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with late_status("quick piece", after=60):
        pass
    with late_status("quiet piece", after=0, disable=True):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""
    with late_status("slow piece", after=0.01):
        time.sleep(0.2)
    assert "slow piece" in capsys.readouterr().err


def test_a_status_ends_with_its_work_whatever_becomes_of_it(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    before = set(threading.enumerate())

    def work() -> None:
        with late_status("failing piece", after=0.01):
            time.sleep(0.1)
            raise KeyError

    with pytest.raises(KeyError):
        work()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()
