"""What the gallery of a video set holds besides answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_reid.records import DISTRACTOR_PID, JUNK_PID, TrackletRecord


def gallery_note(query: Sequence[TrackletRecord], gallery: Sequence[TrackletRecord]) -> str:
    """The sentence that says what a gallery holds besides answers: queries, distractors and junk."""
    held = {_first_image(record) for record in gallery}
    found = sum(_first_image(record) in held for record in query)
    distractors, junk = (sum(record.pid == pid for record in gallery) for pid in (DISTRACTOR_PID, JUNK_PID))
    return (
        f"the gallery holds {found} of the {len(query)} queries themselves, {distractors} distractor (pid 0) "
        f"and {junk} junk (pid -1) tracklets"
    )


def _first_image(record: TrackletRecord) -> tuple[int, int, str]:
    """What tells a tracklet, also where query and gallery are copies in two folders."""
    return record.pid, record.camid, Path(record.paths[0]).name
