"""What should be known of the crops of videos: where people moved too far between two frames, and what the sheet shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_reid.command_line.contact_sheet import PEOPLE as SHEET_ROWS
from lightning_reid.command_line.crop_folder import SHEET

FAR_APART = 0.25
"""Seconds between two frames, beyond which somebody who walks may have no box that overlaps the last one."""
_MANY = 0.5
"""Share of the boxes that are in no track or in a short one, beyond which tracking failed."""


def notes_of_gaps(every: int, gaps: Mapping[str, float], cameras: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sentences on the cameras that ``--every`` leaves too few frames of.

    Args:
        every: The frames of which one is looked at; of 1 nothing is said.
        gaps: Seconds between two of those, by camera.
        cameras: What was counted in each: ``boxes`` and ``left_out``.
    """
    if every == 1:
        return []
    notes = []
    for name, gap in gaps.items():
        boxes, left_out = cameras[name]["boxes"], cameras[name]["left_out"]
        lost = left_out["not_tracked"] + left_out.get("in_short_tracks", 0)
        told = f"{name}: {gap:.2g} s lie between the frames that were looked at"
        way_on = f"Look at every frame, or give a smaller --every ({every})"
        if lost > _MANY * boxes:
            notes.append(f"{told}, and {lost:,} of {boxes:,} boxes are in no track or in a short one: people move too far. {way_on}")
        elif gap > FAR_APART:
            notes.append(f"{told}: people may move too far. {way_on}")
    return notes


def note_of_sheet(tracklets: int) -> str:
    """How many of the tracklets the contact sheet shows."""
    return f"{SHEET} shows {min(tracklets, SHEET_ROWS)} of {tracklets:,} tracklets, of each camera the longest"
