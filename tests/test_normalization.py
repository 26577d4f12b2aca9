"""Networks take uint8 pixels or normalized floats, and nothing that would be embedded as something else."""

from __future__ import annotations

import pytest
import torch

from lightning_reid.networks import EmbeddingNetwork, VideoResNet50, build_backbone, load_teacher
from lightning_reid.normalization import normalize_images, require_normalized

TINY = {"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}


def network(kind: str):
    """One that takes images or clips, and images or clips in pixels."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, 3, 32, 16) if kind == "video" else (2, 3, 32, 16)
    pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    if kind == "video":
        return VideoResNet50(backbone="resnet18", **TINY).eval(), pixels
    if kind == "teacher":
        teacher = load_teacher("resnet18", pretrained=False, **TINY)
        teacher.image_size = (64, 32)  # resized on the way, which is done to floats
        return teacher, pixels
    return EmbeddingNetwork(build_backbone("resnet18", **TINY)).eval(), pixels


@pytest.mark.parametrize("kind", ["images", "video", "teacher"])
def test_pixels_are_embedded_as_what_they_are_when_normalized(kind):
    embed, pixels = network(kind)
    assert torch.equal(embed(pixels).embedding, embed(normalize_images(pixels)).embedding)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", ["images", "video", "teacher"])
def test_a_network_of_another_precision_takes_the_same_images(kind, dtype):
    embed, pixels = network(kind)
    expected = embed(pixels).embedding
    rows = embed.to(dtype)(pixels).embedding
    assert rows.dtype == dtype
    torch.testing.assert_close(rows.float(), expected, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_pixels_become_float32_whatever_the_default_is(default):
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    expected = normalize_images(pixels)
    torch.set_default_dtype(default)
    try:
        assert torch.equal(normalize_images(pixels), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("images", [torch.zeros(2, 32, 16, 3, dtype=torch.uint8), torch.zeros(3, 32, 16, dtype=torch.uint8)])
def test_pixels_in_another_order_are_told(images):
    with pytest.raises(ValueError, match=r"pixels must be a batch \[..., 3, H, W\], channels before height and width, got uint8"):
        network("images")[0](images)


def test_integers_of_another_kind_are_told():
    with pytest.raises(ValueError, match=r"takes uint8 pixels in 0..255, or ImageNet-normalized floats, got torch.int64"):
        network("images")[0](torch.zeros(2, 3, 32, 16, dtype=torch.int64))


def test_normalized_images_pass_and_floats_in_255_do_not():
    extremes = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    require_normalized(normalize_images(extremes))
    require_normalized(extremes)
    with pytest.raises(ValueError, match="images are floats as large as 255, but ImageNet-normalized pixels lie within"):
        require_normalized(extremes.float())
    pixels = extremes.float()
    assert torch.equal(normalize_images(pixels), normalize_images(extremes))
    assert torch.equal(pixels, extremes.float()), "what is given stays as it is"
