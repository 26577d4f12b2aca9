"""CycleGAN's networks, steps, pool and schedule against the goldens of the public code."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from torch import nn

from lightning_reid.networks.image_pool import ImagePool
from lightning_reid.networks.style_transfer import PatchDiscriminator, ResnetGenerator, load_released_generator

GOLDENS = Path(__file__).parents[1] / "goldens"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDENS / "cyclegan.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def tensors(names: np.ndarray, shapes: np.ndarray, prefix: str = "") -> dict[str, torch.Tensor]:
    """The weights that the goldens were made with, by the rule that stands beside them."""
    found = {}
    for name, told in zip(names.tolist(), shapes.tolist(), strict=True):
        shape = tuple(int(side) for side in told.strip("()").replace(" ", "").split(",") if side)
        if name.endswith("num_batches_tracked"):
            found[name] = torch.tensor(1)
            continue
        z = np.random.default_rng(crc32(f"{prefix}{name}".encode())).standard_normal(shape)
        scaled = z / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1 * z
        found[name] = torch.from_numpy((1 + 0.1 * np.abs(z) if name.endswith("running_var") else scaled).astype(np.float32))
    return found


def with_golden_weights(network: nn.Module, golden: dict[str, np.ndarray], case: str) -> nn.Module:
    state = tensors(golden[f"{case}/names"], golden[f"{case}/shapes"])
    if isinstance(network, ResnetGenerator):
        load_released_generator(network, state)
    else:
        network.load_state_dict(state)
    return network


@pytest.mark.parametrize(("case", "blocks"), [("g6", 6), ("g9", 9), ("g6_odd", 6), ("g6_dropout", 6)])
def test_generators_are_the_public_codes(golden, case, blocks):
    generator = with_golden_weights(ResnetGenerator(blocks, 8), golden, case).eval()
    images = torch.from_numpy(golden[f"{case}/x"] if f"{case}/x" in golden else golden["g6/x"]).requires_grad_()
    translated = generator(images)
    torch.testing.assert_close(translated.detach(), torch.from_numpy(golden[f"{case}/y"]), atol=1e-4, rtol=0)
    (translated * torch.linspace(-1, 1, translated.numel()).view_as(translated)).sum().backward()
    torch.testing.assert_close(images.grad, torch.from_numpy(golden[f"{case}/dx"]), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("case", "layers"), [("d3", 3), ("d2", 2)])
def test_discriminators_are_the_public_codes(golden, case, layers):
    discriminator = with_golden_weights(PatchDiscriminator(layers, 8), golden, case)
    images = torch.from_numpy(golden[f"{case}/x"]).requires_grad_()
    scores = discriminator(images)
    torch.testing.assert_close(scores.detach(), torch.from_numpy(golden[f"{case}/y"]), atol=1e-4, rtol=0)
    (scores * torch.linspace(-1, 1, scores.numel()).view_as(scores)).sum().backward()
    torch.testing.assert_close(images.grad, torch.from_numpy(golden[f"{case}/dx"]), atol=1e-4, rtol=1e-3)


def test_a_released_generator_translates_by_each_pictures_own_statistics(golden):
    generator = with_golden_weights(ResnetGenerator(6, 8), golden, "camstyle").eval()
    translated = generator(torch.from_numpy(golden["camstyle/x"])).detach()
    torch.testing.assert_close(translated, torch.from_numpy(golden["camstyle/y"]), atol=1e-4, rtol=0)
    assert (translated - torch.from_numpy(golden["camstyle/y_running_statistics"])).abs().max() > 0.01


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (lambda own: {f"model.{name}": tensor for name, tensor in own.items()}, "U-Net"),
        (lambda own: ResnetGenerator(3, 4).state_dict(), "of 3 blocks, this one has 1: build it with blocks=3"),
        (lambda own: ResnetGenerator(1, 8).state_dict(), "of another shape"),
        (lambda own: PatchDiscriminator(3, 4).state_dict(), r"net_G.pth is of no generator of CycleGAN: its last layer is model\.11"),
        (lambda own: {"fc.weight": own["model.1.weight"]}, "is of no generator of CycleGAN"),
    ],
)
def test_weights_of_another_generator_are_refused_by_name(names, message):
    generator = ResnetGenerator(1, 4)
    with pytest.raises(ValueError, match=message):
        load_released_generator(generator, names(generator.state_dict()), source="net_G.pth")


def test_sides_that_cannot_be_taken_are_refused():
    with pytest.raises(ValueError, match="divisible by 4"):
        ResnetGenerator(1, 4)(torch.zeros(1, 3, 30, 20))
    with pytest.raises(ValueError, match="sides of 24 or more"):
        PatchDiscriminator(3, 4)(torch.zeros(1, 3, 64, 20))


@pytest.mark.parametrize("case", ["pool3", "pool0"])
def test_the_pool_keeps_and_shows_as_the_public_code_does(golden, case):
    pool, shown, first = ImagePool(int(golden[f"{case}/size"])), [], 0
    places = golden.get(f"{case}/slot", np.zeros(4, dtype=np.int64))
    for row, number in enumerate(golden[f"{case}/batches"].tolist()):
        taken = slice(first, first + number)
        images = torch.arange(first, first + number, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
        answers = pool.exchange(images, torch.from_numpy(golden[f"{case}/uniform"][taken]), torch.from_numpy(places[taken]))
        shown += answers[:, 0, 0, 0].tolist()
        held = [] if pool.images is None else pool.images[:, 0, 0, 0].tolist()
        assert held == [one for one in golden[f"{case}/held_after_batch"][row].tolist() if one >= 0]
        first += number
    assert shown == golden[f"{case}/returned"].tolist()
