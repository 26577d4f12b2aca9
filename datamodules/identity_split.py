"""Which training identities count as labeled: seeded splits that share no identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lightning_reid.arguments import require_count, shown
from lightning_reid.records import AnyRecord


@dataclass(frozen=True)
class IdentitySplit:
    """Rows of the records that keep their identity, and of those that lose it.

    Attributes:
        labeled: Rows in the order of the records.
        unlabeled: All other rows, shuffled: readers sort by identity, and neighbors in such a list would be told by their place.
        labeled_pids: The labeled identities, ascending.
    """

    labeled: tuple[int, ...]
    unlabeled: tuple[int, ...]
    labeled_pids: tuple[int, ...]


def identity_split(records: Sequence[AnyRecord], labeled: int | str, *, seed: int) -> IdentitySplit:
    """Choose labeled identities at random; every image of any other identity is unlabeled.

    The choice depends on (set of identities, seed) alone, not on the order of the records, and is nested: with one seed, 1/12 of the
    identities are among the 1/6, and those among the 1/3. Records without identity (pid 0 or -1) are unlabeled.

    Source: SGC-DPL, section 3.4.2.

    Args:
        records: Training records.
        labeled: As ``labeled_share`` takes it.
        seed: At least 0.

    Raises:
        ValueError: Fewer than two identities would be labeled, more than there are, or no record would be left unlabeled.
    """
    pids = sorted({record.pid for record in records if record.pid > 0})
    generator = np.random.default_rng(seed)
    chosen = set(generator.permutation(pids)[: count_labeled(labeled, len(pids))].tolist())
    unlabeled = [row for row, record in enumerate(records) if record.pid not in chosen]
    if not unlabeled:
        raise ValueError(
            f"labeled={labeled!r} labels all {len(pids)} training identities and leaves no unlabeled image: label fewer,"
            " or train with ImageReIDDataModule, which labels all"
        )
    return IdentitySplit(
        labeled=tuple(row for row, record in enumerate(records) if record.pid in chosen),
        unlabeled=tuple(generator.permutation(unlabeled).tolist()),
        labeled_pids=tuple(sorted(chosen)),
    )


def count_labeled(labeled: int | str, num_identities: int) -> int:
    """How many of ``num_identities`` to label; a share is rounded (1/6 of Market-1501's 751 identities are 125).

    Raises:
        ValueError: That is fewer than two, without which there is no negative pair, or more than there are.
    """
    wanted = labeled_share(labeled)
    count = wanted if isinstance(wanted, int) else round(wanted * num_identities)
    if count > num_identities:
        raise ValueError(f"labeled={labeled!r} asks for more identities than exist: there are {num_identities} training identities")
    if count < 2:
        raise ValueError(
            f"labeled={labeled!r} of {num_identities} training identities labels {count}: at least 2 are needed,"
            " one alone has no negative pair"
        )
    return count


def guiding_identities(labeled_pids: Sequence[int], guides: int | str, *, seed: int) -> tuple[int, ...]:
    """Choose at random which of the labeled identities only guide, ascending; nested, as ``identity_split`` is.

    Args:
        labeled_pids: The labeled identities, ascending.
        guides: A number of them, a share as ``labeled_share`` takes it, or 0 for none.
        seed: At least 0.

    Raises:
        ValueError: Fewer than two would guide, or fewer than two would be left to train on by name.
    """
    if guides == 0:
        return ()
    wanted = labeled_share(guides, "guides")
    count = wanted if isinstance(wanted, int) else round(wanted * len(labeled_pids))
    if not 2 <= count <= len(labeled_pids) - 2:
        raise ValueError(
            f"guides={guides!r} lets {count} of {len(labeled_pids)} labeled identities only guide: it takes at least 2, and as many must"
            " be left to train on by name; 0 is for none"
        )
    chosen = np.random.default_rng([seed, 1]).permutation(labeled_pids)[:count]
    return tuple(sorted(chosen.tolist()))


def labeled_share(labeled: int | str, name: str = "labeled") -> int | Fraction:
    """Read what a user asks for: ``50`` identities, or a share of them such as ``"1/6"``.

    Args:
        labeled: What is asked for.
        name: Of the argument, for the error.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(labeled, int):
        require_count(name, labeled)
        return labeled
    try:
        wanted = Fraction(labeled)
    except (ValueError, ZeroDivisionError, TypeError, OverflowError) as error:
        raise ValueError(f"{name} must be a number of identities such as 50 or a share such as '1/6', got {shown(labeled)}") from error
    if not 0 < wanted < 1:
        raise ValueError(
            f"{name} must lie between 0 and 1 where it is a share, got {shown(labeled)}; write a number of identities as a number"
        )
    return wanted
