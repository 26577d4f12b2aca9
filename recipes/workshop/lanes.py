"""The lanes of a live run as a picture: who was in which camera when, and how people went from one to the next."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.ticker import MultipleLocator

from lightning_reid.files import write_atomically
from lightning_reid.recipes.workshop.live_record import Bar, Handover, RunRecord
from lightning_reid.tracking import TrackKey

GOLDEN_ANGLE = 0.381966
"""Of a turn: neighbors in number are far apart in hue."""
_BAR, _GAP = 0.72, 0.7
"""Heights of a track's bar, and of the space between two cameras, in rows."""

_MINUTES = 600
"""Seconds from which on the axis is in minutes."""


def color_of(identity: int) -> tuple[float, float, float]:
    """The color of a person, the same wherever they are shown: red, green, blue in [0, 1]."""
    return colorsys.hls_to_rgb(identity * GOLDEN_ANGLE % 1, 0.5, 0.62)


def rows_of(tracks: Sequence[Sequence[Bar]], apart: float) -> list[int]:
    """In which row of its camera each track goes, so that no two overlap; as few rows as that takes.

    Args:
        tracks: The bars of each track.
        apart: Seconds between two tracks of a row, at least.
    """
    free: list[float] = []
    rows = [0] * len(tracks)
    for number in sorted(range(len(tracks)), key=lambda one: tracks[one][0].since):
        begin, end = tracks[number][0].since, tracks[number][-1].until
        row = next((row for row, until in enumerate(free) if until + apart <= begin), len(free))
        free[row : row + 1] = [end]
        rows[number] = row
    return rows


def draw_lanes(path: Path, record: RunRecord) -> None:
    """Draw a lane for each camera, with a bar for each track in its person's color and an arc for each handover that stands.

    A track is gray as long as it was shown with another number than its last one: until it was found again, or after a match was undone.

    Args:
        path: The picture, whose suffix tells the format.
        record: What was shown.
    """
    begin = min((bars[0].since for bars in record.bars.values()), default=0.0)
    end = max((bars[-1].until for bars in record.bars.values()), default=begin + 1)
    length = max(end - begin, 1.0)
    tops, places, height = _places(record, length)
    figure = Figure(figsize=(12, min(max(1.2 + 0.24 * height, 2.5), 60)), layout="constrained")
    axes = figure.subplots()
    for camera, (top, rows) in tops.items():
        axes.axhspan(top - _GAP / 4, top + rows + _GAP / 4, color="0.955", zorder=0, linewidth=0)
        axes.text(-0.008, top + rows / 2, camera, ha="right", va="center", transform=axes.get_yaxis_transform(), fontsize=10)
    for key, bars in record.bars.items():
        _draw_track(axes, bars, places[key], begin, length)
    for one in record.handovers:
        if one.track in places and one.other in places:
            _draw_handover(axes, one, record, places, begin)
    axes.set(xlim=(-0.01 * length, 1.01 * length), ylim=(height, -_GAP / 2), xlabel="seconds", yticks=[])
    if length > _MINUTES:
        axes.set_xlabel("minutes")
        axes.xaxis.set_major_locator(MultipleLocator(60 * math.ceil(length / _MINUTES)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 60:g}")
    axes.set_title(_title(record), fontsize=10, loc="left")
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.grid(axis="x", color="1", linewidth=1)
    axes.set_axisbelow(True)
    write_atomically(path, lambda file: figure.savefig(file, dpi=150))


def _places(record: RunRecord, length: float) -> tuple[dict[str, tuple[float, int]], dict[TrackKey, float], float]:
    """The top of each camera with its number of rows, the middle of each track, and the height of all."""
    tops: dict[str, tuple[float, int]] = {}
    places: dict[TrackKey, float] = {}
    top = 0.0
    for camera in record.cameras:
        keys = [key for key in record.bars if key.camera == camera]
        rows = rows_of([record.bars[key] for key in keys], apart=0.004 * length)
        number = max(rows, default=0) + 1
        tops[camera] = (top, number)
        places |= {key: top + row + 0.5 for key, row in zip(keys, rows)}
        top += number + _GAP
    return tops, places, top - _GAP / 2


def _draw_track(axes: Axes, bars: Sequence[Bar], place: float, begin: float, length: float) -> None:
    for bar in bars:
        left, width = bar.since - begin, max(bar.until - bar.since, 0.002 * length)
        last = bar.identity == bars[-1].identity
        color = color_of(bar.identity) if last else "0.8"
        axes.barh(place, width, left=left, height=_BAR, color=color, edgecolor="white", linewidth=0.4, zorder=2)
        if width > 0.012 * length:
            style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7 if last else 6, "zorder": 4, "clip_on": True}
            axes.text(left + width / 2, place, str(bar.identity), color="white" if last else "0.35", **style)


def _draw_handover(axes: Axes, one: Handover, record: RunRecord, places: dict[TrackKey, float], begin: float) -> None:
    """From the last sight of the person, wherever that was; an undone one from the track that was found."""
    entered = record.bars[one.track][0].since
    before = _last_sight(record, one.track) if one.stands else None
    start = before or one.other
    left = min(record.bars[start][-1].until, max(entered, record.bars[start][0].since))
    axes.add_patch(
        FancyArrowPatch(
            (left - begin, places[start]),
            (entered - begin, places[one.track]),
            connectionstyle=f"arc3,rad={-0.05 if start.camera == one.track.camera else -0.15}",
            arrowstyle="-|>",
            mutation_scale=8,
            shrinkA=0,
            shrinkB=0,
            color=color_of(record.bars[one.track][-1].identity) if one.stands else "0.6",
            linestyle="-" if one.stands else (0, (3, 2)),
            linewidth=1.4 if one.stands else 0.8,
            zorder=3,
        )
    )


def _last_sight(record: RunRecord, track: TrackKey) -> TrackKey | None:
    """The track of the same person that ended last before this one began."""
    entered, identity = record.bars[track][0].since, record.bars[track][-1].identity
    same = [(bars[-1].until, key) for key, bars in record.bars.items() if bars[-1].identity == identity and bars[-1].until <= entered]
    return max(same)[1] if same else None


def _title(record: RunRecord) -> str:
    stand = sum(one.stands for one in record.handovers)
    undone = len(record.handovers) - stand
    told = f"{len(record.identities)} people in {len(record.cameras)} cameras, {stand} handovers"
    told += f", {undone} undone (dashed)" if undone else ""
    return f"{told}; gray: the number that was shown before"
