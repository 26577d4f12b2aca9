"""What is known of a network that was trained on generated people, for the card that it is given away with."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

from lightning_reid.metrics import ProtocolStamp
from lightning_reid.networks import ModelFacts
from lightning_reid.recipes.workshop.report import ResultRow, measured


def facts_of_generated_people(data: str, weights: str, epochs: int, scores: Iterable[tuple[ProtocolStamp, ResultRow]]) -> ModelFacts:
    """The facts of a network that was trained on generated people.

    Args:
        data: Name of the generated data.
        weights: Where its first weights came from, in words.
        epochs: Passes over the people.
        scores: A row with the stamp of its protocol, each.
    """
    return ModelFacts(
        title="Person re-identification, trained on generated people",
        trained_on=data,
        about_data=(
            f"Crops of people who never were, drawn by lightning-reid {version('lightning-reid')} while it trained. No picture of a real"
            " person was used to train it, beyond what its first weights saw."
        ),
        first_weights=weights,
        epochs=epochs,
        scores=tuple(measured(row, stamp) for stamp, row in scores),
        about_scores="Scores on generated people say little of real ones: measure it on people of your own cameras before you rely on it.",
    )
