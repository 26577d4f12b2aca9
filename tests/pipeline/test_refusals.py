"""What no pipeline can train is refused by name before the first step, or in it, on every process alike."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pipelined import Batches, built, fitted
from pytorch_lightning.callbacks import (
    BackboneFinetuning,
    EMAWeightAveraging,
    LearningRateFinder,
    ModelCheckpoint,
    OnExceptionCheckpoint,
    StochasticWeightAveraging,
)
from torch import Tensor
from torch.torch_version import TorchVersion
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_reid.callbacks import CAIEPruning, InterCameraMining
from lightning_reid.modules import BottomUpReID, SupervisedReID
from lightning_reid.pipeline import PipelineStrategy
from lightning_reid.pipeline.refusals import require_pipelined, require_torch


class TwoPasses(SupervisedReID):
    """Embeds its batch, and it again turned around."""

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        turned = self.embed(batch["images"].flip(3)).embedding
        return super().training_step(batch, batch_idx) + turned.square().mean()


class NoPass(SupervisedReID):
    """Learns nothing of its batch."""

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        assert self.classifier is not None
        return self.classifier.weight.square().mean()


class AnotherReturn(SupervisedReID):
    """Returns what Lightning takes too."""

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        return {"loss": super().training_step(batch, batch_idx)}


class ByItself(SupervisedReID):
    """Takes its optimizer's steps by itself."""

    automatic_optimization = False


class Synchronized(SupervisedReID):
    """Logs a mean over processes in its step."""

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.log("mine", loss, sync_dist=True)
        return loss


class OwnBatches(pl.LightningDataModule):
    """Deals every process batches of its own, as an ordinary sampler would."""

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        return DataLoader(Batches(2, None, first=100 * self.trainer.global_rank), batch_size=None)


def narrow(kind: type[SupervisedReID], **options: Any) -> SupervisedReID:
    layers = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
    return kind(num_classes=4, backbone="resnet18", backbone_options=layers, **options)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a batch that M does not divide": ({"microbatches": 3}, {}, "a batch of 16 cannot be cut into microbatches=3 of equally many rows"),
    "micro-batches of one row": ({"microbatches": 16}, {}, "microbatches=16 of equally many rows, at least 2 each, over which BatchNorm"),
    "more stages than units": (
        {"schedule": "looped-bfs", "stages_per_process": 4},
        {},
        "resnet18 has 6 units, too few for 8 stages: give fewer processes",
    ),
    "processes that are no whole number of pipelines": ({"stages": 3}, {}, "2 processes are no whole number of pipelines of stages=3"),
    "too few costs": ({"stage_costs": [1, 2]}, {}, "stage_costs holds 2 numbers, and resnet18 has 6 units: stem, layer1.0"),
    "a limit in bytes of batches that nobody knows": ({"memory_limit": 1000}, {}, "whose size the data do not tell"),
    "synchronized batch normalization": ({}, {"sync_batchnorm": True}, "sync_batchnorm=True"),
    "a module that embeds twice": ({}, {"module": TwoPasses}, "embeds the images or clips of its batch, as they are and once"),
    "a module that embeds nothing": ({}, {"module": NoPass}, "embeds its batch once, and this one did it 0 times"),
    "a step that returns no tensor": ({}, {"module": AnotherReturn}, "returns its loss, a tensor; this one returned dict"),
    "a module that optimizes by itself": ({}, {"module": ByItself}, "ByItself optimizes by itself (automatic_optimization=False)"),
    "a step that waits for the others": ({}, {"module": Synchronized}, "sync_dist=True in a training step waits for the other processes"),
    "groups of rows": ({}, {"bn_group": 8}, "bn_group=8 groups rows that a pipeline groups by its micro-batches"),
    "batches that differ between processes": ({}, {"data": OwnBatches}, "the processes of a pipeline have different batches"),
}


IN_THE_STEP = (
    "a module that embeds twice",
    "a module that embeds nothing",
    "a step that returns no tensor",
    "a step that waits for the others",
)
"""Told by the process of the last stage, while the others wait: see ``test_a_process_that_ends``."""


def told(names: list[str], processes: int) -> dict[str, str]:
    """What is said in each case."""
    messages = {}
    for name in names:
        strategy, options, _ = CASES[name]
        options = dict(options)
        module = narrow(options.pop("module", SupervisedReID), **{key: options.pop(key) for key in ("bn_group",) if key in options})
        data = options.pop("data", None)
        try:
            fit(module, PipelineStrategy(**{"microbatches": 4, "stage_costs": "equal"} | strategy), processes, data, **options)
        except (ValueError, RuntimeError) as error:
            messages[name] = f"{type(error).__name__}: {error}"
        else:
            messages[name] = "nothing"
    return messages


def fit(
    module: SupervisedReID, strategy: PipelineStrategy, processes: int, data: type[pl.LightningDataModule] | None, **options: Any
) -> None:
    if data is None:
        fitted(module, strategy, processes, steps=1, precision="32-true", **options)
        return
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(**quiet, accelerator="cpu", devices=processes, strategy=strategy, precision="64-true", max_epochs=1)
    trainer.fit(module, datamodule=data())


@pytest.fixture(scope="module")
def messages(two_processes) -> list[dict[str, str]]:
    return two_processes(told, [name for name in CASES if name not in IN_THE_STEP], 2)


@pytest.fixture(scope="module")
def messages_of_one() -> dict[str, str]:
    from pair_of_processes import PairOfProcesses

    alone = PairOfProcesses(size=1)
    try:
        return alone(told, list(IN_THE_STEP), 1)[0]
    finally:
        alone.end()


@pytest.mark.parametrize("name", IN_THE_STEP)
def test_a_step_that_does_something_else_with_its_batch_is_refused(name, messages_of_one):
    assert CASES[name][2] in messages_of_one[name]


@pytest.mark.parametrize("name", [name for name in CASES if name not in IN_THE_STEP])
def test_it_is_refused_by_name_on_both_processes(name, messages):
    for rank in (0, 1):
        assert CASES[name][2] in messages[rank][name]
        assert messages[rank][name].startswith("ValueError")


def test_an_older_torch_is_refused(monkeypatch):
    require_torch("2.8.0")
    require_torch("2.14.1+cu130")
    with pytest.raises(RuntimeError, match=r"needs torch 2\.8 or newer.*this is torch 2\.7\.1"):
        require_torch("2.7.1")
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.6.0+cpu"))
    with pytest.raises(RuntimeError, match=r"this is torch 2\.6\.0\+cpu: install a newer one, or train with strategy='ddp'"):
        PipelineStrategy(4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stages_per_process": 2}, "schedule='gpipe' has one stage a process"),
        ({"schedule": "1f1b", "stages_per_process": 2}, "schedule='1f1b' has one stage a process"),
        ({"stage_costs": "guessed"}, "stage_costs must be 'measured', 'equal' or a finite number"),
        ({"stage_costs": [1.0, -1.0]}, "stage_costs must be"),
        ({"stage_costs": [1.0, float("nan")]}, "stage_costs must be"),
        ({"stage_costs": []}, "stage_costs must be"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PipelineStrategy(4, **arguments)


def trainer_with(**attributes: Any) -> Any:
    return SimpleNamespace(**{"precision": "32-true", "callbacks": [], "datamodule": None} | attributes)


def test_a_module_whose_step_is_another_is_refused_by_name():
    layers = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
    with pytest.raises(ValueError, match="BottomUpReID is none: train it with strategy='ddp'"):
        require_pipelined(trainer_with(), BottomUpReID(**layers), 4)
    with pytest.raises(ValueError, match="LightningModule is none"):
        require_pipelined(trainer_with(), pl.LightningModule(), 4)


def test_a_precision_that_scales_losses_is_refused():
    for precision in ("16-mixed", "bf16-true", "16-true"):
        with pytest.raises(ValueError, match=f"precision='{precision}'"):
            require_pipelined(trainer_with(precision=precision), narrow(SupervisedReID), 4)


@pytest.mark.parametrize(
    "callback",
    [
        lambda: EMAWeightAveraging(),
        lambda: StochasticWeightAveraging(1e-3),
        lambda: BackboneFinetuning(),
        lambda: LearningRateFinder(),
        lambda: OnExceptionCheckpoint("somewhere"),
        lambda: ModelCheckpoint(save_on_exception=True),
        lambda: CAIEPruning({"flops": 0.5}),
        lambda: InterCameraMining(),
    ],
)
def test_a_callback_that_works_on_the_whole_network_or_on_a_second_batch_is_refused(callback):
    made = callback()
    with pytest.raises(ValueError, match=f"{type(made).__name__} .*or train with"):
        require_pipelined(trainer_with(callbacks=[made]), narrow(SupervisedReID), 4)


def test_data_whose_batches_cannot_be_cut_are_refused_before_any_is_loaded():
    for p, k in ((3, 3), (2, 2)):
        data = SimpleNamespace(p=p, k=k)
        with pytest.raises(ValueError, match=f"batches of p={p} times k={k} cannot be cut into microbatches=4"):
            require_pipelined(trainer_with(datamodule=data), narrow(SupervisedReID), 4)


def half_precision() -> list[float]:
    told_, _ = fitted(built("nvan"), PipelineStrategy(4, stage_costs="equal"), 2, precision="bf16-mixed")
    return told_.losses


def test_mixed_bfloat16_learns_what_one_process_learns_with_it(two_processes):
    from lightning_reid.networks import group_batch_norm

    module = built("nvan")
    group_batch_norm(module.network, num_groups=4)
    alone, _ = fitted(module, "auto", 1, dealt=4, precision="bf16-mixed")
    first, second = two_processes(half_precision)
    assert first == second
    assert first[0] == pytest.approx(alone.losses[0], rel=2**-8)  # the 8 bits of bfloat16; later steps go on from other roundings


def one_process() -> str:
    logging.getLogger("lightning_reid").setLevel(logging.INFO)
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("lightning_reid").addHandler(handler)
    fitted(built("image"), PipelineStrategy(4, stages=1, stage_costs="measured"), 2, precision="32-true", steps=1)
    logging.getLogger("lightning_reid").removeHandler(handler)
    return "\n".join(records)


def test_a_pipeline_of_one_process_is_told(two_processes):
    assert "a pipeline of one process: micro-batches come one after another" in two_processes(one_process)[0]
