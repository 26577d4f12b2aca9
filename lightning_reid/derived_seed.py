"""Seeds for whatever is initialized or drawn: of what it is, never of how much was drawn before it."""

from __future__ import annotations

import zlib

import numpy as np


def derived_seed(*told: int | str) -> int:
    """A seed in ``0..2^32 - 1``, the same wherever it is asked for, and another one where anything else is told.

    Args:
        told: What the seed is of, e.g. a run's seed and the name of a stage; numbers of at least 0. A 0 at the end is as good as none.

    Raises:
        ValueError: A number is below 0.
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in told]
    return int(np.random.SeedSequence(words).generate_state(1)[0])
