"""The schedule of one training step, gathered from all processes of a pipeline."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from typing_extensions import override

from lightning_reid.arguments import require_count, require_path
from lightning_reid.pipeline.spans import Span
from lightning_reid.pipeline.strategy import PipelineStrategy


class ScheduleTrace(pl.Callback):
    """Notes when each stage of a pipeline computed which micro-batch in one training step, and draws it (see ``draw_schedule``).

    The processes are to be on one machine, whose clock they share. Of several pipelines the first is traced.

    Args:
        path: The picture, which the first process draws; ``None`` draws none.
        step: Which one of a fit, from 0; the first ones also make what later ones have.

    Attributes:
        spans: Of all stages, in order of time, on the first process; empty before that step, and on the others.

    Raises:
        ValueError: ``path`` is no path or ``step`` no count; or, when a fit begins, its strategy is no ``PipelineStrategy``.

    Example:
        >>> from lightning_reid.pipeline import PipelineStrategy, ScheduleTrace
        >>> trace = ScheduleTrace("schedule.png", step=5)
        >>> options = {"strategy": PipelineStrategy(microbatches=4), "devices": 2, "callbacks": [trace]}  # of a Trainer
        >>> trace.spans  # after the fit one may ask them more: idle_fraction(trace.spans, 2)
        []
    """

    def __init__(self, path: Path | str | None = None, step: int = 3) -> None:
        require_path("path", path, optional=True)
        require_count("step", step, low=0)
        self.path, self.step = None if path is None else Path(path), step
        self.spans: list[Span] = []
        self._steps = 0

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(trainer.strategy, PipelineStrategy):
            raise ValueError(f"ScheduleTrace is of a PipelineStrategy's steps, got a {type(trainer.strategy).__name__}: leave it out")
        self._steps = 0

    @override
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._steps == self.step:
            assert isinstance(trainer.strategy, PipelineStrategy)
            self._gather(trainer.strategy)
        self._steps += 1

    def _gather(self, strategy: PipelineStrategy) -> None:
        group = strategy.split.group
        gathered: list[list[Span]] | None = [[]] * dist.get_world_size(group) if dist.get_rank(group) == 0 else None
        dist.gather_object(list(strategy.split.pipeline.spans), gathered, dist.get_global_rank(group, 0), group=group)
        if gathered is None or not strategy.is_global_zero:
            return
        self.spans = sorted(chain.from_iterable(gathered), key=lambda span: span.start)
        if self.path is not None:
            from lightning_reid.pipeline.picture import draw_schedule  # matplotlib takes a second

            draw_schedule(self.spans, self.path, processes=dist.get_world_size(group))
