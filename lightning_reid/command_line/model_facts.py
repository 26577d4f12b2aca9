"""What lies beside a checkpoint and tells of its network: the options, the data and the scores of its run, and its calibration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_reid.files import read_json
from lightning_reid.inference import find_calibration, name_with_size
from lightning_reid.metrics import ProtocolStamp
from lightning_reid.networks import EmbeddingNetwork, MeasuredScores, ModelFacts
from lightning_reid.networks.weights import read_checkpoint
from lightning_reid.recipes.workshop.report import measured, row_of_json
from lightning_reid.records import TrainedPeople

STAGE, RESULTS = "stage.json", "results.json"
"""Of a recipe: beside the checkpoint, and above it."""
_OF_RUNS = "a recipe's run leaves it beside its checkpoint; in Python, save_pretrained(facts=ModelFacts(...)) takes it"
_UNKNOWN = {
    "license": ("the license of its weights", "give --license"),
    "intended_use": ("what it is meant for", "give --intended_use"),
    "calibration": (
        "what its cosines mean",
        "lightning-reid calibrate DATA --model CHECKPOINT finds it; then export again",
    ),
    "scores": ("what it scores", _OF_RUNS),
    "trained_on": ("what it was trained on", _OF_RUNS),
    "first_weights": ("where its first weights came from", _OF_RUNS),
    "epochs": ("how often it saw its data", _OF_RUNS),
    "made_by": ("how it was made", _OF_RUNS),
}
"""Of facts that a card tells to be not known: what they are in words, and what gives them."""
_WAY_ON = "mend it, or move the checkpoint away from it"


def facts_of_checkpoint(checkpoint: str, network: EmbeddingNetwork, size: tuple[int, int]) -> ModelFacts:
    """The facts of a checkpoint's network, as far as files tell them: no title, license and intended use.

    Args:
        checkpoint: Its file.
        network: Of it.
        size: (height, width) in pixels that it takes.

    Raises:
        ValueError: A file that a run left there is damaged, or the calibration is of another network.
    """
    folder = Path(checkpoint).parent
    stage = read_json(folder / STAGE, {"stage": str}, way_on=_WAY_ON) if (folder / STAGE).is_file() else {}
    scores = _scores(folder.parent / RESULTS, stage["stage"]) if stage else ()
    people = TrainedPeople.of_checkpoint(read_checkpoint(checkpoint))
    trained_on, about_data = (people.data, None) if people else _data_of_run(stage)
    return ModelFacts(
        trained_on=trained_on,
        about_data=about_data,
        first_weights=_first_weights(stage),
        epochs=_epochs(stage),
        scores=scores,
        calibration=find_calibration(checkpoint, name_with_size(network, size)),
        made_by=_options(stage) if stage else None,
    )


def unknown_facts(facts: ModelFacts) -> dict[str, str]:
    """What a card tells to be not known, in words, each with what gives it."""
    return {words: way_on for name, (words, way_on) in _UNKNOWN.items() if getattr(facts, name) in (None, ())}


def _scores(file: Path, row: str) -> tuple[MeasuredScores, ...]:
    """The row of a table that a stage has, if the run was finished."""
    if not file.is_file():
        return ()
    content = read_json(file, {"rows": dict, "stamp": dict}, way_on=_WAY_ON)
    if row not in content["rows"]:
        return ()
    try:
        stamp = ProtocolStamp(**content["stamp"])
    except TypeError as error:
        raise ValueError(f"{file} holds no stamp of a protocol, {error}: {_WAY_ON}") from error
    return (measured(row_of_json(row, content["rows"][row], file, _WAY_ON), stamp),)


def _data_of_run(stage: Mapping[str, Any]) -> tuple[str | None, str | None]:
    names = [name.removesuffix(", train") for name in stage if name.endswith(", train")]
    if len(names) < 2:
        return (names[0] if names else None), None
    return " and ".join(names), "The run read the training parts of these sets; its recipe says what was learned from which."


def _first_weights(stage: Mapping[str, Any]) -> str | None:
    if stage.get("start_from"):
        return f"those of `{stage['start_from']}`"
    if stage.get("model.weights"):
        return f"`{stage['model.weights']}`"
    if stage.get("model.pretrained"):
        return "timm's of this backbone"
    return "random" if stage.get("model.pretrained") is False else None


def _epochs(stage: Mapping[str, Any]) -> int | None:
    told = stage.get("epochs")
    return told if isinstance(told, int) and not isinstance(told, bool) and told >= 0 else None


def _options(stage: Mapping[str, Any]) -> str:
    """All that ``stage.json`` tells, without what was given no value."""
    told = {name: value for name, value in stage.items() if value is not None}
    return "\n".join(["# stage.json:", *(f"{name}: {value!r}" for name, value in told.items())])
