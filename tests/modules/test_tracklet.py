"""A device's part: its tracklets, what walks and what stays, and rows of labels that it does not hold."""

from __future__ import annotations

import copy
import shutil

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_reid.callbacks import TrackletMemories
from lightning_reid.clustering.memories import tracklet_memories
from lightning_reid.datamodules import DeviceDataModule, ImageReIDDataModule
from lightning_reid.datamodules.samplers import whole_pass_batches
from lightning_reid.federated import RandomWalk
from lightning_reid.federation import Client, Federation
from lightning_reid.federation.server import Answer
from lightning_reid.modules import TrackletReID
from lightning_reid.records import ReIDDataset

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}


@pytest.fixture(scope="module")
def devices() -> dict[str, DeviceDataModule]:
    """The cameras of a generated set, a device each."""
    whole = ImageReIDDataModule("generated-people,people=8,cameras=3", p=4, val_identities=0)
    whole.setup()
    found = {}
    for camid in sorted({record.camid for record in whole.dataset.train}):
        records = tuple(record for record in whole.dataset.train if record.camid == camid)
        data = DeviceDataModule(f"camera{camid}", batch_size=8, image_size=(32, 16), num_workers=0)
        data.serve(ReIDDataset(f"camera{camid}", records, whole.dataset.query, whole.dataset.gallery))
        found[f"camera{camid}"] = data
    return found


def fit(module: TrackletReID, data: DeviceDataModule, folder, epochs: int = 1) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=epochs,
        callbacks=[TrackletMemories()],
        accelerator="cpu",
        logger=False,
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
    )
    trainer.fit(module, data)
    return trainer


def test_of_resnet50_the_bytes_walk_that_the_text_has():
    module = TrackletReID(backbone="resnet50")
    state = module.state_dict()
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in state.items()}
    assert sum(sizes.values()) == 94_245_032
    assert sum(size for name, size in sizes.items() if name.startswith(module.walking_prefixes)) == 88_424_680


def test_an_epoch_passes_once_over_every_image_and_classes_are_tracklets(devices, tmp_path):
    data = devices["camera1"]
    assert data.num_tracklets == len({record.pid for record in data.target_records})
    data.set_target_state(data.state_of(None, 0))
    plan = data.plan_epoch(0)
    rows = [draw.row for batch in plan.batches(0, 1) for draw in batch]
    left_out = len(data.target_records) % 8 == 1
    assert sorted(rows) == sorted({*rows})
    assert len(rows) == len(data.target_records) - left_out
    data.forget_target_state()


def test_the_front_stays_as_it_is_and_the_middle_learns(devices, tmp_path):
    torch.manual_seed(0)
    module = TrackletReID(lr=0.05, **TINY)
    before = copy.deepcopy(module.state_dict())
    fit(module, devices["camera1"], tmp_path)
    after = module.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(module.walking_prefixes) for name in changed)
    assert any(name.endswith("running_mean") for name in changed)
    assert len(after["classifier.weight"]) == devices["camera1"].num_tracklets
    frozen = TrackletReID(lr=0.05, statistics="frozen", **TINY)
    before = copy.deepcopy(frozen.state_dict())
    fit(frozen, devices["camera1"], tmp_path)
    assert not any(not torch.equal(before[name], after) for name, after in frozen.state_dict().items() if "running" in name)


def test_a_classifier_of_memories_knows_its_tracklets_before_the_first_step(devices, tmp_path):
    torch.manual_seed(0)
    module, data = TrackletReID(lr=1e-9, memory_scale=10.0, **TINY), devices["camera2"]
    trainer = fit(module, data, tmp_path)
    accuracy = float(trainer.callback_metrics["train/accuracy"])
    torch.manual_seed(0)
    lost = TrackletReID(lr=1e-9, classifier_init="random", **TINY)
    assert accuracy > 2 * float(fit(lost, data, tmp_path).callback_metrics["train/accuracy"])
    rows = module.classifier.weight.detach()
    torch.testing.assert_close(rows.norm(dim=1), rows.norm(dim=1)[:1].expand(len(rows)))


def test_rows_of_labels_that_are_not_held_here_do_not_change(devices, tmp_path):
    data = devices["camera3"]
    labels = 2 * torch.arange(data.num_tracklets)
    data.label_tracklets(labels)
    for options, moves in (({}, False), ({"negatives": "held"}, False), ({"update_all": True}, True)):
        module = TrackletReID(num_labels=2 * data.num_tracklets, lr=0.05, **options, **TINY)
        before = module.classifier.weight.detach().clone()
        fit(module, data, tmp_path)
        same = (module.classifier.weight.detach() == before).all(1)
        assert not same[labels].any()
        assert bool(same[labels + 1].all()) is not moves
    with pytest.raises(ValueError, match="the classifier that arrived has 3"):
        fit(TrackletReID(num_labels=3, **TINY), data, tmp_path)
    with pytest.raises(ValueError, match=f"has {data.num_tracklets} tracklets, got labels"):
        data.label_tracklets(labels[:2])
    data.label_tracklets(None)


def test_a_walk_ends_where_the_last_visit_ended_and_everything_is_counted(devices, tmp_path):
    def members() -> list[Client]:
        clients = []
        for name, data in devices.items():
            torch.manual_seed(0)
            clients.append(Client(name, TrackletReID(lr=0.05, **TINY), data, [TrackletMemories()]))
        return clients

    clients = members()
    strategy = RandomWalk(clients[0].module.walking_prefixes, visits=2, seed=1)
    walk = Federation(strategy, clients, tmp_path / "whole", accelerator="cpu", quiet=True)
    state = walk.fit(rounds=6)
    moved = walk.strategy.allow_list(clients[0].module.state_dict()).num_bytes
    up = sum(sum(one.report.bytes_up.values()) for one in walk.rounds)
    down = sum(sum(one.bytes_down.values()) for one in walk.rounds)
    assert (up, down) == (6 * moved, 6 * moved)
    last = next(one for one in walk.clients if one.id == walk.rounds[-1].report.used[0])
    assert all(torch.equal(tensor, last.module.state_dict()[name]) for name, tensor in state.tensors.items())
    assert [one.fits[one.report.used[0]].problem for one in walk.rounds] == [""] * 6
    broken = Federation(strategy, members(), tmp_path / "broken", accelerator="cpu", quiet=True)
    broken.fit(rounds=4)
    resumed = Federation(strategy, members(), tmp_path / "broken", accelerator="cpu", quiet=True, resume=True)
    again = resumed.fit(rounds=6)
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in state.tensors.items())


class Witness(pl.Callback):
    """Sees the model with which each visit of a device begins, and spoils what a visit leaves."""

    def __init__(self, name: str, seen: list[tuple[str, dict[str, torch.Tensor]]], spoiled: tuple[int, ...] = ()) -> None:
        self.name, self.seen, self.spoiled = name, seen, spoiled

    def on_fit_start(self, trainer, pl_module) -> None:
        model = {name: tensor.clone() for name, tensor in pl_module.state_dict().items() if name.startswith(pl_module.walking_prefixes)}
        self.seen.append((self.name, model))

    def on_train_end(self, trainer, pl_module) -> None:
        if len(self.seen) - 1 in self.spoiled:
            with torch.no_grad():
                pl_module.network.backbone.trunk.layer4[0].conv1.weight[0, 0, 0, 0] = torch.nan


class Reached(Federation):
    """Whose devices are off in some rounds; keeps the model as each round left it."""

    off: frozenset[int] = frozenset()

    def answers(self, attempt: int):
        if self.state.round in self.off:
            yield Answer(self.strategy.asked(self.state)[0], problem="it is off")
        else:
            yield from super().answers(attempt)


def walked(devices, folder, visits: int, *, off: frozenset[int] = frozenset(), spoiled: tuple[int, ...] = (), **options):
    """A walk's federation, the models that visits begin with, and after each round the server's."""
    seen: list[tuple[str, dict[str, torch.Tensor]]] = []
    members = []
    for name, data in devices.items():
        torch.manual_seed(0)
        members.append(Client(name, TrackletReID(lr=0.05, **TINY), data, [TrackletMemories(), Witness(name, seen, spoiled)]))
    strategy = RandomWalk(members[0].module.walking_prefixes, visits=visits, seed=1)
    federation = Reached(strategy, members, folder, accelerator="cpu", quiet=True, **options)
    federation.off = off
    left: list[dict[str, torch.Tensor]] = []
    return federation, seen, left


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_after_a_visit_that_ends_in_nan_the_next_device_gets_the_model_from_before_it(devices, tmp_path):
    walk, seen, left = walked(devices, tmp_path, 1, spoiled=(1,))
    state = walk.fit(3, lambda _: left.append(dict(walk.state.tensors)))
    order = walk.strategy.order(state)
    assert [name for name, _ in seen] == [*order, order[1]]
    first, _, third, again = (model for _, model in seen)
    assert not same(first, left[0])
    assert same(left[1], left[0])
    assert same(third, left[0])
    assert same(again, left[2])
    assert not same(left[3], left[2])
    (reason,) = walk.rounds[1].report.left_out.values()
    assert "layer4.0.conv1.weight is NaN or infinite; it is visited at the end of the lap" in reason
    assert [one.report.used for one in walk.rounds] == [[order[0]], [], [order[2]], [order[1]]]
    assert all(bool(tensor.isfinite().all()) for tensor in state.tensors.values())


def test_a_device_that_is_off_is_visited_at_the_end_of_its_lap_or_lost_also_where_the_walk_was_stopped(devices, tmp_path):
    off = frozenset({0, 3, 5})  # the first device of the first lap, and again at its end; the second of the second lap
    walk, seen, left = walked(devices, tmp_path / "whole", 2, off=off)

    def keep(done: int) -> None:
        left.append(dict(walk.state.tensors))
        if done == 6:  # of eight: a visit is owed
            assert walk.state.owed == [walk.strategy.order(walk.state)[4]]
            shutil.copytree(tmp_path / "whole", tmp_path / "stopped")

    state = walk.fit(6, keep)
    order = walk.strategy.order(state)
    assert [name for name, _ in seen] == [order[1], order[2], order[3], order[5], order[4]]
    ends = [text for one in walk.rounds for text in one.report.left_out.values()]
    at_the_end = "it is off; it is visited at the end of the lap"
    assert ends == [at_the_end, "it is off; the visit is lost", at_the_end]
    assert same(left[3], left[2])
    resumed, _, _ = walked(devices, tmp_path / "stopped", 2, off=off, resume=True)
    assert same(resumed.fit(6).tensors, state.tensors)
    nobody, _, _ = walked(devices, tmp_path / "nobody", 1, off=frozenset(range(3)))
    with pytest.raises(RuntimeError, match=f"nobody was reached for a whole lap: {', '.join(order[:3])}; .*it is off"):
        nobody.fit(3)


@given(st.integers(2, 40), st.integers(2, 9))
def test_a_pass_holds_each_image_once_but_a_last_one_alone(number, batch_size):
    plan = whole_pass_batches(number, batch_size, generator=np.random.default_rng(0))
    rows = plan[plan >= 0].tolist()
    assert len({*rows}) == len(rows) == number - (number % batch_size == 1)
    assert all(int((batch >= 0).sum()) >= 2 for batch in plan)


def test_memories_are_means_of_directions_or_sums():
    embeddings = torch.randn(7, 5, dtype=torch.float64)
    tracklets = torch.tensor([0, 1, 1, 2, 2, 2, 0])
    found = tracklet_memories(embeddings, tracklets, 3)
    for number in range(3):
        rows = embeddings[tracklets == number]
        mean = (rows / rows.norm(dim=1, keepdim=True)).sum(0)
        torch.testing.assert_close(found[number], mean / mean.norm())
        torch.testing.assert_close(tracklet_memories(embeddings, tracklets, 3, kind="sum")[number], rows.sum(0))
    centered = tracklet_memories(embeddings, tracklets, 3, centered=True)
    moved = found - found.mean(0)
    torch.testing.assert_close(centered, moved / moved.norm(dim=1, keepdim=True))
    assert tracklet_memories(embeddings[:0], tracklets[:0], 0, centered=True).shape == (0, 5)
    assert tracklet_memories(embeddings[:1], tracklets[:1], 1, centered=True).norm() == pytest.approx(1)


@pytest.mark.parametrize("kind", ["mean", "sum"])
@pytest.mark.parametrize(
    ("embeddings", "tracklets", "number", "message"),
    [
        (torch.ones(3, 2), [0, 1, 1], 4, "each of 4 tracklets needs an image"),
        (torch.ones(3, 2), [0, 1, 4], 2, "each of 2 tracklets needs an image"),
        (torch.ones(3, 2), [0, 1], 2, r"a tracklet for each, got torch.float32 \(3, 2\) and \(2,\)"),
        (torch.ones(3), [0, 1, 1], 2, "need embeddings .N, D. of floats"),
        (torch.ones(3, 2, dtype=torch.int64), [0, 1, 1], 2, "of floats .* got torch.int64"),
        (torch.ones(3, 2), [0.0, 1.0, 1.0], 2, "tracklets must be int64 and at least 0, got torch.float32"),
        (torch.ones(3, 2), [0, 1, -1], 2, "tracklets must be int64 and at least 0"),
        (torch.tensor([[1.0], [2.0], [torch.nan]]), [0, 1, 1], 2, "image 2, of tracklet 1, holds NaN"),
        (torch.tensor([[1.0], [1e20], [1.0]]), [0, 1, 1], 2, "image 1, of tracklet 1, holds .* too large to be squared"),
    ],
)
def test_what_makes_no_memories_is_refused_by_image_and_tracklet(kind, embeddings, tracklets, number, message):
    with pytest.raises(ValueError, match=message):
        tracklet_memories(embeddings, torch.tensor(tracklets), number, kind=kind)


def test_what_has_nothing_to_tell_apart_or_no_stages_is_refused(devices, tmp_path):
    data = devices["camera1"]
    alone = DeviceDataModule("alone", image_size=(32, 16), num_workers=0)
    alone.serve(ReIDDataset("alone", tuple(one for one in data.target_records if one.pid == data.target_records[0].pid)))
    assert alone.num_tracklets == 1
    with pytest.raises(ValueError, match="1 tracklets has nothing to tell apart"):
        fit(TrackletReID(**TINY), alone, tmp_path)
    with pytest.raises(ValueError, match="a device has one"):
        alone.serve(ReIDDataset("two", (data.target_records[0], devices["camera2"].target_records[0])))
    with pytest.raises(ValueError, match="no stage behind which"):
        TrackletReID(backbone="vit_tiny_patch16_224")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_what_walks_learns_at_a_share_of_the_classifiers_rate_by_either_optimizer(optimizer):
    module = TrackletReID(num_labels=5, optimizer=optimizer, lr=0.1, walking_lr_factor=0.25, **TINY)
    head, walking = module.configure_optimizers()["optimizer"].param_groups
    assert (head["lr"], walking["lr"]) == (0.1, 0.025)
    assert head["params"] == [module.classifier.weight]
    assert {*walking["params"]} == {one for name, one in module.named_parameters() if name.startswith(module.walking_prefixes)}
