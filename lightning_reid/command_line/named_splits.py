"""Splits as people name them, to those of a table."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from lightning_reid.datamodules.readers.own_split import GALLERY, QUERY, TRAIN, VAL, split_tests

TEST = "test"
"""Images of which queries and a gallery are still to be made."""
SPLITS = {
    **{"train": TRAIN, "training": TRAIN, "query": QUERY, "probe": QUERY, "gallery": GALLERY},
    **{"test": TEST, "testing": TEST, "val": VAL, "validation": VAL},
}


def is_of_tests(name: str) -> bool:
    """Whether images of a split of that name are to test or to validate on, and not told to be queries or a gallery."""
    return SPLITS[name.lower()] in (TEST, VAL)


def named_splits(told: Sequence[str], people: Sequence[str], cameras: Sequence[str | None], *, seed: int) -> list[str]:
    """The split of each image, by the one that it is named to be of.

    Of images to test on queries are drawn; so are they of those to validate on, where there is nothing else to test on. Images to test or
    to validate on of people who are trained on, as some have them, are trained on too.

    Args:
        told: Name of the split of each image.
        people: Who is in it.
        cameras: Which camera saw it; ``None`` where cameras are not told.
        seed: Of the draw.

    Returns:
        ``"train"``, ``"val"``, ``"query"`` or ``"gallery"``, an image each.

    Raises:
        ValueError: A name is unknown, tests are named in two ways, somebody is both validated on and tested, or nobody can be tested.
    """
    unknown = sorted({one for one in told if one.lower() not in SPLITS})
    if unknown:
        raise ValueError(f"the split {unknown[0]!r} is none of {', '.join(SPLITS)}: rename it, or write * for {{split}} to have one made")
    splits = [SPLITS[one.lower()] for one in told]
    if TEST in splits and (QUERY in splits or GALLERY in splits):
        raise ValueError("there are images to test and queries or a gallery too: name them in one way, or write * for {split}")
    if not {TEST, QUERY, GALLERY} & {*splits}:
        splits = [TEST if one == VAL else one for one in splits]
    of: dict[str, set[str]] = defaultdict(set)
    for person, split in zip(people, splits, strict=True):
        of[split].add(person)
    both = (of[VAL] - of[TRAIN]) & (of[TEST] | of[QUERY] | of[GALLERY])
    if both:
        raise ValueError(f"{len(both)} people are to be validated on and tested, {min(both)!r} say: name them in one way")
    again = [split in (VAL, TEST) and person in of[TRAIN] for person, split in zip(people, splits, strict=True)]
    splits = [TRAIN if trained else split for trained, split in zip(again, splits, strict=True)]
    if not of[TEST]:
        return splits
    tested = [person if split == TEST else None for person, split in zip(people, splits, strict=True)]
    divided = split_tests(tested, cameras, random.Random(seed))
    if QUERY not in divided:
        raise ValueError("nobody of the test is seen twice, by two cameras where they are told, and not trained on: write * for {split}")
    return [one or split for one, split in zip(divided, splits, strict=True)]
