import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from lightning_reid.losses import batch_hard_triplet_loss, weighted_triplet_loss
from lightning_reid.networks import EmbeddingNetwork, build_backbone, group_batch_norm
from lightning_reid.networks.batch_norm import GroupedBatchNorm

WORLD, GROUP = 4, 16


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3, stride=2), BatchNormAct2d(5), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.BatchNorm1d(5)).double()


def step(network: nn.Module, images: Tensor, labels: Tensor, group_size: int | None) -> dict[str, Tensor]:
    """Loss, gradients and running statistics after one training step's forward and backward."""
    embeddings = network(images)
    loss = batch_hard_triplet_loss(embeddings, labels, group_size=group_size) + weighted_triplet_loss(
        embeddings, labels, group_size=group_size
    )
    loss.backward()
    gradients = {f"gradient of {name}": parameter.grad for name, parameter in network.named_parameters()}
    return {"loss": loss.detach()} | gradients | dict(network.named_buffers())


def batch() -> tuple[Tensor, Tensor]:
    return draw(WORLD * GROUP, 3, 12, 8, seed=1), torch.arange(WORLD * GROUP) // 4 % 6


def one_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)  # a forked child would wait for the parent's pool of threads, which it has not
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=WORLD)
    network = nn.parallel.DistributedDataParallel(group_batch_norm(small_network(), GROUP))
    for _ in range(2):  # twice, for running statistics that were not fresh
        network.zero_grad()
        images, labels = (part[rank * GROUP : (rank + 1) * GROUP] for part in batch())
        values = step(network, images, labels, GROUP)
    dist.all_reduce(values["loss"])
    values["loss"] /= WORLD
    torch.save({name.replace("module.", ""): value for name, value in values.items()}, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_one_process_of_64_equals_four_of_16_in_losses_gradients_and_running_statistics(tmp_path):
    mp.start_processes(one_rank, args=(tmp_path,), nprocs=WORLD, start_method="fork")
    network = group_batch_norm(small_network(), GROUP)
    for _ in range(2):
        network.zero_grad()
        alone = step(network, *batch(), GROUP)
    for rank in range(WORLD):
        together = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(together, alone, atol=1e-10, rtol=0)


def test_each_group_is_normalized_as_plain_batch_norm_would_alone():
    plain, images = small_network(), draw(8, 3, 12, 8)
    grouped = group_batch_norm(copy.deepcopy(plain), 4)
    torch.testing.assert_close(grouped(images), torch.cat([plain(images[:4]), plain(images[4:])]), atol=1e-12, rtol=0)


def test_running_statistics_are_the_means_of_the_groups_worked_by_hand():
    layer = group_batch_norm(nn.BatchNorm1d(1), 2)
    layer(torch.tensor([[0.0], [2.0], [10.0], [14.0]]))
    # means 1 and 12, unbiased variances 2 and 8: 0.9 * 0 + 0.1 * 6.5 and 0.9 * 1 + 0.1 * 5
    assert layer.running_mean.item() == pytest.approx(0.65)
    assert layer.running_var.item() == pytest.approx(1.4)
    assert layer.num_batches_tracked.item() == 1


@pytest.mark.parametrize("momentum", [0.3, None])
def test_one_group_as_large_as_the_batch_is_plain_batch_norm(momentum):
    plain = nn.BatchNorm2d(3, momentum=momentum).double()
    grouped = group_batch_norm(copy.deepcopy(plain), 6)
    for seed in range(3):
        images = draw(6, 3, 4, 2, seed=seed)
        torch.testing.assert_close(grouped(images), plain(images))
    torch.testing.assert_close(grouped.state_dict(), plain.state_dict())


def test_evaluation_and_state_dict_are_those_of_the_plain_network():
    plain, images = small_network(), draw(5, 3, 12, 8)
    plain(draw(8, 3, 12, 8, seed=1))
    grouped = group_batch_norm(small_network(), 4)
    grouped.load_state_dict(plain.state_dict())
    torch.testing.assert_close(grouped.eval()(images), plain.eval()(images))
    small_network().load_state_dict(grouped.state_dict())


def test_parameters_are_shared_with_an_optimizer_made_before():
    network = small_network()
    parameters = set(network.parameters())
    assert group_batch_norm(network, 4) is network
    assert set(network.parameters()) == parameters
    assert sum(isinstance(layer, GroupedBatchNorm) for layer in network.modules()) == 3


@pytest.mark.parametrize(("name", "options"), [("resnet18", {"channels": [4, 8, 8, 16]}), ("mobilenetv2_035", {})])
def test_every_batch_norm_of_a_backbone_is_grouped(name, options):
    network = group_batch_norm(EmbeddingNetwork(build_backbone(name, **options)), 2)
    leftovers = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert leftovers
    assert all(type(layer) is GroupedBatchNorm for layer in leftovers)
    assert not network.neck.bias.requires_grad
    halves = torch.randn(4, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    together = network(halves).embedding
    torch.testing.assert_close(together, torch.cat([network(half).embedding for half in halves.split(2)]), atol=1e-4, rtol=1e-3)


def test_a_second_call_changes_the_group_size():
    layer = group_batch_norm(group_batch_norm(nn.BatchNorm1d(2), 4), 2)
    assert layer.group_size == 2
    assert layer(draw(6, 2).float()).shape == (6, 2)


def test_channels_last_and_autocast_are_kept():
    layer = group_batch_norm(nn.BatchNorm2d(4), 2)
    images = draw(4, 4, 6, 5).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    output = layer(images)
    assert output.dtype == torch.bfloat16
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert layer.running_mean.dtype == torch.float32


def test_the_grouped_network_compiles_without_a_graph_break():
    network, images = group_batch_norm(small_network(), 2), draw(4, 3, 12, 8)
    compiled = torch.compile(copy.deepcopy(network), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), network(images))


def test_a_batch_that_does_not_divide_is_refused_in_training_only():
    layer = group_batch_norm(nn.BatchNorm1d(2), 4)
    with pytest.raises(ValueError, match="a batch of 6 cannot be cut into groups of 4: make the batch size a multiple of bn_group"):
        layer(torch.zeros(6, 2))
    assert layer.eval()(torch.zeros(6, 2)).shape == (6, 2)


def test_a_number_of_groups_cuts_whatever_number_of_rows_a_layer_sees():
    layer, plain = group_batch_norm(nn.BatchNorm2d(3).double(), num_groups=2), nn.BatchNorm2d(3).double()
    frames, clips = draw(2 * 4 * 2, 3, 5, 2), draw(2 * 4, 3, 1, 1, seed=1)  # four clips of four frames, halved twice
    for rows in (frames, clips):
        torch.testing.assert_close(layer(rows), torch.cat([plain(half) for half in rows.chunk(2)]), atol=1e-12, rtol=0)
    assert layer.num_batches_tracked.item() == 2


def test_so_many_groups_are_groups_of_that_size():
    by_number, by_size = group_batch_norm(small_network(), num_groups=4), group_batch_norm(small_network(), GROUP)
    torch.testing.assert_close(step(by_number, *batch(), GROUP), step(by_size, *batch(), GROUP), atol=0, rtol=0)


@pytest.mark.parametrize(("rows", "shape"), [(2, (3,)), (4, (3,)), (1, (3, 1)), (0, (3, 2))])
def test_a_group_of_one_value_a_channel_is_refused_in_training_only(rows, shape):
    layer = group_batch_norm(nn.BatchNorm1d(3), num_groups=max(rows, 1))
    with pytest.raises(ValueError, match=rf"a group of {min(rows, 1)} of the rows of \[{rows}, 3.*\] has no variance"):
        layer(torch.zeros(rows, *shape))
    assert layer.eval()(torch.zeros(rows, *shape)).shape == (rows, *shape)


def test_a_single_row_of_several_values_is_a_group():
    layer, rows = group_batch_norm(nn.BatchNorm2d(3), num_groups=2), draw(2, 3, 4, 4).float()
    torch.testing.assert_close(layer(rows).mean((2, 3)), torch.zeros(2, 3), atol=1e-6, rtol=0)


@pytest.mark.parametrize("rows", [6, 2])
def test_a_batch_that_does_not_divide_by_the_number_of_groups_is_refused(rows):
    with pytest.raises(ValueError, match=f"{rows} rows cannot be cut into 4 equal groups: make the batch size a multiple of 4"):
        group_batch_norm(nn.BatchNorm1d(2), num_groups=4)(torch.zeros(rows, 2))


def test_either_a_size_or_a_number_of_groups_is_given():
    for size, number in ((None, None), (4, 2)):
        with pytest.raises(ValueError, match=f"give either group_size or num_groups, got {size} and {number}"):
            group_batch_norm(nn.BatchNorm1d(2), size, num_groups=number)
    for number in (0, -1, 2.0, True, "2"):
        with pytest.raises(ValueError, match="num_groups must be a whole number of at least 1, got"):
            group_batch_norm(nn.BatchNorm1d(2), num_groups=number)


def test_a_second_call_changes_size_to_number_and_keeps_whom_the_statistics_are_shared_with():
    layer = group_batch_norm(BatchNormAct2d(2), 4)
    layer.process_group = processes = object()
    changed = group_batch_norm(layer, num_groups=3)
    assert (changed.group_size, changed.num_groups, changed.process_group) == (None, 3, processes)
    assert isinstance(changed.act, nn.ReLU)
    assert "num_groups=3" in repr(changed)


def test_a_layer_that_is_used_twice_stays_one_layer():
    layer = nn.BatchNorm1d(2)
    network = group_batch_norm(nn.Sequential(layer, nn.Sequential(layer), layer), 2)
    assert network[0] is network[1][0] is network[2]
    assert isinstance(network[0], GroupedBatchNorm)


def test_a_refused_network_is_left_as_it_was():
    network = nn.Sequential(nn.BatchNorm1d(2), nn.SyncBatchNorm(2))
    with pytest.raises(ValueError, match="cannot normalize a SyncBatchNorm over groups"):
        group_batch_norm(network, 4)
    assert type(network[0]) is nn.BatchNorm1d


def layers_of_their_own(rows: Tensor) -> tuple[Tensor, str]:
    """The running mean of a layer that no other rank has, of other channels too; and what a process outside of the group hears."""
    rank = dist.get_rank()
    groups = [dist.new_group([0]), dist.new_group([1])]
    layer = group_batch_norm(nn.BatchNorm1d(2 + rank), num_groups=1)
    layer.process_group = groups[rank]
    layer(rows[:, : 2 + rank])
    layer.process_group = groups[1 - rank]
    try:
        layer(rows[:, : 2 + rank])
    except ValueError as error:
        return layer.running_mean, str(error)
    return layer.running_mean, ""


def test_ranks_with_different_layers_do_not_share_their_statistics(two_processes):
    rows = draw(6, 3).float()
    answers = two_processes(layers_of_their_own, rows)
    for rank, (mean, refusal) in enumerate(answers):
        torch.testing.assert_close(mean, 0.1 * rows[:, : 2 + rank].mean(0))
        assert "a process group that this process does not belong to" in refusal


def test_a_group_of_one_and_synchronized_batch_norm_are_refused():
    with pytest.raises(ValueError, match="group_size must be a whole number of at least 2, got 1"):
        group_batch_norm(nn.BatchNorm1d(2), 1)
    with pytest.raises(ValueError, match="cannot normalize a SyncBatchNorm over groups"):
        group_batch_norm(nn.Sequential(nn.SyncBatchNorm(2)), 4)
