"""How the images of one or several data sets are dealt to the clients of a federation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from lightning_reid.arguments import require_count, require_number
from lightning_reid.records import ImageRecord

ClientSplit = Literal["dataset", "camera", "identity", "dirichlet"]


def split_clients(
    records: Sequence[ImageRecord],
    by: ClientSplit,
    *,
    num_clients: int | None = None,
    concentration: float = 0.5,
    min_identities: int = 2,
    seed: int = 0,
) -> dict[str, list[int]]:
    """Deal training images to clients.

    ``"dataset"`` and ``"camera"`` make a client of each. ``"identity"`` deals the identities of each data set, equally many to each of its
    clients; ``"dirichlet"`` deals them in numbers that follow a Dirichlet distribution: the smaller its concentration, the more unequal,
    and at least ``min_identities`` to each. No person is at two clients but under ``"camera"``.

    Args:
        records: Training images; those without identity (pid 0 or -1) go to no client.
        by: What decides.
        num_clients: K of each data set, for ``"identity"`` and ``"dirichlet"``; at least 2.
        concentration: alpha of the Dirichlet distribution, above 0.
        min_identities: Identities that every client of ``"identity"`` and ``"dirichlet"`` gets before the rest is dealt, at least 2.
        seed: Of the draws, at least 0; the same clients for the same set of identities, in whatever order the records come.

    Returns:
        Client's name to its rows of ``records``, ascending; names sort as their numbers do.

    Raises:
        ValueError: A number is missing or out of range, or is for another split; fewer than two clients come out, or there are too few
            identities for them.
    """
    if by not in get_args(ClientSplit):
        raise ValueError(f"clients are split by one of {get_args(ClientSplit)}, got {by!r}")
    require_count("min_identities", min_identities, low=2)
    if by in ("dataset", "camera"):
        if min_identities > 2:
            raise ValueError(
                f"clients of {by} have the people that are there: min_identities={min_identities} is for 'identity' and 'dirichlet'"
            )
        names = [record.domain or "data" if by == "dataset" else f"{record.domain}-camera{record.camid:03d}" for record in records]
        clients = _grouped(names, records)
    else:
        if num_clients is None or num_clients < 2 or not concentration > 0:
            raise ValueError(f"need num_clients of at least 2 and concentration > 0, got {num_clients} and {concentration}")
        dealt = _by_identity(records, num_clients, None if by == "identity" else concentration, min_identities, seed)
        clients = _grouped(dealt, records)
    if len(clients) < 2:
        raise ValueError(f"a federation needs two clients or more, split by {by} gives {len(clients)}: {', '.join(clients)}")
    lonely = [name for name, rows in clients.items() if len({records[row].pid for row in rows}) < 2]
    if lonely:
        raise ValueError(f"{lonely[0]} has images of one person only: nothing to tell apart. Leave it out, or split otherwise")
    return clients


def split_table(records: Sequence[ImageRecord], clients: Mapping[str, Sequence[int]]) -> list[tuple[str, int, int, int]]:
    """``(client, images, identities, cameras)`` of each client."""
    rows = []
    for name, members in clients.items():
        mine = [records[row] for row in members]
        rows.append((name, len(mine), len({one.pid for one in mine}), len({(one.domain, one.camid) for one in mine})))
    return rows


def _grouped(names: Iterable[str | None], records: Sequence[ImageRecord]) -> dict[str, list[int]]:
    clients: dict[str, list[int]] = {}
    for row, (name, record) in enumerate(zip(names, records, strict=True)):
        if name is not None and record.pid > 0:
            clients.setdefault(name, []).append(row)
    return dict(sorted(clients.items()))


def _by_identity(records: Sequence[ImageRecord], num_clients: int, concentration: float | None, least: int, seed: int) -> list[str | None]:
    domains = sorted({record.domain for record in records})
    width = len(str(num_clients - 1))
    owner: dict[tuple[str, int], str] = {}
    for number, domain in enumerate(domains):
        people = sorted({record.pid for record in records if record.domain == domain and record.pid > 0})
        if len(people) < least * num_clients:
            each = "two" if least == 2 else f"{least}"
            raise ValueError(
                f"{num_clients} clients need {each} people each, {domain or 'the data'} shows {len(people)}: ask for fewer"
                " clients, or for fewer people each"
            )
        prefix = f"{domain}-client" if len(domains) > 1 else "client"
        dealt = _deal(people, num_clients, concentration, least, np.random.default_rng([seed, number]))
        owner |= {(domain, pid): f"{prefix}{client:0{width}d}" for client, pids in enumerate(dealt) for pid in pids}
    return [owner.get((record.domain, record.pid)) for record in records]


def _deal(people: list[int], num_clients: int, concentration: float | None, least: int, generator: np.random.Generator) -> list[list[int]]:
    order = generator.permutation(people)
    shares = np.full(num_clients, 1 / num_clients) if concentration is None else generator.dirichlet([concentration] * num_clients)
    # the least to each first, the rest in proportion, what rounding leaves to the largest remainders
    wanted = shares * (len(people) - least * num_clients)
    counts = least + np.floor(wanted).astype(int)
    for client in np.argsort(np.floor(wanted) - wanted, kind="stable")[: len(people) - int(counts.sum())]:
        counts[client] += 1
    return [chunk.tolist() for chunk in np.split(order, np.cumsum(counts)[:-1])]


def hold_out(records: Sequence[ImageRecord], share: float) -> tuple[list[int], list[int]]:
    """Rows to train on, and rows of the same people that are held out: the last of each person in each camera.

    Args:
        records: Of one client.
        share: Of a person's images in a camera that is held out, in (0, 1); at least one of them always stays in training.

    Raises:
        ValueError: ``share`` is out of range.
    """
    require_number("held_out", share, above=0, below=1)
    totals = Counter((record.pid, record.camid) for record in records)
    seen: Counter[tuple[int, int]] = Counter()
    train: list[int] = []
    held: list[int] = []
    for row, record in enumerate(records):
        key = (record.pid, record.camid)
        seen[key] += 1
        (held if seen[key] > totals[key] - int(totals[key] * share) else train).append(row)
    return train, held
