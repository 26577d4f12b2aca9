"""What a stage was scored on, told beside its scores so that somebody can look at the same people again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from lightning_reid.arguments import shown
from lightning_reid.datamodules import ImageReIDDataModule, VideoReIDDataModule
from lightning_reid.datamodules.blocks.data import PackedData
from lightning_reid.datamodules.generated.people_data import PeopleData, PeopleTracklets
from lightning_reid.datamodules.images import without_unreadable
from lightning_reid.datamodules.tested import read_test_part
from lightning_reid.recipes.workshop.fingerprints import data_fingerprint, differences
from lightning_reid.records import ReIDDataset, Splits

_KINDS = {"dataset": str, "root": str, "split": int, "allow_paths_outside": bool, "skips_unreadable": bool, "holds": dict}
_CLIPS = {"image_size", "clip_length", "test_clips", "corrections"}
PROCESSED = "processed tracklets"
"""In the words of a datamodule that does not serve the frames of its data set."""


@dataclass(frozen=True)
class TestedPart:
    """Queries and gallery, of images or of tracklets: what they are called, and what they were.

    Attributes:
        dataset: Name of a data set, address of a packed one, or absolute path.
        root: Absolute folder of named sets.
        split: Of the sets that have several.
        allow_paths_outside: Whether its table may list files that do not lie below its folder.
        skips_unreadable: Whether files that cannot be read were left out.
        holds: Number of records and digest of queries and gallery, as ``data_fingerprint`` tells them.
        clips: Of tracklets, the arguments of ``VideoReIDDataModule`` that say which clips stand for one; ``None`` of images.
    """

    __test__ = False  # pytest collects what is named so

    dataset: str
    root: str
    split: int
    allow_paths_outside: bool
    skips_unreadable: bool
    holds: dict[str, str]
    clips: dict[str, Any] | None = None

    @classmethod
    def of(cls, data: object) -> Self | None:
        """The test part of a datamodule that was tested on; ``None`` of one that does not read its records by the name of a data set."""
        if not isinstance(data, ImageReIDDataModule | VideoReIDDataModule):
            return None
        if PROCESSED in data.transform_text():  # re-detected tracklets are the run's own, and no data set's
            return None
        name = data.dataset_name
        drawn = PeopleData.named(name) is not None or PeopleTracklets.named(name) is not None
        is_path = not drawn and not PackedData.is_named(name) and Path(name).exists()
        return cls(
            str(Path(name).absolute()) if is_path else name,
            str(Path(data.root or "data").absolute()),
            data.split,
            data.allow_paths_outside,
            data.unreadable == "skip",
            fingerprint_of_test(data.dataset),
            _clips_of(data) if isinstance(data, VideoReIDDataModule) else None,
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
        clips = content.get("clips")
        if not (clips is None or (isinstance(clips, dict) and set(clips) == _CLIPS)):
            raise ValueError(f"{file} tells {shown(clips)} as 'clips' of what was scored on, it was edited: give --data")
        return cls(**{name: content[name] for name in _KINDS}, clips=clips)

    def as_json(self) -> dict[str, Any]:
        """All attributes by name."""
        return asdict(self)

    def read(self) -> ReIDDataset:
        """Read the images again, as they were.

        Raises:
            OSError: It is gone; see the readers.
            ValueError: It cannot be read, or holds other names, sizes or labels than it did.
        """
        outside = self.allow_paths_outside
        found = read_test_part(self.dataset, self.root, split=self.split, tracklets=False, allow_paths_outside=outside)
        assert isinstance(found, ReIDDataset)
        if self.skips_unreadable:
            query, gallery = without_unreadable(found.query), without_unreadable(found.gallery)
            found = ReIDDataset(found.name, found.train, query, gallery, found.notes, found.val, found.pictures, found.names)
        self._require_same(found)
        return found

    def read_clips(self) -> VideoReIDDataModule:
        """Read the tracklets again, as a datamodule that gives the same clips of them; errors as ``read``."""
        assert self.clips is not None
        data = VideoReIDDataModule(
            self.dataset,
            self.root,
            p=1,
            k=1,
            num_workers=0,
            split=self.split,
            unreadable="skip" if self.skips_unreadable else "error",
            val_identities=0,
            allow_paths_outside=self.allow_paths_outside,
            **self.clips,
        )
        data.prepare_data()
        data.setup()
        self._require_same(data.dataset)
        return data

    def _require_same(self, found: Splits[Any]) -> None:
        lines = differences(self.holds, fingerprint_of_test(found))
        if lines:
            raise ValueError(f"{self.dataset} is not what it was when the run was scored on it: {'; '.join(lines)}")


def fingerprint_of_test(dataset: Splits[Any]) -> dict[str, str]:
    """Number of records and digest of queries and gallery: names below the folder that holds both, sizes, identities and cameras."""
    told = data_fingerprint([replace(dataset, train=(), val=())])
    return {part: digest for part, digest in told.items() if not part.endswith(", train")}


def _clips_of(data: VideoReIDDataModule) -> dict[str, Any]:
    corrections = None if data.corrections is None else str(Path(data.corrections).absolute())
    told = {"image_size": list(data.image_size), "clip_length": data.clip_length, "test_clips": data.test_clips}
    return told | {"corrections": corrections}
