"""The clients of FedUReID: bottom-up clustering with the three personalised optimisations, each on a switch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping

from lightning_reid.callbacks import BottomUpClustering
from lightning_reid.datamodules import UnlabeledDataModule
from lightning_reid.federated import FedPav, FedUReID
from lightning_reid.modules import BottomUpReID
from lightning_reid.runners.local_training import Client

FOR_EVER = 10**9
"""Epochs without progress that a fit may have: only the threshold ends it."""


@dataclass(frozen=True)
class Personalisation:
    """Which of FedUReID's optimisations are on; none is the federated baseline.

    Attributes:
        clustering: PC, every client merges as many clusters a round as brings it to its own number in the last round.
        epoch: PE, a client's local fit ends with the epoch whose training precision reaches ``precision``.
        update: PU, a client goes on with ``local_share`` of its own model and the rest of the server's.
        precision: Share of training images whose nearest cluster is their own, in (0, 1].
        local_share: mu, in [0, 1].
    """

    clustering: bool = True
    epoch: bool = True
    update: bool = True
    precision: float = 0.95
    local_share: float = 0.5

    def strategy(self) -> FedPav:
        """The server's part."""
        return FedUReID(self.local_share) if self.update else FedPav()


def fedureid_client(
    name: str,
    data: UnlabeledDataModule,
    personalisation: Personalisation,
    *,
    rounds: int,
    clustering: dict[str, Any],
    model: dict[str, Any],
    seed: int = 0,
) -> Client:
    """A client that merges clusters at the start of every round but the first, and then trains on them.

    Args:
        name: Its id.
        data: Its images.
        personalisation: What is personal about it.
        rounds: Of the whole federation, for the profile.
        clustering: Of ``BottomUpClustering``.
        model: Of ``BottomUpReID``.
        seed: Of its first weights: the same for all clients of a federation.
    """
    torch.manual_seed(seed)
    profile = {"profile_steps": max(1, rounds - 1)} if personalisation.clustering else {}
    callbacks: list[pl.Callback] = [BottomUpClustering(merge_at_start=True, **(clustering | profile))]
    if personalisation.epoch:
        callbacks.append(
            EarlyStopping(
                "train/precision",
                mode="max",
                stopping_threshold=personalisation.precision,
                patience=FOR_EVER,
                check_on_train_epoch_end=True,
            )
        )
    return Client(name, BottomUpReID(**model), data, callbacks)
