"""The benchmark of the clip pipeline runs, small, and its figures hang together; nothing here asserts a time."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "clip_pipeline.py"


def test_all_ways_to_a_batch_of_clips_are_timed_beside_pil():
    spec = importlib.util.spec_from_file_location("clip_pipeline", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
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
    figures = module.main(small)
    assert set(figures) == {32}
    assert set(figures[32]) == {"PIL", "decode", "packed jpeg", "packed raw"}
    assert figures[32]["PIL"]["ratio"] == figures[32]["PIL"]["worker_ratio"] == 1
    for row in figures[32].values():
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert row["worker_clips"] >= row["clips"] > 0
