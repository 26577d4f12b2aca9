"""What may cross the boundary between a client and the server: a list of names, shapes and dtypes, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_reid.federated.averaging import NamedTensors


class LeakError(ValueError):
    """A client was about to send something that its method does not share."""


@dataclass(frozen=True)
class TensorKind:
    """Shape and dtype of a tensor that may be shared."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        """Bytes that the elements of such a tensor take."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclass(frozen=True)
class AllowList:
    """The tensors that a method shares, by name.

    A name is no proof of what a tensor holds; name, shape and dtype together leave no room for images, embeddings or rows of local
    people beside a network's own parameters, whose shapes do not depend on a client's data.

    Attributes:
        kinds: Shape and dtype of each name.
    """

    kinds: dict[str, TensorKind]

    @classmethod
    def of(cls, tensors: NamedTensors, prefixes: Sequence[str]) -> AllowList:
        """The names of ``tensors`` that begin with one of ``prefixes``.

        Raises:
            ValueError: A prefix that no name begins with.
        """
        for prefix in prefixes:
            if not any(name.startswith(prefix) for name in tensors):
                raise ValueError(f"no tensor's name begins with {prefix!r}, there are {', '.join(list(tensors)[:5])}...")
        chosen = {name: tensor for name, tensor in tensors.items() if name.startswith(tuple(prefixes))}
        return cls({name: TensorKind(tuple(tensor.shape), tensor.dtype) for name, tensor in chosen.items()})

    @property
    def num_bytes(self) -> int:
        """Bytes of a message that holds every tensor of the list."""
        return sum(kind.num_bytes for kind in self.kinds.values())

    def pick(self, tensors: NamedTensors) -> dict[str, Tensor]:
        """The shared ones among a module's tensors, detached copies on the CPU: what is sent does not change while it is under way.

        Raises:
            LeakError: One of them has become another shape or dtype.
            ValueError: One is missing.
        """
        chosen = {name: tensors[name].detach().cpu().clone() for name in self.kinds if name in tensors}
        self.check(chosen)
        return chosen

    def check(self, message: NamedTensors) -> None:
        """Let a message pass, or not.

        Raises:
            LeakError: It holds a name, a shape or a dtype that is not on the list.
            ValueError: A name of the list is missing.
        """
        for name, tensor in message.items():
            kind = self.kinds.get(name)
            if kind is None:
                raise LeakError(f"{name}, {_describe(tensor)}, is not on the list of what may be shared: it must not leave the client")
            if not isinstance(tensor, Tensor) or (tuple(tensor.shape), tensor.dtype) != (kind.shape, kind.dtype):
                raise LeakError(f"{name} may be shared as {kind.dtype} of shape {list(kind.shape)}, not as {_describe(tensor)}")
        missing = [name for name in self.kinds if name not in message]
        if missing:
            raise ValueError(f"{len(missing)} of {len(self.kinds)} shared tensors are missing from the message, the first is {missing[0]}")


def payload_bytes(message: NamedTensors) -> int:
    """Bytes of the elements of all tensors; names and framing are not counted."""
    return sum(tensor.numel() * tensor.element_size() for tensor in message.values())


def not_finite(message: NamedTensors) -> str | None:
    """The name of the first tensor that holds NaN or infinity."""
    # one NaN or infinity spoils the sum, which is far cheaper than a mask; finite numbers may overflow in it too, hence the second look
    suspects = (name for name, tensor in message.items() if tensor.is_floating_point() and not bool(tensor.sum().isfinite()))
    return next((name for name in suspects if not bool(message[name].isfinite().all())), None)


def _describe(value: Any) -> str:
    return f"{value.dtype} of shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
