"""What a client of a federation does in a round: an ordinary Trainer's fit, and a file from which it can always go on."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from typing_extensions import override

from lightning_reid.derived_seed import derived_seed
from lightning_reid.federated import FedPav
from lightning_reid.federated.sharing import not_finite, payload_bytes
from lightning_reid.federated.strategies import Reply
from lightning_reid.federation.client import Client, LocalFit, LocalRound, restore_client, write_client
from lightning_reid.files import publish
from lightning_reid.lightning_messages import say_each_thing_once
from lightning_reid.modules import ReIDModule
from lightning_reid.networks.weights import read_checkpoint


class Deadline(pl.Callback):
    """Ends a fit at the first batch that ends after so many seconds.

    Attributes:
        passed: Whether it did so.

    Args:
        seconds: Above 0.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.passed = seconds, False
        self._began = 0.0

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.monotonic()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: dict[str, Any], batch_idx: int
    ) -> None:
        if time.monotonic() - self._began > self.seconds:
            self.passed = trainer.should_stop = True


class LocalTraining:
    """The part of a federation that runs where the images are, in one process with the server or far from it.

    After every fit the client's state is in its file: its module, what its data believes, its callbacks, and how the fit went. A new
    process goes on from there. A client whose weights are no longer finite goes back to where it was before the round.

    Args:
        client: With its data set up.
        strategy: What is shared, and what becomes of the server's message.
        file: Of its state; need not be there yet.
        accelerator: Of its Trainers.

    Attributes:
        latest: How its latest fit went; ``None`` before the first.
        learned: Whether any fit has changed its weights.
        federation: Which one it has learned in; empty before the first fit.

    Raises:
        ValueError: It has no images.

    Example:
        >>> from lightning_reid.datamodules import ImageReIDDataModule
        >>> from lightning_reid.federated import FedPav
        >>> from lightning_reid.federation import Client, LocalTraining
        >>> from lightning_reid.modules import SupervisedReID
        >>> data = ImageReIDDataModule(market, image_size=(64, 32), p=4, val_identities=0)  # market: a folder in the Market naming
        >>> data.setup("fit")
        >>> model = SupervisedReID(backbone="resnet18", backbone_options={"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]})
        >>> reply = LocalTraining(Client("office", model, data), FedPav(), folder / "office.ckpt").reply()  # what would cross to the server
        >>> all(name.startswith("network.") for name in reply.tensors), reply.num_images == data.num_images
        (True, True)
    """

    def __init__(self, client: Client, strategy: FedPav, file: str | Path, accelerator: str = "auto") -> None:
        if not client.num_images:
            raise ValueError(f"client {client.id} has no training images: leave it out")
        self.client, self.strategy, self.file, self.accelerator = client, strategy, Path(file), accelerator
        self.latest: LocalFit | None = None
        self.learned, self.federation = False, ""
        self._untouched: tuple[ReIDModule, dict[str, Any], list[dict[str, Any]]] | None = None

    @property
    def before(self) -> Path:
        """The client as it began the round."""
        return self.file.with_suffix(".before.ckpt")

    def restore(self) -> None:
        """Go on from the files, if there are any."""
        if self.file.is_file():
            if not self.before.is_file():
                self._keep_untouched()
            self._go_to(self.file)
        elif self.before.is_file():
            self._go_to(self.before)

    def fit(self, asked: LocalRound, message: dict[str, Tensor]) -> LocalFit:
        """A local fit from the server's message.

        One that was done before, for a server that was killed since, is not done again; a round's next attempt begins where its first did.

        Raises:
            ValueError: The client's file is of another federation or of a later round, or the message is of another network or such as
                no training leaves behind.
        """
        self.check_asked(asked.federation, asked.round)
        self.strategy.check_download(self.client.module.state_dict(), message)
        self.federation, latest = asked.federation, self.latest
        if latest is not None and (latest.round, latest.attempt) == (asked.round, asked.attempt):
            return latest
        if latest is not None and latest.round == asked.round:
            self._go_back()
        elif self.file.is_file():
            publish(self.file, self.before)
            self._untouched = None
        elif not self.before.is_file():
            self._keep_untouched()
        fit = self._train(asked, message)
        if fit.problem and not_finite(self.client.module.state_dict()) is not None:
            self._go_back()
        else:
            self.learned = True
        if self.learned:
            write_client(self.file, self.client, fit, self.federation)
        self.latest = fit
        return fit

    def check_asked(self, federation: str, number: int) -> None:
        """Whether a server that has done so many rounds may ask this client.

        Raises:
            ValueError: The client's file is of another federation or of a later round.
        """
        if self.federation not in ("", federation):
            raise ValueError(
                f"{self.file} holds what client {self.client.id} learned in another federation: remove it, or give another place for states"
            )
        if self.latest is not None and self.latest.round > number:
            raise ValueError(
                f"client {self.client.id} is asked in round {number} and has done round {self.latest.round}: the message is late, or the "
                f"server's state is an older one; then restore the {self.file} of its time too, or begin a new federation"
            )

    def _keep_untouched(self) -> None:
        """A client that never trained has no file to go back to: modules have no state to save before their first fit."""
        callbacks = [one.state_dict() for one in self.client.callbacks]
        self._untouched = copy.deepcopy((self.client.module, self.client.data.state_dict(), callbacks))

    def _go_back(self) -> None:
        """To the beginning of the round."""
        if self.before.is_file():
            self._go_to(self.before)
            return
        if self._untouched is None:
            raise RuntimeError(f"client {self.client.id} cannot go back to the beginning of the round: {self.before} is gone")
        self.client.module, data, callbacks = copy.deepcopy(self._untouched)
        self.client.data.load_state_dict(data)
        for callback, state in zip(self.client.callbacks, callbacks, strict=True):
            callback.load_state_dict(state)
        self.file.unlink(missing_ok=True)
        self.learned = False

    def _go_to(self, file: Path) -> None:
        content = read_checkpoint(file)
        self.latest, self.federation = restore_client(self.client, content), content["federation"]
        self.learned = True

    def reply(self) -> Reply:
        """What goes back to the server.

        Raises:
            LeakError: A shared tensor has become another shape or dtype.
        """
        tensors = self.client.module.state_dict()
        return Reply(self.client.id, self.strategy.allow_list(tensors).pick(tensors), self.client.num_images)

    def _train(self, asked: LocalRound, message: dict[str, Tensor]) -> LocalFit:
        client = self.client
        own = client.module.state_dict()
        local = {name: own[name].cpu() for name in self.strategy.allow_list(own).kinds}
        # first weights are not worth keeping a share of
        received = self.strategy.receive(local, message) if self.learned else dict(message)
        client.module.load_state_dict(own | received)
        pl.seed_everything(derived_seed(asked.seed, asked.round, asked.attempt, client.id), verbose=False)
        client.data.epochs_before = (asked.round * asked.attempts + asked.attempt) * asked.epochs
        client.module.lr_factor = asked.lr_factor
        deadline = Deadline(asked.deadline) if asked.deadline else None
        began = time.monotonic()
        trainer = local_trainer(client, asked.epochs, self.accelerator, self.file.parent, [deadline] if deadline is not None else [])
        try:
            trainer.fit(client.module, client.data)
        except Exception as error:
            error.add_note(f"in round {asked.round} of client {client.id}")
            raise
        seconds, problem = time.monotonic() - began, ""
        broken = not_finite(client.module.state_dict())
        if broken is not None:
            problem = f"{broken} is NaN or infinite"
        elif deadline is not None and deadline.passed:
            problem = f"it passed its deadline of {asked.deadline:g} s"
        return LocalFit(asked.round, asked.attempt, problem, payload_bytes(message), seconds, trainer.global_step)

    def test(self, tensors: dict[str, Tensor] | None = None) -> dict[str, float]:
        """Scores on the client's own test set, fractions in [0, 1], and ``unmatched_queries``, how many were not scored.

        Args:
            tensors: Of another network, in place of its own of the same names for the moment; ``None`` tests the personal model.
        """
        module = self.client.module
        personal = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        module.load_state_dict(personal | {name: tensor for name, tensor in (tensors or {}).items() if name in personal})
        scores = score_client(self.client, self.accelerator, self.file.parent)
        module.load_state_dict(personal)
        return scores


def score_client(client: Client, accelerator: str, folder: Path) -> dict[str, float]:
    """Scores on a client's test part, fractions in [0, 1], and ``unmatched_queries``; its callbacks are asked nothing."""
    trainer = local_trainer(Client(client.id, client.module, client.data), 1, accelerator, folder)
    scores = trainer.test(client.module, client.data, verbose=False)[0]
    return {name.removeprefix("test/"): float(value) for name, value in scores.items()}


def local_trainer(client: Client, epochs: int, accelerator: str, folder: Path, more: Sequence[pl.Callback] = ()) -> pl.Trainer:
    """A Trainer for one local fit, or for a test."""
    say_each_thing_once()
    return pl.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=epochs,
        callbacks=[*client.callbacks, *more],
        logger=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        default_root_dir=folder,
    )
