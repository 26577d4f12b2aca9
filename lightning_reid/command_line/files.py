"""What is in the files of many images: whether they can be read, how large they are, which are the same picture or nearly so."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from lightning_reid.command_line.near_hashes import near_pairs
from lightning_reid.datamodules.decoding import CorruptImageError, image_pixels
from lightning_reid.datamodules.late_progress import late_progress


class _File(NamedTuple):
    reason: str
    size: tuple[int, int] = (0, 0)
    digest: bytes = b""
    look: int = 0


@dataclass
class Files:
    """What was found in files.

    Attributes:
        unreadable: Path and reason.
        sizes: (height, width) of each that can be read, by path.
        same: Groups of paths of the same bytes.
        looks: Groups of paths of pictures that have the same perceptual hash, a single one too, of several of the same bytes the first;
            ``None`` if nobody looked.
        near: Pairs of places in ``looks`` of groups that look nearly the same.
    """

    unreadable: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    same: list[list[str]] = field(default_factory=list)
    looks: list[list[str]] | None = None
    near: list[tuple[int, int]] = field(default_factory=list)


def look_into(paths: Sequence[str], *, num_threads: int = 4, progress: bool = True) -> Files:
    """Open every file once.

    Args:
        paths: Of images, each once.
        num_threads: Files open at the same time.
        progress: Show a bar on standard error once it takes longer than two seconds.
    """
    hashed = has_perceptual_hash()
    with ThreadPoolExecutor(num_threads) as pool:
        opened = pool.map(lambda path: _open(path, hashed=hashed), paths)
        read = dict(
            zip(paths, late_progress(opened, f"opening {len(paths):,} images", total=len(paths), disable=not progress), strict=True)
        )
    found = Files({path: one.reason for path, one in read.items() if one.reason})
    by_digest: dict[bytes, list[str]] = defaultdict(list)
    for path, one in read.items():
        if not one.reason:
            found.sizes[path] = one.size
            by_digest[one.digest].append(path)
    found.same = [group for group in by_digest.values() if len(group) > 1]
    if hashed:
        first = [group[0] for group in by_digest.values()]
        groups, found.near = near_pairs([read[path].look for path in first])
        found.looks = [[first[place] for place in group] for group in groups]
    return found


def has_perceptual_hash() -> bool:
    """Whether the library for it is installed (extra ``doctor``)."""
    try:
        import_module("imagehash")
    except ModuleNotFoundError:
        return False
    return True


def _open(path: str, *, hashed: bool) -> _File:
    try:
        if not Path(path).stat().st_size:
            return _File("zero bytes")
        pixels = image_pixels(path)
        digest = hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()
    except (CorruptImageError, OSError) as error:
        return _File(str(error))
    look = 0
    if hashed:
        bits = import_module("imagehash").phash(Image.fromarray(pixels)).hash
        look = int.from_bytes(np.packbits(bits).tobytes(), "big")
    return _File("", (pixels.shape[0], pixels.shape[1]), digest, look)
