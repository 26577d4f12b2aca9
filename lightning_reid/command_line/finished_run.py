"""What the recipe of a run has left in its folder, read back: table, stages, what was logged, and what was scored on."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from lightning_reid.command_line.run_files import require_own
from lightning_reid.files import read_json
from lightning_reid.recipes.workshop.curves import read_curve
from lightning_reid.recipes.workshop.report import MOST_ROWS, TESTED, ResultRow, Results, read_results, read_row
from lightning_reid.recipes.workshop.run_folder import RUN_FILE, read_run
from lightning_reid.recipes.workshop.tested_part import TestedPart

RESULTS, TABLE, STAGE, SCORES, CHECKPOINT = "results.json", "table.md", "stage.json", "scores.json", "last.ckpt"
PRUNED = "small.ckpt"
Curve = tuple[list[float], list[float]]
"""Epochs, counted from 1, and values."""


@dataclass(frozen=True)
class Method:
    """A stage of a run: one network, how it was trained, and what it was scored on.

    Attributes:
        name: As in the table.
        folder: Of its files.
        told: What ``stage.json`` tells it is: switches of its row, options and data of the run.
        row: Of the run's table; ``None`` where it has none.
        tested: What it was scored on; ``None`` where nothing was, or no data set by its name, or an earlier version did not tell.
    """

    name: str
    folder: Path
    told: Mapping[str, Any]
    row: ResultRow | None
    tested: TestedPart | None

    @property
    def checkpoint(self) -> Path | None:
        """The file of its network, where one was trained: of a stage that prunes that of the smaller one, which was scored."""
        return next((file for file in (self.folder / name for name in (PRUNED, CHECKPOINT)) if file.is_file()), None)

    @property
    def metrics_files(self) -> list[Path]:
        """What was logged, of each sitting a file, the first sitting first."""
        return sorted(self.folder.glob("version_*/metrics.csv"), key=_sitting)

    def curves(self) -> dict[str, Curve]:
        """What was logged an epoch, by name; of a value that was logged more than once in an epoch the last.

        Raises:
            ValueError: A file of it is damaged; it is named.
        """
        files = self.metrics_files
        found = dict[str, Curve]()
        for file in files:
            try:
                with file.open(newline="", encoding="utf-8") as lines:
                    names = next(csv.reader(lines), [])
                found |= {name: read_curve(files, name) for name in names if name not in ("epoch", "step")}
            except (KeyError, TypeError, ValueError, csv.Error) as error:
                raise ValueError(f"{file} is no table of logged values, it was cut or edited ({error!r}): remove it") from error
        return {name: curve for name, curve in found.items() if curve[0]}


@dataclass(frozen=True)
class FinishedRun:
    """A run that came to its end.

    Attributes:
        folder: Its ``--output``.
        title: Of its table.
        results: Of ``results.json``.
        methods: Its stages by name, in the order of the table, those without a row last, as they were trained.
        options: All that shapes the result, with the version of the library; empty where the run does not tell.
    """

    folder: Path
    title: str
    results: Results
    methods: dict[str, Method]
    options: Mapping[str, Any]

    def method(self, name: str | None) -> Method:
        """The method to look into: the one that is named, or the last of the table that has a checkpoint.

        Raises:
            ValueError: There is none of that name, or it has no checkpoint; those that have are told.
        """
        known = {one.name: one for one in self.methods.values() if one.checkpoint is not None}
        if not known:
            raise ValueError(f"{self.folder} holds no {CHECKPOINT} of a network: give the network, --model FILE, and --data")
        in_table = {one.row.name: one for one in known.values() if one.row is not None}
        if name is None:
            last = next((in_table[row.name] for row in reversed(self.results.rows) if row.name in in_table), None)
            return last or [*known.values()][-1]
        if name not in known | in_table:
            why = "trained no network" if name in self.methods else "is none of this run"
            raise ValueError(f"--method {name} {why}: {self.folder} has networks of {', '.join(map(repr, known | in_table))}")
        return (known | in_table)[name]


def read_finished_run(output: str) -> FinishedRun:
    """Read what a run has left; nothing is changed.

    Raises:
        FileNotFoundError: There is no such folder.
        OSError: Under the name of a file is a pipe, socket or device.
        ValueError: It is no run, the run is not finished, or a file of it is damaged, a link out of the folder, or larger than such files
            are; the message says which and the way on.
    """
    if "://" in output:
        raise ValueError(f"{output} is an address: resume the run here (--resume), and give the folder that it then works in")
    folder = Path(output)
    if not folder.exists():
        raise FileNotFoundError(f"there is nothing at {folder}: give the --output folder of a recipe")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file: give the --output folder of a recipe; of a network alone, --model {folder} --data DATA")
    if not (folder / RESULTS).is_file():
        if (folder / RUN_FILE).is_file():
            raise ValueError(f"{folder} lacks {RESULTS}: its run is not finished. Go on with the recipe, --resume")
        raise ValueError(f"{folder} holds no run, neither {RUN_FILE} nor {RESULTS}: give the --output folder of a recipe")
    for name in (RESULTS, RUN_FILE, TABLE):
        if (folder / name).is_file():
            require_own(folder, folder / name)
    results, run = read_results(folder), read_run(folder) or {"options": {}}
    told = sorted(folder.glob(f"*/{STAGE}"))
    if len(told) > MOST_ROWS:
        raise ValueError(f"{folder} holds {len(told):,} folders with {STAGE}, more than the {MOST_ROWS:,} that are read: it is no run")
    stages = [_method(folder, file, results.rows) for file in told]
    ranked = sorted(stages, key=lambda one: (len(results.rows) if one.row is None else results.rows.index(one.row), _trained_at(one)))
    return FinishedRun(folder, _title(folder), results, {one.name: one for one in ranked}, run["options"])


def _method(run: Path, file: Path, rows: Sequence[ResultRow]) -> Method:
    told = read_json(require_own(run, file), {"stage": str}, way_on=f"remove {file.parent}, and resume the run")
    name, scores = told["stage"], file.with_name(SCORES)
    bare = Method(name, file.parent, told, None, None)
    for logged in bare.metrics_files:
        require_own(run, logged)
    if bare.checkpoint is not None:
        require_own(run, bare.checkpoint, most_bytes=None)
    if not scores.is_file():
        return bare
    require_own(run, scores)
    scored, mine = read_json(scores, way_on="remove it, and resume the run"), read_row(name, scores)
    # some recipes call a row in their table otherwise than its stage: then it is known by its scores
    row = next((one for one in rows if one.name == name), None) or next((one for one in rows if replace(one, name=name) == mine), None)
    return Method(name, file.parent, told, row, TestedPart.of_json(scored[TESTED], scores) if TESTED in scored else None)


def _trained_at(method: Method) -> float:
    """When its network was saved last; stages that no row tells apart come in the order in which they were trained."""
    return 0.0 if method.checkpoint is None else method.checkpoint.stat().st_mtime


def _title(folder: Path) -> str:
    """The first line of ``table.md``, of paths the last name; without one, the folder's name."""
    file = folder / TABLE
    first = file.read_text(encoding="utf-8", errors="replace").partition("\n")[0] if file.is_file() else ""
    return " ".join(PurePath(word).name for word in first.removeprefix("## ").split()) or folder.resolve().name


def _sitting(file: Path) -> tuple[int, str]:
    number = file.parent.name.removeprefix("version_")
    return (int(number) if number.isdecimal() else 0, number)
