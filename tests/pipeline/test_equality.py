"""Two processes in a pipeline learn what the unsplit module learns whose BatchNorm normalizes over as many groups: to the last digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from pipelined import Batches, built, fitted, in_pipeline, largest_difference, unsplit
from typing_extensions import override

from lightning_reid.losses import identity_losses
from lightning_reid.modules import SupervisedReID
from lightning_reid.networks import group_batch_norm
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


class Thaws(pl.Callback):
    """Freezes two blocks before the first epoch, and lets them learn in the second."""

    BLOCKS = ("layer1", "layer4")

    def _set(self, module: pl.LightningModule, learns: bool) -> None:
        for block in self.BLOCKS:
            module.network.backbone.trunk.get_submodule(block).requires_grad_(learns)

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._set(pl_module, False)

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._set(pl_module, trainer.current_epoch > 0)


class EveryParameter(SupervisedReID):
    """Gives its optimizer frozen parameters too."""

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:  # type: ignore[override]
        return torch.optim.SGD(self.parameters(), lr=0.01)


class OneBlock(SupervisedReID):
    """Lets one block learn, which one process has."""

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:  # type: ignore[override]
        return torch.optim.SGD(self.network.backbone.trunk.layer4.parameters(), lr=0.05)


def narrow(kind: type[SupervisedReID]) -> SupervisedReID:
    layers = {"channels": [16, 16, 32, 32], "layers": [1, 1, 1, 1]}
    torch.manual_seed(0)
    return kind(4, backbone="resnet18", backbone_options=layers)


def thawed_and_of_one_block() -> list[dict[str, torch.Tensor]]:
    frozen, block = narrow(EveryParameter), narrow(OneBlock)
    frozen.network.backbone.trunk.layer1.requires_grad_(False)  # when it is cut, already
    fitted(frozen, PipelineStrategy(4, stage_costs="equal"), 2, max_epochs=2, steps=2, callbacks=[Thaws()])
    fitted(block, PipelineStrategy(4, stage_costs="equal"), 2, gradient_clip_val=0.05)
    return [module.state_dict() for module in (frozen, block)]


def test_layers_that_are_thawed_in_a_fit_learn_and_an_optimizer_of_one_stage_is_clipped(two_processes):
    frozen, block = narrow(EveryParameter), narrow(OneBlock)
    frozen.network.backbone.trunk.layer1.requires_grad_(False)
    for module in (frozen, block):
        group_batch_norm(module.network, num_groups=4)
    fitted(frozen, "auto", 1, max_epochs=2, steps=2, dealt=4, callbacks=[Thaws()])
    fitted(block, "auto", 1, dealt=4, gradient_clip_val=0.05)
    for found in two_processes(thawed_and_of_one_block):
        for mine, whole in zip(found, (frozen, block), strict=True):
            assert largest_difference(mine, whole.state_dict()) < 1e-10
    name = "network.backbone.trunk.layer1.0.conv1.weight"
    assert not torch.equal(frozen.state_dict()[name].float(), narrow(EveryParameter).state_dict()[name])


def compiled() -> list[float]:
    module = built("nvan")
    told, _ = fitted(torch.compile(module, backend="eager"), PipelineStrategy(4, stage_costs="equal"), 2)
    return told.losses


@pytest.mark.slow
def test_a_compiled_module_learns_the_same(two_processes, wanted):
    for losses in two_processes(compiled, timeout=300):
        assert losses == pytest.approx(wanted["nvan"]["losses"], abs=1e-10)
