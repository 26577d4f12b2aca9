"""What a stage was scored on, told beside its scores so that somebody can look at the same people again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from lightning_reid.arguments import shown
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.datamodules.blocks.data import PackedData
from lightning_reid.datamodules.generated.people_data import PeopleData
from lightning_reid.datamodules.images import without_unreadable
from lightning_reid.datamodules.tested import read_test_part
from lightning_reid.recipes.workshop.fingerprints import data_fingerprint, differences
from lightning_reid.records import ReIDDataset, Splits

_KINDS = {"dataset": str, "root": str, "split": int, "allow_paths_outside": bool, "skips_unreadable": bool, "holds": dict}


@dataclass(frozen=True)
class TestedImages:
    """Queries and gallery of images: what they are called, and what they were.

    Attributes:
        dataset: Name of a data set, address of a packed one, or absolute path.
        root: Absolute folder of named sets.
        split: Of the sets that have several.
        allow_paths_outside: Whether its table may list files that do not lie below its folder.
        skips_unreadable: Whether files that cannot be read were left out.
        holds: Number of records and digest of queries and gallery, as ``data_fingerprint`` tells them.
    """

    __test__ = False  # pytest collects what is named so

    dataset: str
    root: str
    split: int
    allow_paths_outside: bool
    skips_unreadable: bool
    holds: dict[str, str]

    @classmethod
    def of(cls, data: object) -> Self | None:
        """The test part of a datamodule that was tested on; ``None`` of one that does not read images by the name of a data set."""
        if not isinstance(data, ImageReIDDataModule):
            return None
        name = data.dataset_name
        is_path = PeopleData.named(name) is None and not PackedData.is_named(name) and Path(name).exists()
        return cls(
            str(Path(name).absolute()) if is_path else name,
            str(Path(data.root or "data").absolute()),
            data.split,
            data.allow_paths_outside,
            data.unreadable == "skip",
            fingerprint_of_test(data.dataset),
        )

    @classmethod
    def of_json(cls, told: object, file: Path) -> Self:
        """What ``as_json`` has told.

        Raises:
            ValueError: It is something else; the message names the file.
        """
        content = told if isinstance(told, Mapping) else {}
        for name, kind in _KINDS.items():
            if not isinstance(content.get(name), kind):
                raise ValueError(f"{file} tells {shown(content.get(name))} as {name!r} of what was scored on, it was edited: give --data")
        return cls(**{name: content[name] for name in _KINDS})

    def as_json(self) -> dict[str, Any]:
        """All attributes by name."""
        return asdict(self)

    def read(self) -> ReIDDataset:
        """Read it again.

        Raises:
            OSError: It is gone; see the readers.
            ValueError: It cannot be read, or holds other names, sizes or labels than it did.
        """
        outside = self.allow_paths_outside
        found = read_test_part(self.dataset, self.root, split=self.split, tracklets=False, allow_paths_outside=outside)
        assert isinstance(found, ReIDDataset)
        if self.skips_unreadable:
            query, gallery = without_unreadable(found.query), without_unreadable(found.gallery)
            found = ReIDDataset(found.name, found.train, query, gallery, found.notes, found.val, found.pictures)
        lines = differences(self.holds, fingerprint_of_test(found))
        if lines:
            raise ValueError(f"{self.dataset} is not what it was when the run was scored on it: {'; '.join(lines)}")
        return found


def fingerprint_of_test(dataset: Splits[Any]) -> dict[str, str]:
    """Number of records and digest of queries and gallery: names below the folder that holds both, sizes, identities and cameras."""
    told = data_fingerprint([replace(dataset, train=(), val=())])
    return {part: digest for part, digest in told.items() if not part.endswith(", train")}
