from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_reid.datamodules.identity_split import count_labeled, identity_split
from lightning_reid.records import ImageRecord


def people(num_identities: int, images: int = 3, unknown: int = 0) -> list[ImageRecord]:
    known = [ImageRecord(f"{pid}_{image}.jpg", pid, image) for pid in range(1, num_identities + 1) for image in range(images)]
    return known + [ImageRecord(f"unknown_{image}.jpg", -1, 1) for image in range(unknown)]


shares = st.one_of(st.sampled_from(["1/3", "1/6", "1/12"]), st.integers(2, 29))


@given(num_identities=st.integers(30, 60), labeled=shares, unknown=st.integers(0, 3), seed=st.integers(0, 99))
def test_every_record_is_on_one_side_and_no_identity_on_both(num_identities, labeled, unknown, seed):
    records = people(num_identities, unknown=unknown)
    split = identity_split(records, labeled, seed=seed)
    sides = [{records[row].pid for row in rows} for rows in (split.labeled, split.unlabeled)]
    assert sorted(split.labeled + split.unlabeled) == list(range(len(records)))
    assert not sides[0] & sides[1]
    assert sides[0] == set(split.labeled_pids)
    assert len(split.labeled_pids) == count_labeled(labeled, num_identities)
    assert split.labeled == tuple(sorted(split.labeled))


@given(labeled=shares, seed=st.integers(0, 99))
def test_the_choice_is_the_seeds_alone_whatever_the_order_of_the_records(labeled, seed):
    records = people(30)
    chosen = identity_split(records, labeled, seed=seed)
    assert identity_split(records, labeled, seed=seed) == chosen
    assert identity_split(records[::-1], labeled, seed=seed).labeled_pids == chosen.labeled_pids


def test_other_seeds_choose_other_identities():
    assert len({identity_split(people(60), "1/6", seed=seed).labeled_pids for seed in range(20)}) == 20


@given(seed=st.integers(0, 99))
def test_smaller_shares_lie_within_larger_ones_of_the_same_seed(seed):
    twelfth, sixth, third = (set(identity_split(people(48), share, seed=seed).labeled_pids) for share in ("1/12", "1/6", "1/3"))
    assert twelfth < sixth < third


def test_the_order_of_unlabeled_rows_does_not_tell_identities():
    records = people(40)
    unlabeled = identity_split(records, "1/6", seed=0).unlabeled
    neighbors = sum(records[a].pid == records[b].pid for a, b in itertools.pairwise(unlabeled))
    assert neighbors < 15  # sorted they are 66; at random 2 in 98 pairs are of one identity


@pytest.mark.parametrize(("labeled", "count"), [("1/3", 250), ("1/6", 125), ("1/12", 63), (50, 50), (751, 751)])
def test_counts_of_market1501_are_those_of_the_text(labeled, count):
    assert count_labeled(labeled, 751) == count


def test_one_labeled_identity_too_many_and_all_of_them_are_named():
    with pytest.raises(ValueError, match=r"labeled=1 of 30 training identities labels 1: at least 2 are needed"):
        identity_split(people(30), 1, seed=0)
    with pytest.raises(ValueError, match=r"labeled='1/12' of 12 training identities labels 1"):
        identity_split(people(12), "1/12", seed=0)
    with pytest.raises(ValueError, match="labeled=31 asks for more identities than exist: there are 30"):
        identity_split(people(30), 31, seed=0)
    with pytest.raises(ValueError, match="labels all 30 training identities and leaves no unlabeled image"):
        identity_split(people(30), 30, seed=0)
    with pytest.raises(ValueError, match="of 0 training identities labels 0"):
        identity_split(people(0, unknown=4), "1/6", seed=0)


def test_all_identities_may_be_labeled_when_images_without_identity_remain():
    split = identity_split(people(4, unknown=2), 4, seed=0)
    assert sorted(split.unlabeled) == [12, 13]


@pytest.mark.parametrize("labeled", ["a sixth", "1/0", ""])
def test_words_that_are_no_share_are_refused(labeled):
    with pytest.raises(ValueError, match="a number of identities such as 50 or a share such as '1/6'"):
        count_labeled(labeled, 30)


@pytest.mark.parametrize("labeled", ["0", "3/2", "-1/3", "50"])
def test_a_share_out_of_range_is_refused(labeled):
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        count_labeled(labeled, 30)
