"""Ends of epochs that a Trainer leaves out."""

from __future__ import annotations

import pytorch_lightning as pl


def ends_epoch_before(trainer: pl.Trainer, finished_epochs: int | None) -> bool:
    """Whether a resumed fit goes on from a checkpoint that was saved with the last batch of an epoch; to be asked in ``on_train_start``.

    ``ModelCheckpoint(every_n_train_steps=...)`` may save such a one. A Trainer goes on with the next epoch, without ``on_train_epoch_end``
    of the one that was over: who works between epochs has to make up for it.

    Args:
        trainer: That fits.
        finished_epochs: Epochs whose end the asker saw, by its state in the checkpoint; ``None`` where it has none.
    """
    return finished_epochs is not None and finished_epochs < trainer.current_epoch
