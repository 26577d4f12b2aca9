"""A Trainer that shows nothing and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl


@pytest.fixture(scope="session")
def trainer_with() -> Callable[..., pl.Trainer]:
    """``trainer_with(folder, callbacks, max_epochs, **options)``."""

    def build(folder: Path, callbacks: list[pl.Callback], max_epochs: int = 4, **options) -> pl.Trainer:
        quiet = {
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "num_sanity_val_steps": 0,
        }
        return pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=max_epochs,
            callbacks=callbacks,
            default_root_dir=folder,
            **(quiet | options),
        )

    return build
