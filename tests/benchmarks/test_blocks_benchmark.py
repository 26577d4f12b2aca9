"""The benchmark of blocks runs, small, and its figures hang together; nothing here asserts a time."""

from __future__ import annotations

import blocks
import pytest


@pytest.mark.benchmark
def test_blocks_are_measured_beside_files_and_the_cache_of_decoded_frames():
    found = blocks.main(["--small"])
    assert set(found) == {"cpu", "requests", "cached", "clips", "memory"}
    for row in found["cpu"].values():
        assert row["read"] > 0
        assert row["decoded"] > 0
    for row in found["requests"].values():
        assert 0 < row["requests a frame"] <= 1
        assert row["read / needed"] >= 1
    assert found["cached"]["clips"] == {"epoch 0": 1, "epoch 1": 0}
    assert found["clips"]["packed raw"]["to packed raw"] == 1
    small, large = found["memory"].values()
    assert small["index MB"] < large["index MB"]
    assert small["sent reader MB"] == pytest.approx(large["sent reader MB"], abs=1e-4)  # where it is, and not what is in it
