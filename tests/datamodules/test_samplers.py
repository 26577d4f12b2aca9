from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_reid.datamodules.samplers import EpochPlan, identity_batches, inter_camera_batches, shard_rows
from lightning_reid.records import InterCameraPairs


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


LABELS = torch.tensor([0] * 5 + [1] * 3 + [2] * 8 + [3] * 2 + [-1] * 6 + [4] * 6)


@given(seed=st.integers(0, 50), p=st.integers(1, 5), k=st.integers(1, 6), world_size=st.integers(1, 3))
def test_every_batch_holds_p_distinct_identities_with_k_images_each(seed, p, k, world_size):
    for batch in identity_batches(LABELS, p, k, generator=rng(seed), world_size=world_size):
        drawn = LABELS[batch].view(p, k)
        assert (drawn == drawn[:, :1]).all()
        assert len(drawn[:, 0].unique()) == p
        assert (drawn >= 0).all()


def test_an_epoch_is_about_one_draw_per_labeled_image_and_a_whole_number_of_steps_for_every_process():
    labels = torch.arange(50).repeat_interleave(4)
    assert identity_batches(labels, 5, 4, generator=rng()).shape == (10, 20)
    assert identity_batches(labels, 5, 4, generator=rng(), world_size=4).shape == (8, 20)
    assert identity_batches(labels, 50, 4, generator=rng(), world_size=4).shape == (4, 200)  # at least one batch each


def test_no_image_of_an_identity_comes_twice_before_all_came_once():
    labels = torch.zeros(7, dtype=torch.int64)
    drawn = identity_batches(labels, 1, 1, generator=rng())
    assert sorted(drawn.flatten().tolist()) == list(range(7))


def test_an_identity_with_fewer_than_k_images_repeats_all_of_them():
    batch = identity_batches(torch.tensor([0, 0, 1, 1, 1]), 2, 4, generator=rng())[0]
    assert {0, 1} <= set(batch.tolist())
    assert (batch < 2).sum() == 4


def test_four_processes_of_batch_16_see_in_a_step_what_one_process_of_batch_64_sees():
    labels = torch.arange(30).repeat_interleave(9)
    one = identity_batches(labels, 16, 4, generator=rng(3))
    four = identity_batches(labels, 4, 4, generator=rng(3), world_size=4)
    assert torch.equal(four.view(-1, 64), one)


def test_the_plan_depends_on_the_generator_alone():
    assert torch.equal(identity_batches(LABELS, 3, 4, generator=rng(1)), identity_batches(LABELS, 3, 4, generator=rng(1)))
    assert not torch.equal(identity_batches(LABELS, 3, 4, generator=rng(1)), identity_batches(LABELS, 3, 4, generator=rng(2)))


def test_fewer_identities_than_p_is_an_error_that_counts_them():
    with pytest.raises(ValueError, match="wants P=6 identities, but the images have only 5"):
        identity_batches(LABELS, 6, 4, generator=rng())
    with pytest.raises(ValueError, match="only 0"):
        identity_batches(torch.full((4,), -1), 2, 4, generator=rng())


PAIRS = InterCameraPairs(  # 0-1 and 2-3 are mutual; 4 lists 0 one-sidedly; 5 has nobody
    ranked=torch.tensor([[1, 4], [0, -1], [3, -1], [2, -1], [0, -1], [-1, -1]]),
    mutual=torch.tensor([[True, False], [True, False], [True, False], [True, False], [False, False], [False, False]]),
)


def test_inter_camera_batches_draw_anchors_with_their_mutual_neighbors_only():
    batches = inter_camera_batches(PAIRS, torch.arange(6), 2, 3, num_batches=4, generator=rng())
    partner = {0: 1, 1: 0, 2: 3, 3: 2}
    assert batches.shape == (4, 6)
    for anchor, *others in batches.view(-1, 3).tolist():
        assert others == [partner[anchor]] * 2


def test_inter_camera_batches_leave_out_pairs_with_a_noise_end_and_shrink_to_the_anchors_there_are():
    labels = torch.tensor([0, 1, -1, 2, 3, 4])
    batches = inter_camera_batches(PAIRS, labels, 8, 4, num_batches=1, generator=rng())
    assert set(batches.flatten().tolist()) == {0, 1}
    assert batches.shape == (1, 8)
    assert inter_camera_batches(PAIRS, torch.full((6,), -1), 8, 4, num_batches=3, generator=rng()).shape == (3, 0)


def test_inter_camera_batches_take_noise_in_where_they_are_told_to():
    labels = torch.tensor([0, 1, -1, 2, -1, -1])
    batches = inter_camera_batches(PAIRS, labels, 8, 2, num_batches=1, generator=rng(), noise=True)
    assert sorted(map(tuple, batches.view(-1, 2).tolist())) == [(0, 1), (1, 0), (2, 3), (3, 2)]


def test_ranks_take_whole_batches_in_turn_and_positions_never_repeat():
    plan = EpochPlan(torch.arange(24).view(4, 6), torch.arange(24) * 10, epoch=3, beside=torch.arange(8).view(4, 2))
    ranks = [list(plan.batches(rank, 2)) for rank in range(2)]
    assert plan.length(2) == 2
    assert [len(batches) for batches in ranks] == [2, 2]
    assert [draw.row for draw in ranks[1][0]] == [6, 7, 8, 9, 10, 11, 2, 3]
    assert [draw.part for draw in ranks[1][0]] == [0] * 6 + [1] * 2
    positions = [draw.position for batches in ranks for batch in batches for draw in batch]
    assert len(set(positions)) == len(positions) == 32


def test_a_draw_carries_its_label_and_epoch_since_a_worker_knows_neither():
    plan = EpochPlan(torch.arange(24).view(4, 6), torch.arange(24) * 10, epoch=3)
    for batch in plan.batches(0, 1):
        assert [draw.label for draw in batch] == [10 * draw.row for draw in batch]
        assert {draw.epoch for draw in batch} == {3}


@given(start=st.integers(0, 4), world_size=st.integers(1, 2))
def test_a_plan_that_goes_on_gives_the_batches_that_are_left(start, world_size):
    plan = EpochPlan(torch.arange(48).view(8, 6), torch.zeros(48, dtype=torch.int64), epoch=0)
    for rank in range(world_size):
        assert list(plan.batches(rank, world_size, start)) == list(plan.batches(rank, world_size))[start:]


@given(num_rows=st.integers(1, 30), world_size=st.integers(1, 5))
def test_shards_cover_all_rows_and_are_equally_long(num_rows, world_size):
    shards = [shard_rows(num_rows, rank, world_size) for rank in range(world_size)]
    assert len({len(shard) for shard in shards}) == 1
    assert {row for shard in shards for row in shard} == set(range(num_rows))
