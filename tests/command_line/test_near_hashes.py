"""Perceptual hashes that differ in few bits: all are found, of however many."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_reid.command_line.near_hashes import NEAR, near_pairs


def compared_with_each(hashes: list[int]) -> tuple[list[list[int]], list[tuple[int, int]]]:
    different = list(dict.fromkeys(hashes))
    groups = [[place for place, one in enumerate(hashes) if one == other] for other in different]
    near = [(a, b) for b in range(len(different)) for a in range(b) if (different[a] ^ different[b]).bit_count() <= NEAR]
    return groups, sorted(near)


some_bits = st.lists(st.integers(0, 63), max_size=6)


@given(bases=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4), flips=st.lists(some_bits, max_size=40), at=st.randoms())
def test_all_are_found_that_comparing_each_with_each_finds(bases, flips, at):
    hashes = list(bases)
    for bits in flips:
        hashes.append(at.choice(bases) ^ sum({1 << bit for bit in bits}))
    assert near_pairs(hashes) == compared_with_each(hashes)


@pytest.mark.parametrize("bits", [[0], [63], [0, 1, 2], [0, 6, 12], [5, 11, 63], [0, 1, 63]])
def test_three_bits_are_near_wherever_they_lie_and_four_are_not(bits):
    other = sum(1 << bit for bit in bits)
    assert near_pairs([2**64 - 1, (2**64 - 1) ^ other])[1] == [(0, 1)]
    far = other | sum(1 << bit for bit in (20, 30, 40, 50))
    assert near_pairs([0, far])[1] == []


def test_no_hash_and_a_single_one_are_near_to_none():
    assert near_pairs([]) == ([], [])
    assert near_pairs([7]) == ([[0]], [])


def test_of_a_hundred_thousand_hashes_the_same_third_is_one_group():
    draws = np.random.default_rng(0)
    hashes = [0] * 30_000 + draws.integers(1, 2**63, 70_000).tolist() + [0b111]
    began = time.perf_counter()
    groups, near = near_pairs(hashes)
    assert time.perf_counter() - began < 20, "each with each would be five thousand million pairs"
    assert len(groups[0]) == 30_000
    assert near == [(0, len(groups) - 1)]
