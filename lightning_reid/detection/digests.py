"""Short names for weights, so that what was computed with others is never taken for theirs."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path

import torch
from torch import nn

_DIGEST_BYTES = 8
_CHUNK_BYTES = 1 << 20


def module_digest(module: nn.Module) -> str:
    """16 hex digits of a module's architecture (as it prints itself) and of every parameter and buffer, wherever they are."""
    digest = blake2b(repr(module).encode(), digest_size=_DIGEST_BYTES)
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_digest(path: str | Path) -> str:
    """16 hex digits of a file's bytes."""
    digest = blake2b(digest_size=_DIGEST_BYTES)
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
