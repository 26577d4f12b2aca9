"""The stages of a recipe, each a fit in a folder of its own, which a resumed run does not train twice."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from lightning_reid.callbacks import BlockAccessLogger
from lightning_reid.checkpoints.durable import DurableCheckpointIO, previous_checkpoint
from lightning_reid.derived_seed import derived_seed
from lightning_reid.files import read_json, write_json
from lightning_reid.lightning_messages import say_each_thing_once
from lightning_reid.metrics import bootstrap_interval
from lightning_reid.modules import ReIDModule
from lightning_reid.protocols import EvaluatedData
from lightning_reid.recipes.workshop.options import RunOptions
from lightning_reid.recipes.workshop.report import TESTED, Queries, ResultRow, read_row
from lightning_reid.recipes.workshop.run_folder import is_first_process, read_run, refuse_differences
from lightning_reid.recipes.workshop.tested_part import TestedPart

logger = logging.getLogger(__name__)

Module = TypeVar("Module", bound=ReIDModule)


class Stage:
    """One fit of a recipe, in a folder of its own: ``last.ckpt`` while it runs, ``scores.json`` when it is done.

    Args:
        run: Options of the whole recipe.
        name: As in the table; its folder is ``output/<name with dashes>``.
        seeded_as: Name that its seed is derived from; stages of one such name start from the same first weights.
        told: What it is told beside the options of the run, such as the switches of its row in a table.
    """

    def __init__(self, run: RunOptions, name: str, *, seeded_as: str | None = None, told: Mapping[str, Any] | None = None) -> None:
        self.run, self.name, self.told = run, name, dict(told or {})
        self.seed = derived_seed(run.seed, seeded_as or name)
        self.folder = Path(run.output) / name.replace(" ", "-").replace("+", "with")

    @property
    def checkpoint(self) -> Path:
        """The checkpoint of the latest finished epoch."""
        return self.folder / "last.ckpt"

    @property
    def metrics_files(self) -> list[Path]:
        """What was logged, a file a sitting: a resumed stage has more than one."""
        return sorted(self.folder.glob("version_*/metrics.csv"), key=lambda file: int(file.parent.name.removeprefix("version_")))

    def trainer(self, max_epochs: int, callbacks: list[pl.Callback], *, validate_every_n_epochs: int | None) -> pl.Trainer:
        """A Trainer that saves a checkpoint after every epoch.

        Args:
            max_epochs: Epochs in all, those before a resume included.
            callbacks: Beside saving and progress bars.
            validate_every_n_epochs: Epochs between two validations; ``None`` for none, as on a source without a test part.
        """
        self.claim()  # before any logger writes
        say_each_thing_once()
        saving = ModelCheckpoint(
            dirpath=self.folder,
            filename="last",
            save_top_k=1,
            monitor=None,
            every_n_epochs=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        bars: list[pl.Callback] = [RichProgressBar(leave=False)] if not self.run.quiet else []
        return pl.Trainer(
            accelerator=self.run.accelerator,
            devices=self.run.devices,
            strategy=self.run.trainer_strategy(),
            precision=self.run.precision,
            max_epochs=max_epochs,
            check_val_every_n_epoch=validate_every_n_epochs or 1,
            limit_val_batches=0 if validate_every_n_epochs is None else 1.0,
            callbacks=[*callbacks, BlockAccessLogger(), saving, *bars],
            plugins=[DurableCheckpointIO()],
            logger=self._loggers(),
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=not self.run.quiet,
            log_every_n_steps=self.run.log_every_n_steps,
        )

    def _loggers(self) -> list[Logger]:
        loggers: list[Logger] = [CSVLogger(self.folder.parent, name=self.folder.name, flush_logs_every_n_steps=10)]
        if self.run.logger == "wandb":
            loggers.append(
                WandbLogger(project="lightning-reid", name=f"{self.folder.parent.name}/{self.folder.name}", save_dir=str(self.folder))
            )
        if self.run.tensorboard:
            loggers.append(TensorBoardLogger(self.folder.parent, name=self.folder.name))
        return loggers

    def seed_everything(self) -> None:
        """Seed what is initialized next, the same whether the stages before were run or read back; call it before a module is built."""
        pl.seed_everything(self.seed, workers=True, verbose=False)

    def fit(self, trainer: pl.Trainer, module: ReIDModule, data: pl.LightningDataModule) -> None:
        """Seed, and fit from the beginning or from where an earlier sitting got."""
        self.claim()
        self.seed_everything()
        trainer.fit(module, data, ckpt_path=self.resume_from(), weights_only=True)

    def train(
        self,
        build: Callable[[], Module],
        data: pl.LightningDataModule,
        epochs: int,
        callbacks: Sequence[pl.Callback] = (),
        *,
        validate_every_n_epochs: int | None = None,
    ) -> tuple[Module, pl.Trainer]:
        """Seed, build a module, and fit it from the beginning or from where an earlier sitting got.

        Args:
            build: Makes the module, of the first weights that the stage's seed says.
            data: What it is fitted on.
            epochs: In all, those before a resume included.
            callbacks: Beside saving and progress bars.
            validate_every_n_epochs: Epochs between two validations; ``None`` for none.

        Returns:
            The module and the Trainer that fitted it.
        """
        self.seed_everything()
        module = build()
        trainer = self.trainer(epochs, [*callbacks], validate_every_n_epochs=validate_every_n_epochs)
        self.fit(trainer, module, data)
        return module, trainer

    def train_and_score(
        self,
        build: Callable[[], Module],
        data: pl.LightningDataModule,
        epochs: int,
        callbacks: Sequence[pl.Callback] = (),
        *,
        tested_on: pl.LightningDataModule | None = None,
        validate_every_n_epochs: int | None = None,
        costs: Callable[[Module, pl.Trainer], Mapping[str, float]] | None = None,
    ) -> tuple[Module, ResultRow]:
        """``train``, then test; the module, and its row, which of a finished stage is read back.

        Args:
            build: See ``train``, as ``data``, ``epochs``, ``callbacks`` and ``validate_every_n_epochs``.
            data: What it is fitted on.
            epochs: In all.
            callbacks: Beside saving and progress bars.
            tested_on: Data with queries and a gallery; ``None`` is ``data``.
            validate_every_n_epochs: Epochs between two validations.
            costs: Further columns of the row, of the trained module.
        """
        module, trainer = self.train(build, data, epochs, callbacks, validate_every_n_epochs=validate_every_n_epochs)
        row = self.finished_row()
        if row is None:
            row = self.score(trainer, module, tested_on or data, None if costs is None else costs(module, trainer))
        return module, row

    def row(self, build: Callable[[], Module], data: pl.LightningDataModule, epochs: int, *args: Any, **options: Any) -> ResultRow:
        """The row of ``train_and_score``; where an earlier sitting finished the stage, nothing is built."""
        return self.finished_row() or self.train_and_score(build, data, epochs, *args, **options)[1]

    def claim(self) -> None:
        """Say in ``stage.json`` whose the folder is: what the run is, as its ``run.json`` tells, and what this stage is told.

        Raises:
            ValueError: It is another stage's, or nobody says whose; its files are not read.
        """
        if not is_first_process():
            return
        run = read_run(Path(self.run.output)) or {}
        here = {"stage": self.name, **json.loads(json.dumps(self.told)), **run.get("options", {}), **run.get("data", {})}
        file = self.folder / "stage.json"
        if file.is_file():
            there = read_json(file, way_on=f"remove {self.folder}, and the stage is run again")
            refuse_differences(self.folder, "options or data", there, here, "or remove that folder")
        elif self.folder.is_dir() and any(not one.name.startswith(".") for one in self.folder.iterdir()):
            raise ValueError(f"{self.folder} holds files of a run that left no {file.name}: remove that folder, or give another --output")
        else:
            write_json(file, here)

    def resume_from(self) -> str | None:
        """The checkpoint to go on from, if this run resumes and got that far; where it is gone, the one before it is loaded by its name."""
        if not self.run.resume or not any(one.is_file() for one in (self.checkpoint, previous_checkpoint(self.checkpoint))):
            return None
        self.claim()
        return str(self.checkpoint)

    def finished_row(self) -> ResultRow | None:
        """The row of an earlier run that this one resumes."""
        scores = self.folder / "scores.json"
        if not self.run.resume or not scores.is_file():
            return None
        self.claim()
        logger.info("%s was finished before: its row is kept", self.name)
        return read_row(self.name, scores)

    def score(
        self, trainer: pl.Trainer, module: ReIDModule, data: pl.LightningDataModule, costs: Mapping[str, float] | None = None
    ) -> ResultRow:
        """Test the module on the datamodule's queries and gallery, keep the row, with ``costs`` in further columns, in ``scores.json``."""
        if not isinstance(data, EvaluatedData):
            raise ValueError(f"scores need a datamodule with queries and a gallery, got {type(data).__name__}")
        self.claim()
        for one in trainer.loggers:
            one.log_hyperparams({"protocol": str(module.protocol_stamp(data))})
        scores = {
            name.removeprefix("test/"): value
            for name, value in trainer.test(module, data, verbose=False)[0].items()
            if name.startswith("test/") and name != "test/unmatched_queries"
        }
        found = module.last_scores
        assert found is not None
        asked = Queries(found.num_queries, found.num_unmatched_queries, found.num_people)
        interval = None
        if found.num_people > 1:
            interval = bootstrap_interval(found.average_precision, found.query_pids, generator=torch.Generator().manual_seed(0))
        row = ResultRow(self.name, scores, interval, asked, dict(costs or {}))
        if trainer.is_global_zero:
            tested = TestedPart.of(data)
            write_json(self.folder / "scores.json", row.as_json() | ({} if tested is None else {TESTED: tested.as_json()}))
            for one in trainer.loggers:
                if isinstance(one, WandbLogger):  # the next stage is a run of its own, and W&B knows one at a time
                    one.experiment.finish()
        return row
