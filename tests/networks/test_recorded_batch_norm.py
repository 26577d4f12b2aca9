"""BatchNorm of micro-batches that counts once a step, beside BatchNorm over groups of the whole batch."""

from __future__ import annotations

import copy
import doctest
import threading
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_reid.networks import group_batch_norm, recorded_batch_norm
from lightning_reid.networks.recorded_batch_norm import BatchNormRecords, RecordedBatchNorm, record_batch_norm

M = 4
CLIPS, FRAMES = 8, 2


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class ClipNetwork(nn.Module):
    """As a video network: layers that see frames, one that sees half as many after they were joined, and one that sees clips."""

    def __init__(self, momentum: float | None = 0.1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frames = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, momentum=momentum), nn.ReLU(), nn.Conv2d(6, 5, 3))
        self.act = BatchNormAct2d(5, momentum=momentum)
        self.neck = nn.BatchNorm1d(5, momentum=momentum)
        self.double()

    def forward(self, clips: Tensor) -> Tensor:
        frames = self.frames(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
        return self.neck(self.act(frames.amax(1)).mean((2, 3)))


def clips(seed: int) -> Tensor:
    return draw(CLIPS, FRAMES, 3, 9, 7, seed=seed)


def loss_of(embeddings: Tensor) -> Tensor:
    return (embeddings**3).sum()  # the plain sum after a BatchNorm is the same whatever comes in


def gradients(network: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("momentum", [0.1, None])
def test_micro_batches_committed_equal_groups_of_the_whole_batch(momentum):
    recorded = ClipNetwork(momentum)
    whole = group_batch_norm(copy.deepcopy(recorded), num_groups=M)
    records = record_batch_norm(recorded)
    for seed in range(3):
        recorded.zero_grad()
        whole.zero_grad()
        expected = whole(clips(seed))
        loss_of(expected).backward()
        before = copy.deepcopy(recorded.state_dict())
        outputs = [recorded(micro_batch) for micro_batch in clips(seed).chunk(M)]
        for output in outputs:
            loss_of(output).backward()
        torch.testing.assert_close(recorded.state_dict(), before, atol=0, rtol=0)
        assert records.commit() == 3 * M
        torch.testing.assert_close(torch.cat(outputs), expected, atol=1e-12, rtol=0)
        torch.testing.assert_close(gradients(recorded), gradients(whole), atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(recorded.state_dict(), whole.state_dict(), atol=1e-12, rtol=0)


def test_micro_batches_may_be_groups_themselves():
    recorded = ClipNetwork()
    whole = group_batch_norm(copy.deepcopy(recorded), num_groups=4)
    records = record_batch_norm(recorded, num_groups=2)
    outputs = [recorded(half) for half in clips(0).chunk(2)]
    torch.testing.assert_close(torch.cat(outputs), whole(clips(0)), atol=1e-12, rtol=0)
    assert {name: len(layer.records) for name, layer in records.layers.items()} == {"frames.1": 4, "act": 4, "neck": 4}
    records.commit()
    torch.testing.assert_close(recorded.state_dict(), whole.state_dict(), atol=1e-12, rtol=0)


def test_running_statistics_move_once_by_the_mean_of_the_records_worked_by_hand():
    network = nn.Sequential(nn.BatchNorm1d(1))
    records = record_batch_norm(network)
    for rows in ([[0.0], [2.0]], [[10.0], [14.0]]):
        network(torch.tensor(rows))
    # means 1 and 12, unbiased variances 2 and 8: 0.9 * 0 + 0.1 * 6.5 and 0.9 * 1 + 0.1 * 5
    assert [record.flatten().tolist() for record in network[0].records] == [[1, 2], [12, 8]]
    assert network[0].commit() == 2
    assert network[0].running_mean.item() == pytest.approx(0.65)
    assert network[0].running_var.item() == pytest.approx(1.4)
    assert network[0].num_batches_tracked.item() == 1
    assert records.commit() == 0, "they were emptied"


@pytest.mark.parametrize("run", [lambda network: None, lambda network: network.eval()(clips(0))])
def test_nothing_recorded_is_nothing_committed(run):
    network = ClipNetwork()
    records = record_batch_norm(network)
    before = copy.deepcopy(network.state_dict())
    run(network)
    assert records.commit() == 0
    torch.testing.assert_close(network.state_dict(), before, atol=0, rtol=0)


def test_what_is_discarded_is_not_committed():
    network = ClipNetwork()
    records = record_batch_norm(network)
    network(clips(0))
    records.discard()
    assert records.commit() == 0


def test_evaluation_goes_by_what_was_committed():
    network, plain = ClipNetwork(), ClipNetwork()
    records = record_batch_norm(network)
    network(clips(0))
    torch.testing.assert_close(network.eval()(clips(1)), plain.eval()(clips(1)))
    records.commit()
    plain.load_state_dict(network.state_dict())
    torch.testing.assert_close(network(clips(1)), plain(clips(1)))


def recomputing(network: ClipNetwork, records: BatchNormRecords, wrap: Callable) -> Tensor:
    """A step of M micro-batches of which only the inputs are kept: the network's embeddings."""
    outputs = [
        checkpoint(network, part, use_reentrant=False, context_fn=lambda: (nullcontext(), wrap(records))) for part in clips(0).chunk(M)
    ]
    loss_of(torch.cat(outputs)).backward()
    return torch.cat(outputs).detach()


def in_this_thread(call: Callable[[], Tensor]) -> Tensor:
    return call()


def in_another_thread(call: Callable[[], Tensor]) -> Tensor:
    answers: list[Tensor] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    thread.join()
    return answers[0]


@pytest.mark.parametrize("run", [in_this_thread, in_another_thread])
def test_activations_that_are_computed_again_are_recorded_once(run):
    network = ClipNetwork()
    whole = group_batch_norm(copy.deepcopy(network), num_groups=M)
    records = record_batch_norm(network)
    output = run(lambda: recomputing(network, records, BatchNormRecords.paused))
    assert {len(layer.records) for layer in records.layers.values()} == {M}
    records.commit()
    expected = whole(clips(0))
    loss_of(expected).backward()
    torch.testing.assert_close(output, expected.detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(gradients(network), gradients(whole), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(network.state_dict(), whole.state_dict(), atol=1e-12, rtol=0)
    network(clips(1))
    assert records.commit() == 3, "the pauses are over"


def test_without_a_pause_they_would_be_recorded_twice():
    network = ClipNetwork()
    records = record_batch_norm(network)
    recomputing(network, records, lambda records: nullcontext())
    assert len(records.layers["frames.1"].records) == 2 * M


def test_pauses_may_be_nested_and_hold_for_other_threads():
    network = nn.Sequential(nn.BatchNorm1d(2)).double()
    records = record_batch_norm(network)
    with records.paused():
        with records.paused():
            network(draw(4, 2))
        network(draw(4, 2))
        in_another_thread(lambda: network(draw(4, 2)))
    assert records.commit() == 0
    network(draw(4, 2))
    assert records.commit() == 1


def test_a_pause_ends_with_an_error_in_it():
    network = nn.Sequential(nn.BatchNorm1d(2)).double()
    records = record_batch_norm(network)
    with pytest.raises(KeyError), records.paused():
        raise KeyError
    network(draw(4, 2))
    assert records.commit() == 1


def test_the_layers_that_were_there_come_back_with_the_statistics_and_the_mode_of_now():
    network = ClipNetwork()
    before, names = dict(network.named_modules()), list(network.state_dict())
    parameters = list(network.parameters())
    records = record_batch_norm(network)
    assert {type(network.frames[1]), type(network.act), type(network.neck)} == {RecordedBatchNorm}
    assert list(network.state_dict()) == names
    assert all(mine is theirs for mine, theirs in zip(network.parameters(), parameters, strict=True))
    network(clips(0))
    records.commit()
    network.float().eval()  # which puts other buffers into the layers that record
    state = copy.deepcopy(network.state_dict())
    records.restore()
    after = dict(network.named_modules())
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before)
    torch.testing.assert_close(network.state_dict(), state, atol=0, rtol=0)
    assert not any(part.training for part in network.modules())
    records = record_batch_norm(network)
    assert type(network.neck) is RecordedBatchNorm
    records.restore()
    records.restore()
    assert type(network.neck) is nn.BatchNorm1d


def test_restoring_twice_leaves_alone_what_came_between():
    network = ClipNetwork()
    first = record_batch_norm(network)
    first.restore()
    second = record_batch_norm(network)
    first.restore()
    assert network.neck is second.layers["neck"]


def test_batch_norm_with_activation_keeps_its_activation():
    network = nn.Sequential(BatchNormAct2d(3, act_layer=nn.SiLU, drop_layer=nn.Dropout2d)).double()
    act, drop = network[0].act, network[0].drop
    record_batch_norm(network)
    assert network[0].act is act
    assert network[0].drop is drop
    assert isinstance(act, nn.SiLU)


def test_a_layer_that_is_used_twice_stays_one_layer_and_records_both_uses():
    layer = nn.BatchNorm1d(2).double()
    network = nn.Sequential(layer, nn.ModuleDict({"again": layer}), nn.Identity())
    records = record_batch_norm(network)
    assert network[0] is network[1]["again"]
    assert list(records.layers) == ["0"]
    records.restore()
    assert network[0] is network[1]["again"] is layer


def test_a_layer_without_running_statistics_records_none():
    network = nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)).double()
    records = record_batch_norm(network)
    network(draw(4, 2))
    assert records.commit() == 0
    assert network[0].running_mean is None


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (group_batch_norm(nn.BatchNorm1d(2), 2), "GroupedBatchNorm"),
        (nn.SyncBatchNorm(2), "SyncBatchNorm"),
        (RecordedBatchNorm(2), "RecordedBatchNorm"),
        (nn.LazyBatchNorm1d(), "LazyBatchNorm1d"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_another_kind_of_batch_norm_is_refused_by_name_and_nothing_is_replaced(layer, kind):
    network = nn.ModuleDict({"plain": nn.BatchNorm1d(2), "trunk": nn.Sequential(layer)})
    with pytest.raises(ValueError, match=rf"cannot record the statistics of trunk\.0, a {kind}"):
        record_batch_norm(network)
    assert type(network["plain"]) is nn.BatchNorm1d


def test_a_number_of_groups_that_cannot_be_and_a_layer_in_nothing_are_refused():
    for number in (0, 1.0, True, None):
        with pytest.raises(ValueError, match="num_groups must be a whole number of at least 1"):
            record_batch_norm(nn.Sequential(nn.Identity()), number)
    with pytest.raises(ValueError, match="give the module that holds the BatchNorm1d"):
        record_batch_norm(nn.BatchNorm1d(2))


def half_of_the_micro_batches(batch: Tensor, shared: bool) -> tuple[dict[str, Tensor], int]:
    network = ClipNetwork()
    records = record_batch_norm(network)
    for micro_batch in batch.chunk(M)[dist.get_rank() :: 2]:
        network(micro_batch)
    count = records.commit(dist.group.WORLD if shared else None)
    return network.state_dict(), count


@pytest.mark.parametrize("shared", [True, False])
def test_processes_of_a_group_commit_the_mean_over_all_of_them_and_others_their_own(two_processes, shared):
    for rank, (state, count) in enumerate(two_processes(half_of_the_micro_batches, clips(0), shared)):
        assert count == 3 * M // 2
        network = ClipNetwork()
        records = record_batch_norm(network)
        for micro_batch in clips(0).chunk(M) if shared else clips(0).chunk(M)[rank::2]:
            network(micro_batch)
        records.commit()
        torch.testing.assert_close(state, network.state_dict(), atol=1e-12, rtol=0)


def test_the_examples_run():
    assert doctest.testmod(recorded_batch_norm).failed == 0
