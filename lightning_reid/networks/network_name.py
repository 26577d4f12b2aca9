"""Which network made a feature: files of one name may hold others."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from lightning_reid.arguments import shown


def network_name(network: nn.Module) -> str:
    """A name that two networks share if their weights are the same, whatever their files are called.

    Example:
        >>> import torch
        >>> from lightning_reid.networks.network_name import network_name
        >>> one = torch.nn.Linear(2, 2)
        >>> name = network_name(one)
        >>> torch.nn.init.zeros_(one.weight).sum().item()
        0.0
        >>> network_name(one) == name
        False
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return f"weights {digest.hexdigest()[:16]}"


def require_named(network: nn.Module, told: str | None, path: str | Path) -> None:
    """Check that a network is the one that its file says: a flipped bit, or weights of another saving, make another.

    Args:
        network: Loaded.
        told: Its name, as ``network_name`` gives it; ``None`` where the file tells none.
        path: The file, for the message.

    Raises:
        ValueError: It is another.
    """
    if told is not None and (found := network_name(network)) != told:
        raise ValueError(f"{path} is told to be the network {shown(told)}, and its weights are those of {found}: fetch it again")
