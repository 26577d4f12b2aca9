"""An ordinary Trainer is enough: whatever its settings, each epoch shows what (seed, epoch, labels of the moment) say, or is refused."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch

EPOCHS = 3
NAMES = ["supervised", "HSR", "BUC", "SGC-DPL", "video"]


def fit(one, workers: int, folder, **settings: Any):
    data, (trainer, watch) = one.data(workers), one.trainer(folder, **settings)
    torch.manual_seed(0)
    trainer.fit(one.module(), data)
    return watch, data, trainer


PAIRS: dict[str, tuple[int, dict[str, Any]]] = {
    "defaults, no workers": (0, {}),
    "two workers that live on, accumulated gradients": (2, {"accumulate_grad_batches": 2}),
    "two workers, a share of the batches, validation in mid-epoch": (2, {"limit_train_batches": 0.5, "val_check_interval": 1}),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "fast_dev_run": {"fast_dev_run": True},
    "fast_dev_run=2": {"fast_dev_run": 2},
    "limit_train_batches=2": {"limit_train_batches": 2},
    "limit_train_batches=0.5": {"limit_train_batches": 0.5},
    "accumulate_grad_batches=2": {"accumulate_grad_batches": 2},
    "max_steps=4": {"max_steps": 4, "max_epochs": -1},
    "val_check_interval=1": {"val_check_interval": 1},
    "val_check_interval=0.5": {"val_check_interval": 0.5},
    "check_val_every_n_epoch=2": {"check_val_every_n_epoch": 2},
    "validation every three steps of the run": {"check_val_every_n_epoch": None, "val_check_interval": 3},
    "no validation": {"limit_val_batches": 0},
    "a sanity check first": {"num_sanity_val_steps": -1},
    "loaders asked for anew every epoch": {"reload_dataloaders_every_n_epochs": 1},
    "the Trainer's sampler off": {"use_distributed_sampler": False},
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", NAMES)
def test_epochs_are_what_seed_epoch_and_labels_say(subject, tmp_path, name, pair):
    one, (workers, settings) = subject(name), PAIRS[pair]
    watch, data, _ = fit(one, workers, tmp_path, **settings)
    lengths = one.check(watch, data, settings.get("limit_train_batches"))
    assert sorted(watch.shown) == list(range(EPOCHS))
    if name in ("HSR", "SGC-DPL") and not settings.get("limit_train_batches"):
        assert len(set(lengths)) > 1, "epochs of unlike lengths are what this is about"
    expected = lengths if "val_check_interval" in settings else [1] * EPOCHS
    assert [watch.validations[epoch] for epoch in range(EPOCHS)] == expected, "an epoch shorter than the first is validated too"


def with_and_without_workers() -> list[tuple[str, str, int]]:
    """Every setting with every name, a third of them with workers, a third further on for the next name; of HSR all with and without."""
    table = []
    for row, name in enumerate(NAMES):
        for column, setting in enumerate(SETTINGS):
            workers = (0, 2) if name == "HSR" else (2,) if (row + column) % 3 == 0 else (0,)
            table += [(name, setting, number) for number in workers]
    return table


@pytest.mark.slow
@pytest.mark.parametrize(("name", "setting", "workers"), with_and_without_workers())
def test_the_whole_table_of_settings(subject, tmp_path, name, setting, workers):
    one, settings = subject(name), SETTINGS[setting]
    watch, data, trainer = fit(one, workers, tmp_path, **settings)
    if "max_steps" in settings:
        assert sum(map(len, watch.shown.values())) == trainer.global_step == 4
        last = max(watch.shown)
        left = watch.shown.pop(last)
        one.check(watch, data)
        watch.shown = {last: left}
        one.check(watch, data, len(left))
        return
    most = settings.get("limit_train_batches", settings.get("fast_dev_run"))
    one.check(watch, data, int(most) if isinstance(most, bool) else most)
    assert sorted(watch.shown) == list(range(1 if "fast_dev_run" in settings else EPOCHS))


@pytest.mark.parametrize("name", NAMES)
def test_a_trainer_that_draws_for_itself_is_refused_by_name(subject, tmp_path, name):
    with pytest.raises(ValueError, match=r"Trainer\(overfit_batches=1\) replaces the sampler.*give Trainer\(limit_train_batches=1\)"):
        fit(subject(name), 0, tmp_path, overfit_batches=1)


def test_two_fits_on_one_datamodule_show_the_same_epochs(subject, tmp_path):
    one = subject("supervised")
    data = one.data(2)
    for _ in range(2):
        trainer, watch = one.trainer(tmp_path, max_epochs=2, limit_val_batches=0)
        trainer.fit(one.module(), data)
        assert len(one.check(watch, data)) == 2


def test_labels_published_after_an_epoch_was_counted_are_refused(subject, tmp_path):
    one = subject("HSR")

    class TooLate(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module) -> None:
            state = trainer.datamodule.target_state
            trainer.datamodule.set_target_state(type(state)(state.iteration, torch.zeros_like(state.labels), state.camids))

    trainer, _ = one.trainer(tmp_path, TooLate())
    with pytest.raises(RuntimeError, match="publish labels in on_fit_start or on_train_epoch_end"):
        trainer.fit(one.module(), one.data(0))


def test_a_batch_can_be_looked_at_without_a_trainer(subject):
    data = subject("supervised").data(0)
    data.prepare_data()
    data.setup()
    first, again = (next(iter(data.train_dataloader())) for _ in range(2))
    assert first["images"].shape == (8, 3, 16, 8)
    assert torch.equal(first["images"], again["images"])


def test_a_loader_of_one_process_is_refused_by_two(subject, monkeypatch):
    data = subject("supervised").data(0)
    data.prepare_data()
    data.setup()
    loader = data.train_dataloader()
    for name, value in {"is_initialized": True, "get_world_size": 2, "get_rank": 0}.items():
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    with pytest.raises(RuntimeError, match=r"made for 1 process\(es\), and 2 train on it"):
        next(iter(loader))


@pytest.mark.parametrize("settings", [{"limit_val_batches": 1}, {"limit_val_batches": 0.5}, {"fast_dev_run": True}])
def test_a_validation_of_a_part_scores_and_draws_nothing_and_says_so(subject, tmp_path, caplog, settings):
    from lightning_reid.callbacks import RankListLogger

    one, picture = subject("supervised"), RankListLogger(tmp_path / "ranks.png")
    trainer, _ = one.trainer(tmp_path, picture, **({"max_epochs": 1} | settings))
    trainer.fit(one.module(), one.data(0))
    assert "val/ scores are left out: a part of the queries" in caplog.text
    assert not [name for name in trainer.callback_metrics if name.startswith("val/")]
    assert "RankListLogger is left out" in caplog.text
    caplog.clear()
    assert trainer.validate(one.module(), one.data(0), verbose=False) == [{}]
    assert "val/ scores are left out" in caplog.text, "each time, not once a process"
    assert not (tmp_path / "ranks.png").exists()
