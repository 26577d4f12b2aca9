"""A run resumed after any step, in mid-epoch and in mid-iteration, goes on with the next batch and ends with the same weights."""

from __future__ import annotations

from itertools import accumulate

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

NAMES = ["supervised", "HSR", "BUC", "SGC-DPL", "video"]


def run(one, folder, workers: int, path=None, **settings):
    """The steps as they were shown, in order, the weights at the end, and how many steps each epoch had."""
    saving = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1, save_on_train_epoch_end=False)
    trainer, watch = one.trainer(folder, *([] if path else [saving]), enable_checkpointing=path is None, **settings)
    torch.manual_seed(0)
    module = one.module()
    if path:
        torch.manual_seed(99)  # a new process is at another place of the global generator
    trainer.fit(module, one.data(workers), ckpt_path=path, weights_only=True)
    epochs = [watch.shown[epoch] for epoch in sorted(watch.shown)]
    return [shown for epoch in epochs for shown in epoch], module.state_dict(), [len(epoch) for epoch in epochs]


ALL, MIDDLE_EPOCH = "all steps", "the middle epoch, from the end of the one before"


def resumed_equals_unbroken(one, folder, workers: int, steps, **settings) -> int:
    whole, weights, lengths = run(one, folder, workers, **settings)
    if steps == MIDDLE_EPOCH:
        steps = range(lengths[0], lengths[0] + lengths[1] + 1)
    chosen = [step for step in range(1, len(whole)) if steps == ALL or step in steps]
    for step in chosen:
        if one.works_between_epochs and step in accumulate(lengths):  # a Trainer leaves that epoch's end out
            with pytest.raises(ValueError, match=r"saved with the last batch of epoch \d.*Resume from a checkpoint of an epoch's end"):
                run(one, folder, workers, str(folder / f"step={step}.ckpt"), **settings)
            continue
        rest, ended, _ = run(one, folder, workers, str(folder / f"step={step}.ckpt"), **settings)
        assert len(rest) == len(whole) - step, f"resumed after step {step}"
        for mine, theirs in zip(rest, whole[step:]):
            one.assert_same(mine, theirs)
        for name, tensor in weights.items():
            assert torch.equal(ended[name], tensor), f"{name}, resumed after step {step}"
    return len(chosen)


@pytest.mark.parametrize(("name", "workers"), [("supervised", 2), ("HSR", 0), ("BUC", 0), ("SGC-DPL", 0), ("video", 2)])
def test_a_run_resumed_in_mid_epoch_equals_an_unbroken_one(subject, tmp_path, name, workers):
    steps = {2, 5} if name != "video" else {1, 3}
    assert resumed_equals_unbroken(subject(name), tmp_path, workers, steps, limit_val_batches=0) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "workers", "steps", "settings"),
    [
        *((name, 0, ALL, {}) for name in NAMES),
        *((name, 0, MIDDLE_EPOCH, {"val_check_interval": 1}) for name in NAMES),
        *((name, 2, MIDDLE_EPOCH, {}) for name in ("supervised", "HSR")),
    ],
    ids=str,
)
def test_a_run_resumed_after_any_step_equals_an_unbroken_one(subject, tmp_path, name, workers, steps, settings):
    assert resumed_equals_unbroken(subject(name), tmp_path, workers, steps, **settings) > 3
