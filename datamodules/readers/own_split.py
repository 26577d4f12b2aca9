"""People's own images, divided by person into those to train on, queries and the gallery they are searched in."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence

from lightning_reid.arguments import require_number

TRAIN, VAL, QUERY, GALLERY = "train", "val", "query", "gallery"
LEAST_TO_VALIDATE, LEAST_TO_TRAIN = 2, 2
"""People: a single one has no wrong answers."""


def split_by_person(people: Sequence[str], cameras: Sequence[str | None], *, test_share: float = 0.5, seed: int = 0) -> list[str]:
    """The split of each image, so that nobody is trained on and tested, and every query has a match.

    Who can be found again is tested: seen by two cameras or more, or, where there are none, in two images or more. Of these people a share
    is drawn; in each camera that saw them one image of theirs is a query, unless the gallery would then hold them in no other camera, and
    all others are gallery. Everybody else is trained on.

    Args:
        people: Who is in each image.
        cameras: Which camera saw it; ``None`` of all where cameras are not told.
        test_share: Of the people who can be found again, in (0, 1).
        seed: Of the draw; the same people in another order are drawn alike.

    Returns:
        ``"train"``, ``"query"`` or ``"gallery"``, an image each.

    Raises:
        ValueError: Nobody, or only one person, can be found again; or cameras are told for some images alone.

    Example:
        >>> from lightning_reid.datamodules.readers.own_split import split_by_person
        >>> split_by_person(["anna", "anna", "ben", "ben"], ["door", "hall", "door", "hall"])
        ['train', 'train', 'gallery', 'query']
    """
    require_number("test_share", test_share, above=0, below=1)
    if None in cameras and any(one is not None for one in cameras):
        raise ValueError(f"{cameras.count(None)} of {len(cameras)} images have no camera: tell it for all, or for none")
    rows = _rows_of(people, cameras)
    seen_again = sorted(person for person, seen in rows.items() if _can_be_found_again(seen))
    if len(seen_again) < 2:
        how = "in two images" if None in cameras else "by two cameras"
        raise ValueError(
            f"{len(seen_again)} of {len(rows)} people were seen {how}: at least two are needed, one to train on and one to test"
        )
    draws = random.Random(seed)
    tested = sorted(draws.sample(seen_again, min(max(round(test_share * len(seen_again)), 1), len(seen_again) - 1)))
    of_tests = set(tested)
    found = split_tests([person if person in of_tests else None for person in people], cameras, draws)
    return [one or TRAIN for one in found]


def split_tests(people: Sequence[str | None], cameras: Sequence[str | None], draws: random.Random) -> list[str | None]:
    """Divide the images of people who are tested into queries and gallery, as ``split_by_person`` does; ``None`` of nobody is ``None``.

    Args:
        people: Who is in each image; ``None`` where it is not of the test.
        cameras: Which camera saw it.
        draws: What chooses queries.
    """
    rows = _rows_of(people, cameras)
    splits: list[str | None] = [None if person is None else GALLERY for person in people]
    for person in sorted(rows):
        seen = {camera: rows[person][camera] for camera in sorted(rows[person], key=str)}
        if _can_be_found_again(seen):
            for row in _queries(seen, draws):
                splits[row] = QUERY
    return splits


def hold_out_to_validate(
    people: Sequence[str], cameras: Sequence[str | None], splits: Sequence[str], *, val_share: float, seed: int = 0
) -> list[str]:
    """The splits, in which some of the people who are trained on are held out to validate on: all images of theirs are ``"val"``.

    Args:
        people: Who is in each image.
        cameras: Which camera saw it; ``None`` of all where cameras are not told.
        splits: Of each image.
        val_share: Of the people who are trained on and can be found again, in [0, 1); at least two of them, where it is more than 0.
        seed: Of the draw; the same people in another order are drawn alike.

    Returns:
        As they were, where ``val_share`` is 0, or fewer than two people could be held out or would be left to train on.

    Raises:
        ValueError: ``val_share`` is out of range.
    """
    require_number("val_share", val_share, low=0, below=1)
    trained = [person if split == TRAIN else None for person, split in zip(people, splits, strict=True)]
    rows = _rows_of(trained, cameras)
    seen_again = sorted(person for person, seen in rows.items() if _can_be_found_again(seen))
    wanted = max(round(val_share * len(seen_again)), LEAST_TO_VALIDATE)
    if not val_share or wanted > len(seen_again) or wanted > len(rows) - LEAST_TO_TRAIN:
        return list(splits)
    held_out = set(random.Random(f"to validate on, {seed}").sample(seen_again, wanted))
    return [VAL if person in held_out else split for person, split in zip(trained, splits, strict=True)]


def _rows_of(people: Sequence[str | None], cameras: Sequence[str | None]) -> dict[str, dict[str | None, list[int]]]:
    """Person to camera to rows; without those of ``None``."""
    rows: dict[str, dict[str | None, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (person, camera) in enumerate(zip(people, cameras, strict=True)):
        if person is not None:
            rows[person][camera].append(row)
    return rows


def _can_be_found_again(seen: Mapping[str | None, Sequence[int]]) -> bool:
    """Whether somebody was seen by two cameras, or, where cameras are not told, in two images."""
    return len(seen) > 1 or (None in seen and len(seen[None]) > 1)


def _queries(seen: Mapping[str | None, Sequence[int]], draws: random.Random) -> list[int]:
    """Of one person's images an image a camera, but for a camera that is needed as the only other one of the gallery."""
    several = [camera for camera, images in seen.items() if len(images) > 1]
    single = [camera for camera in seen if camera not in several]
    if not several:
        single = [draws.choice(single)]
    elif len(several) == 1 and single:
        single.remove(draws.choice(single))
    return [draws.choice(seen[camera]) for camera in (*several, *single)]
