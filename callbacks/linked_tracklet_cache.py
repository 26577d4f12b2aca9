"""Re-detected and linked tracklets on disk: one file a tracklet, under a key of what it was made from and how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from pathlib import Path

from typing_extensions import override

from lightning_reid.files import write_json
from lightning_reid.linking import AlignedTracklet
from lightning_reid.packed_tracklets import PackedTracklet, write_packed_tracklet
from lightning_reid.packed_tracklets.format import Encoding
from lightning_reid.packed_tracklets.store import TrackletStore

DIGEST_BYTES = 12
"""Of settings, and of the content of tracklets."""

_BYTES_A_PIXEL = {"raw": 3.0, "jpeg": 0.5}
"""Of a processed frame; for JPEG more than photographs of people take."""


@dataclass(frozen=True)
class RedetectionReport:
    """What re-detection did to tracklets, counted.

    Attributes:
        tracklets: Their number.
        frames: All frames.
        redetected: Frames in which somebody was found.
        several_candidates: Frames in which the linking had to choose.
        shifted: Frames with a slim box at a side, shifted and padded.
        kept_whole: Frames in which nobody was found; they are kept as they were.
    """

    tracklets: int = 0
    frames: int = 0
    redetected: int = 0
    several_candidates: int = 0
    shifted: int = 0
    kept_whole: int = 0

    @classmethod
    def of(cls, tracklet: AlignedTracklet) -> RedetectionReport:
        """The report of one tracklet."""
        found = tracklet.num_candidates
        return cls(1, len(found), int((found > 0).sum()), int((found > 1).sum()), int(tracklet.shifted.sum()), int((found == 0).sum()))

    @classmethod
    def total(cls, reports: Iterable[RedetectionReport]) -> RedetectionReport:
        """The sum of several reports, number by number."""
        reports = list(reports)
        return cls(*(sum(getattr(report, field.name) for report in reports) for field in fields(cls)))

    @override
    def __str__(self) -> str:
        found, choice, shifted, kept = (
            f"{100 * count / max(1, self.frames):.1f} %"
            for count in (self.redetected, self.several_candidates, self.shifted, self.kept_whole)
        )
        return (
            f"{self.frames:,} frames of {self.tracklets:,} tracklets: somebody found in {found}, more than one in {choice}, "
            f"shifted and padded {shifted}, kept whole {kept}"
        )

    def metrics(self) -> dict[str, float]:
        """``redetect/frames`` and so on, for a logger."""
        return {f"redetect/{name}": float(value) for name, value in asdict(self).items()}


class LinkedTrackletCache(TrackletStore):
    """A folder of processed tracklets that were made with one set of settings.

    It is ``root/<digest of the settings>``, so other settings never meet these files; ``settings.json`` in it says them. A file is named
    for the content of the frames it was made from, so changed frames are processed anew and identical ones once.

    Args:
        root: Folder of the caches of all settings.
        settings: Everything that a processed tracklet depends on besides its frames, by name.
    """

    def __init__(self, root: Path, settings: Mapping[str, str]) -> None:
        self.root, self.settings = root, dict(settings)
        lines = "".join(f"{name}={value}\n" for name, value in sorted(self.settings.items()))
        self.key = blake2b(lines.encode(), digest_size=DIGEST_BYTES).hexdigest()
        super().__init__(root / self.key)

    def describe(self) -> None:
        """Write ``settings.json`` for whoever opens the folder."""
        write_json(self.folder / "settings.json", self.settings)

    def missing(self, contents: Iterable[str]) -> list[str]:
        """Which of these tracklets are not stored; what killed processes left half written is removed first.

        Raises:
            ValueError: See ``report``.
        """
        self.clean()
        return [content for content in contents if self.report(content) is None]

    def require_room_for(self, num_frames: int, image_size: tuple[int, int], encoding: Encoding) -> None:
        """Check, before hours of work, that so many frames fit on the disk.

        Raises:
            OSError: They do not; nothing was written.
        """
        needed = round(num_frames * image_size[0] * image_size[1] * _BYTES_A_PIXEL[encoding])
        what = f"{num_frames:,} linked frames of {image_size[0]}x{image_size[1]} as {encoding}"
        smaller = f"choose another cache folder{', encoding=jpeg' if encoding == 'raw' else ''} or a smaller image_size"
        self.require_room(needed, f"keeping {what}", smaller)

    def write(self, content: str, tracklet: AlignedTracklet, encoding: Encoding) -> None:
        """Store a processed tracklet, atomically."""
        report = {name: str(value) for name, value in asdict(RedetectionReport.of(tracklet)).items()}
        metadata = {"settings": self.key, "content": content, **report}
        write_packed_tracklet(self.path(content), tracklet.frames, tracklet.pictures, encoding=encoding, metadata=metadata)

    def report(self, content: str) -> RedetectionReport | None:
        """What was done to a stored tracklet; ``None`` where it is not stored.

        Raises:
            ValueError: The file is no packed tracklet, or was put here from the cache of other settings or frames.
        """
        path = self.path(content)
        if not path.is_file():
            return None
        metadata = PackedTracklet(path).metadata
        if (metadata.get("settings"), metadata.get("content")) != (self.key, content):
            raise ValueError(
                f"{path} was made with the settings {metadata.get('settings')} from the frames {metadata.get('content')}, expected "
                f"{self.key} and {content}: it has been moved here from another cache. Delete it, it will be made again"
            )
        return RedetectionReport(**{field.name: int(metadata[field.name]) for field in fields(RedetectionReport)})

    def holds(self, contents: Iterable[str]) -> bool:
        """Whether every one of these tracklets is stored."""
        return not self.absent(contents)

    def require(self, contents: Iterable[str]) -> None:
        """Check that every tracklet is stored.

        Raises:
            FileNotFoundError: Some are not; the message names the first and counts them.
        """
        missing = self.absent(contents)
        if missing:
            raise FileNotFoundError(
                f"linked tracklets have gone from the cache: {missing[0]} and {len(missing) - 1} others. Restore {self.folder} (all nodes "
                "must see it), or start a new run, which links them again"
            )

    def total_report(self, contents: Iterable[str]) -> RedetectionReport:
        """The sums over stored tracklets; one that is named twice counts twice."""
        reports = [self.report(content) for content in contents]
        return RedetectionReport.total(report for report in reports if report is not None)
