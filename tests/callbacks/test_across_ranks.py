"""Errors that travel from one process to the others."""

from __future__ import annotations

import pickle
import threading

import pytest

from lightning_reid.callbacks.across_ranks import portable


class OfTwoArgumentsError(Exception):
    """Pickled by its message alone, as exceptions are, it cannot be made again."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} at {where}")


class HoldsALockError(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def raised(error: Exception) -> Exception:
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def test_an_error_arrives_as_itself_with_the_trace_of_where_it_came_from():
    arrived = pickle.loads(pickle.dumps(portable(raised(ValueError("no such pid")))))
    assert type(arrived) is ValueError
    assert str(arrived) == "no such pid"
    assert "in raised" in "".join(arrived.__notes__)


@pytest.mark.parametrize("error", [OfTwoArgumentsError("damage", "row 7"), HoldsALockError("the store is locked")])
def test_an_error_that_cannot_be_sent_is_told_by_type_text_and_trace(error):
    arrived = pickle.loads(pickle.dumps(portable(raised(error))))
    assert type(arrived) is RuntimeError
    assert f"{type(error).__name__}: {error}" in str(arrived)
    assert "in raised" in str(arrived)
