"""Small generated data shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")


@pytest.fixture(scope="session")
def market_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten training and six test people in the Market layout, 64 x 32 pixels."""
    from lightning_reid.datamodules.generated import GeneratedPedestrians

    people = GeneratedPedestrians(
        "market-like", num_train_pids=10, num_test_pids=6, images_per_camera=3, num_distractors=4, height=64, width=32
    )
    return people.write(tmp_path_factory.mktemp("data") / "market", progress=False)


@pytest.fixture(scope="session")
def duke_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training and four test people in the Duke layout, 64 x 32 pixels."""
    from lightning_reid.datamodules.generated import GeneratedPedestrians

    people = GeneratedPedestrians(
        "duke-like", num_train_pids=8, num_test_pids=4, images_per_camera=3, num_distractors=2, height=64, width=32
    )
    return people.write(tmp_path_factory.mktemp("data") / "duke", progress=False)
