"""The messages of a federation over Flower, each beside its reader: what arrives is not believed, and a reader raises ``ValueError`` only.

Nothing but what the strategy shares, a few numbers and the client's id is in a reply.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from torch import Tensor

from lightning_reid.federated.averaging import NamedTensors
from lightning_reid.federated.plausibility import LARGEST_COUNT
from lightning_reid.federated.sharing import AllowList
from lightning_reid.federated.strategies import Reply
from lightning_reid.federation.arrays import read_arrays
from lightning_reid.federation.client import LocalFit, LocalRound
from lightning_reid.federation.message_records import client_of, record_of, records_of, values_of

MODEL, ASKED, FIT, CLIENT, SCORES = "model", "asked", "fit", "client", "scores"
"""Names of the records in a message."""
WHO = f"{MessageType.QUERY}.who"
UNMATCHED = "unmatched_queries"
NEEDED_SCORES = ("mAP", "R1", UNMATCHED)
MOST_SCORES = 100
WALK = "walk"
"""What an ordinary federation does not tell."""
SCORE_NAME = re.compile(r"[A-Za-z0-9_./-]{1,100}")

_Told = TypeVar("_Told", LocalFit, LocalRound)


def fit_request(asked: LocalRound, tensors: NamedTensors) -> RecordDict:
    """The server's message that asks for a fit."""
    told = {name: value for name, value in asdict(asked).items() if name != WALK or value}  # clients of before know no walks
    return RecordDict({MODEL: ArrayRecord(dict(tensors)), ASKED: ConfigRecord(told)})


def read_asked(message: Message) -> LocalRound:
    """What the server asks in a message of :func:`fit_request`.

    Raises:
        ValueError: It is not such a message.
    """
    return _told(LocalRound, record_of(records_of(message, {MODEL, ASKED}), ASKED, ConfigRecord))


def read_fit_request(message: Message, allowed: AllowList) -> tuple[LocalRound, dict[str, Tensor]]:
    """What the server asks, and its model.

    Args:
        message: Of :func:`fit_request`, if it is.
        allowed: What the client shares, all of which must come.

    Raises:
        ValueError: It is not such a message, or not of such a model.
    """
    return read_asked(message), read_arrays(record_of(message.content, MODEL, ArrayRecord), allowed)


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
    records = records_of(message, {FIT, CLIENT}, {MODEL})
    told = values_of(records, CLIENT, {"id", "num_images"})
    client, images, fit = client_of(told["id"], clients), told["num_images"], _told(LocalFit, record_of(records, FIT, ConfigRecord))
    if type(images) is not int:  # True is an int to isinstance
        raise ValueError(f"it says it trained on {reprlib.repr(images)} images, expected a whole number")
    _check_round((fit.round, fit.attempt), (asked.round, asked.attempt))
    if fit.bytes_down != allowed.num_bytes:
        raise ValueError(f"it says that {fit.bytes_down} bytes came down, {allowed.num_bytes} were sent")
    if fit.problem and MODEL in records:
        raise ValueError(f"it holds a model of a fit that cannot be used ({fit.problem})")
    if fit.problem:
        return fit, Reply(client, {}, images)
    return fit, Reply(client, read_arrays(record_of(records, MODEL, ArrayRecord), allowed), images)


def query_request(kind: str) -> RecordDict:
    """The server's message that asks a node for something by its kind alone, such as which client it is (``WHO``)."""
    return RecordDict({ASKED: ConfigRecord({"query": kind})})


def who_reply(client: str) -> RecordDict:
    """A client's message that tells who it is."""
    return RecordDict({CLIENT: ConfigRecord({"id": client})})


def read_who_reply(message: Message, clients: Sequence[str]) -> str:
    """Which client a node says that it is.

    Raises:
        ValueError: It is not a message of :func:`who_reply`, or of a stranger.
    """
    return client_of(values_of(records_of(message, {CLIENT}), CLIENT, {"id"})["id"], clients)


def scores_request(federation: str, number: int) -> RecordDict:
    """The server's message that asks for the scores of the personal model after so many rounds."""
    return RecordDict({ASKED: ConfigRecord({"federation": federation, "round": number})})


def read_scores_request(message: Message) -> tuple[str, int]:
    """The federation that asks for scores, and the rounds that it has done.

    Raises:
        ValueError: It is not a message of :func:`scores_request`.
    """
    asked = values_of(records_of(message, {ASKED}), ASKED, {"federation", "round"})
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
    records = records_of(message, {SCORES, CLIENT})
    told = values_of(records, CLIENT, {"id", "round"})
    client = client_of(told["id"], clients)
    _check_round(told["round"], number)
    scores = record_of(records, SCORES, MetricRecord)
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


def _told(kind: type[_Told], record: ConfigRecord) -> _Told:
    needed = {field.name for field in fields(kind) if field.name != WALK or WALK in record}
    if {*record} != needed:
        raise ValueError(f"it must tell {', '.join(sorted(needed))}, got {reprlib.repr(sorted(record))}")
    return kind(**record)  # type: ignore[arg-type]  # which looks at the types itself


def _check_round(told: object, asked: object) -> None:
    if type(told) is not type(asked) or told != asked:
        raise ValueError(f"it is of round {reprlib.repr(told)}, asked was {asked}")
