"""What benchmarks are run on here."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def few_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 people to train on and 4 to test on in the Market layout, 32 x 16 pixels, where benchmarks have hundreds."""
    from lightning_reid.datamodules.generated import GeneratedPedestrians

    sizes = {"images_per_camera": 6, "num_distractors": 2, "height": 32, "width": 16}
    drawn = GeneratedPedestrians("market-like", num_train_pids=24, num_test_pids=4, **sizes)
    return drawn.write(tmp_path_factory.mktemp("data") / "market", progress=False)
