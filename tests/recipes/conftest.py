"""Runs of recipes that are stopped after any rename of a file, and resumed."""

from __future__ import annotations

import copy
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
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

OF_ONE_RUN = ("ms", "min of", "seconds", "federation")
"""Beginnings of the names of what no two runs share: what a clock decides, and the number that a federation draws for itself."""


def stand_in_export(network: Any, path: Path, inputs: Any) -> float:
    """A file where the exported network would be."""
    write_atomically(path, Path.touch)
    return 0.0


NOBODY = 2**22 + 1
"""The number of no process: Linux gives none above 2^22."""

STAND_INS: dict[str, Callable[..., Any]] = {
    "matplotlib.figure.Figure.savefig": lambda figure, file, **options: Path(file).touch(),
    "lightning_reid.callbacks.rank_list.draw_rank_lists": lambda *args, **options: Image.new("RGB", (1, 1)),
    "lightning_reid.recipes.workshop.edge_pictures.draw_crop_sheet": lambda *args, **options: Image.new("RGB", (1, 1)),
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
        parse = self._module.parse
        self._parsed = lru_cache(lambda *words: parse([*words]))
        self.output, self._copies, self.renamed = folder / "output", folder / "copies", []
        self._arguments = [*arguments, f"--output={self.output}", "--quiet", "--accelerator=cpu"]
        with self._after_each_rename(self._copy):
            self.main()
        self.expected = outcome(self.output)

    def main(self, *more: str) -> None:
        """Run it in its folder; the same words are parsed once, which takes a tenth of most runs."""
        with stand_ins(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(self._module, "parse", lambda words: copy.deepcopy(self._parsed(*words)))
            self._module.main([*self._arguments, *more])

    def _copy(self, name: str) -> None:
        copy = self._copies / str(len(self.renamed))
        # the lock is of a process that would be gone, as drafts are
        shutil.copytree(self.output, copy, ignore=shutil.ignore_patterns("run.lock"))
        for draft in drafts_below(copy):
            draft.rename(draft.with_name(draft.name.replace(f"_{os.getpid()}_", f"_{NOBODY}_")))
        self.renamed.append(name)

    @contextmanager
    def _after_each_rename(self, then: Callable[[str], None]) -> Iterator[None]:
        def watch(rename: Callable[..., Any]) -> Callable[..., Any]:
            def renaming(source: Any, target: Any, **options: Any) -> None:
                rename(source, target, **options)
                if Path(target).is_relative_to(self.output):
                    then(str(Path(target).relative_to(self.output)))

            return renaming

        with pytest.MonkeyPatch.context() as patch:
            for name in ("replace", "rename"):  # what pathlib and shutil call, too
                patch.setattr(os, name, watch(getattr(os, name)))
            yield

    @property
    def ends(self) -> list[int]:
        """The points at which a stage, or a round of a federation, is done."""
        return [point for point, name in enumerate(self.renamed) if name.endswith(("scores.json", "server.safetensors"))]

    def resumed(self, point: int) -> dict[str, Any]:
        """The outcome of a run that was stopped right after a rename and resumed."""
        self._put_back(point)
        self.main("--resume")
        return outcome(self.output)

    def lost(self, point: int) -> list[str]:
        """What comes out otherwise of a run that was stopped at this point and resumed, to its end."""
        return self._told(point, differing(self.expected, self.resumed(point)))

    def lost_at_the_next_end(self, point: int) -> list[str]:
        """The same, up to the next point at which a stage or a round is done, from where on it is what a run that was stopped there is."""
        later = [end for end in self.ends if end > point]
        if not later:
            return self.lost(point)

        def leave(name: str) -> None:
            if name == self.renamed[later[0]]:
                raise Enough

        self._put_back(point)
        with self._after_each_rename(leave), pytest.raises(Enough):
            self.main("--resume")
        return self._told(point, differing(outcome(self._copies / str(later[0])), outcome(self.output)))

    def _put_back(self, point: int) -> None:
        shutil.rmtree(self.output)
        shutil.copytree(self._copies / str(point), self.output)

    def _told(self, point: int, wrong: list[str]) -> list[str]:
        return [f"{point} of {len(self.renamed)}, after {self.renamed[point]}: {', '.join(wrong)}"] if wrong else []


class Enough(BaseException):
    """A run got where it was to get."""


def outcome(output: Path) -> dict[str, Any]:
    """Rows and scores without what no two runs share, and all weights, of those that are there, by the names of their files."""
    found: dict[str, Any] = {}
    for file in sorted(output.rglob("*.json")):
        if file.name in ("results.json", "scores.json"):
            found[str(file.relative_to(output))] = of_any_run(json.loads(file.read_text()))
    for file in sorted(output.rglob("*.ckpt")):
        if not file.name.endswith(".before.ckpt"):
            found[str(file.relative_to(output))] = weights_in(file.read_bytes())
    for file in sorted(output.rglob("*.safetensors")):
        found[str(file.relative_to(output))] = load_file(file)
    return found


@lru_cache(maxsize=64)
def weights_in(checkpoint: bytes) -> dict[str, Any]:
    """Those of a checkpoint's file, which is read once, however many runs end with it or left it alone."""
    weights: dict[str, Any] = torch.load(io.BytesIO(checkpoint), map_location="cpu", weights_only=True)["state_dict"]
    return weights


def of_any_run(told: Any) -> Any:
    """What a file tells, without what no two runs share."""
    if isinstance(told, dict):
        return {name: of_any_run(value) for name, value in told.items() if not name.startswith(OF_ONE_RUN)}
    return told


def differing(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Names of what is not the same, bit for bit."""
    names = sorted(expected.keys() ^ found.keys())
    for name in sorted(expected.keys() & found.keys()):
        theirs, mine = expected[name], found[name]
        if name.endswith(".json"):
            same = theirs == mine
        else:
            same = theirs.keys() == mine.keys() and all(torch.equal(theirs[tensor], mine[tensor]) for tensor in theirs)
        if not same:
            names.append(name)
    return names


@pytest.fixture(scope="session")
def stopped_runs() -> type[StoppedRuns]:
    """How a recipe is stopped and resumed."""
    return StoppedRuns
