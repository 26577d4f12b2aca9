"""The card of a network: front matter that the Hugging Face hub reads, then text for people, made of facts and of nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from lightning_reid.networks.model_facts import MeasuredScores, ModelFacts

TASK, TASK_NAME = "image-feature-extraction", "person re-identification"
TAGS = ("person-re-identification", "lightning-reid", "pytorch")
NOT_KNOWN = "Not known: nobody told when this folder was made."
MUST_NOT = """It finds people again by their looks, for minutes or hours and within one set of cameras; it does not know who somebody is.
It must not decide about anybody by itself: no identification, no evidence, no watch list, no surveillance of people without a legal ground
and their knowledge."""
"""Holds for every network of the library."""
UNMEASURED = """Strangers in similar clothes look alike to it, and how its errors fall on people of different skin, age, dress or disability
is not known."""
INTENDED = "Not told. Such networks serve research on finding people again, and suggestions to a person who looks at the pictures."
_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
"""What the hub takes as the name of a data set."""
_FIRST_COLUMNS = ("mAP", "R1", "R5", "R10", "mINP")


def front_matter(facts: ModelFacts) -> str:
    """The YAML between two lines of dashes that a card on the hub begins with.

    Data sets whose names the hub would refuse are left to the text.
    """
    data = [one for one in (_data_id(facts.trained_on or ""),) if one]
    results = [result for one in facts.scores for result in _results(one)]
    metrics = list(dict.fromkeys(score for one in facts.scores for score in one.scores))
    card = ModelCardData(
        license=facts.license,
        library_name="lightning-reid",
        pipeline_tag=TASK,
        tags=list(dict.fromkeys((*TAGS, *facts.tags))),
        datasets=data or None,
        metrics=metrics or None,
        model_name=_title(facts) if results else None,
        eval_results=results or None,
    )
    return f"---\n{card.to_yaml().strip()}\n---\n"


def model_card(description: str, facts: ModelFacts, use: str) -> str:
    """The content of ``README.md`` of a model folder.

    Args:
        description: Sentences on the network itself: how it is built, and what it takes and gives.
        facts: What is known; everything else is told to be not known.
        use: Lines of Python that embed with it.
    """
    sections = {
        "What it was trained on": _trained_on(facts),
        "Scores": _scores(facts),
        "Calibration": _calibration(facts),
        "Intended use": facts.intended_use or INTENDED,
        "What it must not be used for": f"{MUST_NOT}\n\n{facts.limits or UNMEASURED}",
        "How it was made": _indented(facts.made_by) if facts.made_by else NOT_KNOWN,
        "License": f"`{facts.license}`" if facts.license else NOT_KNOWN,
        "Use": _indented(use),
    }
    text = "\n\n".join(f"## {heading}\n\n{told.strip(chr(10))}" for heading, told in sections.items())
    return f"{front_matter(facts)}\n# {_title(facts)}\n\n{description}\n\n{text}\n"


def _title(facts: ModelFacts) -> str:
    return " ".join((facts.title or "A network for person re-identification").split())


def _data_id(trained_on: str) -> str | None:
    """The name of a data set without the options that follow it."""
    name = trained_on.split(",")[0].strip()
    return name if _ID.fullmatch(name) else None


def _results(measured: MeasuredScores) -> list[EvalResult]:
    stamp = measured.stamp
    told: dict[str, Any] = {"task_type": TASK, "task_name": TASK_NAME, "dataset_name": stamp.dataset}
    told["dataset_type"] = _data_id(stamp.dataset) or "other"
    told["dataset_args"] = {name: value for name, value in stamp.as_dict().items() if name != "dataset" and value not in (None, "", False)}
    return [
        EvalResult(**told, metric_type=name, metric_name=f"{name}, %", metric_value=round(100 * score, 2))
        for name, score in measured.scores.items()
    ]


def _trained_on(facts: ModelFacts) -> str:
    data = f"`{facts.trained_on}`." if facts.trained_on else NOT_KNOWN
    epochs = f" {facts.epochs:,} passes over it." if facts.epochs is not None else ""
    weights = f"Its first weights: {facts.first_weights}." if facts.first_weights else "Where its first weights came from is not known."
    return "\n\n".join(part for part in (data + epochs, facts.about_data or "", weights) if part)


def _scores(facts: ModelFacts) -> str:
    if not facts.scores:
        table = "It was not scored, or nobody told: measure it on people of your own cameras before you rely on it."
    else:
        table = _table(facts.scores)
    return "\n\n".join(part for part in (table, facts.about_scores or "") if part)


def _table(scores: Sequence[MeasuredScores]) -> str:
    further = [name for one in scores for name in one.scores if name not in _FIRST_COLUMNS]
    columns = [name for name in (*_FIRST_COLUMNS, *dict.fromkeys(further)) if any(name in one.scores for one in scores)]
    lines = ["| data | " + " | ".join(f"{name}, %" for name in columns) + " | mAP, 95 % interval |", "|---|" + "---:|" * (len(columns) + 1)]
    for one in scores:
        cells = [_percent(one.scores[name]) if name in one.scores else "" for name in columns]
        interval = "" if one.mAP_interval is None else " to ".join(_percent(end) for end in one.mAP_interval)
        lines.append("| " + " | ".join([_cell(one.stamp.dataset), *cells, interval]) + " |")
    stamps = [f"- {str(one.stamp).replace(' | ', '; ')}{'. ' + one.note if one.note else ''}" for one in scores]
    return "\n".join([*lines, "", "How they were measured:", "", *stamps])


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _calibration(facts: ModelFacts) -> str:
    found = facts.calibration
    if found is None:
        told = "None: what a cosine means is not known. `lightning-reid calibrate` finds it, on people of your own cameras."
    else:
        told = (
            "`calibration.json` says how probable it is that two pictures of some cosine show one person: fitted on"
            f" {found.people[0]:,} people of `{found.data}`, and scored on {found.people[1]:,} others, with an expected calibration error"
            f" of {found.calibration_error:.3f}. Of people of other cameras it says nothing: calibrate on your own."
        )
    return "\n\n".join(part for part in (told, facts.about_calibration or "") if part)


def _indented(lines: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in lines.strip("\n").splitlines())


def described(architecture: Mapping[str, Any], parameters: int, image_size: tuple[int, int], clip_length: int | None) -> str:
    """Sentences on a network itself.

    Args:
        architecture: Of the network, in plain values.
        parameters: How many numbers were learned.
        image_size: (height, width) in pixels.
        clip_length: T of clips; ``None`` of images, or where nobody knows.
    """
    options = architecture.get("network_options") or architecture.get("backbone_options") or {}
    kind = f"network of clips, `{architecture['network']}`," if "network" in architecture else architecture.get("backbone", "network")
    with_options = f" with `{json.dumps(options)}`" if options else ""
    pooled = f", pooling `{architecture['pooling']}`, neck `{architecture['neck']}`" if "pooling" in architecture else ""
    pruned = "; pruned" if "channel_plan" in architecture else ""
    frames = f"clips of {clip_length or 'T'} frames, " if "network" in architecture else "images "
    return (
        f"A {kind}{with_options}{pooled}: {parameters:,} parameters{pruned}. It takes {frames}of {image_size[0]}x{image_size[1]} pixels"
        " (height x width), RGB, resized bilinearly with antialiasing, uint8 or with ImageNet's normalization, and gives embeddings of"
        f" {architecture['embedding']} numbers, compared by cosine."
    )
