"""CycleGAN as a LightningModule: a camera's pictures in the style of another's, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from typing_extensions import override

from lightning_reid.arguments import require_count, require_number, require_seed
from lightning_reid.derived_seed import derived_seed
from lightning_reid.losses.cycle_consistency import GeneratorLosses, Translations, discriminator_loss, generator_losses
from lightning_reid.modules.refusals import require_trainable_precision
from lightning_reid.modules.schedule import EpochFactor
from lightning_reid.networks.image_pool import ImagePool
from lightning_reid.networks.style_transfer import PatchDiscriminator, ResnetGenerator

ADAM_BETAS = (0.5, 0.999)
INITIAL_DEVIATION = 0.02
POOLS = ("to_style", "to_own")


class StyleTransfer(pl.LightningModule):
    """Learns two generators, from own pictures to a style and back, against a discriminator each (CycleGAN with least squares).

    Source: edge-device text, section 3.1, eq. 1 and 2; Zhu et al. 2017 (arXiv:1703.10593), whose networks, weights of losses, pool of 50
    pictures and schedule are the defaults; CamStyle (Zhong et al. 2018, arXiv:1711.10295) has them for cameras.

    Optimized by hand, generators first: one process on one device, the camera's own. What is drawn from the pools follows from (seed,
    epoch, batch), and the pools are in the checkpoint: a resumed fit equals an unbroken one.

    Batch: ``images [B, 3, H, W]`` and ``style_images [B, 3, H, W]``, uint8.
    Logs ``train/to_style``, ``train/to_own``, ``train/cycle_own``, ``train/cycle_style``, ``train/kept_style``, ``train/kept_own``,
    ``train/generators`` (their sum), ``train/judge_style`` and ``train/judge_own`` a step.

    Args:
        blocks: Of the generators, see ``ResnetGenerator``.
        width: Channels after their first convolution.
        discriminator_layers: See ``PatchDiscriminator``.
        discriminator_width: Channels after their first convolution.
        cycle_weight: lambda of eq. 1, above 0.
        identity_weight: Of eq. 2, a share of ``cycle_weight``, 0 or more; CamStyle's author advises 0.1.
        lr: Of the generators.
        discriminator_lr: Of the discriminators.
        epochs: With constant learning rates.
        decay_epochs: After them, in which learning rates fall linearly towards 0.
        pool_size: Earlier pictures that discriminators are shown, 0 for none.
        seed: Of the first weights and of what is drawn from the pools.

    Raises:
        ValueError: A number is out of range (here); several processes, weights of half precision, or more epochs than have a learning
            rate (``setup``).

    Example:
        >>> import torch
        >>> from lightning_reid.modules import StyleTransfer
        >>> model = StyleTransfer(blocks=1, width=4, discriminator_width=4)
        >>> model.translate(torch.randint(256, (2, 3, 64, 32), dtype=torch.uint8)).dtype
        torch.uint8
    """

    def __init__(
        self,
        blocks: int = 9,
        width: int = 64,
        discriminator_layers: int = 3,
        discriminator_width: int = 64,
        cycle_weight: float = 10.0,
        identity_weight: float = 0.5,
        lr: float = 2e-4,
        discriminator_lr: float = 1e-4,
        epochs: int = 30,
        decay_epochs: int = 20,
        pool_size: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, number in (("cycle_weight", cycle_weight), ("lr", lr), ("discriminator_lr", discriminator_lr)):
            require_number(name, number, above=0)
        require_number("identity_weight", identity_weight, low=0)
        for name, count in (("discriminator_layers", discriminator_layers), ("discriminator_width", discriminator_width)):
            require_count(name, count)
        require_count("pool_size", pool_size, low=0)
        require_count("epochs", epochs)
        require_count("decay_epochs", decay_epochs, low=0)
        require_seed("seed", seed)
        self.save_hyperparameters()
        self.automatic_optimization = False
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(seed, "style transfer"))
            self.to_style, self.to_own = (ResnetGenerator(blocks, width).apply(_initialize) for _ in range(2))
            made = [PatchDiscriminator(discriminator_layers, discriminator_width).apply(_initialize) for _ in range(2)]
        self.judge_style, self.judge_own = made
        self.pools = {name: ImagePool(pool_size) for name in POOLS}

    @override
    def setup(self, stage: str) -> None:
        if stage == "fit":
            require_trainable_precision(self.trainer)
            if self.trainer.world_size > 1:
                raise ValueError(f"style is learned by one process where the camera is, got {self.trainer.world_size}: give devices=1")
            most, asked = self.hparams["epochs"] + self.hparams["decay_epochs"], self.trainer.max_epochs
            if asked is None or not 0 <= asked <= most:
                raise ValueError(f"learning rates are 0 after {most} epochs (epochs and decay_epochs), got Trainer(max_epochs={asked})")

    def require_size(self, height: int, width: int) -> None:
        """Refuse pictures that cannot be learned from, before they are.

        Raises:
            ValueError: A side is too small to be judged, or not divisible by 4.
        """
        for network in (self.judge_style, self.to_style):
            network.require_size(height, width)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Pictures ``[B, 3, H, W]`` in [-1, 1] in the other style."""
        translated: Tensor = self.to_style(images)
        return translated

    @torch.no_grad()
    def translate(self, images: Tensor) -> Tensor:
        """Pictures ``[B, 3, H, W]`` uint8 in the other style, uint8; the same each time."""
        return from_signed(self(to_signed(images.to(self.device)))).cpu()

    def translations(self, own: Tensor, style: Tensor) -> Translations:
        """What the generators make of two batches in [-1, 1]."""
        in_style, in_own = self.to_style(own), self.to_own(style)
        return Translations(in_style, in_own, self.to_own(in_style), self.to_style(in_own), self.to_own(own), self.to_style(style))

    def generator_losses(self, own: Tensor, style: Tensor, made: Translations) -> GeneratorLosses:
        """What both generators minimize."""
        weights = {name: self.hparams[name] for name in ("cycle_weight", "identity_weight")}
        return generator_losses(own, style, made, self.judge_style(made.to_style), self.judge_own(made.to_own), **weights)

    def discriminator_losses(self, own: Tensor, style: Tensor, shown: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What the judges of the style and of the own pictures minimize; ``shown`` are translations of this step and of earlier ones."""
        of_style = discriminator_loss(self.judge_style(style), self.judge_style(shown["to_style"]))
        of_own = discriminator_loss(self.judge_own(own), self.judge_own(shown["to_own"]))
        return of_style, of_own

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        own, style = to_signed(batch["images"]), to_signed(batch["style_images"])
        generators, judges = self._both_optimizers()
        made = self.translations(own, style)
        losses = self.generator_losses(own, style, made)
        generators.zero_grad()
        self.manual_backward(losses.total)
        generators.step()
        draws = torch.Generator().manual_seed(derived_seed(self.hparams["seed"], self.current_epoch, batch_idx, 1))
        fresh = {"to_style": made.to_style.detach(), "to_own": made.to_own.detach()}
        shown = {name: pool.exchange(fresh[name], *pool.draw(len(own), draws)) for name, pool in self.pools.items()}
        of_style, of_own = self.discriminator_losses(own, style, shown)
        judges.zero_grad()  # what the generators' step left behind, too
        self.manual_backward(of_style + of_own)
        judges.step()
        logged = {**losses._asdict(), "generators": losses.total, "judge_style": of_style, "judge_own": of_own}
        self.log_dict({f"train/{name}": loss.detach() for name, loss in logged.items()}, batch_size=len(own))

    @override
    def on_train_epoch_end(self) -> None:
        schedulers: Any = self.lr_schedulers()
        for scheduler in schedulers:
            scheduler.step()

    @override
    def configure_optimizers(self) -> tuple[list[Optimizer], list[EpochFactor]]:
        generators = [*self.to_style.parameters(), *self.to_own.parameters()]
        judges = [*self.judge_style.parameters(), *self.judge_own.parameters()]
        rates = (self.hparams["lr"], self.hparams["discriminator_lr"])
        optimizers: list[Optimizer] = [
            Adam(group, lr=rate, betas=ADAM_BETAS) for group, rate in zip((generators, judges), rates, strict=True)
        ]
        epochs, decay = self.hparams["epochs"], self.hparams["decay_epochs"]
        return optimizers, [EpochFactor(one, lambda epoch: linear_decay(epoch, epochs, decay)) for one in optimizers]

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["pools"] = {name: pool.images.cpu() for name, pool in self.pools.items() if pool.images is not None}

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, pool in self.pools.items():
            images = checkpoint.get("pools", {}).get(name)
            if images is not None and (images.ndim != 4 or len(images) > pool.size):
                raise ValueError(f"the checkpoint's pool {name} holds {list(images.shape)}, expected up to {pool.size} pictures")
            pool.images = images

    @override
    def on_fit_start(self) -> None:
        for pool in self.pools.values():
            pool.images = None if pool.images is None else pool.images.to(self.device)

    def _both_optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)  # of two it gives a list
        return optimizers


def linear_decay(epoch: int, constant: int, decaying: int) -> float:
    """Factor of the learning rate in ``epoch``, from 0: 1 for ``constant`` epochs, then falling linearly, above 0 in the last.

    Source: Zhu et al. 2017, section 4; the public code of today (older copies, CamStyle's among them, end at 0 one epoch earlier).

    Example:
        >>> from lightning_reid.modules.style_transfer import linear_decay
        >>> [round(linear_decay(epoch, 2, 3), 2) for epoch in range(5)]
        [1.0, 1.0, 0.75, 0.5, 0.25]
    """
    return 1 - max(0, epoch + 1 - constant) / (decaying + 1)


def to_signed(images: Tensor) -> Tensor:
    """Pixels in 0..255, uint8, as floats in [-1, 1]."""
    return images.float() / 127.5 - 1


def from_signed(images: Tensor) -> Tensor:
    """Floats in [-1, 1] as uint8 pixels, rounded."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _initialize(module: nn.Module) -> None:
    """Weights of mean 0 and deviation 0.02, biases 0, as the public code has them."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, INITIAL_DEVIATION)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
