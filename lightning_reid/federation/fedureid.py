"""The clients of FedUReID: bottom-up clustering with the three personalized optimizations, each on a switch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lightning_reid.arguments import require_number, require_switch
from lightning_reid.callbacks import BottomUpClustering
from lightning_reid.datamodules import UnlabeledDataModule
from lightning_reid.federated import FedPav, FedUReID
from lightning_reid.federated.strategies import NETWORK
from lightning_reid.federation.client import Client
from lightning_reid.modules import FedUReIDClient

LOSS_LAYER = "loss_layer."
"""Under which ``BottomUpReID`` keeps the layer of its loss."""


@dataclass(frozen=True)
class Personalization:
    """Which of FedUReID's optimizations are on; none is the federated baseline.

    Attributes:
        clustering: PC, every client merges as many clusters a round as brings it to its own number in the last round.
        epoch: PE, a client's local fit ends with the epoch whose training precision reaches ``precision``.
        update: PU, a client goes on with ``local_share`` of its own model and the rest of the server's.
        precision: Share of training images whose nearest cluster is their own, in (0, 1]; measured in training, with its dropout.
        local_share: mu, in [0, 1].
        shared_loss_layer: Whether the layer that the loss has of its own (``loss_features`` of ``BottomUpReID``) is averaged too. The text
            has "trained backbones" uploaded, and so the layer stays with its client unless this is on.

    Example:
        >>> from lightning_reid.federation import Personalization
        >>> Personalization(epoch=False).local_share, Personalization(shared_loss_layer=True).strategy().prefixes
        (0.5, ('network.', 'loss_layer.'))
    """

    clustering: bool = True
    epoch: bool = True
    update: bool = True
    precision: float = 0.95
    local_share: float = 0.5
    shared_loss_layer: bool = False

    def __post_init__(self) -> None:
        for name in ("clustering", "epoch", "update", "shared_loss_layer"):
            require_switch(name, getattr(self, name))
        require_number("precision", self.precision, above=0, high=1)
        require_number("local_share", self.local_share, low=0, high=1)

    def strategy(self, quorum: float = 0.5) -> FedPav:
        """The server's part; ``quorum`` is the share of the clients that a round needs, in (0, 1]."""
        prefixes = (NETWORK, LOSS_LAYER) if self.shared_loss_layer else (NETWORK,)
        return FedUReID(self.local_share, prefixes, quorum) if self.update else FedPav(prefixes, quorum)


def fedureid_client(
    name: str,
    data: UnlabeledDataModule,
    personalization: Personalization,
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
        personalization: What is personal about it.
        rounds: Of the whole federation, for the profile.
        clustering: Of ``BottomUpClustering``.
        model: Of ``BottomUpReID``, which a ``FedUReIDClient`` is.
        seed: Of its first weights: the same for all clients of a federation.

    Example:
        >>> from lightning_reid.datamodules import UnlabeledDataModule
        >>> from lightning_reid.federation import Personalization, fedureid_client
        >>> data = UnlabeledDataModule(market, image_size=(64, 32), batch_size=8)  # market: a folder in the Market naming
        >>> data.setup("fit")
        >>> tiny = {"backbone": "resnet18", "backbone_options": {"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}}
        >>> client = fedureid_client("office", data, Personalization(), rounds=5, clustering={}, model=tiny)
        >>> client.module.hparams.stop_at_precision, client.callbacks[0].profile_steps  # it merges clusters in four of five rounds
        (0.95, 4)
    """
    torch.manual_seed(seed)
    profile = {"profile_steps": max(1, rounds - 1)} if personalization.clustering else {}
    module = FedUReIDClient(personalization.precision if personalization.epoch else None, **model)
    return Client(name, module, data, [BottomUpClustering(merge_at_start=True, **(clustering | profile))])
