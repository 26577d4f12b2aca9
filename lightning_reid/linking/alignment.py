"""From the frames of a noisy tracklet and the people found in them to aligned frames of the one whom it is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_reid.linking.placing import cut_out, place_person, side_of_slim_box, whole_frame

EmbedCrops = Callable[[list[Tensor]], Tensor]
"""``n`` crops ``[3, h, w]`` uint8 RGB of any sizes to embeddings ``[n, D]`` float."""

NOBODY = -1
"""The choice in a frame without candidates."""


@dataclass(frozen=True)
class AlignedTracklet:
    """A tracklet of F frames after linking and placing.

    Attributes:
        frames: ``[F, 3, H, W]`` uint8 RGB.
        pictures: ``[F, 4]`` int32 x0, y0, x1, y1, ends excluded: the part of each frame that is picture, not padding.
        boxes: ``[F, 4]`` float32, the chosen boxes in pixels of the original frames; NaN where nobody was found.
        num_candidates: ``[F]`` int64, people found in each frame; where it is 0 the frame was kept whole.
        shifted: ``[F]`` bool, slim boxes at a side, which were shifted and padded.

    Example:
        >>> import torch
        >>> from lightning_reid.linking import AlignedTracklet, align_tracklet
        >>> frames = [torch.zeros(3, 64, 32, dtype=torch.uint8)] * 2
        >>> boxes = [torch.tensor([[8.0, 4.0, 24.0, 60.0]]), torch.empty(0, 4)]  # nobody was found in the second frame
        >>> aligned = align_tracklet(frames, boxes, embed=lambda crops: torch.ones(len(crops), 1), image_size=(64, 32))
        >>> isinstance(aligned, AlignedTracklet), aligned.frames.shape, aligned.num_candidates.tolist()
        (True, torch.Size([2, 3, 64, 32]), [1, 0])
    """

    frames: Tensor
    pictures: Tensor
    boxes: Tensor
    num_candidates: Tensor
    shifted: Tensor


def align_tracklet(
    frames: Sequence[Tensor],
    boxes: Sequence[Tensor],
    embed: EmbedCrops,
    *,
    image_size: tuple[int, int],
    alpha: float = 0.9,
    batch_size: int = 32,
) -> AlignedTracklet:
    """Choose the person in every frame by ``link_candidates`` and place them by ``place_person``; frames without anybody stay whole.

    Source: re-detect and link, section 2.5.1.

    Args:
        frames: F, at least one, ``[3, h, w]`` uint8 RGB, of any sizes.
        boxes: The people found in each, ``[K_f, 4]`` float x0, y0, x1, y1 in pixels within the frame.
        embed: Makes the embeddings that decide between candidates; not called where there is nothing to decide.
        image_size: (H, W) in pixels of the aligned frames.
        alpha: Share of the old running embedding, in [0, 1].
        batch_size: Crops a call of ``embed``.

    Raises:
        ValueError: There is no frame, the numbers of frames and boxes differ, ``alpha`` is out of range, an embedding is not finite, or a
            box is not within its frame.

    Example:
        >>> import torch
        >>> from lightning_reid.linking import align_tracklet
        >>> dark, bright = torch.zeros(3, 64, 32, dtype=torch.uint8), torch.full((3, 64, 32), 255, dtype=torch.uint8)
        >>> frames = [torch.cat([dark, bright], dim=2), torch.cat([bright, dark], dim=2)]
        >>> left, right = torch.tensor([[0.0, 0.0, 32.0, 64.0]]), torch.tensor([[32.0, 0.0, 64.0, 64.0]])
        >>> embed = lambda crops: torch.stack([torch.stack([one.float().mean(), 255 - one.float().mean()]) for one in crops])
        >>> aligned = align_tracklet(frames, [left, torch.cat([left, right])], embed, image_size=(64, 32))
        >>> aligned.boxes[1].tolist(), aligned.num_candidates.tolist()  # of two candidates the dark one, as in the first frame
        ([32.0, 0.0, 64.0, 64.0], [1, 2])
    """
    if not frames or len(frames) != len(boxes):
        raise ValueError(f"need at least one frame and the boxes of each, got {len(frames)} frames and the boxes of {len(boxes)}")
    chosen = link_candidates(boxes, _embeddings(frames, boxes, embed, batch_size), alpha=alpha).tolist()
    placed, kept, shifted = [], [], []
    for frame, candidates, row in zip(frames, boxes, chosen):
        if row == NOBODY:
            placed.append(whole_frame(frame, image_size))
            kept.append(torch.full((4,), torch.nan))
        else:
            placed.append(place_person(frame, candidates[row], image_size))
            kept.append(candidates[row].float())
        shifted.append(row != NOBODY and side_of_slim_box(candidates[row], frame.shape[2], image_size) != 0)
    return AlignedTracklet(
        frames=torch.stack([person.image for person in placed]),
        pictures=torch.tensor([person.picture for person in placed], dtype=torch.int32),
        boxes=torch.stack(kept),
        num_candidates=torch.tensor([len(candidates) for candidates in boxes]),
        shifted=torch.tensor(shifted),
    )


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


def _embeddings(frames: Sequence[Tensor], boxes: Sequence[Tensor], embed: EmbedCrops, batch_size: int) -> list[Tensor]:
    """``[K_f, D]`` a frame, NaN where ``link_candidates`` does not look; crops of all frames go through together."""
    pairs = candidates_to_embed(boxes)
    if not pairs:
        return [torch.empty(len(candidates), 0) for candidates in boxes]
    crops = [cut_out(frames[frame], boxes[frame][row]) for frame, row in pairs]
    embedded = torch.cat([embed(crops[start : start + batch_size]).cpu() for start in range(0, len(crops), batch_size)])
    embeddings = [embedded.new_full((len(candidates), embedded.shape[1]), torch.nan) for candidates in boxes]
    for (frame, row), embedding in zip(pairs, embedded):
        embeddings[frame][row] = embedding
    return embeddings


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
