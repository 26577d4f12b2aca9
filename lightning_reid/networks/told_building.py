"""Building what a file asks for: never larger than the file's own weights have use for, and every error names the file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from lightning_reid.networks.told_tensors import stored_numbers

SPARE_NUMBERS = 10_000_000
"""That a network may have beside its weights: tables of positions, what an initialization draws."""
SPARE_TENSORS = 1000
"""That may be made beside three for each name of the file: a network of many small layers takes minutes to build, and little memory."""
MOST_NUMBERS = 1_000_000_000
"""Of a network that loses channels when it is loaded, or that a user told more of: its file does not say how large it is at first."""


class _Room(TorchDispatchMode):
    """So many tensors, of so many numbers in all, may be made; the next one is refused before it takes memory.

    Within the room of another file, which is read meanwhile, that one counts alone.
    """

    def __init__(self, numbers: int, tensors: int) -> None:
        super().__init__()
        self.numbers, self.left = numbers, numbers
        self.tensors, self.tensors_left = tensors, tensors

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        size = args[0] if args and isinstance(args[0], (list, tuple)) else ()
        if size and _innermost.get() is self and all(isinstance(side, int) for side in size):
            self.left -= math.prod(size)
            self.tensors_left -= 1
            if self.left < 0:
                raise ValueError(f"the network that it asks for has more than the {self.numbers:,} numbers that its weights have use for")
            if self.tensors_left < 0:
                raise ValueError(f"the network that it asks for has more than {self.tensors:,} tensors, and the file weights for far fewer")
        return func(*args, **(kwargs or {}))


_innermost: ContextVar[_Room | None] = ContextVar("_innermost", default=None)


@contextmanager
def built_from(path: str | Path, content: Mapping[str, Any], *, told_alone: bool = True) -> Iterator[None]:
    """Build and load, within the block, what a file asks for.

    Args:
        path: The file, for messages.
        content: What it holds, read and checked.
        told_alone: Whether the file alone says what is built; a user who says more may ask for a network of any usual size.

    Raises:
        ValueError: Whatever went wrong: no such network, one far larger than the file's weights, arguments that no module takes,
            tensors that do not fit. The message names the file, and tells what was wrong.
    """
    tensors = content.get("state_dict", content.get("model", content))
    held = [tensor for tensor in tensors.values() if isinstance(tensor, Tensor)] if isinstance(tensors, Mapping) else []
    announced = sum(tensor.numel() for tensor in held if tensor.is_meta)  # by a header alone, of which nothing was read
    numbers = MOST_NUMBERS if "channel_plan" in content or not told_alone else 2 * (stored_numbers(*held) + announced) + SPARE_NUMBERS
    most_tensors = 3 * len(held) + SPARE_TENSORS if told_alone else MOST_NUMBERS
    room = _Room(numbers, most_tensors)
    entered = _innermost.set(room)
    try:
        with room:
            yield
    except Exception as error:  # timm and torch raise what they like where an option makes no sense
        if str(path) in str(error) or isinstance(error, OSError):
            raise
        told = " ".join(str(error).split())[:500] or type(error).__name__
        raise ValueError(
            f"{path} does not make a network: {told}. Give the file that this library saved, or build the network yourself, and load the"
            " weights into it"
        ) from error
    finally:
        _innermost.reset(entered)
