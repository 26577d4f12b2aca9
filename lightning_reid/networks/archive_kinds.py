"""What a file is by its content: one of ``torch.save``, of today or from before torch 1.6, or something else that looks alike."""

from __future__ import annotations

import pickletools
import zipfile
from typing import IO

_PICKLE = b"\x80"
_MAGIC_OF_OLD_TORCH = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # in the first of its pickles
_PICKLES_OF_OLD_TORCH = 5
_HEAD = 64
_CLASSES_OF_ANY_SIZE = ("bytearray", "Tensor", "TypedStorage")
"""How names end of what ``weights_only`` lets a pickle call with a size, and ``torch.save`` writes in no file of weights."""


def pickle_protocol(file: IO[bytes]) -> int | None:
    """The protocol that it says to be pickled by, as what ``torch.save`` wrote until torch 1.6 does; ``None`` of what is no pickle."""
    head = _head(file)
    return head[1] if head.startswith(_PICKLE) and len(head) > 1 else None


def read_through_pickles(file: IO[bytes]) -> None:
    """Go through a pickle without unpickling it, through all of a file of torch before 1.6, to where its weights begin.

    Raises:
        ValueError: It ends or makes no sense before; ``MemoryError`` and ``OverflowError`` where it speaks of sizes that cannot be.
    """
    for _ in range(_PICKLES_OF_OLD_TORCH if _MAGIC_OF_OLD_TORCH in _head(file) else 1):
        for _ in pickletools.genops(file):
            pass


def oversized_call(file: IO[bytes]) -> str | None:
    """What a whole file could have made in any size by a few bytes of its pickles, while it is read; ``None`` of nothing.

    Args:
        file: Open for reading and seeking, of ``torch.save``. It stands at its beginning afterwards.

    Raises:
        ValueError: A pickle makes no sense.
    """
    if pickle_protocol(file) is not None:
        called = _classes_of_any_size(file, _PICKLES_OF_OLD_TORCH)
    else:
        with zipfile.ZipFile(file) as archive:
            parts = [archive.open(name) for name in archive.namelist() if name.endswith("/data.pkl")]
            called = next(filter(None, (_classes_of_any_size(part, 1) for part in parts)), None)
    file.seek(0)
    return called


def _classes_of_any_size(file: IO[bytes], pickles: int) -> str | None:
    for _ in range(pickles):
        for opcode, told, _ in pickletools.genops(file):
            if opcode.name == "GLOBAL" and str(told).endswith(_CLASSES_OF_ANY_SIZE):
                return str(told).replace(" ", ".")
    return None


def foreign_kind(file: IO[bytes]) -> str | None:
    """What a whole file is that ``torch.save`` did not write, as the end of a sentence; ``None`` of one that it did write.

    Args:
        file: Open for reading and seeking; a ZIP archive or a pickle. It stands at its beginning afterwards.
    """
    if pickle_protocol(file) is not None:
        return None if _MAGIC_OF_OLD_TORCH in _head(file) else "it is a plain pickle"
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    file.seek(0)
    if any(name.endswith("/constants.pkl") for name in names):
        return "it is a TorchScript archive, which holds code beside its weights"
    if any(name.endswith("/data.pkl") for name in names):
        return None
    if names and all(name.endswith(".npy") for name in names):
        return f"it is an .npz archive of NumPy, of {', '.join(names[:3])}"
    return f"it is a ZIP archive of other things ({', '.join(names[:3]) or 'empty'})"


def told_stranger(file: IO[bytes]) -> str:
    """What a file that begins as no archive is instead, as the end of a sentence; empty where that is not known."""
    head = _head(file).lstrip()
    if head.startswith(b"version https://git-lfs"):
        return ": it is a pointer of git-lfs, and the file itself was not fetched (git lfs pull)"
    if head[:15].lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        return ": it is a web page, which a download gave instead of the file"
    if (head[:1] == b"\x08" and b"pytorch" in head) or b"onnx" in head.lower():
        return ": it is an ONNX network, which onnxruntime runs and torch does not load"
    return ""


def _head(file: IO[bytes]) -> bytes:
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(0)
    return head
