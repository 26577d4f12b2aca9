"""What changes an index: images are added, removed, and people forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from math import isfinite

import torch.nn.functional as F
from torch import Tensor

from lightning_reid.search_index.database import transaction
from lightning_reid.search_index.index import Index, drop_fast, settle
from lightning_reid.search_index.rows import IndexRow, delete_rows, insert_rows, values_of


def add_rows(index: Index, rows: Sequence[IndexRow], embeddings: Tensor) -> int:
    """Add images; one whose path is there already takes the other's place.

    Args:
        index: Open to be changed.
        rows: N images of different paths.
        embeddings: ``[N, D]`` float, of any length but 0, on the CPU.

    Returns:
        How many took the place of others.

    Raises:
        OSError: The disk is full; nothing was added.
        ValueError: The shape is another, a path comes twice, or an embedding or a time is not finite; nothing was added.

    Example:
        >>> import torch
        >>> from lightning_reid.search_index import IndexRow, add_rows, create_index, write_index
        >>> create_index(folder / "index", "some network at 256x128", dimension=2)
        >>> with write_index(folder / "index") as index:
        ...     added = add_rows(index, [IndexRow("a.jpg", person="anna"), IndexRow("b.jpg")], torch.eye(2))
        >>> with write_index(folder / "index") as index:
        ...     add_rows(index, [IndexRow("b.jpg", person="ben"), IndexRow("c.jpg")], torch.eye(2))
        1
    """
    file = index.embeddings()
    if embeddings.shape != (len(rows), file.dimension):
        raise ValueError(f"expected embeddings [{len(rows)}, {file.dimension}] for {index.folder}, got {list(embeddings.shape)}")
    if len({row.path for row in rows}) < len(rows):
        raise ValueError(f"of {len(rows)} images some have the same path: give each once")
    clock = next((row for row in rows if row.time is not None and not isfinite(row.time)), None)
    if clock is not None:  # SQLite would take NaN for a time that is not known
        raise ValueError(f"the time of {clock.path} must be a finite number of seconds, got {clock.time}")
    lengths = embeddings.norm(dim=1)
    broken = (~(lengths.isfinite() & (lengths > 0))).nonzero().flatten().tolist()
    if broken:
        raise ValueError(f"the embedding of {rows[broken[0]].path} is zero, NaN or infinite, as {len(broken)} of {len(rows)} are")
    file.append(F.normalize(embeddings.detach().float(), dim=1))
    with transaction(index.connection, writes=True):
        replaced = insert_rows(index.connection, rows)
    settle(index, names_too=False)
    return replaced


def remove_paths(index: Index, paths: Sequence[str]) -> int:
    """Remove images; the bytes of their embeddings are overwritten with zeros.

    Args:
        index: Open to be changed.
        paths: As they were added; those that are not there are passed over.

    Returns:
        How many were there.

    Example:
        >>> import torch
        >>> from lightning_reid.search_index import IndexRow, add_rows, create_index, remove_paths, write_index
        >>> create_index(folder / "index", "some network at 256x128", dimension=2)
        >>> with write_index(folder / "index") as index:
        ...     added = add_rows(index, [IndexRow("a.jpg", person="anna"), IndexRow("b.jpg")], torch.eye(2))
        >>> with write_index(folder / "index") as index:
        ...     remove_paths(index, ["b.jpg", "z.jpg"])
        1
    """
    with transaction(index.connection, writes=True):
        removed = delete_rows(index.connection, "path", paths)
    settle(index)
    return removed


def forget_person(index: Index, person: str) -> int:
    """Remove all images of a person, the bytes of the embeddings, and the file for approximate search, which has codes of them.

    Returns:
        How many images there were.

    Raises:
        ValueError: There is no such person; the message tells names that are nearly the same, or how many people there are.

    Example:
        >>> import torch
        >>> from lightning_reid.search_index import IndexRow, add_rows, create_index, forget_person, write_index
        >>> create_index(folder / "index", "some network at 256x128", dimension=2)
        >>> with write_index(folder / "index") as index:
        ...     added = add_rows(index, [IndexRow("a.jpg", person="anna"), IndexRow("b.jpg")], torch.eye(2))
        >>> with write_index(folder / "index") as index:
        ...     forget_person(index, "anna")
        1
    """
    with transaction(index.connection, writes=True):
        removed = delete_rows(index.connection, "person", [person])
        if not removed:
            people = values_of(index.connection, "person")
            near = get_close_matches(person, people, n=3)
            told = f"did you mean {', '.join(near)}" if near else f"{len(people):,} people are known there, none of a similar name"
            raise ValueError(f"there is nobody {person!r} in {index.folder}: {told}")
        drop_fast(index, f"it had codes of {removed} images that are forgotten")
    settle(index)
    return removed
