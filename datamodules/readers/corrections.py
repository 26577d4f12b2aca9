"""Corrections of the labels of a video test set (thesis, section 2.6.4): wrong identities, and second identities that are right as well.

``mars_corrections_sample.csv`` beside this file documents the columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lightning_reid.datamodules.readers.folders import StrPath, require_identified
from lightning_reid.datamodules.readers.ids import whole_number
from lightning_reid.datamodules.readers.text import read_cells
from lightning_reid.records import JUNK_PID, TrackletDataset, TrackletRecord

COLUMNS = ("tracklet", "pid", "second_pid")
SAMPLE = Path(__file__).with_name("mars_corrections_sample.csv")
"""A documented example of the format; its tracklets are invented."""


@dataclass(frozen=True)
class Correction:
    """What is known better of one tracklet.

    Attributes:
        pid: Its identity; ``None`` leaves the label as it is.
        second_pid: A second identity that is right as well, or -1.
    """

    pid: int | None
    second_pid: int = -1


def read_corrections(path: StrPath) -> dict[str, Correction]:
    """Read a CSV file of corrections, by the file name of the tracklet's first image.

    Args:
        path: Columns ``tracklet``, ``pid`` and ``second_pid``, as tables are read; lines that begin with ``#`` are left out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A column is missing or unknown, a cell is not what it should be, or a tracklet comes twice; the line is named.
    """
    table = Path(path).expanduser()
    if not table.exists():
        raise FileNotFoundError(f"there is no file of corrections {table}; {SAMPLE} shows what one looks like")
    corrections: dict[str, Correction] = {}
    first_line: dict[str, int] = {}
    for number, row in _rows(table):
        where, name = f"{table}, line {number}", row["tracklet"]
        if not name or "/" in name:
            raise ValueError(f"{where}: the column 'tracklet' must hold the file name of an image, without folders, got {name!r}")
        if name in corrections:
            raise ValueError(f"{where}: tracklet {name} was corrected in line {first_line[name]} already; keep one of the two")
        corrections[name], first_line[name] = _correction(where, row), number
    return corrections


def corrected(dataset: TrackletDataset, corrections: Mapping[str, Correction], source: str) -> TrackletDataset:
    """The data set with the labels of its queries and gallery corrected, and a note of how many.

    Args:
        dataset: As read.
        corrections: By the file name of the first image of a tracklet.
        source: Name of their file, for the note and for errors.

    Raises:
        ValueError: A correction is of no test tracklet, of several different ones, makes a query a distractor or junk, or gives a tracklet
            its own identity as the second.
    """
    # by label, not by path: the query and its copy in the gallery may lie in two folders
    tracklets: dict[str, set[tuple[int, int]]] = {}
    for record in (*dataset.query, *dataset.gallery):
        tracklets.setdefault(_name(record), set()).add((record.pid, record.camid))
    unknown = [name for name in corrections if name not in tracklets]
    if unknown:
        raise ValueError(
            f"{source}: no query or gallery tracklet of {dataset.name} begins with {unknown[0]} ({len(unknown) - 1} more are unknown); "
            "corrections are of test tracklets, named by their first image"
        )
    ambiguous = [name for name in corrections if len(tracklets[name]) > 1]
    if ambiguous:
        raise ValueError(
            f"{source}: {len(tracklets[ambiguous[0]])} tracklets of {dataset.name} begin with an image named {ambiguous[0]}; "
            "rename the images so that the names differ"
        )
    query, gallery = (
        tuple(_corrected(record, corrections.get(_name(record)), source) for record in records)
        for records in (dataset.query, dataset.gallery)
    )
    require_identified(query)
    seconds = sum(correction.second_pid != JUNK_PID for correction in corrections.values())
    relabeled = sum(correction.pid is not None for correction in corrections.values())
    note = f"{source} corrects the identity of {relabeled} test tracklets and gives {seconds} a second one"
    notes = (*dataset.notes, note)
    return TrackletDataset(dataset.name, dataset.train, query, gallery, notes, dataset.val, dataset.pictures, dataset.names)


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Number of a line, from 1, and its cells by column."""
    rows = read_cells(table, comment="#")
    _, heading = next(rows, (0, []))
    if sorted(heading) != sorted(COLUMNS):
        found = ", ".join(map(repr, heading)) or "nothing"
        raise ValueError(f"{table}: expected the heading {','.join(COLUMNS)} before the corrections, found {found}; see {SAMPLE}")
    for number, cells in rows:
        if len(cells) != len(COLUMNS):
            raise ValueError(f"{table}, line {number}: expected {len(COLUMNS)} cells as in the heading, got {len(cells)}")
        yield number, dict(zip(heading, cells))


def _correction(where: str, row: Mapping[str, str]) -> Correction:
    pid, second_pid = (_integer(where, row, column) for column in ("pid", "second_pid"))
    if pid is None and second_pid is None:
        raise ValueError(f"{where}: there is neither a pid nor a second_pid, so nothing to correct; leave the line out")
    if pid is not None and pid < JUNK_PID:
        raise ValueError(f"{where}: the column 'pid' must be at least -1 (junk), got {pid}")
    if second_pid is not None and second_pid < 1:
        raise ValueError(f"{where}: the column 'second_pid' must be a person, 1 or more, or empty, got {second_pid}")
    return Correction(pid, JUNK_PID if second_pid is None else second_pid)


def _integer(where: str, row: Mapping[str, str], column: str) -> int | None:
    if not row[column]:
        return None
    return whole_number(column, where, row[column])


def _corrected(record: TrackletRecord, correction: Correction | None, source: str) -> TrackletRecord:
    if correction is None:
        return record
    pid = record.pid if correction.pid is None else correction.pid
    if 0 < pid == correction.second_pid:
        raise ValueError(f"{source}: tracklet {_name(record)} has pid {pid} and the same second_pid; leave the second empty")
    return replace(record, pid=pid, second_pid=correction.second_pid)


def _name(record: TrackletRecord) -> str:
    return Path(record.paths[0]).name
