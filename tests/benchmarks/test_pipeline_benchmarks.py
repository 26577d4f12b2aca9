"""The benchmarks of pipelines run, small, and their figures hang together; nothing here asserts a time."""

from __future__ import annotations

import json

import pipeline_costs
import pipeline_tables
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pipeline_runs import Run, RunError, Tensors, run

NARROW = {"backbone": "resnet18", "channels": [8, 8, 16, 16], "layers": [1, 2, 3, 1]}


@given(fixed=st.floats(0, 500), each=st.floats(0.1, 20), bend=st.floats(-0.001, 0.001), most=st.integers(2, 60), limit=st.floats(10, 900))
def test_the_largest_count_within_a_limit_is_found_in_few_tries(fixed, each, bend, most, limit):
    asked = list[int]()

    def peak(count: int) -> float:
        asked.append(count)
        return fixed + each * count + bend * count**2 * (count % 2)  # steps, as an allocator has them

    count, taken = pipeline_tables.largest_within(peak, limit, 2, most)
    within = [one for one in range(2, most + 1) if fixed + each * one + bend * one**2 * (one % 2) <= limit]
    assert len(asked) == len(set(asked)) <= 14
    if not within:
        assert count == 0
        assert taken > limit
        return
    assert count in within
    assert taken <= limit
    assert count == most or count + 1 not in within


def test_tensors_are_counted_while_they_are_there():
    kept = torch.zeros(1000)
    with Tensors(kept) as tensors:
        assert tensors.most == 4000
        other = torch.ones(500)
        more = kept + 1
        assert tensors.now() == 10_000
        del other, more
        assert tensors.now() == 4000
        assert kept.view(10, 100).sum() == 0
    assert tensors.most == 10_000


@pytest.mark.benchmark
def test_a_run_of_which_a_process_fails_ends_with_its_words():
    with pytest.raises(RunError, match="network must be one of"):
        run(Run("lstm", "unsplit", 1, 8, (32, 16), 2, NARROW))


@pytest.mark.benchmark
def test_two_stages_are_measured_beside_one_process(tmp_path):
    found = pipeline_costs.main(["--smallest", "--only", "memory", "--json", str(tmp_path / "costs.json")])
    assert list(found["memory"]) == list(found["tensors"]) == ["one process", "2 stages, cut by bytes"]
    (whole,), stages = found["tensors"]["one process"], found["tensors"]["2 stages, cut by bytes"]
    assert 0 < max(stages) < whole
    assert json.loads((tmp_path / "costs.json").read_text())["machine"]["torch"] == torch.__version__
