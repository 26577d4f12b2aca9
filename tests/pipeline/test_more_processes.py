"""More than two processes: four stages, two pipelines of two, and runs that go on with another number of stages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pair_of_processes import PairOfProcesses
from pipelined import built, fitted, in_pipeline, largest_difference, resumed, saved_and_finished, told_of, unsplit

from lightning_reid.networks import group_batch_norm
from lightning_reid.pipeline import PipelineStrategy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def four_processes() -> Iterator[PairOfProcesses]:
    group = PairOfProcesses(size=4)
    yield group
    group.end()


def of_four(kind: str, **strategy: Any) -> dict[str, Any]:
    return in_pipeline(kind, 4, {}, strategy, {})


@pytest.mark.parametrize("kind", ["baseline", "nvan", "stenvan"])
def test_four_stages_learn_what_the_unsplit_module_learns(kind, four_processes):
    whole = unsplit(kind, {}, 4, {})
    found = four_processes(of_four, kind)
    learned = set[str]()
    for mine in found:
        assert mine["losses"] == pytest.approx(whole["losses"], abs=1e-10)
        assert max(largest_difference(one, whole["gradients"][step]) for step, one in enumerate(mine["gradients"])) < 1e-10
        assert largest_difference(mine["state"], whole["state"]) < 1e-10
        learned |= set(mine["gradients"][0])
    assert learned == set(whole["gradients"][0])


def two_pipelines(kind: str) -> dict[str, Any]:
    """Four processes, of which two compute a network, on batches of their own."""
    module = built(kind)
    told, _ = fitted(module, PipelineStrategy(4, stages=2, stage_costs="equal"), 4, first=1000 * (int(os.environ["LOCAL_RANK"]) // 2))
    return told_of(told, module)


def two_unsplit(kind: str) -> dict[str, Any]:
    """Two processes with the whole network each, under DDP, on the same batches."""
    module = built(kind)
    group_batch_norm(module.network, num_groups=4)
    told, _ = fitted(module, "ddp", 2, dealt=4, first=1000 * int(os.environ["LOCAL_RANK"]))
    return told_of(told, module)


@pytest.mark.parametrize("kind", ["nvan", "image"])
def test_two_pipelines_of_two_stages_learn_what_ddp_of_two_processes_learns(kind, four_processes, two_processes):
    whole, found = two_processes(two_unsplit, kind), four_processes(two_pipelines, kind)
    for rank, mine in enumerate(found):
        assert mine["losses"] == pytest.approx(whole[rank // 2]["losses"], abs=1e-10)  # each pipeline's own
        assert max(largest_difference(one, whole[0]["gradients"][step]) for step, one in enumerate(mine["gradients"])) < 1e-10
        assert largest_difference(mine["state"], whole[0]["state"]) < 1e-10
    assert found[0]["losses"] != found[2]["losses"]


def test_a_run_of_two_stages_goes_on_with_three_and_with_four(tmp_path: Path, two_processes, four_processes):
    whole = two_processes(saved_and_finished, tmp_path, 2)[0]
    three_processes = PairOfProcesses(size=3)
    try:
        of_three = three_processes(resumed, tmp_path / "first.ckpt", 3)
    finally:
        three_processes.end()
    for found in (of_three, four_processes(resumed, tmp_path / "first.ckpt", 4)):
        for mine in found:
            assert mine["losses"] == pytest.approx(whole["losses"][2:], abs=1e-12)
            assert largest_difference(mine["state"], whole["state"]) < 1e-12
