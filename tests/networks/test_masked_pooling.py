"""Every network of clips pools what is picture and no padding: each frame by itself, then over time."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from torch import Tensor

from lightning_reid.networks import CFAAN, NVAN, STENVAN, VideoResNet50, build_backbone
from lightning_reid.networks.backbones import Backbone
from lightning_reid.networks.pooling import max_over, mean_over, picture_positions
from lightning_reid.networks.video.network import VideoNetwork

SIZE = (64, 32)
NETWORKS = {
    "baseline": lambda: VideoResNet50(backbone()),
    "baseline, max": lambda: VideoResNet50(backbone(), pooling="max"),
    "nvan": lambda: NVAN(backbone()),
    "frames halved once": lambda: STENVAN(backbone(), stripes=None, temporal_reduction=(3,)),
    "frames halved twice": lambda: STENVAN(backbone(), stripes=4),
    "cfaan": lambda: CFAAN(backbone(), heads=2, scales=1, clip_length=4, image_size=SIZE),
}


@cache
def built() -> Backbone:
    torch.manual_seed(0)
    return build_backbone("resnet18", channels=[4, 8, 8, 16], layers=[1, 1, 1, 1])


def backbone() -> Backbone:
    return copy.deepcopy(built())


def network_of(name: str) -> VideoNetwork:
    torch.manual_seed(0)
    return NETWORKS[name]().double().eval()


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.randn(3, 4, 3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def masks() -> Tensor:
    """Boxes of picture of any size; one frame, and the whole of the last clip, are without picture."""
    draw = torch.Generator().manual_seed(1)
    masks = torch.zeros(3, 4, *SIZE, dtype=torch.bool)
    for clip in masks[:2]:
        for frame in clip:
            top, left = (int(torch.randint(side // 2, (), generator=draw)) for side in SIZE)
            frame[top : top + 40, left : left + 20] = True
    masks[0, 1] = False
    return masks


def positions_spelled_out(mask: Tensor, rows: int, columns: int) -> set[tuple[int, int]]:
    """Positions of a map of which at least half of the pixels are picture."""
    height, width = mask.shape[0] // rows, mask.shape[1] // columns
    half = height * width / 2
    cells = ((r, c) for r in range(rows) for c in range(columns))
    return {(r, c) for r, c in cells if int(mask[r * height : (r + 1) * height, c * width : (c + 1) * width].sum()) >= half}


def pooled_spelled_out(feature_map: Tensor, masks: Tensor, *, largest: bool) -> Tensor:
    """The pooled embedding ``[D]`` of one clip, position by position."""
    frames, channels, rows, columns = feature_map.shape
    joined = len(masks) // frames
    pooled = torch.zeros(frames, channels, dtype=torch.float64)
    for t in range(frames):
        kept = set().union(*(positions_spelled_out(masks[n], rows, columns) for n in range(t * joined, (t + 1) * joined)))
        kept = kept or {(r, c) for r in range(rows) for c in range(columns)}
        values = [feature_map[t, :, r, c] for r, c in sorted(kept)]
        pooled[t] = torch.stack(values).amax(0) if largest else sum(values) / len(values)
    return pooled.amax(0) if largest else pooled.sum(0) / frames


@pytest.mark.parametrize("name", NETWORKS)
def test_masked_pooling_equals_every_position_spelled_out(name, clips, masks):
    network = network_of(name)
    with torch.no_grad():
        maps, output = network.feature_map(clips), network(clips, masks)
    expected = torch.stack([pooled_spelled_out(m, mask, largest="max" in name) for m, mask in zip(maps, masks)])
    torch.testing.assert_close(output.before_bnneck, expected)
    torch.testing.assert_close(output.embedding, network.neck(expected))
    assert not torch.allclose(output.before_bnneck[:2], network(clips).before_bnneck[:2])


@pytest.mark.parametrize("name", NETWORKS)
def test_masks_of_all_ones_or_of_all_zeros_change_nothing(name, clips):
    network = network_of(name)
    whole = network(clips).embedding
    for value in (True, False):
        torch.testing.assert_close(network(clips, torch.full((3, 4, *SIZE), value)).embedding, whole)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_masks_the_embedding_is_the_pooled_map_to_the_bit(name, clips):
    network = network_of(name).float()
    maps = network.feature_map(clips.float())
    by_columns = maps.transpose(1, 2).flatten(3)
    expected = by_columns.amax((2, 3)) if "max" in name else by_columns.mean((2, 3))
    if name == "cfaan":
        expected = maps.flatten(0, 1).mean((2, 3)).unflatten(0, (3, 4)).mean(1)
    assert torch.equal(network(clips.float()).before_bnneck, expected)
    assert torch.equal(network(clips.float(), None).before_bnneck, expected)


def test_where_frames_were_joined_what_is_picture_in_either_counts(clips):
    network = network_of("frames halved once")
    masks = torch.zeros(3, 4, *SIZE, dtype=torch.bool)
    masks[:, 0, :32], masks[:, 1, 32:48] = True, True  # rows 0 and 1 of four in one frame, row 2 in its neighbor
    masks[:, 2:] = True
    maps = network.feature_map(clips)
    expected = (maps[:, 0, :, :3].mean((2, 3)) + maps[:, 1].mean((2, 3))) / 2
    torch.testing.assert_close(network(clips, masks).before_bnneck, expected)


@pytest.mark.parametrize(("pool", "expected"), [(mean_over, 2.0), (max_over, 3.0)])
def test_what_lies_under_the_padding_does_not_matter_and_gets_no_gradient(pool, expected):
    feature_map = torch.tensor([[[[1.0, torch.inf], [3.0, torch.nan]]]], requires_grad=True)
    pooled = pool(feature_map, torch.tensor([[[True, False], [True, False]]]))
    pooled.sum().backward()
    assert pooled.tolist() == [[expected]]
    assert feature_map.grad[..., 1].tolist() == [[[0.0, 0.0]]]


@pytest.mark.parametrize("pool", [mean_over, max_over])
def test_the_gradient_of_masked_pooling_is_that_of_finite_differences(pool):
    feature_map = torch.randn(2, 2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    positions = torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(1)) < 0.5
    assert torch.autograd.gradcheck(lambda values: pool(values, positions), (feature_map,))


def test_a_position_is_picture_when_half_of_its_pixels_are():
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    mask[0, :2, 2:], mask[0, 2:, 1], mask[0, 2, 2:], mask[0, 3, 2] = False, False, False, False
    assert picture_positions(mask, (2, 2)).tolist() == [[[True, False], [True, False]]]


@pytest.mark.parametrize("name", ["baseline", "cfaan"])
def test_masks_that_do_not_fit_are_refused_and_so_are_parts_of_what_is_masked(name, clips):
    network = network_of(name)
    fits = r"expected masks bool \[3, 4, 64, 32\] for clips \[3, 4, 3, 64, 32\], got "
    with pytest.raises(ValueError, match=fits + r"torch.float32 \[3, 4, 64, 32\]"):
        network(clips, torch.ones(3, 4, *SIZE))
    with pytest.raises(ValueError, match=fits + r"torch.bool \[3, 64, 32\]"):
        network(clips, torch.ones(3, *SIZE, dtype=torch.bool))
    with pytest.raises(ValueError, match=fits + "True"):
        network(clips, True)  # what was with_parts once
    with pytest.raises(ValueError, match="give masks or with_parts=True, not both"):
        network(clips, torch.ones(3, 4, *SIZE, dtype=torch.bool), with_parts=True)
