"""What a Trainer, its precision, its data or a batch would do wrong is told by name, and before anything is trained."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.modules import FedUReIDClient, SupervisedReID
from lightning_reid.records import JUNK_PID

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}}
SHORT = {"max_epochs": 1, "limit_train_batches": 1}


class Beginning(Callback):
    """Keeps the weights that a fit begins with."""

    @override
    def on_train_start(self, trainer, pl_module) -> None:
        self.weights = {name: value.float().clone() for name, value in pl_module.state_dict().items()}


def fit(one, folder, module=None, data=None, **settings):
    torch.manual_seed(0)
    trainer, _ = one.trainer(folder, beginning := Beginning(), **(SHORT | settings))
    module = one.module() if module is None else module
    trainer.fit(module, one.data(0) if data is None else data)
    return module, trainer, beginning


@pytest.mark.parametrize("name", ["supervised", "HSR", "video"])
def test_weights_of_double_precision_are_fitted_and_scored_and_begin_as_those_of_single(subject, tmp_path, name):
    one = subject(name)
    _, plain, ours = fit(one, tmp_path)
    double, trainer, theirs = fit(one, tmp_path, precision="64-true")
    assert {parameter.dtype for parameter in double.parameters()} == {torch.float64}
    torch.testing.assert_close(theirs.weights, ours.weights)
    for loss in ("train/loss_ce", "train/loss_triplet"):  # neighbors, which HSR mines, are nearly as far as each other in such a network
        assert float(trainer.callback_metrics[loss]) == pytest.approx(float(plain.callback_metrics[loss]), rel=1e-4)
    assert 0 < float(trainer.callback_metrics["val/mAP"]) <= 1


@pytest.mark.parametrize("precision", ["16-true", "bf16-true"])
@pytest.mark.parametrize("name", ["supervised", "video"])
def test_half_precision_weights_are_scored_and_their_training_is_refused(subject, tmp_path, name, precision):
    one = subject(name)
    with pytest.raises(ValueError, match=rf"Trainer\(precision='{precision}'\) keeps .* give precision='bf16-mixed'"):
        fit(one, tmp_path, precision=precision)
    torch.manual_seed(0)
    module, scores = one.module(), []
    for setting in ("32-true", precision):
        trainer, _ = one.trainer(tmp_path, precision=setting)
        scores.append(trainer.validate(module, one.data(0), verbose=False)[0]["val/mAP"])
    assert scores[1] == pytest.approx(scores[0], abs=0.1)


def test_a_client_that_stops_at_what_is_logged_wants_it_logged(subject, tmp_path):
    one = subject("BUC")
    with pytest.raises(ValueError, match=r"Trainer\(barebones=True\) logs nothing, and stop_at_precision goes by what is logged"):
        fit(one, tmp_path, FedUReIDClient(**TINY), barebones=True)
    _, trainer, _ = fit(one, tmp_path, FedUReIDClient(stop_at_precision=None, **TINY), barebones=True)
    assert trainer.global_step == 1


def with_test_part(one, change, val_identities=0) -> ImageReIDDataModule:
    """A datamodule validated on its test part, with other queries or another gallery."""
    data = ImageReIDDataModule(
        str(one.folder), image_size=(16, 8), p=2, k=2, num_workers=0, crop_padding=2, eval_batch_size=8, val_identities=val_identities
    )
    data.setup()
    data.serve(replace(data.dataset, **change(data.dataset)))
    return data


FAULTS = {
    "no query": (lambda part: {"query": ()}, "has 0 queries and .* nothing to score"),
    "no gallery": (lambda part: {"gallery": ()}, "and 0 gallery images: nothing to score"),
    "one camera": (
        lambda part: {name: tuple(replace(record, camid=1) for record in getattr(part, name)) for name in ("query", "gallery")},
        "not one of .* queries has a match .* Where all come from one camera, the protocol 'no-camera' scores them",
    ),
    "other people": (
        lambda part: {"query": tuple(replace(record, pid=record.pid + 9000) for record in part.query)},
        "not one of .* queries has a match among .* compare the pids of both",
    ),
    "all junk": (
        lambda part: {"gallery": tuple(replace(record, pid=JUNK_PID) for record in part.gallery)},
        r"not one of .* queries has a match among .* compare the pids of both \(junk is -1\)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_data_that_no_score_can_be_taken_of_are_told_before_training(subject, tmp_path, fault):
    one, (change, message) = subject("supervised"), FAULTS[fault]
    data = with_test_part(one, change)
    with pytest.raises(ValueError, match=f"val/ scores cannot be taken: .*{message}.*limit_val_batches=0"):
        fit(one, tmp_path, data=data)
    for verb, part in (("validate", "val"), ("test", "test")):
        with pytest.raises(ValueError, match=f"{part}/ scores cannot be taken: .*{message}"):
            getattr(one.trainer(tmp_path)[0], verb)(one.module(), data, verbose=False)
    _, trainer, _ = fit(one, tmp_path, data=data, limit_val_batches=0)
    assert trainer.global_step == 1


def test_a_fit_on_held_out_people_says_that_its_test_part_cannot_be_scored(subject, tmp_path, caplog):
    one, (change, message) = subject("supervised"), FAULTS["one camera"]
    data = with_test_part(one, change, val_identities=2)
    fit(one, tmp_path, data=data)
    assert re.search(f"test/ scores will not be taken after this fit: {message}", caplog.text)
    caplog.clear()
    fit(one, tmp_path, data=with_test_part(one, lambda part: {}, val_identities=2))
    assert "will not be taken" not in caplog.text


def test_one_camera_is_scored_without_regard_to_cameras(subject, tmp_path):
    one = subject("supervised")
    module = SupervisedReID(**TINY, protocol="no-camera")
    _, trainer, _ = fit(one, tmp_path, module, with_test_part(one, FAULTS["one camera"][0]))
    assert 0 < float(trainer.callback_metrics["val/mAP"]) <= 1


@pytest.mark.parametrize("verb", ["fit", "validate", "predict"])
def test_pixels_as_floats_are_told_and_as_bytes_are_normalized(subject, tmp_path, verb):
    one, batch = subject("supervised"), {"pids": torch.arange(4), "camids": torch.arange(4), "indices": torch.arange(4)}
    batch |= {"is_query": torch.tensor([True, False] * 2), "images": torch.randint(256, (4, 3, 16, 8), dtype=torch.uint8)}
    module, settings = SupervisedReID(num_classes=4, protocol="no-camera", **TINY), {"limit_val_batches": 0} if verb == "fit" else {}

    def run(images) -> None:
        batch["pids"] = torch.tensor([0, 0, 1, 1])
        loader = DataLoader([batch | {"images": images}], batch_size=None)
        getattr(one.trainer(tmp_path, **SHORT, **settings)[0], verb)(module, loader)

    with pytest.raises(ValueError, match=r"images are floats as large as 2.*give uint8 pixels, which the network normalizes itself"):
        run(batch["images"].float())
    run(batch["images"])
