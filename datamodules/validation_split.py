"""People held out of training to select by: who, and which of their records are queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from lightning_reid.arguments import MOST, is_number, shown
from lightning_reid.records import Record, Splits

LEAST_PEOPLE = 2
"""Fewer have no wrong answers, and score 1 with any network."""


@dataclass(frozen=True)
class Validation(Generic[Record]):
    """A training part in two, which share no identity.

    Attributes:
        train: Records of the people that are trained on, and those without identity, in their order.
        query: Of the people held out: a record of each person in each camera that keeps others of them there, or a single one.
        gallery: Their other records. Every query has a match in another camera.
        num_people: Held out.
    """

    train: tuple[Record, ...]
    query: tuple[Record, ...]
    gallery: tuple[Record, ...]
    num_people: int


def check_val_identities(val_identities: int | float) -> None:
    """Refuse what is neither a number of people nor a share of them.

    Raises:
        ValueError: It is negative, a fraction of 1 or more that is no whole number, or NaN.
    """
    if not is_number(val_identities) or not 0 <= val_identities <= MOST or (val_identities > 1 and val_identities % 1):
        raise ValueError(
            "val_identities must be a share of the training identities in [0, 1), such as 0.1, or their number,"
            f" got {shown(val_identities)}"
        )


def hold_out_people(dataset: Splits[Record], val_identities: int | float, *, seed: int, unit: str = "records") -> Validation[Record]:
    """Hold people out of a data set's training part, drawn by seed among those that two cameras have seen.

    The choice depends on (set of identities that two cameras have seen, seed) alone, and is nested: with one seed, those of a smaller
    share are among those of a larger one.

    Args:
        dataset: As it was read; its test part is not touched.
        val_identities: A share of the training identities in (0, 1), rounded, at least two people; or their number.
        seed: At least 0.
        unit: What a record is called in messages, in the plural.

    Raises:
        ValueError: So many people were not seen by two cameras, or nobody would be left to train on.
    """
    check_val_identities(val_identities)
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, record in enumerate(dataset.train):
        if record.pid > 0:
            rows_of[record.pid].append(row)
    wanted = int(val_identities) if val_identities >= 1 else max(LEAST_PEOPLE, round(val_identities * len(rows_of)))
    seen_twice = sorted(pid for pid, rows in rows_of.items() if len({dataset.train[row].camid for row in rows}) > 1)
    if wanted < LEAST_PEOPLE or wanted > len(seen_twice) or wanted >= len(rows_of):
        raise ValueError(
            f"val_identities={val_identities} holds {wanted} of {len(rows_of)} training identities of {dataset.name} out for validation,"
            f" but it takes at least {LEAST_PEOPLE} whose {unit} come from two cameras, which {len(seen_twice)} have, and somebody must be"
            " left to train on: give another number, or 0 to validate on the test part"
        )
    generator = np.random.default_rng(seed)
    people = generator.permutation(seen_twice)[:wanted].tolist()
    queries = {row for pid in sorted(people) for row in _queries(dataset.train, rows_of[pid], pid, seed)}
    held_out = {row for pid in people for row in rows_of[pid]}
    return Validation(
        train=tuple(record for row, record in enumerate(dataset.train) if row not in held_out),
        query=tuple(dataset.train[row] for row in sorted(queries)),
        gallery=tuple(dataset.train[row] for row in sorted(held_out - queries)),
        num_people=len(people),
    )


def told_validation(dataset: Splits[Record], *, seed: int, unit: str = "records") -> Validation[Record]:
    """Validation on the people whom a data set tells (its part ``val``); the queries are drawn by seed as ``hold_out_people`` does.

    Queries show who can be found again: seen by two cameras, or, where all of the part is of one camera, in two records; all else is
    gallery.

    Args:
        dataset: With a part ``val``.
        seed: At least 0.
        unit: What a record is called in messages, in the plural.

    Raises:
        ValueError: Fewer than two people can be found again.
    """
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, record in enumerate(dataset.val):
        rows_of[record.pid].append(row)
    one_camera = len({record.camid for record in dataset.val}) == 1
    found = {pid: rows for pid, rows in rows_of.items() if len(rows if one_camera else {dataset.val[row].camid for row in rows}) > 1}
    if len(found) < LEAST_PEOPLE:
        raise ValueError(
            f"{len(found)} of {len(rows_of)} people to validate on (split 'val' of {dataset.name}) have {unit} of two cameras, or two of"
            f" the only one: at least {LEAST_PEOPLE} are needed to score; tell more people, or none, and val_identities draws them"
        )
    queries = {row for pid, rows in sorted(found.items()) for row in _queries(dataset.val, rows, pid, seed)}
    return Validation(
        train=dataset.train,
        query=tuple(dataset.val[row] for row in sorted(queries)),
        gallery=tuple(record for row, record in enumerate(dataset.val) if row not in queries),
        num_people=len(rows_of),
    )


def _queries(records: Sequence[Record], rows: Sequence[int], pid: int, seed: int) -> list[int]:
    """One row of each camera that has others too, which are its gallery; of single rows only one, so that its match stays there."""
    generator = np.random.default_rng([seed, pid])
    of_camera: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        of_camera[records[row].camid].append(row)
    several = [int(generator.choice(of_camera[camid])) for camid in sorted(of_camera) if len(of_camera[camid]) > 1]
    return several or [of_camera[int(generator.choice(sorted(of_camera)))][0]]
