"""What was measured before is read back, and only where it was measured by the same settings."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from jsonargparse import Namespace

from lightning_reid.files import read_json, write_json
from lightning_reid.recipes.workshop.fingerprints import options_fingerprint
from lightning_reid.recipes.workshop.run_folder import RUN_FILE, read_run, refuse_differences

WAY_ON = "name another --output"


class Recipe(Protocol):
    """A module of ``lightning_reid.recipes``."""

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


def refuse_other_settings(file: Path, there: Any, here: Mapping[str, Any]) -> None:
    """Refuse what was measured otherwise.

    Raises:
        ValueError: ``there``, of the file, is not what ``here`` is as JSON.
    """
    if there != (told := json.loads(json.dumps(here))):
        raise ValueError(f"{file} was measured by other settings, {there}, and these are {told}: {WAY_ON}")


def rows_of_recipe(recipe: Recipe, arguments: Sequence[str]) -> dict[str, Any]:
    """The rows of a recipe's run as ``results.json`` has them; read back where ``--output`` holds the finished run.

    Raises:
        ValueError: See ``finished_rows``.
    """
    found = finished_rows(recipe, arguments)
    if found is None:
        recipe.main([*arguments])
        found = finished_rows(recipe, arguments)
        assert found is not None
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
    here = options_fingerprint(cfg)
    # what a recipe keeps out of its file only chooses which rows there are
    refuse_differences(folder, "options", run["options"], {name: here[name] for name in run["options"] if name in here}, f"or {WAY_ON}")
    rows: dict[str, Any] = read_json(file, {"rows": dict}, way_on=WAY_ON)["rows"]
    return rows
