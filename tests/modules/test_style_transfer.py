"""Learning a style: the goldens' steps, a fit that is stopped and goes on, and what is refused."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from lightning_reid.modules import StyleTransfer
from lightning_reid.modules.style_transfer import from_signed, linear_decay, to_signed

GOLDENS = Path(__file__).parents[1] / "goldens"
NETWORKS = {"G_A": "to_style", "G_B": "to_own", "D_A": "judge_style", "D_B": "judge_own"}
LOSSES = {"G_A": "to_style", "G_B": "to_own", "cycle_A": "cycle_own", "cycle_B": "cycle_style", "idt_A": "kept_style", "idt_B": "kept_own"}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDENS / "cyclegan.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


def golden_module(golden: dict[str, np.ndarray]) -> StyleTransfer:
    width, judge_width, blocks, layers = (int(one) for one in golden["step/config"][:4])
    cycle, identity, lr, judge_lr, pool = golden["step/config"][4:9].tolist()
    module = StyleTransfer(
        *(blocks, width, layers, judge_width),
        cycle_weight=cycle,
        identity_weight=identity,
        lr=lr,
        discriminator_lr=judge_lr,
        pool_size=int(pool),
    )
    state = {}
    for theirs, ours in NETWORKS.items():
        for name in golden[f"step/{theirs}/names"].tolist():
            shape = module.state_dict()[f"{ours}.{name}"].shape
            z = np.random.default_rng(crc32(f"{theirs}.{name}".encode())).standard_normal(tuple(shape))
            state[f"{ours}.{name}"] = torch.from_numpy((z / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1 * z).astype(np.float32))
    module.load_state_dict(state)
    return module


def pictures(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.tanh(np.random.default_rng(seed).standard_normal((1, 3, 64, 32))).astype(np.float32))


def test_three_steps_lose_what_the_public_codes_do(golden):
    module = golden_module(golden)
    (generators, judges), _ = module.configure_optimizers()
    torch.testing.assert_close(pictures(1000), torch.from_numpy(golden["step/real_A"]))
    for step in range(3):
        own, style = pictures(1000 + 2 * step), pictures(1000 + 2 * step + 1)
        made = module.translations(own, style)
        losses = module.generator_losses(own, style, made)
        generators.zero_grad()
        losses.total.backward()
        if step == 0:
            torch.testing.assert_close(made.to_style.detach(), torch.from_numpy(golden["step/fake_B"]), atol=1e-4, rtol=0)
            torch.testing.assert_close(made.own_again.detach(), torch.from_numpy(golden["step/rec_A"]), atol=1e-4, rtol=0)
            weight = module.to_style.model[1].weight.grad
            torch.testing.assert_close(weight, torch.from_numpy(golden["step/G_A/grad/model.1.weight"]), atol=1e-4, rtol=1e-3)
        generators.step()
        chances, places = torch.from_numpy(golden["step/draws"][step]), torch.from_numpy(golden["step/slots"][step])
        fresh = {"to_style": made.to_style.detach(), "to_own": made.to_own.detach()}
        shown = {
            name: module.pools[name].exchange(images, chances[place : place + 1], places[place : place + 1])
            for place, (name, images) in enumerate(fresh.items())
        }
        of_style, of_own = module.discriminator_losses(own, style, shown)
        judges.zero_grad()
        (of_style + of_own).backward()
        judges.step()
        found = {theirs: float(getattr(losses, ours).detach()) for theirs, ours in LOSSES.items()}
        found |= {"D_A": float(of_style.detach()), "D_B": float(of_own.detach()), "G": float(losses.total.detach())}
        expected = dict(zip(golden["step/loss_names"].tolist(), golden["step/losses"][step].tolist(), strict=True))
        assert found == pytest.approx(expected, abs=1e-4)
    after = module(torch.from_numpy(golden["step/real_A"])).detach()
    torch.testing.assert_close(after, torch.from_numpy(golden["step/fake_B_after"]), atol=1e-4, rtol=0)


def test_learning_rates_are_the_public_codes(golden):
    constant, decaying = golden["lr/epochs"].tolist()
    rates = [float(golden["lr/base"]) * linear_decay(epoch, constant, decaying) for epoch in range(constant + decaying)]
    np.testing.assert_allclose(rates, golden["lr/current"], rtol=1e-12)


class Unpaired(Dataset):
    """Reddish own pictures and bluish others, the same each time."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        random = torch.Generator().manual_seed(row)
        images = torch.randint(0, 120, (2, 3, 32, 16), generator=random, dtype=torch.uint8)
        images[0, 0] += 120
        images[1, 2] += 120
        return {"images": images[0], "style_images": images[1]}


def fitted(folder: Path, epochs: int, *, constant: int = 3, **options) -> tuple[pl.Trainer, StyleTransfer]:
    module = StyleTransfer(1, 4, 2, 4, lr=2e-3, discriminator_lr=1e-3, epochs=constant, decay_epochs=1, pool_size=3, seed=5)
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder
    )
    trainer.fit(module, DataLoader(Unpaired(), batch_size=2), **options)
    return trainer, module


def test_a_fit_that_was_stopped_goes_on_as_an_unbroken_one(tmp_path):
    trainer, whole = fitted(tmp_path / "whole", 4)
    first, _ = fitted(tmp_path / "first", 2)
    first.save_checkpoint(tmp_path / "half.ckpt")
    _, resumed = fitted(tmp_path / "second", 4, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    for (name, tensor), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name
    assert torch.equal(whole.pools["to_own"].images, resumed.pools["to_own"].images)
    assert [group["lr"] for one in trainer.optimizers for group in one.param_groups] == pytest.approx([0.0, 0.0])
    loaded = StyleTransfer.load_from_checkpoint(tmp_path / "half.ckpt", weights_only=True)
    images = Unpaired()[0]["images"][None]
    assert torch.equal(loaded.translate(images), loaded.translate(images))
    assert loaded.translate(images).shape == images.shape


def test_the_style_is_learned(tmp_path):
    _, module = fitted(tmp_path, 25, constant=24)
    own = torch.stack([Unpaired()[row]["images"] for row in range(4)])
    red_before, blue_before = own[:, 0].float().mean(), own[:, 2].float().mean()
    translated = module.translate(own).float()
    assert red_before - blue_before > 100
    assert translated[:, 0].mean() - translated[:, 2].mean() < 60  # on the way to the others', where blue is larger by as much


def test_pixels_come_back_and_weights_follow_from_the_seed():
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(from_signed(to_signed(pixels)), pixels)
    first, again, other = (StyleTransfer(1, 4, 2, 4, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.to_own.model[1].weight, again.to_own.model[1].weight)
    assert not torch.equal(first.to_own.model[1].weight, other.to_own.model[1].weight)
    assert not torch.equal(first.to_own.model[1].weight, first.to_style.model[1].weight)


def test_what_cannot_be_trained_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cycle_weight must be"):
        StyleTransfer(1, 4, cycle_weight=0)
    trainer = pl.Trainer(
        accelerator="cpu", devices=2, strategy="ddp_spawn", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    module = StyleTransfer(1, 4, 2, 4)
    module.trainer = trainer
    with pytest.raises(ValueError, match="by one process where the camera is, got 2: give devices=1"):
        module.setup("fit")
    with pytest.raises(ValueError, match="learning rates are 0 after 4 epochs"):
        fitted(tmp_path, 5)
