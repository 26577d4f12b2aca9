"""Whether somebody is found again some frames later, beside a slow version that says it plainly."""

from __future__ import annotations

import pytest
import torch

from lightning_reid.metrics import Reassociation, reassociation_scores


def slow(embeddings, frames, tracks, gap):
    """Track, rank and gallery size of each query that is there again; and how many queries there are."""
    found, asked = [], 0
    order = sorted(range(len(frames)), key=lambda row: (int(frames[row]), row))
    for row in order:
        gallery = [other for other in order if frames[other] == frames[row] + gap]
        asked += bool(gallery)
        cosines = [float(torch.cosine_similarity(embeddings[row], embeddings[other], dim=0)) for other in gallery]
        ranked = [gallery[place] for place in sorted(range(len(gallery)), key=lambda place: -cosines[place])]
        ranks = [rank for rank, other in enumerate(ranked, start=1) if tracks[other] == tracks[row]]
        found += [(int(tracks[row]), rank, len(gallery)) for rank in ranks]
    return found, asked


def walk(seed: int, num_tracks: int = 9, num_frames: int = 14):
    """Tracks that come and go, in shuffled rows, some frames without anybody."""
    draw = torch.Generator().manual_seed(seed)
    seen = torch.rand(num_frames, num_tracks, generator=draw) < 0.6
    seen[5] = False
    frames, tracks = seen.nonzero(as_tuple=True)
    order = torch.randperm(len(frames), generator=draw)
    looks = torch.randn(num_tracks, 6, generator=draw, dtype=torch.float64)
    embeddings = looks[tracks] + 1.5 * torch.randn(len(tracks), 6, generator=draw, dtype=torch.float64)
    return embeddings[order], 3 + frames[order], 40 + tracks[order]


@pytest.mark.parametrize("gap", [1, 3, 8])
@pytest.mark.parametrize("seed", range(3))
def test_it_equals_the_slow_version(gap, seed):
    rows = walk(seed)
    expected, asked = slow(*rows, gap)
    found = reassociation_scores(*rows, gap)
    assert found.scores.query_pids.tolist() == [track for track, _, _ in expected]
    assert found.scores.first_match_rank.tolist() == [rank for _, rank, _ in expected]
    assert found.gallery_sizes.tolist() == [size for _, _, size in expected]
    assert (found.scores.num_queries, found.scores.num_unmatched_queries) == (asked, asked - len(expected))
    assert found.scores.mAP == pytest.approx(sum(1 / rank for _, rank, _ in expected) / len(expected))
    assert float(found.scores.cmc[0]) == pytest.approx(sum(rank == 1 for _, rank, _ in expected) / len(expected))
    assert found.chance == pytest.approx(sum(1 / size for _, _, size in expected) / len(expected))
    assert found.mean_gallery_size == pytest.approx(sum(size for _, _, size in expected) / len(expected))


def test_frames_one_by_one_over_several_gaps_are_scored_as_all_at_once():
    embeddings, frames, tracks = walk(4)
    video = Reassociation([2, 5])
    for frame in frames.unique().tolist():
        video.update(frame, embeddings[frames == frame], tracks[frames == frame])
        assert len(video._window) <= 6  # no more than the longest gap needs
    for gap in (2, 5):
        assert torch.equal(
            video.scores(gap).scores.first_match_rank, reassociation_scores(embeddings, frames, tracks, gap).scores.first_match_rank
        )


def test_somebody_who_guesses_does_as_well_as_chance():
    draw = torch.Generator().manual_seed(0)
    frames, tracks = torch.arange(400).repeat_interleave(5), torch.arange(5).repeat(400)
    found = reassociation_scores(torch.randn(2000, 8, generator=draw), frames, tracks, 1)
    assert found.chance == pytest.approx(0.2)
    assert float(found.scores.cmc[0]) == pytest.approx(0.2, abs=0.03)


def test_boxes_of_equal_similarity_rank_in_their_order():
    embeddings, tracks = torch.ones(6, 3), torch.tensor([1, 2, 3])
    found = reassociation_scores(embeddings, torch.tensor([0, 0, 0, 4, 4, 4]), torch.cat([tracks, tracks.flip(0)]), 4)
    assert found.scores.first_match_rank.tolist() == [3, 2, 1]


def test_one_box_is_found_for_certain_and_chance_says_so():
    found = reassociation_scores(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([1, 2]), torch.tensor([8, 8]), 1)
    assert (found.scores.mAP, found.chance) == (1.0, 1.0)


@pytest.mark.parametrize("gap", [1, 2, 9])
def test_a_gap_over_which_nobody_is_seen_again_is_refused(gap):
    rows = torch.eye(3), torch.tensor([1, 2, 3]), torch.tensor([1, 2, 3])
    with pytest.raises(ValueError, match=f"no track has boxes in two frames that are {gap} apart. Give a shorter gap"):
        reassociation_scores(*rows, gap)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((torch.eye(2), torch.tensor([1, 1]), torch.tensor([5, 5])), "frame 1 needs a track of its own for each of 2 boxes"),
        ((torch.eye(2), torch.tensor([1]), torch.tensor([5, 6])), r"a frame and a track for each, got \[\(2, 2\), \(1,\), \(2,\)\]"),
        ((torch.eye(2) / 0, torch.tensor([1, 2]), torch.tensor([5, 6])), "1 of 1 frame 1 embeddings hold NaN"),
    ],
)
def test_what_cannot_be_compared_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        reassociation_scores(*rows, 1)


def test_frames_out_of_order_and_gaps_that_are_none_are_refused():
    video = Reassociation([3])
    video.update(4, torch.eye(2), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="ascending order, got frame 4 after 4"):
        video.update(4, torch.eye(2), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"the gaps are \[3\], got 2"):
        video.scores(2)
    with pytest.raises(ValueError, match="gap must be"):
        Reassociation([0])
    for gaps in ([], [2, 2]):
        with pytest.raises(ValueError, match="one or more gaps, each once"):
            Reassociation(gaps)
