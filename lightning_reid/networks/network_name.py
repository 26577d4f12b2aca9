"""Which network made a feature: files of one name may hold others."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


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
