"""Pictures of earlier steps, that a discriminator is shown again."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_reid.arguments import require_count


class ImagePool:
    """Up to ``size`` earlier pictures: half of what a discriminator is shown is drawn from them, so that generators cannot run in circles.

    As long as there is room each picture is kept and shown. After that, with a chance of one half, one that is held is shown and the new
    one takes its place; else the new one is shown and not kept.

    Source: Zhu et al. 2017 (arXiv:1703.10593), section 4, after Shrivastava et al. 2017 (arXiv:1612.07828).

    Args:
        size: Pictures held, at least 0; 0 shows every picture as it comes.

    Attributes:
        images: ``[n, 3, H, W]``, those that are held; ``None`` before the first.

    Example:
        >>> import torch
        >>> from lightning_reid.networks.image_pool import ImagePool
        >>> pool = ImagePool(1)
        >>> first = pool.exchange(torch.zeros(1, 3, 4, 4), torch.tensor([0.9]), torch.tensor([0]))
        >>> float(pool.exchange(torch.ones(1, 3, 4, 4), torch.tensor([0.9]), torch.tensor([0])).max())  # the first is shown again
        0.0
    """

    def __init__(self, size: int = 50) -> None:
        require_count("size", size, low=0)
        self.size = size
        self.images: Tensor | None = None

    def draw(self, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What ``exchange`` is to be told of the next ``number`` pictures: chances in [0, 1), and places."""
        places = torch.randint(max(self.size, 1), (number,), generator=generator)
        return torch.rand(number, generator=generator, dtype=torch.float64), places

    @torch.no_grad()
    def exchange(self, images: Tensor, chances: Tensor, places: Tensor) -> Tensor:
        """The pictures to show, one for each of ``images [B, 3, H, W]``, which are taken in one after the other.

        Args:
            images: New pictures.
            chances: ``[B]``; above 0.5 an earlier picture is shown once the pool is full.
            places: ``[B]`` int64 in ``0..size-1``, which one.
        """
        shown = []
        for image, chance, place in zip(images, chances.tolist(), places.tolist(), strict=True):
            held = 0 if self.images is None else len(self.images)
            if held < self.size:
                self.images = image[None].clone() if self.images is None else torch.cat([self.images, image[None]])
                shown.append(image)
            elif self.images is not None and chance > 0.5:
                shown.append(self.images[place].clone())
                self.images[place] = image
            else:
                shown.append(image)
        return torch.stack(shown)
