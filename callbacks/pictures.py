"""Handing a picture to the loggers that show pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger


def log_picture(trainer: pl.Trainer, name: str, picture: Path) -> None:
    """Show a PNG under ``name`` in every W&B and TensorBoard logger of the Trainer; other loggers take no pictures."""
    for one in trainer.loggers:
        if isinstance(one, WandbLogger):
            one.log_image(name, [str(picture)])
        elif isinstance(one, TensorBoardLogger):
            one.experiment.add_image(name, np.asarray(Image.open(picture).convert("RGB")), trainer.global_step, dataformats="HWC")
