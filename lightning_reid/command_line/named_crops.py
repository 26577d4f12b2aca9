"""Crops that are to be found again, with what their names, tables and options say of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning_reid.command_line.convert import IDS_TABLE
from lightning_reid.command_line.listening import listening
from lightning_reid.command_line.seen import NOBODY, TABLES, look_at
from lightning_reid.datamodules.readers.ids import WHOLE_NUMBER
from lightning_reid.datamodules.readers.name_guess import read_names
from lightning_reid.datamodules.readers.name_pattern import Named, NamePattern
from lightning_reid.datamodules.readers.own_ids import own_ids
from lightning_reid.datamodules.readers.table import REQUIRED_COLUMNS, table_rows
from lightning_reid.datamodules.readers.text import read_cells
from lightning_reid.inference import find_crops
from lightning_reid.search_index import IndexRow


class NamedCrops(NamedTuple):
    """What some paths hold.

    Attributes:
        rows: An image each, its path absolute.
        notes: What should be known.
    """

    rows: list[IndexRow]
    notes: list[str]


def named_crops(
    places: Sequence[str], pattern: str | None = None, *, person: str | None = None, camera: str | None = None, time: float | None = None
) -> NamedCrops:
    """List crops of files, folders and tables.

    Args:
        places: Image files, folders and tables. Official layouts, the Market naming and tables say who is seen where.
        pattern: How other names say it, below each folder.
        person: Of all, where nothing else says it.
        camera: Of all, likewise.
        time: Of all, in seconds.

    Raises:
        FileNotFoundError: One of the places is not there, or holds no images.
        ValueError: The pattern does not fit, a table cannot be read, a path is given as two people, or an option says what names say too.
    """
    notes = list[str]()
    rows = _as_told(places, notes) if pattern is None else _by_pattern(places, NamePattern(pattern), notes)
    for column, given in (("person", person), ("camera", camera)):
        told = next((row for row in rows if given is not None and getattr(row, column) is not None), None)
        if told is not None:
            raise ValueError(f"--{column} {given} is given, and {told.path} is named as of {getattr(told, column)}: give one of both")
    found: dict[str, IndexRow] = {}
    for row in rows:
        full = IndexRow(os.path.abspath(row.path), row.person or person, row.camera or camera, time)  # noqa: PTH100  (links stay)
        other = found.setdefault(full.path, full)
        if other != full:
            raise ValueError(f"{full.path} is given as of {other.person} in {other.camera}, and of {full.person} in {full.camera}")
    return NamedCrops(list(found.values()), notes)


def _by_pattern(places: Sequence[str], pattern: NamePattern, notes: list[str]) -> list[IndexRow]:
    paths, named = list[str](), list[Named]()
    for place in places:
        with listening() as logged:
            crops = find_crops([place])
        notes += logged
        folder = Path(place) if Path(place).is_dir() else Path(place).parent
        paths += crops
        named += read_names(pattern, [Path(crop).relative_to(folder).as_posix() for crop in crops], str(folder))
    people, cameras = _ids("person", [one.person for one in named]), _ids("camera", [one.camera for one in named])
    return [IndexRow(*one) for one in zip(paths, people, cameras, strict=True)]


def _ids(what: str, names: Sequence[str | None]) -> list[str | None]:
    """Names as they are written, numbers without leading zeros: whatever else is added before or after, each is the same every time."""
    own_ids(what, [name for name in names if name is not None])  # refuses 7 beside 007
    return [str(int(name)) if name is not None and WHOLE_NUMBER.fullmatch(name) else name for name in names]


def _as_told(places: Sequence[str], notes: list[str]) -> list[IndexRow]:
    rows = list[IndexRow]()
    for place in places:
        path = Path(place)
        if not path.is_dir() and path.suffix.lower() not in TABLES:
            rows += [IndexRow(crop) for crop in find_crops([place])]
            continue
        found = look_at(path)
        if not found.images:
            raise ValueError(f"{place} is {found.kind}: expected image files, folders with images, or a table of images")
        if path.suffix.lower() in TABLES:  # numbers that a reader gives to names are those of one table alone
            rows += _of_table(path)
            notes += [f"{place}: {one}" for one in found.told if "numbered from" not in one]
            continue
        notes += [f"{place}: {one}" for one in found.told]
        names = _names_of(path)
        if found.pattern is not None:
            notes.append(f"{place}: nobody is named. Names seem to say {found.pattern.text}: if they do, give it as --pattern")
        for one in found.images:
            person = None if one.person in NOBODY else one.person
            person, camera = names.get(("person", person), person), names.get(("camera", one.camera), one.camera)
            rows.append(IndexRow(one.path) if found.pattern is not None else IndexRow(one.path, person, camera))
    return rows


def _of_table(table: Path) -> list[IndexRow]:
    """Rows of a table that was read before, with people and cameras as they stand in it."""
    rows = list(table_rows(table, required=REQUIRED_COLUMNS[:1]))
    told = {column: _ids(what, [_cell(row, column) for _, row in rows]) for what, column in (("person", "pid"), ("camera", "camid"))}
    listed = zip(rows, told["pid"], told["camid"], strict=True)
    return [IndexRow(str(table.parent / str(row["path"])), None if pid in NOBODY else pid, camid) for (_, row), pid, camid in listed]


def _cell(row: Mapping[str, Any], column: str) -> str | None:
    value = row.get(column)
    return None if value in (None, "") else str(value)


def _names_of(folder: Path) -> dict[tuple[str, str | None], str]:
    """The names that a folder's numbers stand for, where ``lightning-reid convert`` made it."""
    file = folder / IDS_TABLE
    if not file.is_file():
        return {}
    rows = [cells for _, cells in read_cells(file, ",")][1:]
    return {(cells[0], cells[1]): cells[2] for cells in rows if len(cells) == 3}
