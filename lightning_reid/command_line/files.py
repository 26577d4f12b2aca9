"""What is in the files of many images: whether they can be read, how large they are, which are the same picture or nearly so."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from lightning_reid.datamodules.decoding import CorruptImageError, image_pixels
from lightning_reid.datamodules.late_progress import late_progress

NEAR = 3
"""Bits of 64 by which the perceptual hashes of two pictures differ that are nearly the same."""
_BLOCKS = NEAR + 1
"""Of a hash: two hashes that differ in fewer bits than there are blocks have a block in common."""
_MOST_IN_A_BUCKET = 200
"""Pictures of one block that are compared with each other: of all black ones, say, a few tell enough."""


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
        near: Pairs of paths of pictures that look nearly the same, and are not of the same bytes; ``None`` if nobody looked.
        not_compared: Pictures that were not compared with all that they have a part of the hash in common with: there are too many.
    """

    unreadable: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    same: list[list[str]] = field(default_factory=list)
    near: list[tuple[str, str]] | None = None
    not_compared: int = 0


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
        pairs, found.not_compared = near_pairs([read[path].look for path in first])
        found.near = [(first[a], first[b]) for a, b in pairs]
    return found


def has_perceptual_hash() -> bool:
    """Whether the library for it is installed (extra ``doctor``)."""
    try:
        import_module("imagehash")
    except ModuleNotFoundError:
        return False
    return True


def near_pairs(hashes: Sequence[int]) -> tuple[list[tuple[int, int]], int]:
    """Pairs of places of 64-bit hashes that differ in at most ``NEAR`` bits, in order, and how many places were not compared with all.

    Only hashes with one of four blocks of 16 bits in common are compared, of which no such pair has none. Of many with one block in common
    the first ``_MOST_IN_A_BUCKET`` are; the others are counted.

    Example:
        >>> from lightning_reid.command_line.files import near_pairs
        >>> near_pairs([0b1011, 0b1000, 0b1111 << 40])
        ([(0, 1)], 0)
    """
    pairs, left_out = set[tuple[int, int]](), set[int]()
    for block in range(_BLOCKS):
        buckets: dict[int, list[int]] = defaultdict(list)
        for place, one in enumerate(hashes):
            buckets[one >> (16 * block) & 0xFFFF].append(place)
        for bucket in buckets.values():
            left_out.update(bucket[_MOST_IN_A_BUCKET:])
            for a, b in combinations(bucket[:_MOST_IN_A_BUCKET], 2):
                if (hashes[a] ^ hashes[b]).bit_count() <= NEAR:
                    pairs.add((a, b))
    return sorted(pairs), len(left_out)


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
