"""Rows of one person are dealt to all micro-batches, over which BatchNorm normalizes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_reid.networks import group_batch_norm
from lightning_reid.pipeline.dealing import dealt_rows


@given(each=st.integers(1, 9), microbatches=st.integers(1, 9))
def test_every_row_is_dealt_once_and_lies_in_the_micro_batch_of_its_number_modulo_theirs(each, microbatches):
    order = dealt_rows(each * microbatches, microbatches).tolist()
    assert sorted(order) == list(range(each * microbatches))
    assert [row % microbatches for row in order] == [number // each for number in range(len(order))]


@pytest.mark.parametrize(("rows", "microbatches"), [(7, 2), (4, 0), (2, 4)])
def test_rows_that_cannot_be_dealt_evenly_are_refused(rows, microbatches):
    with pytest.raises(ValueError, match=f"{rows} rows cannot be dealt to {microbatches} micro-batches"):
        dealt_rows(rows, microbatches)


def test_a_micro_batch_of_one_person_would_lose_what_people_look_like_and_dealt_ones_keep_it():
    looks = torch.tensor([-3.0, 0.0, 1.0, 6.0]).repeat_interleave(4)[:, None]  # four people with four rows each
    layer = group_batch_norm(torch.nn.BatchNorm1d(1), num_groups=4).train()
    as_they_come = layer(looks)
    order = dealt_rows(16, 4)
    dealt = layer(looks[order])[order.argsort()]
    assert as_they_come.abs().max() < 1e-2  # nothing is left but rounding
    assert dealt[::4].flatten().argsort().tolist() == [0, 1, 2, 3]
    assert (dealt.reshape(4, 4).diff(dim=0) > 0.1).all()
