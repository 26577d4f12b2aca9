from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lightning_reid.losses import masked_weighted_triplet_loss
from lightning_reid.modules import HSR
from lightning_reid.records import TargetState

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}


def tiny_hsr(**options) -> HSR:
    torch.manual_seed(0)
    model = HSR(**({"max_clusters": 6} | options), **TINY)
    model.log_dict = lambda losses, **_: setattr(model, "logged", losses)
    model.trainer = SimpleNamespace(optimizers=[])
    return model.train()


def state_of(labels: list[int], iteration: int = 0) -> TargetState:
    embeddings = torch.nn.functional.normalize(torch.randn(len(labels), 16, generator=torch.Generator().manual_seed(1)), dim=1)
    return TargetState(iteration, torch.tensor(labels), torch.zeros(len(labels), dtype=torch.int64), embeddings)


def batch_of(count: int = 8, num_classes: int = 2) -> dict:
    return {"images": torch.randn(count, 3, 32, 16), "pids": torch.arange(count) % num_classes}


def test_the_first_c_rows_of_the_classifier_become_the_normalized_centroids_in_place():
    model = tiny_hsr()
    before = model.classifier.weight
    state = state_of([0, 0, 1, 1, -1])
    model.refill_classifier(state)
    assert model.classifier.weight is before
    expected = torch.stack([torch.nn.functional.normalize(state.embeddings[rows].sum(0), dim=0) for rows in ([0, 1], [2, 3])])
    torch.testing.assert_close(model.classifier.weight[:2].detach(), expected)
    assert model.num_clusters == 2


def test_a_random_start_is_small_and_the_same_for_every_process():
    one, other = tiny_hsr(classifier_init="random"), tiny_hsr(classifier_init="random")
    torch.manual_seed(123)  # the processes' global generators have gone different ways
    one.refill_classifier(state_of([0, 0, 1, 1], iteration=5))
    torch.manual_seed(456)
    other.refill_classifier(state_of([0, 0, 1, 1], iteration=5))
    torch.testing.assert_close(one.classifier.weight, other.classifier.weight, rtol=0, atol=0)
    assert 0 < one.classifier.weight.abs().max() < 0.01


def test_refilling_drops_the_classifiers_optimizer_state_and_keeps_the_backbones():
    model = tiny_hsr()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model.trainer = SimpleNamespace(optimizers=[optimizer])
    model.refill_classifier(state_of([0, 0, 1, 1]))
    model.training_step(batch_of(), 0).backward()
    optimizer.step()
    kept = {
        parameter: optimizer.state[parameter]["momentum_buffer"].clone()
        for parameter in optimizer.state
        if parameter is not model.classifier.weight
    }
    assert model.classifier.weight in optimizer.state
    model.refill_classifier(state_of([0, 1, 1, 1], iteration=1))
    assert model.classifier.weight not in optimizer.state
    assert kept
    for parameter, momentum in kept.items():
        torch.testing.assert_close(optimizer.state[parameter]["momentum_buffer"], momentum, rtol=0, atol=0)


def test_more_clusters_than_max_clusters_is_an_error_with_both_figures():
    with pytest.raises(ValueError, match=r"iteration 3 has 7 clusters, but max_clusters=6: raise it"):
        tiny_hsr().refill_classifier(state_of(list(range(7)), iteration=3))


def test_logits_are_the_first_c_columns_only():
    model = tiny_hsr()  # no label smoothing either: eq. 4.1 has none
    model.refill_classifier(state_of([0, 0, 1, 1]))
    with torch.no_grad():
        model.classifier.weight[2:] = 1e6  # rows beyond C must not take part
    batch = batch_of()
    loss = model.training_step(batch, 0)
    logits = model.classifier.weight[:2] @ model.embed(batch["images"]).embedding.T
    expected = torch.nn.functional.cross_entropy(logits.T, batch["pids"])
    torch.testing.assert_close(model.logged["train/loss_ce"], expected)
    loss.backward()
    assert model.classifier.weight.grad[2:].abs().max() == 0


def test_the_icm_part_adds_its_triplet_loss_and_leaving_it_out_is_the_ablation():
    model = tiny_hsr()
    model.refill_classifier(state_of([0, 0, 1, 1]))
    batch = batch_of()
    assert "train/loss_icm" not in (model.training_step(batch, 0), model.logged)[1]
    positives = torch.eye(4, dtype=torch.bool).flip(0)
    icm = {
        "images": torch.randn(4, 3, 32, 16),
        "anchors": torch.arange(4),
        "positives": positives,
        "negatives": ~positives & ~torch.eye(4, dtype=torch.bool),
    }
    loss = model.training_step(batch | {"icm": icm}, 0)
    mined = model.embed(icm["images"]).before_bnneck
    expected = masked_weighted_triplet_loss(mined, icm["positives"], icm["negatives"])
    torch.testing.assert_close(model.logged["train/loss_icm"], expected)
    torch.testing.assert_close(loss, model.logged["train/loss_ce"] + model.logged["train/loss_triplet"] + expected)
