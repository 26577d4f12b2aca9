"""Attention that is received, against loops over who looks at whom."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_reid.networks import CFAAN, NVAN, STENVAN, VideoResNet50
from lightning_reid.networks.video.attention_maps import attention_maps
from lightning_reid.networks.video.non_local import NonLocalBlock

CLIPS = torch.randint(256, (2, 4, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
TINY = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}


def cfaan() -> CFAAN:
    wide = {"channels": [16, 16, 32, 32], "layers": [1, 1, 1, 1]}
    return CFAAN("resnet18", heads=2, scales=2, clip_length=4, image_size=(64, 32), **wide)


@pytest.mark.parametrize(("stripes", "group"), [(None, None), (None, 2), (2, None), (2, 1)])
def test_the_shares_of_a_block_are_those_that_loops_find(stripes, group):
    torch.manual_seed(0)
    block, clips = NonLocalBlock(4, stripes=stripes, frames_per_group=group).double(), torch.randn(2, 4, 4, 4, 2).double()
    found = block.requires_grad_(False).received_attention(clips)
    rows = 4 if stripes is None else stripes
    columns = 2 if stripes is None else 1
    assert found.shape == (2, 4, rows, columns)
    for clip in range(2):
        places = [(frame, y, x) for frame in range(4) for y in range(rows) for x in range(columns)]

        def feature(place, embed, clip=clip):
            frame, y, x = place
            seen = clips[clip, frame, :, y, x] if stripes is None else clips[clip, frame, :, 2 * y : 2 * y + 2].mean((1, 2))
            return embed.weight[:, :, 0, 0] @ seen + embed.bias

        received = dict.fromkeys(places, 0.0)
        for looker in places:
            own = [place for place in places if group is None or place[0] // group == looker[0] // group]
            products = [math.exp(float(feature(looker, block.theta) @ feature(place, block.phi))) for place in own]
            for place, product in zip(own, products):
                received[place] += product / sum(products) / len(own)
        for place, share in received.items():
            assert found[(clip, *place)].item() == pytest.approx(share, abs=1e-9)


def test_a_block_that_looks_at_maxima_shares_its_attention_among_them():
    shares = NonLocalBlock(4, subsample=True).received_attention(torch.randn(2, 3, 4, 6, 4))
    assert shares.shape == (2, 3, 3, 2)
    torch.testing.assert_close(shares.sum((1, 2, 3)), torch.ones(2))


def test_each_network_tells_the_attention_of_its_last_module_and_one_without_none():
    for network, looks, size in (
        (NVAN("resnet18", **TINY), "positions at positions", (2, 4, 4, 2)),
        (STENVAN("resnet18", stripes=4, **TINY), "stripes at stripes", (2, 2, 4, 1)),
        (cfaan(), "positions at their column", (2, 4, 4, 2)),
    ):
        network.train()
        found = attention_maps(network, CLIPS)
        assert (found.looks, found.received.shape) == (looks, size)
        assert found.received.amax((1, 2, 3)).tolist() == [1, 1]
        assert float(found.received.min()) > 0
        assert network.training
        assert not any(module._forward_pre_hooks for module in network.modules())
    assert attention_maps(VideoResNet50("resnet18", **TINY), CLIPS) is None


def test_along_a_column_attention_is_that_of_its_lines():
    torch.manual_seed(0)
    network = cfaan().eval()
    height, seen = network.attention_after(3)[-1].scales[0].axes[0], []
    with height.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])), torch.no_grad():
        network(CLIPS)
    weights = height.attention_weights(seen[0]).detach()
    received = attention_maps(network, CLIPS).received
    line = 0
    for clip in range(2):
        for frame in range(4):
            for column in range(received.shape[3]):
                shares = torch.stack([weights[line, :, :, row].mean() for row in range(received.shape[2])])
                expected = received[clip, frame, :, column]
                torch.testing.assert_close(shares / shares.sum(), expected / expected.sum(), rtol=1e-4, atol=1e-6)
                line += 1
