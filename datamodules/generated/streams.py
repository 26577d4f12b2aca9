"""Independent random streams, so that what one picture shows depends on no other picture."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream decides. A new member takes a new number, else old seeds would give new pictures."""

    WARDROBE = 1
    PERSON = 2
    CAMERA = 3
    VISIT = 4
    PICTURE = 5
    IDENTITIES = 6
    ITINERARY = 7
    TRACKLET = 8
    STRETCH = 9
    FRAME = 10
    PLACE = 11
    PASSER_BY = 12
    ACTOR = 13
    MEETING = 14
    DETECTION = 15


def stream(seed: int, domain: int, purpose: Stream, *keys: int) -> np.random.Generator:
    """A generator that depends on all arguments; ``keys`` may be as low as -1.

    The number of keys is part of the entropy: ``SeedSequence`` takes ``[1, 2]`` and ``[1, 2, 0]`` for the same.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, domain, int(purpose), len(keys), *(key + 1 for key in keys)])))
