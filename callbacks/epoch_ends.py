"""Ends of epochs that a Trainer leaves out."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


def require_ended_epoch(trainer: pl.Trainer, asker: pl.Callback, finished_epochs: int | None) -> None:
    """Refuse to go on from a checkpoint that was saved with the last batch of an epoch; to be asked in ``on_train_start``.

    ``ModelCheckpoint(every_n_train_steps=...)`` may save such a one. A Trainer goes on from it with the next epoch, without the validation
    and ``on_train_epoch_end`` of the one that was over, and takes that for as many batches of the next one as it had. Who works between
    epochs would miss its turn without a word.

    Args:
        trainer: That fits.
        asker: Works at the end of epochs.
        finished_epochs: Epochs whose end the asker saw, by its state in the checkpoint; ``None`` where it has none.

    Raises:
        ValueError: The Trainer left an epoch's end out.
    """
    if trainer.ckpt_path is not None and finished_epochs is not None and finished_epochs < trainer.current_epoch:
        raise ValueError(
            f"{trainer.ckpt_path} was saved with the last batch of epoch {finished_epochs}, before its end, which a Trainer leaves out when"
            f" it goes on: {type(asker).__name__} would miss it. Resume from a checkpoint of an epoch's end, as"
            " ModelCheckpoint(save_on_train_epoch_end=True) saves it, or of any other step"
        )


def goes_on(trainer: pl.Trainer, checkpoint: dict[str, Any]) -> bool:
    """Whether a fit that is resumed from a checkpoint has epochs left to train."""
    done = int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
    return trainer.max_epochs in (None, -1) or done < trainer.max_epochs
