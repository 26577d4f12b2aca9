"""What is known of a trained network, for the card that it is given away with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lightning_reid.arguments import require_count, require_number, require_text, require_texts, shown
from lightning_reid.metrics.calibration import Calibration
from lightning_reid.metrics.stamp import ProtocolStamp

MOST_LETTERS = 20_000
"""Of any text of a card."""


@dataclass(frozen=True)
class MeasuredScores:
    """Scores of a network under one protocol.

    Attributes:
        stamp: What they were measured on, and how.
        scores: By name, ``mAP``, ``R1`` and others, as fractions in [0, 1].
        mAP_interval: 95 % interval of mAP, fractions; ``None`` where none was drawn.
        note: What else a reader must know, in a sentence or two.

    Raises:
        ValueError: A score is no fraction, or the interval is none.

    Example:
        >>> from lightning_reid.metrics import ProtocolStamp
        >>> from lightning_reid.networks import MeasuredScores
        >>> stamp = ProtocolStamp("market1501", num_query=3368, num_gallery=15913, num_query_ids=750)
        >>> MeasuredScores(stamp, {"mAP": 0.857, "R1": 0.941}).scores["mAP"]
        0.857
    """

    stamp: ProtocolStamp
    scores: Mapping[str, float]
    mAP_interval: tuple[float, float] | None = None  # noqa: N815
    note: str = ""

    def __post_init__(self) -> None:
        _require_words("note", self.note)
        if not isinstance(self.stamp, ProtocolStamp):
            raise ValueError(f"stamp must be a ProtocolStamp, without which scores say nothing, got {shown(self.stamp)}")
        if not isinstance(self.scores, Mapping) or not self.scores:
            raise ValueError(f"scores must be fractions by name, got {shown(self.scores)}")
        for name, score in self.scores.items():
            require_text("a name of scores", name)
            require_number(f"scores[{name!r}]", score, low=0, high=1)
        if self.mAP_interval is not None:
            if not isinstance(self.mAP_interval, tuple) or len(self.mAP_interval) != 2:
                raise ValueError(f"mAP_interval must be two fractions, or None, got {shown(self.mAP_interval)}")
            for end in self.mAP_interval:
                require_number("mAP_interval", end, low=0, high=1)


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a trained network; what is ``None``, or empty, its card tells to be not known.

    Attributes:
        title: A name, in a line.
        trained_on: Name of the data set, as the library takes it, or in words.
        about_data: Sentences on whom and what it shows.
        first_weights: Where the weights came from that training began with: ``"random"``, ``"ImageNet (timm)"``...
        epochs: Passes over the data.
        scores: What it scores.
        about_scores: Sentences on what they say, and what they do not.
        calibration: What its cosines mean, as ``lightning-reid calibrate`` finds it; kept in ``calibration.json``.
        about_calibration: Sentences on it.
        intended_use: Sentences on what it was made for.
        limits: Sentences on what is known of its errors, beside what holds for every such network.
        made_by: Commands that make it again.
        license: Of the weights, as the Hugging Face hub names licenses: ``"apache-2.0"``, ``"cc-by-nc-4.0"``...
        tags: Further words that the hub finds it by.

    Raises:
        ValueError: One is of another kind; it is named.

    Example:
        >>> from lightning_reid.networks import ModelFacts
        >>> facts = ModelFacts("door cameras", trained_on="people.csv", epochs=60, license="cc-by-nc-4.0")
        >>> facts.intended_use is None, facts.scores
        (True, ())
    """

    title: str | None = None
    trained_on: str | None = None
    about_data: str | None = None
    first_weights: str | None = None
    epochs: int | None = None
    scores: tuple[MeasuredScores, ...] = ()
    about_scores: str | None = None
    calibration: Calibration | None = None
    about_calibration: str | None = None
    intended_use: str | None = None
    limits: str | None = None
    made_by: str | None = None
    license: str | None = None
    tags: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("title", "trained_on", "about_data", "first_weights", "about_scores", "about_calibration"):
            _require_words(name, getattr(self, name))
        for name in ("intended_use", "limits", "made_by", "license"):
            _require_words(name, getattr(self, name))
        require_count("epochs", self.epochs, low=0, optional=True)
        require_texts("tags", self.tags)
        if not isinstance(self.scores, tuple) or not all(isinstance(one, MeasuredScores) for one in self.scores):
            raise ValueError(f"scores must be a tuple of MeasuredScores, got {shown(self.scores)}")
        if self.calibration is not None and not isinstance(self.calibration, Calibration):
            raise ValueError(f"calibration must be a Calibration, as read_calibration gives it, or None, got {shown(self.calibration)}")


def _require_words(name: str, value: object) -> None:
    if value is None:
        return
    require_text(name, value)
    if len(str(value)) > MOST_LETTERS:
        raise ValueError(f"{name} must be a string of at most {MOST_LETTERS:,} letters, got {len(str(value)):,}")
