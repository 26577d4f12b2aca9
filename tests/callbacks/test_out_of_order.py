"""What a module or a callback is asked outside its order is refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_reid.callbacks import (
    AffinityPseudoLabels,
    CAIEPruning,
    InterCameraMining,
    NMILogger,
    PartBasedHomogeneity,
    ProgressiveSelection,
)
from lightning_reid.callbacks.cluster_strips import cluster_strips
from lightning_reid.modules import HSR, SGCDPL, DistilledReID, SupervisedReID
from lightning_reid.records import TargetState

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
BATCH = {"images": torch.zeros(4, 3, 32, 16), "pids": torch.tensor([0, 0, 1, 1]), "rows": torch.full((4,), -1)}


@pytest.mark.parametrize("kind", [SupervisedReID, HSR, SGCDPL])
def test_a_training_step_before_the_classifier_is_made_says_when_it_is(kind):
    with pytest.raises(RuntimeError, match=f"the classifier of {kind.__name__} is made when a fit begins"):
        kind(**TINY).training_step(dict(BATCH), 0)


def test_a_distilled_student_whose_teacher_is_missing_says_so_outside_a_fit_too():
    student = DistilledReID("resnet18", num_classes=2, backbone_options=TINY["backbone_options"])
    with pytest.raises(ValueError, match="DistilledReID has no teacher to learn from: give it teacher="):
        student.training_step(dict(BATCH), 0)


def restored_state() -> TargetState:
    return TargetState(iteration=3, labels=torch.tensor([0, 0, 1, 1]), camids=torch.tensor([1, 2, 1, 2]))


@pytest.mark.parametrize("callback", [PartBasedHomogeneity(), InterCameraMining(), ProgressiveSelection()])
def test_what_cannot_do_without_embeddings_names_the_iteration_that_has_none(callback):
    with pytest.raises(RuntimeError, match=r"the state of iteration 3 does not hold '(embeddings|parts)': it came out of a checkpoint"):
        callback.refine(restored_state(), torch.ones(4, dtype=torch.int64))


def test_strips_and_classifier_rows_name_it_too():
    with pytest.raises(RuntimeError, match=r"iteration 3 does not hold 'embeddings'.*forget_target_state\(\)"):
        cluster_strips(restored_state(), [0], 4)
    with pytest.raises(RuntimeError, match=r"iteration 3 does not hold 'embeddings'.*forget_target_state\(\)"):
        HSR(max_clusters=4, **TINY).cluster_rows(restored_state())


def test_a_guided_preference_without_labeled_images_is_refused():
    with pytest.raises(ValueError, match="preference='guided' searches p\\* by labeled images, got none"):
        AffinityPseudoLabels().find_clusters(torch.randn(6, 4), None, None)


def test_masks_and_costs_of_pruning_outside_a_fit_say_where_to_look_instead():
    pruning = CAIEPruning({"flops": 0.5})
    with pytest.raises(RuntimeError, match=r"masks are played while a fit goes on.*``plan`` says which channels are left"):
        _ = pruning.masks
    with pytest.raises(RuntimeError, match="costs are counted with the first batch of a fit"):
        _ = pruning.costs


class Pruned(pl.LightningModule):
    """A network of two convolutions whose normalization has no weight, unless it is asked for."""

    def __init__(self, affine: bool) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, affine=affine), nn.ReLU(), nn.Conv2d(8, 4, 1)]
        self.network, self.name = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), "name"

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        return self.network(batch["images"]).square().sum()

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.network(batch["images"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def images() -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader([{"images": torch.randn(2, 3, 16, 8)} for _ in range(2)], batch_size=None)


def quiet_trainer(folder: Path, callback: pl.Callback) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(accelerator="cpu", max_epochs=1, callbacks=[callback], default_root_dir=folder, **quiet)


@pytest.mark.parametrize(
    ("affine", "network", "message"),
    [
        (True, "name", r"network='name' is no part of Pruned that could be pruned: it has network"),
        (True, "backbone", r"network='backbone' is no part of Pruned that could be pruned: it has network"),
        (False, "network", r"BatchNorm2d\(8, .*affine=False.* has no weight and bias whose importance could be estimated"),
    ],
)
def test_what_cannot_be_pruned_is_named(tmp_path, affine, network, message):
    with pytest.raises(ValueError, match=message):
        quiet_trainer(tmp_path, CAIEPruning({"params": 0.5}, network=network)).fit(Pruned(affine), images())


def test_a_module_whose_evaluation_steps_return_nothing_has_nothing_to_look_at(tmp_path):
    with pytest.raises(ValueError, match=r"NMILogger looks at what evaluation steps return: those of Pruned must give .*is_query"):
        quiet_trainer(tmp_path, NMILogger()).validate(Pruned(affine=True), images(), verbose=False)
