"""The DataModule of two sets of pictures that do not belong together: a device's own, and some in a style to learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from lightning_reid.arguments import checked_image_size, require_count, require_number, require_seed
from lightning_reid.datamodules.transforms import resized

DIVISOR = 4
"""Of both sides, for the generators that halve them twice."""


class UnpairedImages(pl.LightningDataModule):
    """Each own picture once an epoch, beside one in the other style that is drawn; both resized, and flipped by chance.

    Train batch: ``images [B, 3, H, W]`` and ``style_images [B, 3, H, W]``, uint8. Order, draws and flips follow from (seed, epoch, place).

    Args:
        own: Addresses of own pictures, as ``read_own`` takes them.
        read_own: Address to a picture ``[3, h, w]`` uint8.
        style_pictures: ``[3, h, w]`` uint8 each, held in memory.
        image_size: (height, width) in pixels, both divisible by 4; the text has 256 x 256.
        batch_size: Pairs, at least 1, as in the text.
        flip_probability: In [0, 1].
        num_workers: Worker processes.
        seed: At least 0.

    Raises:
        ValueError: A set is empty, or an argument out of range.

    Example:
        >>> import torch
        >>> from lightning_reid.datamodules.unpaired_images import UnpairedImages
        >>> black, white = torch.zeros(3, 60, 30, dtype=torch.uint8), torch.full((3, 60, 30), 255, dtype=torch.uint8)
        >>> data = UnpairedImages(["a", "b"], lambda address: black, [white], image_size=(64, 32), num_workers=0)
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch["images"].shape, int(batch["images"].max()), int(batch["style_images"].min())
        (torch.Size([1, 3, 64, 32]), 0, 255)
    """

    def __init__(
        self,
        own: Sequence[str],
        read_own: Callable[[str], Tensor],
        style_pictures: Sequence[Tensor],
        image_size: tuple[int, int] = (256, 256),
        batch_size: int = 1,
        flip_probability: float = 0.5,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not own or not style_pictures:
            raise ValueError(f"a style is learned from pictures of two cameras, got {len(own)} and {len(style_pictures)}")
        self.image_size = checked_image_size("image_size", image_size)
        if any(side % DIVISOR for side in self.image_size):
            raise ValueError(f"image_size must be divisible by {DIVISOR}, got {self.image_size}")
        require_count("batch_size", batch_size)
        require_number("flip_probability", flip_probability, low=0, high=1)
        require_count("num_workers", num_workers, low=0)
        require_seed("seed", seed)
        self.own, self.read_own, self.style_pictures = list(own), read_own, list(style_pictures)
        self.batch_size, self.flip_probability, self.num_workers, self.seed = batch_size, flip_probability, num_workers, seed

    @override
    def setup(self, stage: str | None = None) -> None:
        if self.trainer is not None:  # pairs of an epoch are drawn when its loader is made
            setattr(self.trainer, "reload_dataloaders_every_n_epochs", 1)  # noqa: B010

    @override
    def train_dataloader(self) -> DataLoader:
        epoch = 0 if self.trainer is None else self.trainer.current_epoch
        pairs = _Pairs(self, epoch)
        return DataLoader(pairs, batch_size=self.batch_size, num_workers=self.num_workers)


class _Pairs(Dataset[dict[str, Tensor]]):
    def __init__(self, data: UnpairedImages, epoch: int) -> None:
        self.data, self.epoch = data, epoch
        self.order = np.random.default_rng([data.seed, epoch]).permutation(len(data.own))

    def __len__(self) -> int:
        return len(self.order)

    @override
    def __getitem__(self, place: int) -> dict[str, Tensor]:
        data = self.data
        random = np.random.default_rng([data.seed, self.epoch, place])
        style = data.style_pictures[int(random.integers(len(data.style_pictures)))]
        own = data.read_own(data.own[int(self.order[place])])
        pictures = [resized(picture, *data.image_size) for picture in (own, style)]
        images, style_images = (torch.flip(one, dims=[2]) if random.random() < data.flip_probability else one for one in pictures)
        return {"images": images, "style_images": style_images}
