"""What was measured before is read back, and only where it was measured by the same settings."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from jsonargparse import Namespace
from torch import Tensor

from lightning_reid.files import read_json, write_json
from lightning_reid.recipes.workshop.fingerprints import differences, options_fingerprint
from lightning_reid.recipes.workshop.run_folder import RUN_FILE, read_run, refuse_differences

WAY_ON = "name another --output"


class Recipe(Protocol):
    """A module of ``lightning_reid.recipes``."""

    ROW_OPTIONS: tuple[str, ...]
    """Names of options that choose rows, or that others stand for."""

    def parse(self, argv: list[str] | None) -> Namespace:
        """Its options."""

    def main(self, argv: list[str] | None) -> Any:
        """Run it, and leave ``results.json``."""


def row(file: Path, measure: Callable[[], Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured, with its ``seconds`` of the processor; read back where it was measured before.

    Raises:
        ValueError: The file is damaged, or was measured by other ``settings``.
    """
    if not file.is_file():
        begun = time.process_time()
        found = dict(measure())
        write_json(file, found | {"seconds": time.process_time() - begun, "settings": settings})
    found = read_json(file, {"seconds": (int, float)}, way_on=WAY_ON)
    refuse_other_settings(file, found.pop("settings", None), settings)
    return found


def weights(file: Path, train: Callable[[], Mapping[str, Tensor]], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights that are trained once, and kept in a ``.pt`` file with their settings in a ``.json`` beside it.

    Raises:
        ValueError: They were trained by other ``settings``.
    """

    def train_and_keep() -> dict[str, Any]:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(train(), file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)
        return {}

    row(file.with_suffix(".json"), train_and_keep, settings)
    found: dict[str, Tensor] = torch.load(file, weights_only=True)
    return found


def refuse_other_settings(file: Path, there: Any, here: Mapping[str, Any]) -> None:
    """Refuse what was measured otherwise.

    Raises:
        ValueError: ``there``, of the file, is not what ``here`` is as JSON; the message names each setting with both values.
    """
    if not isinstance(there, dict):
        raise ValueError(f"{file} does not tell by which settings it was measured: {WAY_ON}")
    if lines := differences(there, json.loads(json.dumps(here))):
        raise ValueError(f"{file} was measured by other settings: {'; '.join(lines)}. Give it the same, or {WAY_ON}")


def folder_digest(folder: Path) -> str:
    """Of the names and sizes of all files in a folder."""
    files = sorted((file.relative_to(folder).as_posix(), file.stat().st_size) for file in folder.rglob("*") if file.is_file())
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def rows_of_recipe(recipe: Recipe, arguments: Sequence[str], needed: Collection[str] = ()) -> dict[str, Any]:
    """The rows of a recipe's run as ``results.json`` has them; read back where ``--output`` holds the finished run.

    Args:
        recipe: Which one.
        arguments: Its options.
        needed: Rows that the arguments ask for: where a finished run lacks one of them the recipe goes on with it.

    Raises:
        ValueError: See ``finished_rows``.
    """
    found = finished_rows(recipe, arguments)
    if found is None or not {*needed} <= {*found}:
        recipe.main([*arguments])
        found = finished_rows(recipe, arguments)
    if found is None or not {*needed} <= {*found}:
        raise ValueError(f"the recipe ended without {', '.join({*needed} - {*(found or ())}) or 'results'}")
    return found


def finished_rows(recipe: Recipe, arguments: Sequence[str]) -> dict[str, Any] | None:
    """The rows of the finished run that ``--output`` holds; ``None`` where it holds none, or one that was begun.

    Raises:
        ValueError: It holds a run with other options, results of nobody knows which run, or damaged ones.
    """
    cfg = recipe.parse([*arguments])
    folder = Path(cfg.output)
    file, run = folder / "results.json", read_run(folder)
    if not file.is_file():
        return None  # the recipe itself refuses to go on with another run
    if run is None:
        raise ValueError(f"{folder} holds results, and no {RUN_FILE} that tells of which run: {WAY_ON}")
    refuse_differences(folder, "options", run["options"], options_fingerprint(cfg, recipe.ROW_OPTIONS), f"or {WAY_ON}")
    rows: dict[str, Any] = read_json(file, {"rows": dict}, way_on=WAY_ON)["rows"]
    return rows
