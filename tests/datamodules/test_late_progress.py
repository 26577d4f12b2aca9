from __future__ import annotations

import pytest

from lightning_reid.datamodules.late_progress import late_progress


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
