"""Several fits on one datamodule, and a fit that is made longer afterwards."""

from __future__ import annotations

import logging

import pytest
import torch

NAMES = ["HSR", "BUC", "SGC-DPL"]


@pytest.mark.parametrize("name", NAMES)
def test_a_new_clustering_on_data_that_were_clustered_before_begins_with_nothing_and_says_so(subject, tmp_path, caplog, name):
    one = subject(name)
    data, shown = one.data(0), []
    for _ in range(2):
        torch.manual_seed(0)
        trainer, watch = one.trainer(tmp_path, limit_val_batches=0)
        with caplog.at_level(logging.WARNING):
            trainer.fit(one.module(), data)
        shown.append([batch for epoch in sorted(watch.shown) for batch in watch.shown[epoch]])
        assert watch.states[0].iteration == 0
    assert "is forgotten" in caplog.text
    for first, second in zip(*shown, strict=True):
        one.assert_same(first, second)


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_that_is_made_longer_afterwards_equals_one_that_was_that_long(subject, tmp_path, name):
    one = subject(name)

    def fit(epochs: int, path=None):
        torch.manual_seed(0)
        trainer, watch = one.trainer(tmp_path, max_epochs=epochs, limit_val_batches=0)
        module, data = one.module(), one.data(0)
        trainer.fit(module, data, ckpt_path=path, weights_only=True if path else None)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return watch, module.state_dict(), data

    whole, weights, _ = fit(3)
    fit(2)
    longer, ended, _ = fit(3, str(tmp_path / "2.ckpt"))
    for mine, theirs in zip(longer.shown[2], whole.shown[2], strict=True):
        one.assert_same(mine, theirs)
    for tensor_name, tensor in weights.items():
        assert torch.equal(ended[tensor_name], tensor), tensor_name


def test_a_finished_fit_that_is_resumed_does_not_cluster_again(subject, tmp_path):
    one = subject("HSR")
    trainer, _ = one.trainer(tmp_path, max_epochs=2, limit_val_batches=0)
    trainer.fit(one.module(), one.data(0))
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    data = one.data(0)
    again, watch = one.trainer(tmp_path, max_epochs=2, limit_val_batches=0)
    again.fit(one.module(), data, ckpt_path=str(tmp_path / "end.ckpt"), weights_only=True)
    assert not watch.shown
    assert data.target_state.iteration == trainer.datamodule.target_state.iteration == 1
