"""The schedule of a pipeline as a picture: which stage computed which micro-batch when, and who waited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lightning_reid.arguments import require_count
from lightning_reid.files import write_atomically
from lightning_reid.pipeline.spans import Span, SpanKind, bubbles, idle_fraction

_COLORS: dict[SpanKind, str] = {"forward": "tab:blue", "backward": "tab:orange"}
_WAITING: dict[str, Any] = {"facecolor": "0.97", "edgecolor": "0.8", "hatch": "////", "linewidth": 0.0}
_LEAST = 0.01
"""Of the whole time, what a bubble takes that is counted and drawn: shorter ones lie between any two computations."""
_BAR, _GAP = 0.8, 0.35
"""Heights of a bar, and of the space between two processes, in lanes."""


def draw_schedule(spans: Sequence[Span] | Mapping[str, Sequence[Span]], path: Path, *, processes: int) -> None:
    """Draw a lane for each stage, with a bar for each micro-batch's forward and backward pass; the stages of a process lie together.

    The title of a schedule counts its bubbles, those of at least a hundredth of its time, and tells which share of the processes' time
    all bubbles take. Several schedules lie below each other on one axis of time.

    Args:
        spans: Of all stages in one step, such as ``ScheduleTrace`` has; or such of several schedules, by the names in their titles.
        path: The picture, whose suffix tells the format.
        processes: P; stage s is computed by process s modulo P.

    Raises:
        ValueError: There is nothing to draw, or ``processes`` is no count.

    Example:
        >>> from pathlib import Path
        >>> from lightning_reid.pipeline.picture import draw_schedule
        >>> from lightning_reid.pipeline.spans import Span
        >>> first = [Span("forward", 0, 0, 0.0, 1.0), Span("backward", 0, 0, 4.0, 6.0)]
        >>> second = [Span("forward", 1, 0, 1.0, 2.0), Span("backward", 1, 0, 2.0, 4.0)]
        >>> draw_schedule([*first, *second], Path("schedule.png"), processes=2)
    """
    require_count("processes", processes)
    schedules = spans if isinstance(spans, Mapping) else {"": spans}
    if not schedules or not all(schedules.values()):
        raise ValueError("there are no spans to draw: trace a step of a pipeline, as ScheduleTrace does")
    lanes = [1 + max(span.stage for span in some) for some in schedules.values()]
    heights = [count + _GAP * processes + 0.9 for count in lanes]
    figure = Figure(figsize=(12, 0.7 + 0.42 * sum(heights)), layout="constrained")
    all_axes = figure.subplots(len(schedules), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, (name, some) in zip(all_axes, schedules.items(), strict=True):
        _draw_lanes(axes, some, processes)
        axes.set_title(title_of(some, processes, name), fontsize=10, loc="left")
    longest = max(max(span.end for span in some) - min(span.start for span in some) for some in schedules.values())
    all_axes[-1].set_xlim(0, longest)  # of all, which share the axis
    all_axes[-1].set_xlabel("seconds")
    shown = [Patch(color=color, label=kind) for kind, color in _COLORS.items()] + [Patch(label="waiting", **_WAITING)]
    figure.legend(handles=shown, loc="outside upper right", ncols=3, fontsize=8, frameon=False)
    write_atomically(path, lambda file: figure.savefig(file, dpi=150, metadata={"Software": None} if path.suffix == ".png" else None))


def title_of(spans: Sequence[Span], processes: int, name: str = "") -> str:
    """What a schedule was, and how many bubbles it had that a picture shows."""
    length = max(span.end for span in spans) - min(span.start for span in spans)
    stages, microbatches = (1 + max(getattr(span, what) for span in spans) for what in ("stage", "microbatch"))
    count = len(bubbles(spans, processes, least=_LEAST * length))
    counted = f"{count} bubble{'' if count == 1 else 's'}, waiting {100 * idle_fraction(spans, processes):.0f} % of the time"
    sizes = f"{stages} stages on {processes} processes, {microbatches} micro-batches"
    return f"{name + ': ' if name else ''}{sizes}, {length:.3g} s, {counted}"


def _draw_lanes(axes: Axes, spans: Sequence[Span], processes: int) -> None:
    begin, end = min(span.start for span in spans), max(span.end for span in spans)
    stages, length = 1 + max(span.stage for span in spans), end - begin
    by_process = [range(process, stages, processes) for process in range(processes)]
    tops = [sum(len(mine) + _GAP for mine in by_process[:process]) for process in range(processes)]
    places = {stage: tops[stage % processes] + stage // processes + 0.5 for stage in range(stages)}
    for bubble in bubbles(spans, processes, least=_LEAST * length):
        place, lanes = tops[bubble.process], len(by_process[bubble.process])
        width = bubble.end - bubble.start
        axes.add_patch(Rectangle((bubble.start - begin, place + 0.1), width, lanes - 0.2, zorder=1, **_WAITING))
    for span in spans:
        left, width = span.start - begin, span.end - span.start
        style: dict[str, Any] = {"height": _BAR, "color": _COLORS[span.kind], "edgecolor": "white", "linewidth": 0.6, "zorder": 2}
        axes.barh(places[span.stage], width, left=left, **style)
        if width > 0.012 * length:
            axes.text(left + width / 2, places[span.stage], str(span.microbatch), ha="center", va="center", fontsize=8, color="white")
    axes.set_yticks([*places.values()], [f"process {stage % processes}, stage {stage}" for stage in places], fontsize=8)
    axes.set(ylim=(tops[-1] + len(by_process[-1]) + _GAP / 2, -_GAP / 2))
    axes.tick_params(left=False)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
