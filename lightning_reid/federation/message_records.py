"""The records of a message that arrived: those that were expected, of their kinds, and nothing beside them; else a ``ValueError``."""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Sequence
from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

_Record = TypeVar("_Record", ArrayRecord, ConfigRecord, MetricRecord)


def records_of(message: Message, needed: Collection[str], possible: Collection[str] = ()) -> RecordDict:
    """A message's records: all of ``needed``, perhaps some of ``possible``, and no others."""
    if not message.has_content():
        raise ValueError("it is empty")
    wrong = {*message.content.keys()} ^ {*needed, *(name for name in possible if name in message.content)}
    if wrong:
        raise ValueError(f"it must hold {', '.join(sorted(needed))}, and has too many or too few: {reprlib.repr(sorted(wrong))}")
    return message.content


def record_of(records: RecordDict, name: str, kind: type[_Record]) -> _Record:
    """The record of that name, which must be of that kind."""
    record = records.get(name)
    if not isinstance(record, kind):
        raise ValueError(f"its {name} must be one {kind.__name__}, got {type(record).__name__}")
    return record


def values_of(records: RecordDict, name: str, needed: set[str]) -> dict[str, object]:
    """What a record tells, which must be of these names."""
    record = record_of(records, name, ConfigRecord)
    if {*record} != needed:
        raise ValueError(f"its {name} must tell {', '.join(sorted(needed))}, got {reprlib.repr(sorted(record))}")
    return dict(record)


def client_of(told: object, clients: Sequence[str]) -> str:
    """An id that a message tells, which must be one of ``clients``."""
    if not isinstance(told, str) or told not in clients:
        raise ValueError(f"it says that it is {reprlib.repr(told)}, who is none of {clients}")
    return told
