"""Which of many perceptual hashes differ in few bits, without comparing each with each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

NEAR = 3
"""Bits of 64 by which the hashes of two pictures differ that are nearly the same."""
_BITS = 64
_PIECES = 2 * NEAR
_MASKS = [sum(1 << bit for bit in range(piece, _BITS, _PIECES)) for piece in range(_PIECES)]
"""The bits of each piece of a hash: every sixth, for bits that lie side by side tell of the same part of a picture."""
_TWOS, _FOURS, _EIGHTS, _ONE_EACH = (np.uint64(int(byte * 8, 16)) for byte in ("55", "33", "0f", "01"))


def near_pairs(hashes: Sequence[int]) -> tuple[list[list[int]], list[tuple[int, int]]]:
    """Places of hashes that are the same, and pairs of these groups that differ in at most ``NEAR`` bits; all there are.

    Two hashes that differ in three bits have three of six pieces in common: only those are compared that agree in three.

    Args:
        hashes: Of 64 bits each.

    Returns:
        The groups, each in order, in the order of their first places, a single place too; and pairs of places in the list of groups.

    Example:
        >>> from lightning_reid.command_line.near_hashes import near_pairs
        >>> near_pairs([0b1011, 0b1000, 0b1111 << 40, 0b1011])
        ([[0, 3], [1], [2]], [(0, 1)])
    """
    groups: dict[int, list[int]] = {}
    for place, one in enumerate(hashes):
        groups.setdefault(one, []).append(place)
    different = np.array(list(groups), dtype=np.uint64)
    found = [_agreeing(different, np.uint64(sum(masks))) for masks in combinations(_MASKS, _PIECES - NEAR)]
    pairs = np.unique(np.concatenate([np.sort(one, axis=1) for one in found]), axis=0)
    return list(groups.values()), [(int(a), int(b)) for a, b in pairs]


def _agreeing(hashes: NDArray[np.uint64], mask: np.uint64) -> NDArray[np.int64]:
    """``[M, 2]`` places of near hashes that agree in the bits of a mask."""
    order = np.argsort(hashes & mask, kind="stable")
    ordered = hashes[order]
    keys = ordered & mask
    found, left, step = [np.empty((0, 2), dtype=np.int64)], np.arange(len(keys)), 1
    while True:  # who has the same key as the next but one has it as the next: fewer are left with every step
        left = left[left + step < len(keys)]
        left = left[keys[left + step] == keys[left]]
        if not len(left):
            return np.concatenate(found)
        near = left[_num_bits(ordered[left] ^ ordered[left + step]) <= NEAR]
        found.append(np.stack([order[near], order[near + step]], axis=1))
        step += 1


def _num_bits(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """How many bits of each are 1, counted in pairs, fours, bytes and all of them: NumPy has it from version 2 on."""
    twos = numbers - ((numbers >> np.uint64(1)) & _TWOS)
    fours = (twos & _FOURS) + ((twos >> np.uint64(2)) & _FOURS)
    counted: NDArray[np.uint64] = (((fours + (fours >> np.uint64(4))) & _EIGHTS) * _ONE_EACH) >> np.uint64(56)
    return counted
