"""When the stages of a pipeline computed, and when they waited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

SpanKind = Literal["forward", "backward"]


class Span(NamedTuple):
    """The time in which one stage computed one micro-batch.

    Attributes:
        kind: ``"forward"`` or ``"backward"``.
        stage: Number from 0.
        microbatch: Number from 0.
        start: Seconds of a clock that all processes of one machine share.
        end: Seconds of that clock.
    """

    kind: SpanKind
    stage: int
    microbatch: int
    start: float
    end: float


def idle_fraction(spans: Sequence[Span], processes: int) -> float:
    """The bubbles: share of the processes' time, from the first span's start to the last one's end, in which none of their stages computed.

    Stage s is computed by process s modulo ``processes``. In the ideal of GPipe, where all spans of a kind take equally long, it is
    ``(P - 1) / (M + P - 1)`` for P processes with a stage each and M micro-batches.

    Raises:
        ValueError: There are no spans.
    """
    if not spans:
        raise ValueError("there are no spans: trace a step first")
    whole = (max(span.end for span in spans) - min(span.start for span in spans)) * processes
    return 1 - sum(span.end - span.start for span in spans) / whole


class Bubble(NamedTuple):
    """A time in which a process computed none of its stages.

    Attributes:
        process: Number from 0.
        start: As of a span.
        end: As of a span.
    """

    process: int
    start: float
    end: float


def bubbles(spans: Sequence[Span], processes: int, *, least: float = 0.0) -> list[Bubble]:
    """When processes waited, between the first span's start and the last one's end: by process, in order.

    Without ``least`` they are the ``idle_fraction`` of the processes' time.

    Args:
        spans: Of all stages; stage s is computed by process s modulo ``processes``.
        processes: P.
        least: Seconds; shorter ones are left out, as those between two computations without a wait.
    """
    found = list[Bubble]()
    first, last = min((span.start for span in spans), default=0.0), max((span.end for span in spans), default=0.0)
    for process in range(processes):
        free = first
        for span in sorted((one for one in spans if one.stage % processes == process), key=lambda one: one.start):
            found.append(Bubble(process, free, span.start))
            free = span.end
        found.append(Bubble(process, free, last))
    return [one for one in found if one.end - one.start > 0 and one.end - one.start >= least]
