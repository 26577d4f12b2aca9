"""CAIE in a Trainer: prunes until its constraints hold, leaves a plan, goes on where it was killed."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from live_tensors import CountedTensors

from lightning_reid.callbacks import CAIEPruning, PseudoLabelClustering
from lightning_reid.datamodules import CrossDomainDataModule, ImageReIDDataModule
from lightning_reid.modules import HSR, SupervisedReID, VideoReID
from lightning_reid.networks import count_multiply_adds, load_embedding_network

SMALL = {"backbone": "resnet18", "backbone_options": {"channels": [8, 16, 16, 32], "layers": [1, 1, 1, 1]}, "optimizer": "sgd", "lr": 1e-3}
STEPS = {"filters_per_step": 16, "batches_per_step": 2}


@pytest.fixture
def data(market_folder) -> ImageReIDDataModule:
    return ImageReIDDataModule(str(market_folder), image_size=(64, 32), p=4, k=4, num_workers=0, val_identities=0)


def module(**options) -> SupervisedReID:
    torch.manual_seed(0)
    return SupervisedReID(**SMALL, num_classes=10, **options)


def quiet_trainer(folder, callbacks, **options) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    loading = {"limit_val_batches": 0}
    return pl.Trainer(accelerator="cpu", devices=1, default_root_dir=folder, callbacks=callbacks, **(quiet | loading | options))


def parameters(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("importance", ["constraint-aware", "loss", "l1", "uniform"])
def test_pruning_ends_with_the_first_step_that_meets_every_constraint(data, tmp_path, importance):
    pruning, model = CAIEPruning({"flops": 0.6, "params": 0.5}, importance=importance, **STEPS), module()
    full = count_multiply_adds(model.network, (1, 3, 64, 32)).total, parameters(model.network)
    trainer = quiet_trainer(tmp_path, [pruning], max_epochs=20)
    trainer.fit(model, data)
    assert trainer.current_epoch < 20
    *earlier, last = pruning.history
    assert last["flops"] <= 0.6
    assert last["params"] <= 0.5
    assert all(row["flops"] > 0.6 or row["params"] > 0.5 for row in earlier)
    assert [row["channels"] - STEPS["filters_per_step"] for row in earlier[:-1]] == [row["channels"] for row in earlier[1:]]
    model.materialize(pruning.plan)
    assert count_multiply_adds(model.network, (1, 3, 64, 32)).total / full[0] == pytest.approx(last["flops"], abs=1e-12)
    assert parameters(model.network) / full[1] == pytest.approx(last["params"], abs=1e-12)


def test_the_materialized_module_gives_what_the_masked_one_gave_and_its_checkpoint_loads_by_itself(data, tmp_path):
    pruning, model = CAIEPruning({"params": 0.6}, **STEPS), module()
    trainer = quiet_trainer(tmp_path, [pruning], max_epochs=20)
    trainer.fit(model, data)
    images = torch.randn(3, 3, 64, 32)
    trainer.save_checkpoint(tmp_path / "masked.ckpt")
    with torch.no_grad():
        masked = model.eval()(images)
        model.materialize(pruning.plan)
        torch.testing.assert_close(model.eval()(images), masked, rtol=1e-4, atol=1e-5)
        trainer.save_checkpoint(tmp_path / "small.ckpt", weights_only=True)
        for name in ("masked", "small"):
            again = SupervisedReID.load_from_checkpoint(tmp_path / f"{name}.ckpt", weights_only=True).eval()
            torch.testing.assert_close(again(images), masked, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(load_embedding_network(tmp_path / f"{name}.ckpt")(images).embedding, masked, rtol=1e-4, atol=1e-5)
    assert parameters(again.network) == parameters(model.network)
    with pytest.raises(ValueError, match="made smaller before"):
        again.materialize(pruning.plan)
    quiet_trainer(tmp_path, [], max_epochs=1).fit(again, data)  # fine-tuning is an ordinary fit


def test_a_run_that_was_stopped_between_two_steps_prunes_on_as_if_it_never_was(data, tmp_path):
    def fit(epochs: int, path=None):
        pruning, model = CAIEPruning({"flops": 0.3}, filters_per_step=6, batches_per_step=4, stop=False), module()
        trainer = quiet_trainer(tmp_path, [pruning], max_epochs=epochs)
        trainer.fit(model, data, ckpt_path=path, weights_only=path is not None or None)
        return pruning, model, trainer

    unbroken, whole, _ = fit(3)
    half, _, trainer = fit(1)
    assert half.running.num_batches == trainer.global_step % 4 != 0  # in the middle of an estimate
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed, model, _ = fit(3, tmp_path / "half.ckpt")
    assert resumed.history == unbroken.history
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    for name, mask in unbroken.plan.keep.items():
        assert torch.equal(mask, resumed.plan.keep[name])


def test_a_run_that_is_resumed_after_its_end_does_not_train_on(data, tmp_path):
    pruning, model = CAIEPruning({"params": 0.6}, **STEPS), module()
    trainer = quiet_trainer(tmp_path, [pruning], max_epochs=20)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "done.ckpt")
    again, resumed = CAIEPruning({"params": 0.6}, **STEPS), module()
    second = quiet_trainer(tmp_path, [again], max_epochs=20)
    second.fit(resumed, data, ckpt_path=tmp_path / "done.ckpt", weights_only=True)
    assert second.global_step == trainer.global_step
    assert (again.done, again.history) == (True, pruning.history)
    assert all(torch.equal(mask, again.plan.keep[name]) for name, mask in pruning.plan.keep.items())


def test_a_module_that_adapts_to_unlabeled_images_is_pruned_while_it_does(market_folder, duke_folder, tmp_path):
    torch.manual_seed(0)
    data = CrossDomainDataModule(str(duke_folder), str(market_folder), image_size=(64, 32), p=4, k=4, source_p=4, num_workers=0)
    clustering, pruning = PseudoLabelClustering(every_n_epochs=2, k1=10, k2=3, min_samples=2), CAIEPruning({"params": 0.7}, **STEPS)
    model = HSR(min_samples=2, **{name: SMALL[name] for name in ("backbone", "backbone_options")})
    quiet_trainer(tmp_path, [clustering, pruning], max_epochs=8).fit(model, data)
    assert pruning.done
    full = parameters(model.network)
    model.materialize(pruning.plan)
    assert parameters(model.network) <= 0.7 * full


def test_a_video_network_with_attention_is_pruned_too(tmp_path):
    torch.manual_seed(1)
    narrow = {"backbone": "resnet18", "channels": [8, 8, 16, 16], "layers": [1, 2, 2, 1], "stripes": 4}
    model = VideoReID("stenvan", narrow, num_classes=4, optimizer="sgd", lr=1e-3)
    clips = torch.utils.data.DataLoader([{"clips": torch.randn(4, 3, 64, 32), "pids": row // 2} for row in range(8)], batch_size=8)
    pruning = CAIEPruning({"flops": 0.75}, filters_per_step=8, batches_per_step=1)
    quiet_trainer(tmp_path, [pruning], max_epochs=30).fit(model, clips)
    model.materialize(pruning.plan)
    assert model.eval()(torch.randn(2, 4, 3, 64, 32)).shape == (2, 16)
    assert pruning.history[-1]["flops"] <= 0.75


def test_measured_latency_is_a_resource_like_the_others_and_its_table_survives_a_resume(data, tmp_path):
    pruning, model = CAIEPruning({"latency": 0.8, "flops": 0.9}, **STEPS, stop=False), module()
    trainer = quiet_trainer(tmp_path, [pruning], max_epochs=3)
    trainer.fit(model, data)
    shares = [row["latency"] for row in pruning.history]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] <= 0.8 < shares[0] < 1
    trainer.save_checkpoint(tmp_path / "timed.ckpt")
    again = CAIEPruning({"latency": 0.8, "flops": 0.9}, **STEPS, stop=False)
    quiet_trainer(tmp_path, [again], max_epochs=4).fit(module(), data, ckpt_path=tmp_path / "timed.ckpt", weights_only=True)
    assert again.history == pruning.history


def counted_peak(network) -> int:
    """Bytes of the most that is alive of a pass at once."""
    images = torch.randn(1, 3, 64, 32)
    with torch.no_grad(), CountedTensors(network.eval(), images) as counted:
        network(images)
    return counted.peak


def test_peak_memory_is_a_resource_beside_others_and_the_smaller_network_really_holds_no_more(data, tmp_path):
    pruning, model = CAIEPruning({"peak_memory": 0.6, "params": 0.8}, **STEPS), module()
    full = counted_peak(model.network), parameters(model.network)
    trainer = quiet_trainer(tmp_path, [pruning], max_epochs=40)
    trainer.fit(model, data)
    *earlier, last = pruning.history
    assert last["peak_memory"] <= 0.6
    assert last["params"] <= 0.8
    assert earlier
    assert all(row["peak_memory"] > 0.6 or row["params"] > 0.8 for row in earlier)
    model.materialize(pruning.plan)
    assert counted_peak(model.network) / full[0] == last["peak_memory"]
    assert parameters(model.network) / full[1] == pytest.approx(last["params"], abs=1e-12)


def test_under_a_peak_alone_only_layers_that_were_at_it_lose_channels_and_none_once_it_is_low_enough(data, tmp_path):
    pruning, model = CAIEPruning({"peak_memory": 0.75}, filters_per_step=16, batches_per_step=1), module()
    quiet_trainer(tmp_path, [pruning], max_epochs=20).fit(model, data)
    lost = {name.removeprefix("backbone.trunk.") for name in pruning.plan.keep}
    assert lost
    assert lost <= {"conv1", "layer1.0.conv1"}  # the maps of the other stages are too small to be at the peak
    assert 0.75 - 1 / 16 < pruning.history[-1]["peak_memory"] <= 0.75  # a channel more would be too many, a step is sixteen


@pytest.mark.slow
def test_a_run_under_a_peak_that_was_stopped_prunes_on_as_if_it_never_was(data, tmp_path):
    def fit(epochs: int, path=None):
        pruning, model = CAIEPruning({"peak_memory": 0.3}, filters_per_step=3, batches_per_step=3, stop=False), module()
        trainer = quiet_trainer(tmp_path, [pruning], max_epochs=epochs, limit_train_batches=4)
        trainer.fit(model, data, ckpt_path=path, weights_only=path is not None or None)
        return pruning, trainer

    unbroken, _ = fit(2)
    half, trainer = fit(1)
    assert half.running.num_batches == 1  # in the middle of an estimate
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed, _ = fit(2, tmp_path / "half.ckpt")
    assert [len(some.history) for some in (half, unbroken)] == [1, 2]
    assert resumed.history == unbroken.history


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"constraints": {"flops": 0.0}}, "constraints.'flops'. must be a number in .*got 0"),
        ({"constraints": {"flops": 1.5, "params": 0.5}}, "constraints.'flops'. must be a number in .*got 1.5"),
        ({"constraints": {"cycles": 0.5}}, "got {'cycles': 0.5}"),
        ({"constraints": {}}, "got {}"),
        ({"constraints": {"flops": 0.5}, "filters_per_step": 0}, "filters_per_step must be a whole number of at least 1, got 0"),
        ({"constraints": {"flops": 0.5}, "importance": "taylor"}, "importance must be one of"),
    ],
)
def test_arguments_out_of_range_die_in_the_constructor(options, match):
    with pytest.raises(ValueError, match=match):
        CAIEPruning(**options)


def test_constraints_that_hold_already_or_cannot_be_reached_are_said_with_the_first_batch(data, tmp_path):
    with pytest.raises(ValueError, match="holds already: there is nothing to prune"):
        quiet_trainer(tmp_path, [CAIEPruning({"flops": 1.0})], max_epochs=1).fit(module(), data)
    with pytest.raises(ValueError, match=r"params cannot be brought to 0\.001 of the whole: with min_channel_ratio=0\.1 at least 0\.0"):
        quiet_trainer(tmp_path, [CAIEPruning({"params": 0.001})], max_epochs=1).fit(module(), data)
    with pytest.raises(ValueError, match=r"peak_memory cannot be brought to 0\.05 of the whole: .* at least 0\.1\d+ of it is left"):
        quiet_trainer(tmp_path, [CAIEPruning({"flops": 0.5, "peak_memory": 0.05})], max_epochs=1).fit(module(), data)


def test_a_diverged_network_is_not_pruned_by_its_gradients(data, tmp_path):
    model = module()
    with torch.no_grad():
        model.network.backbone.trunk.conv1.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"the gradients at .* are NaN or infinite"):
        quiet_trainer(tmp_path, [CAIEPruning({"flops": 0.5})], max_epochs=1).fit(model, data)
