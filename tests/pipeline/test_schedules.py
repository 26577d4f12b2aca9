"""When the stages of a pipeline computed and waited: as numbers, as a picture, and of a real step."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipelined import built, fitted

from lightning_reid.pipeline import PipelineStrategy, ScheduleTrace
from lightning_reid.pipeline.picture import draw_schedule, title_of
from lightning_reid.pipeline.spans import Bubble, Span, bubbles, idle_fraction


def ideal_gpipe(processes: int, microbatches: int, forward: float = 1.0, backward: float = 2.0) -> list[Span]:
    """All forward passes, then all backward passes, each as early as it can."""
    spans = list[Span]()
    for kind, seconds, stages in (("forward", forward, range(processes)), ("backward", backward, range(processes)[::-1])):
        free = {stage: max((span.end for span in spans if span.stage == stage), default=0.0) for stage in stages}
        for microbatch in range(microbatches):
            came = 0.0
            for stage in stages:
                start = max(free[stage], came)
                came = free[stage] = start + seconds
                spans.append(Span(kind, stage, microbatch, start, came))
    return spans


@given(st.integers(1, 5), st.integers(1, 8), st.floats(0.1, 3), st.floats(0.1, 3))
def test_the_bubbles_of_an_ideal_gpipe_are_those_of_the_formula(processes, microbatches, forward, backward):
    spans = ideal_gpipe(processes, microbatches, forward, backward)
    assert idle_fraction(spans, processes) == pytest.approx((processes - 1) / (microbatches + processes - 1))
    whole = (max(span.end for span in spans) - min(span.start for span in spans)) * processes
    waited = sum(bubble.end - bubble.start for bubble in bubbles(spans, processes))
    assert waited / whole == pytest.approx(idle_fraction(spans, processes), abs=1e-9)


def test_bubbles_are_where_a_process_computes_none_of_its_stages():
    spans = [Span("forward", 0, 0, 1.0, 2.0), Span("forward", 1, 0, 2.0, 5.0), Span("forward", 2, 0, 5.5, 6.0)]  # 0 and 2 of process 0
    assert bubbles(spans, 2) == [Bubble(0, 2.0, 5.5), Bubble(1, 1.0, 2.0), Bubble(1, 5.0, 6.0)]
    assert bubbles(spans, 2, least=1.5) == [Bubble(0, 2.0, 5.5)]
    assert bubbles([], 2) == []


def test_without_spans_there_is_no_share_and_no_picture(tmp_path):
    with pytest.raises(ValueError, match="trace a step first"):
        idle_fraction([], 2)
    for nothing in ([], {}, {"gpipe": []}):
        with pytest.raises(ValueError, match="no spans to draw"):
            draw_schedule(nothing, tmp_path / "schedule.png", processes=2)
    with pytest.raises(ValueError, match="processes must be"):
        draw_schedule(ideal_gpipe(2, 2), tmp_path / "schedule.png", processes=0)
    assert not any(tmp_path.iterdir())


def test_a_title_counts_the_bubbles_that_are_seen():
    spans = ideal_gpipe(2, 4)
    told = "2 stages on 2 processes, 4 micro-batches, 15 s, 3 bubbles, waiting 20 % of the time"
    assert title_of(spans, 2, "gpipe") == f"gpipe: {told}"
    late = [span._replace(end=span.end - 0.001) for span in spans]  # a moment between any two, which is no bubble
    assert title_of(late, 2) == told


@pytest.mark.parametrize("name", ["schedule.png", "schedule.svg"])
def test_one_schedule_or_several_become_a_picture(tmp_path, name):
    draw_schedule(ideal_gpipe(2, 4), tmp_path / "one" / name, processes=2)
    draw_schedule({"4": ideal_gpipe(2, 4), "8": ideal_gpipe(2, 8)}, tmp_path / name, processes=2)
    assert (tmp_path / name).stat().st_size > (tmp_path / "one" / name).stat().st_size > 5000


def traced(folder: Path, strategies: dict[str, dict[str, Any]]) -> dict[str, list[Span]]:
    """The spans of the second step of each, as this process has them."""
    found = {}
    for name, options in strategies.items():
        trace = ScheduleTrace(folder / f"{name}.png", step=1)
        fitted(built("nvan").double(), PipelineStrategy(stage_costs="equal", **options), 2, callbacks=[trace], steps=2)
        found[name] = trace.spans
    return found


def test_a_step_is_traced_on_the_first_process_for_all_stages(tmp_path, two_processes):
    looped = {"schedule": "looped-bfs", "stages_per_process": 2}
    first, second = two_processes(traced, tmp_path, {"gpipe": {}, "looped": looped, "1f1b": {"schedule": "1f1b"}})
    assert second == {"gpipe": [], "looped": [], "1f1b": []}
    for name, spans in first.items():
        stages, forwards = (4 if name == "looped" else 2), (2 if name == "1f1b" else 1)  # gradient caching embeds first
        counted = Counter((span.kind, span.stage, span.microbatch) for span in spans)
        assert counted == {
            (kind, stage, microbatch): forwards if kind == "forward" else 1
            for kind in ("forward", "backward")
            for stage in range(stages)
            for microbatch in range(4)
        }
        ends = {(span.kind, span.stage, span.microbatch): span.end for span in spans}  # of the last of a kind
        for span in spans:
            before = (span.kind, span.stage + (1 if span.kind == "backward" else -1), span.microbatch)
            assert forwards == 2 or span.start >= ends.get(before, 0)
        assert 0 < idle_fraction(spans, 2) < 1
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    assert not any(one.end > other.start for one, other in zip(first["gpipe"], first["gpipe"][1:]) if one.stage == other.stage)


def test_a_trace_of_another_strategy_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ScheduleTrace is of a PipelineStrategy's steps, got a SingleDeviceStrategy"):
        fitted(built("baseline").double(), "auto", 1, callbacks=[ScheduleTrace(tmp_path / "schedule.png")])
    with pytest.raises(ValueError, match="step must be"):
        ScheduleTrace(step=-1)
