"""The personalized update of FedUReID: a client keeps a share of its own model."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_number
from lightning_reid.federated.averaging import NamedTensors
from lightning_reid.federated.strategies import MAX_IMAGES, NETWORK, FedPav


class FedUReID(FedPav):
    """FedPav with the personalized update: a client goes on with ``mu theta_k + (1 - mu) theta``.

    The interpolation is done where theta_k is, at the client: the result is that of the text, where the cloud does it, and no server
    has to hold the models of all.

    Args:
        local_share: mu, in [0, 1]; 0 is FedPav. The text gives none.
        prefixes: See :class:`FedPav`.
        quorum: See :class:`FedPav`.
        max_images: See :class:`FedPav`.

    Source: FedUReID, "personalized update".

    Example:
        >>> import torch
        >>> from lightning_reid.federated import FedUReID
        >>> local, message = {"network.weight": torch.tensor([1.0])}, {"network.weight": torch.tensor([3.0])}
        >>> FedUReID(local_share=0.25).receive(local, message)  # 0.25 * 1 + 0.75 * 3
        {'network.weight': tensor([2.5000])}
    """

    name: ClassVar[str] = "FedUReID"

    def __init__(
        self,
        local_share: float = 0.5,
        prefixes: tuple[str, ...] = (NETWORK,),
        quorum: float = 0.5,
        max_images: int = MAX_IMAGES,
    ) -> None:
        super().__init__(prefixes, quorum, max_images)
        require_number("local_share", local_share, low=0, high=1)
        self.local_share = local_share

    @override
    def receive(self, local: NamedTensors, message: NamedTensors) -> dict[str, Tensor]:
        """``mu theta_k + (1 - mu) theta`` of the client's own tensors and the server's; integers and booleans are the client's own."""
        server = super().receive(local, message)
        return {
            name: torch.lerp(server[name].to(tensor), tensor, self.local_share) if tensor.is_floating_point() else tensor.clone()
            for name, tensor in local.items()
        }
