"""What a module logs for each part of a batch, logged once for the batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor


@contextmanager
def averaged_logs(module: pl.LightningModule) -> Iterator[None]:
    """Log at the end the means of what the module logs inside, by name: its steps are those of equal parts of one batch.

    ``batch_size`` adds up; other options are those of the first call.
    """
    values: dict[str, list[Tensor]] = {}
    told: dict[str, dict[str, Any]] = {}

    def keep(name: str, value: Any, **options: Any) -> None:
        values.setdefault(name, []).append(torch.as_tensor(value).detach())
        size = options.get("batch_size")
        before = told.setdefault(name, {**options, "batch_size": None if size is None else 0})
        if size is not None:
            before["batch_size"] += size

    module.log = keep  # type: ignore[method-assign, assignment]  # log_dict calls it too
    try:
        yield
    finally:
        del module.log
    for name, some in values.items():
        module.log(name, torch.stack(some).mean(), **told[name])
