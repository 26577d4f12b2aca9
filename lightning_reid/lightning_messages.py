"""What Lightning says at every fit: recipes, which fit many times, let it say each thing once, and advertisements never."""

from __future__ import annotations

import logging
import warnings

from typing_extensions import override

ADVERTISEMENTS = ("\N{ELECTRIC LIGHT BULB}", "`Trainer(limit_val_batches=1.0)`", "`Trainer.fit` stopped")
"""How messages begin that tell a user nothing: tips to install something, and what the recipe asked for itself."""


class SaidOnce(logging.Filter):
    """Lets a message through the first time, and none that begins as one of ``ADVERTISEMENTS``."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show a message; errors always are."""
        text = record.getMessage()
        new = text not in self._said and not text.startswith(ADVERTISEMENTS)
        self._said.add(text)
        return new or record.levelno >= logging.ERROR


def say_each_thing_once() -> None:
    """Quieten Lightning's start-up lines of all Trainers that are made from now on, and the warnings that nobody can act on.

    These are Lightning's own use of a torch function, logs lying in the folder of the checkpoint, epochs shorter than the interval
    between two logged steps, of which epochs are logged, and parts in evaluation mode: those of frozen stages, whose module put them there.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):
        for handler in logging.getLogger(name).handlers:
            # Lightning's own alone: another's, a file's or a test's say, is to have everything
            if type(handler) is logging.StreamHandler and not any(isinstance(one, SaidOnce) for one in handler.filters):
                handler.addFilter(SaidOnce())
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message=r"The number of training batches \(\d+\) is smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode at the start of training")
