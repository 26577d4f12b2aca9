"""From the frames of a noisy tracklet and the people found in them to aligned frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_reid.linking.placing import cut_out, place_person, side_of_slim_box, whole_frame
from lightning_reid.linking.running_embedding import NOBODY, candidates_to_embed, link_candidates

EmbedCrops = Callable[[list[Tensor]], Tensor]
"""``n`` crops ``[3, h, w]`` uint8 RGB of any sizes to embeddings ``[n, D]`` float."""


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
