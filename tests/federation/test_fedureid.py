"""FedUReID's clients: each of the three personalized optimizations does its part, and only where its switch is on."""

from __future__ import annotations

import pytest
import torch

from lightning_reid.datamodules import FederatedData
from lightning_reid.federated import FedPav, FedUReID
from lightning_reid.federation import Federation, Personalization, fedureid_client
from lightning_reid.modules import FedUReIDClient

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}, "optimizer": "sgd", "lr": 0.01}


def federated(folder, output, rounds=2, **switches) -> Federation:
    options = {"image_size": (64, 32), "num_workers": 0, "crop_padding": 2, "batch_size": 8}
    data = FederatedData([str(folder)], "identity", num_clients=2, unlabeled=True, **options)
    data.setup()
    personal = Personalization(**({"clustering": False, "epoch": False, "update": False} | switches))
    clustering = {"merge_share": 0.1, "min_samples": 2, "k1": 4, "k2": 2}
    members = [
        fedureid_client(name, one, personal, rounds=rounds, clustering=clustering, model=TINY | {"dropout": 0.0})
        for name, one in data.clients.items()
    ]
    run = Federation(personal.strategy(), members, output, epochs=3, accelerator="cpu", quiet=True)
    run.fit(rounds)
    return run


def test_the_personalized_epoch_ends_a_fit_with_the_epoch_that_is_precise_enough(market_folder, tmp_path):
    steps = {client: step // 3 for client, step in federated(market_folder, tmp_path / "off", rounds=1).rounds[0].steps.items()}
    soon = federated(market_folder, tmp_path / "soon", rounds=1, epoch=True, precision=0.001).rounds[0].steps
    for client, step in steps.items():  # the first epoch may get nothing right: its table was empty
        assert soon[client] in (step, 2 * step)
    never = federated(market_folder, tmp_path / "never", rounds=1, epoch=True, precision=1.0)
    assert all(0.001 < float(one.module.trainer.callback_metrics["train/precision"]) < 1 for one in never.clients)
    assert never.rounds[0].steps == {client: 3 * step for client, step in steps.items()}


def test_the_personalized_clustering_merges_a_number_of_its_own(market_folder, tmp_path):
    plain, personal = (federated(market_folder, tmp_path / str(on), clustering=on) for on in (False, True))
    for one, other in zip(plain.clients, personal.clients, strict=True):
        assert one.callbacks[0].num_merges is None
        merged = other.num_images - other.data.target_state.num_clusters
        assert other.callbacks[0].num_merges == merged
        assert merged != one.num_images - one.data.target_state.num_clusters == int(0.1 * one.num_images)


def test_the_personalized_update_goes_on_between_both_models(market_folder, tmp_path):
    run = federated(market_folder, tmp_path, rounds=1, update=True, local_share=0.25)
    assert isinstance(run.strategy, FedUReID)
    member = run.members[0]
    own = {name: tensor.clone() for name, tensor in member.client.module.state_dict().items()}
    received = run.strategy.receive({name: own[name] for name in run.state.tensors}, run.state.tensors)
    name = next(name for name, tensor in received.items() if tensor.is_floating_point() and not torch.equal(tensor, own[name]))
    torch.testing.assert_close(received[name], 0.25 * own[name] + 0.75 * run.state.tensors[name])


def test_no_switch_is_the_federated_baseline_and_precisions_are_shares():
    assert type(Personalization(update=False).strategy()) is FedPav
    with pytest.raises(ValueError, match=r"stop_at_precision must be a number in \(0, 1\]"):
        FedUReIDClient(1.5, **TINY)
