"""The one place that makes a probability of a similarity."""

from __future__ import annotations

from collections.abc import Callable


def probability_by(source: str, model: str) -> Callable[[float], float | None] | None:
    """The function of a network that makes a similarity the probability that two pictures show one person.

    Args:
        source: The network, as ``load_network`` takes it.
        model: Name of its weights and image size.

    Returns:
        ``None`` where it has not been calibrated.
    """
    del source, model  # calibrations are not kept yet
    return None
