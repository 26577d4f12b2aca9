"""What the benchmarks found, as it is committed: ``results/NAME.json``, read and checked.

A file is one table, or ``{"tables": [...]}``. A table says by what it was made (``benchmark``, ``table``, ``commit`` of the protocol,
``date``, ``hours`` on a core or null where they were not noted, ``machine``, ``protocol``, ``unit``), and has one of

- ``scores``: seed to row to a fraction in [0, 1], with the ``primary`` pair of rows (or null) and the ``exploratory`` ones;
- ``differences``: where scores of each seed were not kept, ``{"pair", "mean", "interval"}`` each, as fractions, of so many ``seeds``;
- ``figures``: name to a number, for what is counted or measured once; it has no comparison over seeds.

One table of a file at most has a primary comparison; ``primary_named`` is "afterwards" where its figures were known by then. ``source``
says where figures come from that the run did not write itself.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch

from lightning_reid.files import read_json, write_json
from lightning_reid.metrics import holm_adjusted
from lightning_reid.recipes.workshop.comparisons import (
    HOLDS,
    LEVEL,
    OPPOSITE,
    Comparison,
    Pair,
    comparison_of_interval,
    comparison_of_scores,
    corrected,
)

FOLDER = Path(__file__).parent / "results"
IN_ITS_TABLE = ", in its table only"
"""Added where Holm's correction among all exploratory comparisons of a file takes back what the one within the table left."""
TOLD = ("benchmark", "table", "commit", "date", "machine", "protocol", "unit")


@dataclass(frozen=True)
class ResultTable:
    """A table of a result file.

    Attributes:
        file: Its name without ``.json``.
        told: What stands in the file.
        comparisons: Of its pairs, the primary one first, the others with Holm's correction among themselves.
        corrected_in_file: The p-values of the others with the correction among those of all tables of the file.
    """

    file: str
    told: Mapping[str, Any]
    comparisons: tuple[Comparison, ...]
    corrected_in_file: Mapping[Pair, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As errors and pages call it."""
        return str(self.told["table"])

    @property
    def primary_named_afterwards(self) -> bool:
        """Whether the primary comparison was named when its figures were known."""
        return self.told.get("primary_named") == "afterwards"

    @property
    def num_seeds(self) -> int:
        """0 of figures."""
        return len(self.told["scores"]) if "scores" in self.told else int(self.told.get("seeds", 0))

    def comparison(self, pair: Pair) -> Comparison:
        """The one of these two rows.

        Raises:
            ValueError: The table does not compare them.
        """
        for one in self.comparisons:
            if (one.better, one.worse) == pair:
                return one
        there = "; ".join(f"{one.better} - {one.worse}" for one in self.comparisons) or "none"
        raise ValueError(f"results/{self.file}.json, table {self.name!r}, does not compare {' - '.join(pair)}: it has {there}")

    def verdict(self, comparison: Comparison) -> str:
        """What the comparison comes to; where its file has more tables, with ``IN_ITS_TABLE`` if the others' comparisons take it back."""
        p = self.corrected_in_file.get((comparison.better, comparison.worse), 0.0)
        kept = comparison.verdict
        return kept + IN_ITS_TABLE if kept in (HOLDS, OPPOSITE) and p >= LEVEL else kept

    def figure(self, name: str) -> float:
        """A number that was counted or measured once.

        Raises:
            ValueError: The table does not have it.
        """
        figures: Mapping[str, float] = self.told.get("figures", {})
        if name not in figures:
            raise ValueError(
                f"results/{self.file}.json, table {self.name!r}, has no figure {name!r}: it has {'; '.join(figures) or 'none'}"
            )
        return figures[name]


def read_results(folder: Path = FOLDER) -> dict[str, list[ResultTable]]:
    """All result files by name.

    Raises:
        ValueError: A file that is not as above; its name and what is wrong are told.
    """
    return {path.stem: read_tables(path) for path in sorted(folder.glob("*.json"))}


def read_tables(path: Path) -> list[ResultTable]:
    """The tables of a file.

    Raises:
        ValueError: It is not as above.
    """
    return _tables(path, read_json(path, way_on="run its benchmark again"))


def _tables(path: Path, content: Mapping[str, Any]) -> list[ResultTable]:
    tables = [_table(path, told) for told in content.get("tables", [content])]
    if not tables:
        raise ValueError(f"{path}: there is no table in it")
    named = [one.name for one in tables if one.told["primary"] is not None]
    if len(named) > 1:
        raise ValueError(f"{path}: one comparison of a benchmark is primary, got one in each of {named}")
    if len({one.name for one in tables}) < len(tables):
        raise ValueError(f"{path}: two tables have one name")
    return _corrected_in_file(tables)


def parse_options(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, *, settings: bool = False
) -> tuple[argparse.Namespace, list[str]]:
    """Parse the options of a benchmark that compares over seeds, with ``--results`` and ``--commit`` among them.

    With ``settings`` what the parser does not know is handed back, for the recipe; without, it is refused. What a result file cannot be
    written with is refused before anything runs: no commit, other settings than the protocol's, fewer than two of ``--seeds``, a path
    where no file can be.
    """
    parser.add_argument("--results", type=Path, help="file for the scores, which the page on fidelity is written from")
    parser.add_argument("--commit", default="", help="the 40 digits of the commit that fixed the protocol, for that file")
    arguments, more = parser.parse_known_args(argv)
    if more and not settings:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    if len({*arguments.seeds}) < len(arguments.seeds):
        parser.error(f"--seeds names each seed once, got {arguments.seeds}")
    if arguments.results is not None:
        if not re.fullmatch("[0-9a-f]{40}", arguments.commit):
            parser.error(f"--results needs --commit, the 40 digits of the commit that fixed the protocol, got {arguments.commit!r}")
        if more:
            parser.error(f"--results is of the protocol as it is, got {' '.join(more)} beside it")
        if len(arguments.seeds) < 2:
            parser.error(f"--results holds what is compared over seeds, got --seeds {arguments.seeds}: give two or more")
        folder = arguments.results.parent
        if arguments.results.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            parser.error(f"--results {arguments.results} is no file that can be written: name one in a folder that is there")
        if arguments.results.exists():
            try:
                read_tables(arguments.results)
            except (ValueError, OSError) as error:
                parser.error(f"--results would replace what is no result file: {error}")
    return arguments, more


def score_table(
    told: Mapping[str, str],
    scores: Mapping[int, Mapping[str, float]],
    pairs: Sequence[Pair],
    primary: Pair | None,
    commit: str,
    hours: float | None = None,
) -> dict[str, Any]:
    """A table of scores, as a file holds it.

    Args:
        told: ``benchmark``, ``table``, ``protocol`` and ``unit``.
        scores: Seed to row to a fraction in [0, 1].
        pairs: What is compared; those with a row that was not run are left out.
        primary: One of them, or ``None``.
        commit: Of the protocol.
        hours: On a core, of all seeds; ``None`` where they were not noted.

    Raises:
        ValueError: The primary comparison is not among what was run: a table without it is not of the protocol.
    """
    if primary is not None and not {*primary} <= {*next(iter(scores.values()))}:
        raise ValueError(f"{told['table']}: the primary comparison, {' - '.join(primary)}, was not run or could not be made")
    machine = f"{os.cpu_count()} cores; threads when this was written: {torch.get_num_threads()}"
    spent = None if hours is None else round(hours, 3)
    made = {"commit": commit, "date": date.today().isoformat(), "hours": spent, "machine": machine}
    ran = [pair for pair in pairs if set(pair) <= set(next(iter(scores.values())))]
    compared = {"primary": primary, "exploratory": [pair for pair in ran if pair != primary]}
    return {**told, **made, "scores": {str(seed): dict(rows) for seed, rows in scores.items()}, **compared}


def write_scores(
    arguments: argparse.Namespace,
    told: Mapping[str, str],
    scores: Mapping[int, Mapping[str, float]],
    pairs: Sequence[Pair],
    primary: Pair | None,
    hours: float | None = None,
) -> None:
    """``score_table`` in a file of its own, where one was asked for."""
    if arguments.results is not None:
        write_tables(arguments.results, [score_table(told, scores, pairs, primary, arguments.commit, hours)])


def write_tables(path: Path, tables: Sequence[Mapping[str, Any]]) -> None:
    """Write a result file; one that is there is replaced.

    Raises:
        ValueError: It is not one that can be read, or the one that is there has other tables, rows or seeds too; that one is left as it is.
    """
    content = json.loads(json.dumps(tables[0] if len(tables) == 1 else {"tables": list(tables)}))
    new = {one.name: one for one in _tables(path, content)}
    lost = [part for one in read_tables(path) for part in _lost(one, new.get(one.name))] if path.is_file() else []
    if lost:
        raise ValueError(f"{path} has more, which would be lost: {'; '.join(lost)}. Name another file, or remove it")
    write_json(path, content)


def _lost(old: ResultTable, new: ResultTable | None) -> list[str]:
    """What a table has that the one in its place has not."""
    if new is None:
        return [f"table {old.name!r}"]
    (seeds, rows), (new_seeds, new_rows) = _seeds_and_rows(old), _seeds_and_rows(new)
    return [f"{name} of {old.name!r}" for name in (*(seeds - new_seeds), *(rows - new_rows))]


def _seeds_and_rows(table: ResultTable) -> tuple[set[str], set[str]]:
    scores: Mapping[str, Mapping[str, float]] = table.told.get("scores", {})
    return {f"seed {seed}" for seed in scores}, {f"row {row!r}" for row in next(iter(scores.values()), {})}


def find_table(results: Mapping[str, list[ResultTable]], file: str, table: str | None) -> ResultTable:
    """A table by its file's name, and by its own where the file has several.

    Raises:
        ValueError: There is no such file or table.
    """
    if file not in results:
        raise ValueError(f"there is no results/{file}.json: there are {', '.join(results)}")
    found = [one for one in results[file] if table in (None, one.name)]
    if len(found) != 1:
        raise ValueError(f"results/{file}.json has {len(found)} tables {table!r}: name one of {[one.name for one in results[file]]}")
    return found[0]


def _table(path: Path, told: Mapping[str, Any]) -> ResultTable:
    where = f"{path}, table {told.get('table')!r}"
    missing = [key for key in (*TOLD, "hours", "primary", "exploratory") if key not in told]
    kinds = [key for key in ("scores", "differences", "figures") if key in told]
    if missing or len(kinds) != 1:
        raise ValueError(f"{where}: needs {', '.join(missing) or 'one of scores, differences and figures'}, has {kinds}")
    primary: Pair | None = _pair(told["primary"]) if told["primary"] is not None else None
    pairs = [*([primary] if primary is not None else []), *(_pair(one) for one in told["exploratory"])]
    if len(set(pairs)) < len(pairs):
        raise ValueError(f"{where}: a comparison stands in it twice, which the correction for several would count twice")
    try:
        found = [_comparison(told, pair) for pair in pairs]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{where}: {error}") from error
    return ResultTable(path.stem, told, tuple(corrected(found, primary)))


def _corrected_in_file(tables: Sequence[ResultTable]) -> list[ResultTable]:
    explored = [(table.name, one) for table in tables for one in table.comparisons if one.corrected is not None]
    p_values = holm_adjusted(torch.tensor([one.p for _, one in explored], dtype=torch.float64)).tolist()
    found: dict[str, dict[Pair, float]] = {table.name: {} for table in tables}
    for (name, one), p in zip(explored, p_values, strict=True):
        found[name][one.better, one.worse] = p
    return [replace(table, corrected_in_file=found[table.name]) for table in tables]


def _pair(told: Any) -> Pair:
    better, worse = told
    return str(better), str(worse)


def _comparison(told: Mapping[str, Any], pair: Pair) -> Comparison:
    if "scores" in told:
        seeds: Mapping[str, Mapping[str, float]] = told["scores"]
        lacking = [f"seed {seed} has no {name}" for seed, rows in seeds.items() for name in pair if name not in rows]
        outside = [
            f"{name} of seed {seed}: {seeds[seed][name]}" for seed in seeds for name in pair if not 0 <= seeds[seed].get(name, 0) <= 1
        ]
        if lacking or outside:
            raise ValueError("; ".join([*lacking, *(f"a score is a fraction in [0, 1], got {one}" for one in outside)]))
        return comparison_of_scores(pair, {name: [rows[name] for rows in seeds.values()] for name in pair})
    for one in told.get("differences", ()):
        if _pair(one["pair"]) == pair:
            low, high = one["interval"]
            return comparison_of_interval(pair, one["mean"], (low, high), told["seeds"])
    raise ValueError(f"there is no difference {' - '.join(pair)}")
