"""Where a model folder may be written: nothing is replaced that it did not write itself."""

from __future__ import annotations

from pathlib import Path

from lightning_reid.arguments import shown
from lightning_reid.files import replaced_folder
from lightning_reid.networks.model_config import read_model_config
from lightning_reid.networks.shipped import FOLDERS
from lightning_reid.networks.weights import MODEL_CONFIG, MODEL_WEIGHTS

MODEL_CARD, MODEL_CALIBRATION = "README.md", "calibration.json"
MODEL_FILES = (MODEL_WEIGHTS, MODEL_CONFIG, MODEL_CARD, MODEL_CALIBRATION)
"""All that a model folder may hold."""


def place_of_folder(folder: Path) -> Path:
    """Where a model folder that is to be written really is: a new place, an empty folder, or a model folder.

    Raises:
        ValueError: It is none of these, or one that cannot be replaced; or the neighbor in which its content waits while it is replaced
            is somebody's own.
    """
    if not str(folder) or "\0" in str(folder):
        raise ValueError(f"save_directory must be a folder, got {shown(str(folder))}")
    if folder.parts[:1] and folder.parts[0].startswith("~"):
        raise ValueError(f"{folder} begins with {folder.parts[0]}, which a shell expands and Python does not: give Path(...).expanduser()")
    place = folder.resolve()
    if place.exists() and not place.is_dir():
        raise ValueError(f"{folder} is a file: give another folder")
    if Path.cwd().is_relative_to(place):
        raise ValueError(f"{folder} is, or holds, the folder that this process works in, which cannot be replaced: give another folder")
    if place.is_relative_to(FOLDERS):
        raise ValueError(f"{folder} is a network that comes with the library: give another folder")
    _require_replaceable(place, folder)
    before = replaced_folder(place)
    if before.is_symlink() or (before.exists() and not before.is_dir()):
        raise ValueError(f"{before} is in the way, which is no folder, and would be lost: rename it, or give another folder")
    _require_replaceable(before, before)
    return place


def _require_replaceable(place: Path, told: Path) -> None:
    """Refuse a folder with content that is not a model folder's, of which nobody would know that it is lost."""
    names = sorted(one.name for one in place.iterdir()) if place.is_dir() else []
    if not names:
        return
    way_on = "would be lost: give another folder, or move it"
    others = [name for name in names if name not in MODEL_FILES]
    if others:
        raise ValueError(f"{told} holds {others[0]!r}, which is no file of a model folder and {way_on}")
    irregular = [name for name in names if not (place / name).is_file()]
    if irregular:
        raise ValueError(f"{told} holds {irregular[0]!r}, which is no file, as it is in a model folder, and {way_on}")
    missing = [name for name in (MODEL_CONFIG, MODEL_WEIGHTS) if name not in names]
    if missing:
        raise ValueError(f"{told} is no model folder, it lacks {missing[0]}: its {names[0]!r} {way_on}")
    try:
        read_model_config(place / MODEL_CONFIG)
    except ValueError as error:
        raise ValueError(f"{told} is no model folder of this library, and {way_on} ({error})") from error
