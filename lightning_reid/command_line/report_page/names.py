"""How the page calls people, cameras and files: by the names of the data set, and without where they lie on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning_reid.records import DISTRACTOR_PID, JUNK_PID, AnyRecord, IdNames

_PATH = re.compile(r"(?<![\w.:/~-])(?:/|[A-Za-z]:[\\/])(?:[^\s'\",;:/\\]+[\\/])+([^\s'\",;:/\\]+)")
"""An absolute path within a sentence, with the name at its end."""


class Names:
    """Names of people and cameras, and numbers where the data set has no names.

    Args:
        names: Of the data set.
    """

    def __init__(self, names: IdNames) -> None:
        self.names = names

    def person(self, record: AnyRecord) -> str:
        """Whom a record shows where."""
        return f"{_nobody(record, 'distractor') or self.names.people.get(record.pid, f'person {record.pid}')}, {self.camera(record.camid)}"

    def short(self, record: AnyRecord) -> str:
        """Whom a record shows where, in the few letters that stand below a crop."""
        who = _nobody(record, "nobody") or self.names.people.get(record.pid, f"p{record.pid}")
        return f"{who} · {self.names.cameras.get(record.camid, f'c{record.camid}')}"

    def camera(self, camid: int) -> str:
        """A camera in a table."""
        return self.names.cameras.get(camid, f"camera {camid}")


def _nobody(record: AnyRecord, distractor: str) -> str | None:
    return {DISTRACTOR_PID: distractor, JUNK_PID: "junk"}.get(record.pid)


def without_places(told: str, folders: Iterable[Path | None]) -> str:
    """A sentence as it may be handed on: paths are told from the given folders on, other absolute ones by their last name.

    Args:
        told: The sentence.
        folders: Of the data set and of the run, ``None`` for none.
    """
    known = {str(place) for folder in folders if folder is not None for place in (folder.absolute(), folder.resolve())}
    for folder in sorted(known - {"/"}, key=len, reverse=True):
        told = told.replace(f"{folder}/", "").replace(f"{folder}\\", "")
        told = Path(folder).name.join(re.split(rf"{re.escape(folder)}(?![\w.-])", told))
    return _PATH.sub(lambda found: found[1], told)


def option_without_places(value: Any, depth: int = 10) -> Any:
    """The value of an option; paths that are absolute by their last name, and what lies deeper than so many lists left out."""
    if depth == 0:
        return "…"
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name or value
    if isinstance(value, dict):
        return {name: option_without_places(one, depth - 1) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [option_without_places(one, depth - 1) for one in value]
    return without_places(value, ()) if isinstance(value, str) else value
