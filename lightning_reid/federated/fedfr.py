"""FedPav with the proxies of public identities beside the network: what FedFR shares."""

from __future__ import annotations

from typing import ClassVar

from lightning_reid.federated.strategies import MAX_IMAGES, NETWORK, FedPav


class FedFR(FedPav):
    """FedPav of the backbone and of the public identities' proxies; those of local people stay with the clients.

    Source: thesis, section 7.3.3, eq. 7.2 and 7.4, algorithm 4. The public code never sends the averaged proxies back; here eq. 7.4 is
    what it says.

    Example:
        >>> import torch
        >>> from lightning_reid.federated import FedFR
        >>> module = {name: torch.zeros(1) for name in ("network.weight", "public_proxies", "local_proxies", "heads")}
        >>> sorted(FedFR().begin(module, clients=["office", "station"]).tensors)  # what the server holds
        ['network.weight', 'public_proxies']
    """

    name: ClassVar[str] = "FedFR"

    def __init__(self, prefixes: tuple[str, ...] = (NETWORK, "public_proxies"), quorum: float = 0.5, max_images: int = MAX_IMAGES) -> None:
        super().__init__(prefixes, quorum, max_images)
