"""Processes of a pipeline find the store of their beats, however long a name server takes, and hear in time who has gone."""

from __future__ import annotations

import socket
import threading
import time
from datetime import timedelta

import pytest

from lightning_reid.pipeline import heartbeat
from lightning_reid.pipeline.heartbeat import Heartbeat


def test_a_connection_may_take_longer_than_an_answer(monkeypatch):
    monkeypatch.setattr(heartbeat, "ANSWER_WITHIN", timedelta(seconds=0.2))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept: list[object] = []

    def kept_later() -> None:
        time.sleep(1.0)
        kept.append(heartbeat.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False))

    late = threading.Thread(target=kept_later)
    late.start()
    beating = Heartbeat("127.0.0.1", port, rank=0, world_size=1, store=None)
    late.join()
    beating.tell("found it")
    assert beating.words() == (0, "found it")
    beating.end()


@pytest.mark.parametrize("way", ["with last words", "without a word"])
def test_who_asks_when_the_store_has_gone_was_told_before(monkeypatch, way):
    """One process may learn of the end of the third by the end of the first alone, which kept the store."""
    monkeypatch.setattr(heartbeat, "SILENT_FOR", 0.8)
    monkeypatch.setattr(heartbeat, "ANSWER_WITHIN", timedelta(seconds=1))
    store = Heartbeat.keep_store("127.0.0.1")
    first, second, third = (Heartbeat("127.0.0.1", store.port, rank, 3, store if rank == 0 else None) for rank in range(3))
    if way == "with last words":
        third.tell("ValueError: pid 700 has no class")
        assert first.words() == (2, "ValueError: pid 700 has no class")
    else:
        third.end()
        assert first.words() is None
        assert first.gone() == [2]
    first.end()
    first._kept = None
    del store
    time.sleep(0.5)
    with pytest.raises(RuntimeError):
        second._asked.check(["gone"])
    if way == "with last words":
        assert second.words() == (2, "ValueError: pid 700 has no class")
    else:
        assert second.words() is None
        assert second.gone() == [2]
    second.end()
    third.end()
