"""Train/test splits of the sets that publish none, or whose published lists are rarely at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def shuffled(pids: Iterable[int], *, seed: int, split: int) -> list[int]:
    """The identities in an order that depends on ``(seed, split, pid)`` alone.

    They are sorted by a SHA-256 digest, not drawn from a generator: the order is the same under every version of Python and NumPy, and a
    missing identity leaves the order of the others as it was.

    Args:
        pids: Identities; repetitions count once.
        seed: Of the family of splits.
        split: Which split of the family, from 0.

    Raises:
        ValueError: ``split`` is negative.
    """
    if split < 0:
        raise ValueError(f"split counts from 0, got {split}")
    return sorted(set(pids), key=lambda pid: hashlib.sha256(f"{seed}/{split}/{pid}".encode()).digest())


def random_note(*, seed: int, split: int) -> str:
    """The sentence that stamps a score with its random split."""
    return f"random split {split} of seed {seed} (people sorted by the SHA-256 of seed/split/number), not an official list"
