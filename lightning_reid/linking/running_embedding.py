"""Which of the people found in each frame of a tracklet is the one it is about."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

NOBODY = -1
"""The choice in a frame without candidates."""


def largest_box(boxes: Tensor) -> int:
    """The row of the box of largest area in ``[K, 4]`` (x0, y0, x1, y1), K at least 1; the first of equal ones."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return int((sides[:, 0] * sides[:, 1]).argmax())


def candidates_to_embed(boxes: Sequence[Tensor]) -> list[tuple[int, int]]:
    """The (frame, candidate) pairs whose embeddings ``link_candidates`` looks at.

    These are the first choice and all candidates from there to the last frame with several of them. Later frames leave no choice that
    the running embedding could decide; where every frame after the first choice has one candidate at most, the list is empty.

    Args:
        boxes: Per frame the candidates ``[K, 4]``; K may be 0.
    """
    first = next((frame for frame, candidates in enumerate(boxes) if len(candidates)), None)
    last = max((frame for frame, candidates in enumerate(boxes) if len(candidates) > 1), default=-1)
    if first is None or last <= first:
        return []
    later = [(frame, row) for frame in range(first + 1, last + 1) for row in range(len(boxes[frame]))]
    return [(first, largest_box(boxes[first])), *later]


def link_candidates(boxes: Sequence[Tensor], embeddings: Sequence[Tensor], *, alpha: float = 0.9) -> Tensor:
    """Follow one person through a tracklet by a running embedding (eq. 2.2: ``f_g = alpha f_g + (1 - alpha) f_i``).

    In the first frame with candidates the largest box is the person, and its embedding is ``f_g``. In every later frame the candidate
    nearest to ``f_g`` (Euclidean distance; the first of equally near ones) is, and ``f_g`` moves towards it. Frames without candidates
    leave ``f_g`` as it is.

    Source: re-detect and link, section 2.5.1.

    Args:
        boxes: F frames' candidates, ``[K_f, 4]`` float x0, y0, x1, y1 in pixels; K_f may be 0.
        embeddings: F tensors ``[K_f, D]`` float. Rows that ``candidates_to_embed`` does not list may hold anything.
        alpha: Share of the old running embedding, in [0, 1]; 1 keeps the first choice's, 0 compares with the previous frame.

    Returns:
        ``[F]`` int64 on the CPU: the row of the chosen candidate, -1 in frames without any.

    Raises:
        ValueError: ``alpha`` is out of range, the numbers of frames or candidates differ, or an embedding that counts is not finite.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is the share of the old running embedding, in [0, 1], got {alpha}")
    shapes = [len(rows) for rows in boxes], [len(rows) for rows in embeddings]
    if shapes[0] != shapes[1]:
        raise ValueError(f"boxes and embeddings must have the same candidates a frame, got {shapes[0]} and {shapes[1]}")
    to_embed = candidates_to_embed(boxes)
    last = to_embed[-1][0] if to_embed else -1
    _require_finite(embeddings, to_embed)
    chosen = torch.full((len(boxes),), NOBODY, dtype=torch.int64)
    running: Tensor | None = None
    for frame, candidates in enumerate(boxes):
        if len(candidates) == 0:
            continue
        if running is None:
            row = largest_box(candidates)
            running = embeddings[frame][row]
        else:
            row = _nearest(embeddings[frame], running) if len(candidates) > 1 else 0
            if frame <= last:
                running = alpha * running + (1 - alpha) * embeddings[frame][row]
        chosen[frame] = row
    return chosen


def _nearest(embeddings: Tensor, running: Tensor) -> int:
    # differences, not the expanded square: near ties must not be decided by its cancellation
    return int((embeddings - running).square().sum(1).argmin())


def _require_finite(embeddings: Sequence[Tensor], rows: Sequence[tuple[int, int]]) -> None:
    broken = [(frame, row) for frame, row in rows if not embeddings[frame][row].isfinite().all()]
    if broken:
        frame, row = broken[0]
        raise ValueError(
            f"the embedding of candidate {row} in frame {frame} holds NaN or infinite numbers, as do {len(broken) - 1} others: "
            "the extractor's weights are of a diverged training"
        )
