"""What CycleGAN's generators and discriminators minimize, from pictures that were translated already."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from lightning_reid.losses.least_squares import least_squares_gan


class Translations(NamedTuple):
    """What the two generators make of a batch, each ``[B, 3, H, W]`` in [-1, 1].

    Attributes:
        to_style: Own pictures in the style of the others.
        to_own: The others in the own style.
        own_again: ``to_style``, translated back.
        style_again: ``to_own``, translated back.
        own_kept: Own pictures by the generator that leads to the own style.
        style_kept: The others by the generator that leads to their style.
    """

    to_style: Tensor
    to_own: Tensor
    own_again: Tensor
    style_again: Tensor
    own_kept: Tensor
    style_kept: Tensor


class GeneratorLosses(NamedTuple):
    """Scalars, already weighted; ``to_style`` and ``to_own`` are those of the discriminators' scores."""

    to_style: Tensor
    to_own: Tensor
    cycle_own: Tensor
    cycle_style: Tensor
    kept_style: Tensor
    kept_own: Tensor

    @property
    def total(self) -> Tensor:
        """The sum that both generators minimize at once."""
        return self.to_style + self.to_own + self.cycle_own + self.cycle_style + self.kept_style + self.kept_own


def generator_losses(
    own: Tensor,
    style: Tensor,
    made: Translations,
    scores_to_style: Tensor,
    scores_to_own: Tensor,
    *,
    cycle_weight: float = 10.0,
    identity_weight: float = 0.5,
) -> GeneratorLosses:
    """Eq. 1 with least squares for its adversarial parts, and eq. 2, for both generators.

    Source: edge-device text, section 3.1, eq. 1 and 2; Zhu et al. 2017 (arXiv:1703.10593), sections 3, 4 and 5.2.

    Args:
        own: ``[B, 3, H, W]`` in [-1, 1].
        style: ``[B, 3, H, W]`` in [-1, 1], of the other camera.
        made: What the generators make of both.
        scores_to_style: The other style's discriminator's of ``made.to_style``.
        scores_to_own: The own style's discriminator's of ``made.to_own``.
        cycle_weight: lambda of eq. 1.
        identity_weight: Of eq. 2, as a share of ``cycle_weight``; CamStyle's author advises 0.1.
    """
    identity = cycle_weight * identity_weight
    return GeneratorLosses(
        to_style=least_squares_gan(scores_to_style, recorded=True),
        to_own=least_squares_gan(scores_to_own, recorded=True),
        cycle_own=cycle_weight * (made.own_again - own).abs().mean(),
        cycle_style=cycle_weight * (made.style_again - style).abs().mean(),
        kept_style=identity * (made.style_kept - style).abs().mean(),
        kept_own=identity * (made.own_kept - own).abs().mean(),
    )


def discriminator_loss(scores_recorded: Tensor, scores_made: Tensor) -> Tensor:
    """Half the sum of the squared distances from 1 and from 0, for one discriminator.

    Source: Zhu et al. 2017, section 4 ("we divide the objective by 2 while optimizing D").
    """
    return (least_squares_gan(scores_recorded, recorded=True) + least_squares_gan(scores_made, recorded=False)) / 2
