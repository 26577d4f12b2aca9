"""BUC's loss on a layer of its own: what is compared with the table comes after it, what is clustered, tested and shared before it."""

from __future__ import annotations

import math

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from typing_extensions import override

from lightning_reid.callbacks import BottomUpClustering
from lightning_reid.datamodules import FederatedData, UnlabeledDataModule
from lightning_reid.federation import Federation, Personalization, fedureid_client
from lightning_reid.modules import BottomUpReID
from lightning_reid.networks import ChannelPlan

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}, "optimizer": "sgd", "lr": 0.01}
LAYER = ("loss_layer.0.weight", "loss_layer.0.bias", "loss_layer.1.weight", "loss_layer.1.bias")


def module(**options) -> BottomUpReID:
    torch.manual_seed(0)
    return BottomUpReID(**(TINY | {"loss_features": 24} | options))


@pytest.fixture
def data(market_folder) -> UnlabeledDataModule:
    return UnlabeledDataModule(str(market_folder), image_size=(64, 32), batch_size=8, crop_padding=2, num_workers=0)


class Steps(pl.Callback):
    """What went into the layer, what it was, and what came of it, step by step."""

    def __init__(self, model: BottomUpReID) -> None:
        self.seen: list[dict[str, object]] = []
        model.loss_layer.register_forward_hook(lambda _, inputs, __: self.inputs.append(inputs[0].detach().clone()))
        self.inputs: list[torch.Tensor] = []

    @override
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        layer = {name: tensor.detach().clone() for name, tensor in pl_module.named_parameters() if name in LAYER}
        self.seen.append({"layer": layer, "table": pl_module.table.clone(), "pids": batch["pids"].tolist()})

    @override
    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.seen[-1]["gradient"] = pl_module.loss_layer[0].weight.grad.clone()

    @override
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen[-1] |= {"loss": float(outputs["loss"]), "after": pl_module.table.clone()}


def slow_vectors(embeddings, weight, bias, scale, shift) -> list[list[float]]:
    """Linear layer, normalization over the batch and to length 1, number by number."""
    rows = [[sum(w * e for w, e in zip(row, one)) + b for row, b in zip(weight, bias)] for one in embeddings]
    for k in range(len(bias)):
        column = [row[k] for row in rows]
        mean = sum(column) / len(column)
        spread = math.sqrt(sum((value - mean) ** 2 for value in column) / len(column) + 1e-5)
        for row in rows:
            row[k] = scale[k] * (row[k] - mean) / spread + shift[k]
    return [[value / math.sqrt(sum(v * v for v in row)) for value in row] for row in rows]


def slow_loss(vectors, pids, table) -> float:
    """Cross-entropy against the rows of the table at a tenth of the temperature."""
    total = 0.0
    for vector, pid in zip(vectors, pids):
        logits = [10 * sum(a * b for a, b in zip(vector, row)) for row in table]
        total += math.log(sum(math.exp(logit) for logit in logits)) - logits[pid]
    return total / len(pids)


def test_loss_gradient_and_table_are_those_of_a_slow_version_behind_the_layer(data, tmp_path, trainer_with):
    model = module(dropout=0.0)
    steps, merging = Steps(model), BottomUpClustering(every_n_epochs=1, initial_epochs=1, merge_share=0.3)
    trainer_with(tmp_path, [merging, steps], max_epochs=2, limit_train_batches=3, limit_val_batches=0).fit(model, data)
    for inputs, seen in zip(steps.inputs[-2:], steps.seen[-2:]):  # of the second epoch, whose table is not empty
        weight, bias, scale, shift = (seen["layer"][name].double().tolist() for name in LAYER)
        table, embeddings = seen["table"].double().tolist(), inputs.double().tolist()
        vectors = slow_vectors(embeddings, weight, bias, scale, shift)
        assert seen["loss"] == pytest.approx(slow_loss(vectors, seen["pids"], table), abs=1e-4)
        for i, j in ((0, 0), (5, 11), (23, 15)):
            moved = []
            for by in (1e-5, -1e-5):
                weight[i][j] += by
                moved.append(slow_loss(slow_vectors(embeddings, weight, bias, scale, shift), seen["pids"], table))
                weight[i][j] -= by
            assert float(seen["gradient"][i, j]) == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-2, abs=1e-5)
        for vector, pid in zip(vectors, seen["pids"]):
            mixed = [(a + b) / 2 for a, b in zip(table[pid], vector)]
            table[pid] = [value / math.sqrt(sum(v * v for v in mixed)) for value in mixed]
        torch.testing.assert_close(seen["after"], torch.tensor(table), atol=1e-4, rtol=0)


def test_what_is_clustered_and_tested_is_the_embedding_before_the_layer(data, tmp_path, trainer_with):
    model = module(neck="none")
    trainer_with(tmp_path, [BottomUpClustering()], max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(model, data)
    assert data.target_state.embeddings.shape[1] == model.network.num_features == 16
    assert model.table.shape[1] == 24
    images = torch.rand(2, 3, 64, 32)
    output = model.eval().embed(images)
    assert torch.equal(model(images), output.before_bnneck)


def test_a_module_without_the_layer_is_as_it_was():
    plain, with_layer = module(loss_features=None).state_dict(), module().state_dict()
    assert not any(name.startswith("loss_layer") for name in plain)
    assert set(with_layer) - set(plain) >= set(LAYER)
    assert all(torch.equal(tensor, with_layer[name]) for name, tensor in plain.items())


def test_a_resumed_run_has_the_layer_of_an_unbroken_one_and_another_layer_is_refused(data, market_folder, tmp_path, trainer_with):
    def fit(images, epochs, path=None, **options):
        saving = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
        model, merging = module(**options), BottomUpClustering(every_n_epochs=1, initial_epochs=1, merge_share=0.2)
        limits = {"limit_train_batches": 3, "limit_val_batches": 0, "enable_checkpointing": True}
        trainer = trainer_with(tmp_path, [merging, saving], max_epochs=epochs, **limits)
        trainer.fit(model, images, ckpt_path=path, weights_only=path is not None or None)
        return model

    again = UnlabeledDataModule(str(market_folder), image_size=(64, 32), batch_size=8, crop_padding=2, num_workers=0)
    whole = fit(data, 3)
    resumed = fit(again, 3, tmp_path / "epoch=1.ckpt")
    assert torch.equal(whole.table, resumed.table)
    assert all(torch.equal(tensor, resumed.state_dict()[name]) for name, tensor in whole.state_dict().items())
    loaded = BottomUpReID.load_from_checkpoint(tmp_path / "epoch=2.ckpt", weights_only=True)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in whole.state_dict().items())
    for other in (None, 25):
        with pytest.raises(ValueError, match=f"with loss_features=24, this module's has loss_features={other}"):
            fit(again, 3, tmp_path / "epoch=1.ckpt", loss_features=other)
    older = torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)
    del older["hyper_parameters"]["loss_features"]  # as before there was such a layer
    torch.save(older, tmp_path / "older.ckpt")
    with pytest.raises(ValueError, match="with loss_features=None, this module's has loss_features=25"):
        fit(again, 3, tmp_path / "older.ckpt", loss_features=25)


def test_a_pruned_network_goes_on_with_the_layer_as_it_was(data, tmp_path, trainer_with):
    model, layer = module(), module().loss_layer[0].weight
    before = sum(one.numel() for one in model.network.parameters())
    model.materialize(ChannelPlan((1, 3, 64, 32), {"backbone.trunk.layer4.0.conv1": torch.arange(16) < 9}))
    assert sum(one.numel() for one in model.network.parameters()) < before
    assert torch.equal(model.loss_layer[0].weight, layer)
    trainer = trainer_with(tmp_path, [BottomUpClustering()], max_epochs=1, limit_train_batches=2, limit_val_batches=0)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "small.ckpt")
    loaded = BottomUpReID.load_from_checkpoint(tmp_path / "small.ckpt", weights_only=True)
    assert torch.equal(loaded.loss_layer[0].weight, model.loss_layer[0].weight)
    assert not torch.equal(model.loss_layer[0].weight, layer)


@pytest.mark.parametrize("shared", [False, True])
def test_clients_keep_the_layer_to_themselves_unless_it_is_shared(market_folder, tmp_path, shared):
    options = {"image_size": (64, 32), "num_workers": 0, "crop_padding": 2, "batch_size": 8}
    images = FederatedData([str(market_folder)], "identity", num_clients=2, unlabeled=True, **options)
    images.setup()
    personal = Personalization(clustering=False, epoch=False, update=True, shared_loss_layer=shared)
    clients = [
        fedureid_client(name, one, personal, rounds=2, clustering={"merge_share": 0.1}, model=TINY | {"loss_features": 24})
        for name, one in images.clients.items()
    ]
    run = Federation(personal.strategy(), clients, tmp_path, epochs=1, accelerator="cpu", quiet=True)
    run.fit(1)
    layers = [one.module.state_dict()["loss_layer.0.weight"] for one in run.clients]
    assert not torch.equal(*layers)
    received = [
        run.strategy.receive({name: one.module.state_dict()[name] for name in run.state.tensors}, run.state.tensors) for one in clients
    ]
    assert all(("loss_layer.0.weight" in one) is shared for one in received)
    if shared:
        weights = torch.tensor([one.num_images for one in clients], dtype=torch.float32) / sum(one.num_images for one in clients)
        torch.testing.assert_close(run.state.tensors["loss_layer.0.weight"], weights[0] * layers[0] + weights[1] * layers[1])
    run.fit(2)  # and the second round goes on from there
    assert run.state.round == 2
