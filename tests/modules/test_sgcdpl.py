"""SGC-DPL's classifier of fixed and refilled rows, its targets, and the batches of its two stages."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from lightning_reid.losses import augmented_triplet_loss, batch_hard_triplet_loss, soft_target_cross_entropy
from lightning_reid.modules import SGCDPL
from lightning_reid.modules.classifier import new_classifier
from lightning_reid.modules.sgcdpl import first_of_each, joint_targets, side_by_side
from lightning_reid.records import IN_TRIPLET_LOSSES, TargetState

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
NUM_LABELED = 3


def tiny(**options) -> SGCDPL:
    torch.manual_seed(0)
    model = SGCDPL(**options, **TINY)
    model.classifier, model.num_fixed = new_classifier(16, NUM_LABELED + 6), NUM_LABELED
    model.log_dict = lambda losses, **_: setattr(model, "logged", losses)
    model.trainer = SimpleNamespace(optimizers=[])
    return model.train()


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def state_of(labels: list[int], num_clusters: int, iteration: int = 0) -> TargetState:
    embeddings, exemplars = drawn(len(labels), 16), torch.arange(num_clusters)
    camids = torch.zeros(len(labels), dtype=torch.int64)
    return TargetState(iteration, torch.tensor(labels), camids, embeddings, exemplars=exemplars, space=IN_TRIPLET_LOSSES)


def test_labeled_rows_are_kept_and_the_others_stand_for_the_clusters():
    model = tiny()
    before, kept = model.classifier.weight, model.classifier.weight[:NUM_LABELED].detach().clone()
    state = state_of([0, 1, 0, 1, -1], num_clusters=2)
    model.refill_classifier(state)
    assert model.classifier.weight is before
    assert torch.equal(model.classifier.weight[:NUM_LABELED], kept)
    means = torch.stack([state.embeddings[rows].mean(0) for rows in ([0, 2], [1, 3])])
    neck = model.network.neck.eval()
    expected = torch.nn.functional.normalize(neck(means), dim=1)
    torch.testing.assert_close(model.classifier.weight[NUM_LABELED : NUM_LABELED + 2], expected)
    assert model.num_used == NUM_LABELED + 2


def test_clusters_are_seen_by_the_classifier_after_the_bnneck_which_keeps_its_statistics():
    model = tiny()
    neck = model.network.neck
    neck.running_mean.copy_(drawn(16, seed=2))
    before = neck.running_mean.clone()
    model.refill_classifier(state_of([0, 1, 0, 1], num_clusters=2))
    assert neck.training
    assert torch.equal(neck.running_mean, before)


def test_a_cluster_of_which_nothing_was_selected_keeps_its_column():
    model = tiny()
    model.refill_classifier(state_of([-1, 1, -1, 1], num_clusters=4))
    assert model.num_used == NUM_LABELED + 4
    assert model.classifier.weight.isfinite().all()


def test_more_clusters_than_max_clusters_is_an_error_with_both_figures():
    with pytest.raises(ValueError, match=r"iteration 3 has 7 clusters, but max_clusters=6: raise it"):
        tiny().refill_classifier(state_of(list(range(7)), 7, iteration=3))


def test_targets_are_one_hot_for_labeled_images_and_soft_for_the_others():
    soft = torch.tensor([[0.0, 0.0], [0.75, 0.25]])
    expected = torch.tensor([[0, 1, 0, 0, 0], [0, 0, 0, 0.75, 0.25]])
    torch.testing.assert_close(joint_targets(torch.tensor([1, NUM_LABELED]), soft, NUM_LABELED), expected)


def test_soft_labels_and_clusters_as_identities_of_the_triplet_loss_make_the_loss():
    model = tiny()
    model.refill_classifier(state_of([0, 1, 0, 1], num_clusters=2))
    pids = torch.tensor([0, 0, 1, 1, 3, 3, 4, 4])
    soft = torch.cat([torch.zeros(4, 2), torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.0, 1.0]])])
    batch = {"images": drawn(8, 3, 32, 16), "pids": pids, "soft_labels": soft}
    loss = model.training_step(batch, 0)
    output = model.embed(batch["images"])
    logits = output.embedding @ model.classifier.weight[: NUM_LABELED + 2].T
    torch.testing.assert_close(model.logged["train/loss_ce"], soft_target_cross_entropy(logits, joint_targets(pids, soft, NUM_LABELED)))
    torch.testing.assert_close(model.logged["train/loss_triplet"], batch_hard_triplet_loss(output.before_bnneck, pids))
    torch.testing.assert_close(loss, model.logged["train/loss_ce"] + model.logged["train/loss_triplet"])


def test_hard_labels_are_plain_cross_entropy_over_the_used_rows():
    model = tiny()
    model.refill_classifier(state_of([0, 1, 0, 1], num_clusters=2))
    with torch.no_grad():
        model.classifier.weight[NUM_LABELED + 2 :] = 1e6  # rows beyond C_l + C' must not take part
    batch = {"images": drawn(4, 3, 32, 16), "pids": torch.tensor([0, 0, 4, 4])}
    model.training_step(batch, 0).backward()
    logits = model.embed(batch["images"]).embedding @ model.classifier.weight[: NUM_LABELED + 2].T
    torch.testing.assert_close(model.logged["train/loss_ce"], torch.nn.functional.cross_entropy(logits, batch["pids"]))
    assert model.classifier.weight.grad[NUM_LABELED + 2 :].abs().max() == 0


def initial_batch(num_views: int = 4) -> dict:
    pids, rows = torch.tensor([0, 0, 1, 1, 0, 0, 2, 2]), torch.arange(num_views // 2).repeat_interleave(2)
    return {
        "images": drawn(8, 3, 32, 16),
        "pids": pids,
        "rows": torch.full((8,), -1),
        "unlabeled": {"images": drawn(num_views, 3, 32, 16, seed=3), "rows": rows},
    }


def test_the_initialization_adds_the_augmented_triplet_loss_and_scores_labeled_identities_only():
    model, batch = tiny(), initial_batch()
    loss = model.training_step(batch, 0)
    output = model.embed(torch.cat([batch["images"], batch["unlabeled"]["images"]]))
    rows = torch.cat([batch["rows"], batch["unlabeled"]["rows"]])
    torch.testing.assert_close(model.logged["train/loss_augmented"], augmented_triplet_loss(output.before_bnneck, rows))
    torch.testing.assert_close(model.logged["train/loss_triplet"], batch_hard_triplet_loss(output.before_bnneck[:8], batch["pids"]))
    logits = output.embedding[:8] @ model.classifier.weight[:NUM_LABELED].T
    torch.testing.assert_close(model.logged["train/loss_ce"], torch.nn.functional.cross_entropy(logits, batch["pids"]))
    torch.testing.assert_close(loss, sum(value for name, value in model.logged.items() if name != "train/loss"))


def test_a_group_of_the_initialization_is_what_one_of_several_processes_would_hold():
    whole, batch = tiny(bn_group=6), initial_batch()
    whole.training_step(batch, 0)
    halves = []
    for part in range(2):
        views = {name: values[2 * part : 2 * part + 2] for name, values in batch["unlabeled"].items()}
        half = {name: batch[name][4 * part : 4 * part + 4] for name in ("images", "pids", "rows")} | {"unlabeled": views}
        one = tiny(bn_group=6)
        one.training_step(half, 0)
        halves.append(one.logged)
    for name, value in whole.logged.items():
        torch.testing.assert_close(value, (halves[0][name] + halves[1][name]) / 2, msg=name)


def test_groups_that_images_and_views_cannot_share_are_refused_by_name():
    with pytest.raises(ValueError, match=r"8 labeled images and 4 views do not share groups of bn_group=4 evenly"):
        tiny(bn_group=4).training_step(initial_batch(), 0)


def test_side_by_side_is_undone_for_the_labeled_rows():
    labeled, views = torch.arange(6), -torch.arange(1, 5)
    mixed = side_by_side(labeled, views, 2)
    assert mixed.tolist() == [0, 1, 2, -1, -2, 3, 4, 5, -3, -4]
    assert first_of_each(mixed, 6, 2).equal(labeled)


def test_the_learning_rate_starts_anew_with_every_iteration():
    model = tiny(iteration_epochs=4, milestones=[3], warmup_epochs=1)
    assert [round(model._lr_factor(epoch), 6) for epoch in range(9)] == [0.5, 1, 1, 0.1, 0.5, 1, 1, 0.1, 0.5]
    assert [tiny(milestones=[3])._lr_factor(epoch) for epoch in (2, 3, 8)] == [1.0, 0.1, 0.1]


def test_a_module_starts_from_another_with_its_labeled_rows():
    first, second = tiny(), tiny()
    with torch.no_grad():
        first.classifier.weight.fill_(2.0)
        first.network.neck.running_mean.fill_(3.0)
    second.start_from(first)
    assert second.classifier.weight is not first.classifier.weight
    assert torch.equal(second.classifier.weight, first.classifier.weight)
    assert (second.network.neck.running_mean == 3).all()


@pytest.mark.parametrize("wrong", [{"max_clusters": 0}, {"iteration_epochs": 0}, {"classifier_init": "zeros"}])
def test_arguments_out_of_range_die_in_the_constructor(wrong):
    with pytest.raises(ValueError, match=r"must be (a whole number|one of)"):
        SGCDPL(**wrong, **TINY)
