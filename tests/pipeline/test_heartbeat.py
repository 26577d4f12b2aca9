"""Processes of a pipeline find the store of their beats, however long a name server takes."""

from __future__ import annotations

import socket
import threading
import time
from datetime import timedelta

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
