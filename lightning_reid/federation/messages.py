"""The messages of a federation over Flower, each beside its reader: what arrives is not believed, and a reader raises ``ValueError`` only.

Nothing but what the strategy shares, a few numbers and the client's id is in a reply.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from lightning_reid.federated.averaging import NamedTensors
from lightning_reid.federated.plausibility import LARGEST_COUNT
from lightning_reid.federated.sharing import AllowList
from lightning_reid.federated.strategies import Reply
from lightning_reid.federation.arrays import read_arrays
from lightning_reid.federation.client import LocalFit, LocalRound

MODEL, ASKED, FIT, CLIENT, SCORES = "model", "asked", "fit", "client", "scores"
"""Names of the records in a message."""
UNMATCHED = "unmatched_queries"
NEEDED_SCORES = ("mAP", "R1", UNMATCHED)
MOST_SCORES = 100
SCORE_NAME = re.compile(r"[A-Za-z0-9_./-]{1,100}")

_Record = TypeVar("_Record", ArrayRecord, ConfigRecord, MetricRecord)
_Told = TypeVar("_Told", LocalFit, LocalRound)


def fit_request(asked: LocalRound, tensors: NamedTensors) -> RecordDict:
    """The server's message that asks for a fit."""
    return RecordDict({MODEL: ArrayRecord(dict(tensors)), ASKED: ConfigRecord(asdict(asked))})


def read_fit_request(message: Message, allowed: AllowList) -> tuple[LocalRound, dict[str, Tensor]]:
    """What the server asks, and its model.

    Args:
        message: Of :func:`fit_request`, if it is.
        allowed: What the client shares, all of which must come.

    Raises:
        ValueError: It is not such a message, or not of such a model.
    """
    records = _records(message, {MODEL, ASKED})
    return _told(LocalRound, _record(records, ASKED, ConfigRecord)), read_arrays(_record(records, MODEL, ArrayRecord), allowed)


def fit_reply(fit: LocalFit, reply: Reply) -> RecordDict:
    """A client's message after a fit; the tensors go with it unless the fit cannot be used."""
    content = RecordDict({FIT: ConfigRecord(asdict(fit)), CLIENT: ConfigRecord({"id": reply.client, "num_images": reply.num_images})})
    if not fit.problem:
        content[MODEL] = ArrayRecord(dict(reply.tensors))
    return content


def read_fit_reply(message: Message, asked: LocalRound, allowed: AllowList, clients: Sequence[str]) -> tuple[LocalFit, Reply]:
    """How a client's fit went, and what it sends; no tensors where the fit cannot be used.

    Whether its numbers can be averaged is for the strategy to say.

    Args:
        message: Of :func:`fit_reply`, if it is.
        asked: What the client was asked.
        allowed: What the server sent, and must come back.
        clients: Ids of those who may answer.

    Raises:
        ValueError: It is not such a message, of a stranger, of another round, or of another model.
    """
    records = _records(message, {FIT, CLIENT}, {MODEL})
    told = _values(records, CLIENT, {"id", "num_images"})
    client, images, fit = _client(told["id"], clients), told["num_images"], _told(LocalFit, _record(records, FIT, ConfigRecord))
    if type(images) is not int:  # True is an int to isinstance
        raise ValueError(f"it says it trained on {reprlib.repr(images)} images, expected a whole number")
    _check_round((fit.round, fit.attempt), (asked.round, asked.attempt))
    if fit.bytes_down != allowed.num_bytes:
        raise ValueError(f"it says that {fit.bytes_down} bytes came down, {allowed.num_bytes} were sent")
    if fit.problem and MODEL in records:
        raise ValueError(f"it holds a model of a fit that cannot be used ({fit.problem})")
    if fit.problem:
        return fit, Reply(client, {}, images)
    return fit, Reply(client, read_arrays(_record(records, MODEL, ArrayRecord), allowed), images)


def scores_request(federation: str, number: int) -> RecordDict:
    """The server's message that asks for the scores of the personal model after so many rounds."""
    return RecordDict({ASKED: ConfigRecord({"federation": federation, "round": number})})


def read_scores_request(message: Message) -> tuple[str, int]:
    """The federation that asks for scores, and the rounds that it has done.

    Raises:
        ValueError: It is not a message of :func:`scores_request`.
    """
    asked = _values(_records(message, {ASKED}), ASKED, {"federation", "round"})
    federation, number = asked["federation"], asked["round"]
    if not isinstance(federation, str) or type(number) is not int or number < 0:
        raise ValueError(f"it asks for scores of {reprlib.repr(federation)} after {reprlib.repr(number)} rounds")
    return federation, number


def scores_reply(client: str, number: int, scores: Mapping[str, float]) -> RecordDict:
    """A client's message with its scores."""
    return RecordDict({SCORES: MetricRecord({**scores}), CLIENT: ConfigRecord({"id": client, "round": number})})


def read_scores_reply(message: Message, number: int, clients: Sequence[str]) -> tuple[str, dict[str, float]]:
    """A client and its scores, fractions in [0, 1], with ``unmatched_queries``, a whole number.

    Args:
        message: Of :func:`scores_reply`, if it is.
        number: After how many rounds it was asked.
        clients: Ids of those who were asked.

    Raises:
        ValueError: It is not such a message, of a stranger, of another round, or its scores are none.
    """
    records = _records(message, {SCORES, CLIENT})
    told = _values(records, CLIENT, {"id", "round"})
    client = _client(told["id"], clients)
    _check_round(told["round"], number)
    scores = _record(records, SCORES, MetricRecord)
    missing = [name for name in NEEDED_SCORES if name not in scores]
    if missing or len(scores) > MOST_SCORES:
        raise ValueError(f"it holds {len(scores)} scores, expected at most {MOST_SCORES} and {', '.join(NEEDED_SCORES)} among them")
    return client, {name: _score(name, value) for name, value in scores.items()}


def _score(name: str, value: object) -> float:
    shown = reprlib.repr(name)
    if not SCORE_NAME.fullmatch(name):
        raise ValueError(f"the name of its score {shown} must be of 1 to 100 letters, digits and _./-")
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"its score {shown} must be a number, got {reprlib.repr(value)}")
    if name == UNMATCHED and not (0 <= value <= LARGEST_COUNT and value == int(value)):
        raise ValueError(f"its {UNMATCHED} must be a whole number, 0 or more, got {value}")
    if name != UNMATCHED and not 0 <= value <= 1:
        raise ValueError(f"its score {shown} must lie in [0, 1], got {value}")
    return float(value)


def _records(message: Message, needed: Collection[str], possible: Collection[str] = ()) -> RecordDict:
    if not message.has_content():
        raise ValueError("it is empty")
    wrong = {*message.content.keys()} ^ {*needed, *(name for name in possible if name in message.content)}
    if wrong:
        raise ValueError(f"it must hold {', '.join(sorted(needed))}, and has too many or too few: {reprlib.repr(sorted(wrong))}")
    return message.content


def _record(records: RecordDict, name: str, kind: type[_Record]) -> _Record:
    record = records.get(name)
    if not isinstance(record, kind):
        raise ValueError(f"its {name} must be one {kind.__name__}, got {type(record).__name__}")
    return record


def _values(records: RecordDict, name: str, needed: set[str]) -> dict[str, object]:
    record = _record(records, name, ConfigRecord)
    if {*record} != needed:
        raise ValueError(f"its {name} must tell {', '.join(sorted(needed))}, got {reprlib.repr(sorted(record))}")
    return dict(record)


def _told(kind: type[_Told], record: ConfigRecord) -> _Told:
    needed = {field.name for field in fields(kind)}
    if {*record} != needed:
        raise ValueError(f"it must tell {', '.join(sorted(needed))}, got {reprlib.repr(sorted(record))}")
    return kind(**record)  # type: ignore[arg-type]  # which looks at the types itself


def _client(told: object, clients: Sequence[str]) -> str:
    if not isinstance(told, str) or told not in clients:
        raise ValueError(f"it says that it is {reprlib.repr(told)}, who is none of {clients}")
    return told


def _check_round(told: object, asked: object) -> None:
    if type(told) is not type(asked) or told != asked:
        raise ValueError(f"it is of round {reprlib.repr(told)}, asked was {asked}")
