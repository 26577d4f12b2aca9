"""Runs of recipes that are stopped after any rename of a file, and resumed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lightning_reid.drafts import drafts_below
from lightning_reid.files import write_atomically

MEASURED = ("ms", "min of")
"""Beginnings of the columns that a clock decides."""


def stand_in_export(network: Any, path: Path, inputs: Any) -> float:
    """A file where the exported network would be."""
    write_atomically(path, Path.touch)
    return 0.0


NOBODY = 2**22 + 1
"""The number of no process: Linux gives none above 2^22."""

STAND_INS: dict[str, Callable[..., Any]] = {
    "matplotlib.figure.Figure.savefig": lambda figure, file, **options: Path(file).touch(),
    "lightning_reid.callbacks.rank_list.draw_rank_lists": lambda *args, **options: Image.new("RGB", (1, 1)),
    "lightning_reid.callbacks.embedding_projector.project": lambda embeddings, seed: np.zeros((len(embeddings), 2)),
    "lightning_reid.recipes.workshop.costs.median_milliseconds": lambda *args, **options: 1.0,
    "lightning_reid.recipes.workshop.pruning_run.export_onnx": stand_in_export,
    "lightning_reid.recipes.workshop.pruning_run.onnx_milliseconds": lambda *args: 1.0,
}
"""For what takes the time of a run and is not compared: pictures, exported networks, clocks. Their files come to be all the same."""


@contextmanager
def stand_ins() -> Iterator[None]:
    """What takes the time of a run and is not asked about is not done."""
    with pytest.MonkeyPatch.context() as patch:
        for name, stand_in in STAND_INS.items():
            patch.setattr(name, stand_in)
        yield


@pytest.fixture(scope="session")
def without_pictures_and_exports() -> Callable[[], AbstractContextManager[None]]:
    """``with without_pictures_and_exports():`` a recipe's pictures and exported networks are empty files, and its clocks stand still."""
    return stand_ins


class StoppedRuns:
    """A recipe's unbroken run, and what its folder was after each rename of a file in it: what a kill at that moment leaves.

    A copy of the folder is nearer to a kill than an exception is, after which hooks and ``finally`` blocks still run, and each point costs
    the rest of a run instead of a whole one. The process that goes on drew other numbers than one that was just started.

    Attributes:
        renamed: Files that came to be by a rename, in order, below the folder.
    """

    def __init__(self, recipe: str, arguments: Sequence[str], folder: Path) -> None:
        self._module: ModuleType = import_module(f"lightning_reid.recipes.{recipe}")
        self.output, self._copies, self.renamed = folder / "output", folder / "copies", []
        self._arguments = [*arguments, f"--output={self.output}", "--quiet", "--accelerator=cpu"]
        with self._watched():
            self.main()
        self.expected = outcome(self.output)

    def main(self, *more: str) -> None:
        """Run it in its folder."""
        with stand_ins():
            self._module.main([*self._arguments, *more])

    @contextmanager
    def _watched(self) -> Iterator[None]:
        def watch(rename: Callable[..., Any]) -> Callable[..., Any]:
            def renaming(source: Any, target: Any, **options: Any) -> None:
                rename(source, target, **options)
                if Path(target).is_relative_to(self.output):
                    # the lock is of a process that would be gone, as drafts are
                    copy = self._copies / str(len(self.renamed))
                    shutil.copytree(self.output, copy, ignore=shutil.ignore_patterns("run.lock"))
                    for draft in drafts_below(copy):
                        draft.rename(draft.with_name(draft.name.replace(f"_{os.getpid()}_", f"_{NOBODY}_")))
                    self.renamed.append(str(Path(target).relative_to(self.output)))

            return renaming

        with pytest.MonkeyPatch.context() as patch:
            for name in ("replace", "rename"):  # what pathlib and shutil call, too
                patch.setattr(os, name, watch(getattr(os, name)))
            yield

    def resumed(self, point: int) -> dict[str, Any]:
        """The outcome of a run that was stopped right after a rename and resumed."""
        shutil.rmtree(self.output)
        shutil.copytree(self._copies / str(point), self.output)
        self.main("--resume")
        return outcome(self.output)

    def lost(self, points: Sequence[int]) -> list[str]:
        """Which of these points a run cannot be stopped at, with what comes out otherwise."""
        found = []
        for point in points:
            wrong = differing(self.expected, self.resumed(point))
            if wrong:
                found.append(f"{point} of {len(self.renamed)}, after {self.renamed[point]}: {', '.join(wrong)}")
        return found


def outcome(output: Path) -> dict[str, Any]:
    """Rows without what was measured, and all weights that are left, by the names of their files."""
    rows = json.loads((output / "results.json").read_text())["rows"]
    for row in rows.values():
        if "costs" in row:
            row["costs"] = {name: value for name, value in row["costs"].items() if not name.startswith(MEASURED)}
    found: dict[str, Any] = {"results.json": rows}
    for file in sorted(output.rglob("*.ckpt")):
        if not file.name.endswith(".before.ckpt"):
            found[str(file.relative_to(output))] = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    for file in sorted(output.rglob("*.safetensors")):
        found[str(file.relative_to(output))] = load_file(file)
    return found


def differing(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Names of what is not the same, bit for bit."""
    names = [name for name in expected if name not in found or (name == "results.json" and found[name] != expected[name])]
    for name in expected.keys() & found.keys() - {"results.json"}:
        theirs, mine = expected[name], found[name]
        if theirs.keys() != mine.keys() or not all(torch.equal(theirs[tensor], mine[tensor]) for tensor in theirs):
            names.append(name)
    return names + [name for name in found if name not in expected]


@pytest.fixture(scope="session")
def stopped_runs() -> type[StoppedRuns]:
    """How a recipe is stopped and resumed."""
    return StoppedRuns
