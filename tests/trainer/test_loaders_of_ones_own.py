"""What a batch cannot be trained on is told by the first one, wherever it comes from."""

from __future__ import annotations

import logging
import math

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.losses.triplet import batch_hard_triplet_loss, has_triplets
from lightning_reid.modules import SupervisedReID

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}}
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
PIXELS = torch.randint(256, (4, 3, 32, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def fit(images: Tensor, pids: list[int], num_classes: int = 2, batch_size: int = 4) -> pl.Trainer:
    rows = [{"images": image, "pids": pid, "camids": 0, "indices": row} for row, (image, pid) in enumerate(zip(images, pids))]
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", **QUIET)
    trainer.fit(SupervisedReID(num_classes=num_classes, **TINY), DataLoader(rows, batch_size=batch_size))
    return trainer


def test_a_batch_of_one_is_told_before_it_is_normalized():
    with pytest.raises(ValueError, match=r"holds 1 image or tracklet, and BatchNorm needs at least 2 .*: raise the batch size \(p, k"):
        fit(PIXELS[:1], [0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_pixels_that_were_only_divided_by_255_are_told(dtype):
    with pytest.warns(UserWarning, match=r"images are floats from 0.* to 1, as pixels divided by 255 are.*normalize_images"):
        fit((PIXELS.float() / 255).to(dtype), [0, 0, 1, 1])


@pytest.mark.parametrize(("pids", "wrong"), [([0, 0, 2, 2], "2"), ([-1, -1, 0, 0], "-1"), ([0, 0, -100, -100], "-100")], ids=str)
def test_a_pid_without_a_class_is_told_by_both_numbers(pids, wrong):
    with pytest.raises(ValueError, match=rf"pid {wrong} has no class: with num_classes=2, the pids of training batches must lie in 0\.\.1"):
        fit(PIXELS, pids)


def test_a_pid_without_a_class_is_told_in_later_batches_too():
    with pytest.raises(ValueError, match=r"pid 7 has no class: with num_classes=2"):
        fit(PIXELS, [0, 1, 1, 7], batch_size=2)


@pytest.mark.parametrize("pids", [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 1, 1]], ids=str)
def test_a_batch_without_a_triplet_is_told(pids, caplog):
    with caplog.at_level(logging.WARNING):
        trainer = fit(PIXELS, pids, num_classes=4)
    told = "none of which has both a positive and a negative: its triplet loss is 0" in caplog.text
    assert told == (float(trainer.callback_metrics["train/loss_triplet"]) == 0) == (pids != [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("p", "k", "options", "message"),
    [
        (1, 4, {}, "hold no image with a negative: the triplet loss would be 0 throughout. Give the datamodule p and k of 2 or more"),
        (4, 1, {}, "hold no image with a positive: the triplet loss would be 0"),
        (2, 4, {"bn_group": 4}, "groups of bn_group=4 hold images of one identity only.*Give a bn_group larger than k"),
    ],
)
def test_identities_and_images_that_give_no_triplet_are_refused_before_training(subject, tmp_path, p, k, options, message):
    one = subject("supervised")
    data = ImageReIDDataModule(str(one.folder), image_size=(16, 8), p=p, k=k, num_workers=0, crop_padding=2)
    trainer, _ = one.trainer(tmp_path, max_epochs=1)
    with pytest.raises(ValueError, match=message):
        trainer.fit(SupervisedReID(**TINY, **options), data)
    assert trainer.global_step == 0


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [0, 0, 1], [-1, -1, 0], [0, 0, -1], [], [3]], ids=str)
def test_there_are_triplets_where_the_loss_has_an_anchor(labels):
    rows = torch.tensor(labels, dtype=torch.int64)
    loss = batch_hard_triplet_loss(torch.zeros(len(rows), 2), rows)  # of points at one place each anchor has log 2
    assert has_triplets(rows) == math.isclose(float(loss), math.log(2), rel_tol=1e-6)
