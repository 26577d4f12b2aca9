"""Two processes in a pipeline learn what the unsplit module learns whose BatchNorm normalizes over as many groups: to the last digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import torch
from pipelined import Batches, built, fitted, in_pipeline, largest_difference, unsplit

from lightning_reid.losses import identity_losses
from lightning_reid.pipeline import PipelineStrategy


class Case(NamedTuple):
    kind: str
    strategy: Mapping[str, Any] = {}
    module: Mapping[str, Any] = {}
    trainer: Mapping[str, Any] = {}
    largest_gradient: float = 1.0


CASES = {
    "baseline": Case("baseline"),
    "nvan": Case("nvan"),
    "stenvan": Case("stenvan"),
    "resnet": Case("image"),
    "mobilenetv2": Case("mobilenetv2_050", largest_gradient=10.0),  # whose rounding grows with it
    "osnet": Case("osnet_x0_25"),
    "activations checkpointed": Case("stenvan", {"checkpoint_activations": True}),
    "two stages a process": Case("nvan", {"schedule": "looped-bfs", "stages_per_process": 2}),
    "1f1b with gradient caching": Case("nvan", {"schedule": "1f1b"}),
    "1f1b with gradient caching, activations checkpointed": Case("nvan", {"schedule": "1f1b", "checkpoint_activations": True}),
    "two micro-batches": Case("nvan", {"microbatches": 2}),
    "masks": Case("stenvan", trainer={"masked": True}),
    "two pipelines of one process": Case("nvan", {"stages": 1}),
    "two pipelines of one process with two stages": Case("nvan", {"stages": 1, "schedule": "looped-bfs", "stages_per_process": 2}),
    "gradients clipped by norm": Case("image", trainer={"gradient_clip_val": 0.05}),
    "gradients clipped by value": Case("image", trainer={"gradient_clip_val": 1e-3, "gradient_clip_algorithm": "value"}),
    "batches accumulated": Case("image", trainer={"accumulate_grad_batches": 2, "steps": 4}),
}


def both(cases: Mapping[str, Case]) -> dict[str, dict[str, Any]]:
    return {name: in_pipeline(case.kind, 2, case.module, case.strategy, case.trainer) for name, case in cases.items()}


@pytest.fixture(scope="module")
def found(two_processes) -> list[dict[str, dict[str, Any]]]:
    """What each of the two processes tells of each case."""
    return two_processes(both, CASES, timeout=400)


@pytest.fixture(scope="module")
def wanted() -> dict[str, dict[str, Any]]:
    """What one process tells of each case, which many cases share."""
    made: dict[str, dict[str, Any]] = {}
    found = {}
    for name, case in CASES.items():
        groups = case.strategy.get("microbatches", 4)
        key = repr((case.kind, case.module, groups, case.trainer))
        if key not in made:
            made[key] = unsplit(case.kind, case.module, groups, case.trainer)
        found[name] = made[key]
    return found


@pytest.mark.parametrize("name", CASES)
def test_two_processes_in_a_pipeline_learn_what_one_learns(name, found, wanted):
    whole = wanted[name]
    learned = set[str]()
    for rank in (0, 1):
        mine = found[rank][name]
        assert mine["losses"] == pytest.approx(whole["losses"], abs=1e-10)
        for step, gradients in enumerate(mine["gradients"]):
            assert largest_difference(gradients, whole["gradients"][step]) < 1e-10 * CASES[name].largest_gradient
        learned |= set(mine["gradients"][0])
        assert list(mine["state"]) == list(whole["state"])  # whole again, under its names and in its order, on both
        assert largest_difference(mine["state"], whole["state"]) < 1e-10
    assert learned == set(whole["gradients"][0])


def test_each_process_has_gradients_of_its_own_stage_and_of_what_both_have(found):
    first, second = (set(found[rank]["nvan"]["gradients"][0]) for rank in (0, 1))
    assert {name.split(".")[0] for name in first & second} == {"network", "classifier"}
    assert first & second == {"network.neck.weight", "classifier.weight"}


def test_both_log_the_same_losses_of_the_whole_batch(found, wanted):
    for name in ("train/loss", "train/loss_ce", "train/loss_triplet"):
        theirs = [step[name] for step in wanted["nvan"]["logged"]]
        assert [[step[name] for step in found[rank]["nvan"]["logged"]] for rank in (0, 1)] == [pytest.approx(theirs, abs=1e-6)] * 2


def test_running_statistics_move_once_a_step(found, wanted):
    counts = {name: int(value) for name, value in found[0]["activations checkpointed"]["state"].items() if name.endswith("tracked")}
    assert set(counts.values()) == {3}


FLOAT32 = {
    "sgd": Case("nvan", module={"lr": 1e-3}, trainer={"precision": "32-true"}),
    "adam": Case("nvan", module={"optimizer": "adam", "lr": 1e-4}, trainer={"precision": "32-true", "steps": 6}),
}


@pytest.mark.parametrize(("name", "tolerance"), [("sgd", 1e-5), ("adam", 1e-4)])
def test_in_float32_the_curve_of_the_loss_is_the_same(name, tolerance, two_processes):
    case = FLOAT32[name]
    mine = two_processes(both, {name: case})[0][name]["losses"]
    assert mine == pytest.approx(unsplit(case.kind, case.module, 4, case.trainer)["losses"], abs=tolerance)


MICRO = {"mining": "microbatch"}


def by_microbatches() -> dict[str, dict[str, Any]]:
    schedules = {"1f1b": {"schedule": "1f1b"}, "gpipe": {"schedule": "gpipe"}}
    return {name: in_pipeline("nvan", 2, {}, MICRO | options, {}) for name, options in schedules.items()}


def test_mining_in_micro_batches_is_another_loss_and_the_mean_of_theirs(two_processes, wanted):
    both_found = two_processes(by_microbatches)
    module, batch = built("nvan").double().train(), Batches(1, 4)[0]
    losses = []
    for rows in range(0, 16, 4):
        part = {name: value[rows : rows + 4] for name, value in batch.items()}
        output = module.embed_batch(part)
        losses.append(module_loss(module, output, part).item())
    for found_of_rank in both_found:
        for schedule in ("1f1b", "gpipe"):
            assert found_of_rank[schedule]["losses"][0] == pytest.approx(sum(losses) / 4, abs=1e-10)
            logged = found_of_rank[schedule]["logged"][0]
            assert logged["train/loss"] == pytest.approx(sum(losses) / 4, abs=1e-6)
        assert largest_difference(found_of_rank["1f1b"]["state"], found_of_rank["gpipe"]["state"]) < 1e-10
    assert abs(wanted["nvan"]["losses"][0] - sum(losses) / 4) > 1e-3


def module_loss(module: Any, output: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return sum(identity_losses(module.logits(output), output.before_bnneck, batch["pids"]))  # type: ignore[return-value]


def compiled() -> list[float]:
    module = built("nvan")
    told, _ = fitted(torch.compile(module, backend="eager"), PipelineStrategy(4, stage_costs="equal"), 2)
    return told.losses


@pytest.mark.slow
def test_a_compiled_module_learns_the_same(two_processes, wanted):
    for losses in two_processes(compiled, timeout=300):
        assert losses == pytest.approx(wanted["nvan"]["losses"], abs=1e-10)
