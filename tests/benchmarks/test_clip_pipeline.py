"""The benchmark of the clip pipeline runs, small, and its figures hang together; nothing here asserts a time."""

from __future__ import annotations

import clip_pipeline


def test_all_ways_to_a_batch_of_clips_are_timed_beside_pil():
    small = [
        "--people",
        "1",
        "--frames",
        "3",
        "--heights",
        "32",
        "--size",
        "32",
        "16",
        "--clip_length",
        "2",
        "--batch",
        "2",
        "--rounds",
        "2",
    ]
    figures = clip_pipeline.main(small)
    assert set(figures) == {32}
    assert set(figures[32]) == {"PIL", "decode", "packed jpeg", "packed raw"}
    assert figures[32]["PIL"]["ratio"] == figures[32]["PIL"]["worker_ratio"] == 1
    for row in figures[32].values():
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert row["worker_clips"] >= row["clips"] > 0
