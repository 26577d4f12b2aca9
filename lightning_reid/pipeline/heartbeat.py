"""Who of several processes has gone: each beats, and who is silent is named."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # exported, but not for type checkers

SECONDS_BETWEEN_BEATS = 0.2
SILENT_FOR = 1.0
"""Seconds without a beat after which a process counts as gone: its thread beats while it computes."""
ANSWER_WITHIN = timedelta(seconds=5)
CONNECT_WITHIN = timedelta(seconds=60)
"""For each connection torch asks for the name of the address, and resolvers wait 5 seconds for a name server's lost answer."""


class Heartbeat:
    """A beat of this process, in a store that the first one keeps, until it ends.

    Args:
        address: Of the first process' machine.
        port: Of the store there.
        rank: This process among all.
        world_size: How many there are.
        store: The first process' own; ``None`` on the others, which connect to it.
    """

    def __init__(self, address: str, port: int, rank: int, world_size: int, store: TCPStore | None) -> None:
        self.rank, self.world_size = rank, world_size
        self._kept = store  # where it is kept it must live on
        self._store, self._asked = self._connected(address, port), self._connected(address, port)
        self._ended = threading.Event()
        self._heard: dict[str, Any] = {}  # what was in the store when this process last beat
        threading.Thread(target=self._beat, daemon=True, name="heartbeat").start()

    @staticmethod
    def keep_store(address: str) -> TCPStore:
        """A store at a free port, for the first process."""
        return TCPStore(address, 0, is_master=True, wait_for_workers=False, timeout=CONNECT_WITHIN)

    @staticmethod
    def _connected(address: str, port: int) -> TCPStore:
        store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=CONNECT_WITHIN)
        store.set_timeout(ANSWER_WITHIN)
        return store

    def end(self) -> None:
        """Let the thread that beats end."""
        self._ended.set()

    def tell(self, words: str) -> None:
        """Leave the last words of this process, unless another has left some: who ends for the sake of another has nothing to tell."""
        try:
            if not self._asked.check(["gone"]):
                self._asked.compare_set("words", "", json.dumps([self.rank, words]))
        except RuntimeError:  # the store has gone, and with it who could read them
            return

    def words(self) -> tuple[int, str] | None:
        """Who ended first, with what words; ``None`` where nobody left any.

        Who asks when the store has gone is told what was in it when this process last beat: of the end of one process another may learn
        by the end of the first alone. That one stays for a while after it has read them, where there are others to hear of it.
        """
        try:
            found = _value(self._asked, "words")
            if found is not None and self._kept is not None and self.world_size > 2:
                time.sleep(SILENT_FOR)
        except RuntimeError:
            found = self._heard.get("words")
        return None if found is None else (found[0], found[1])

    def gone(self) -> list[int]:
        """The ranks that did not beat for a while, for which it waits, or those whom somebody before found gone.

        It is the first one, where its store does not answer and nothing was heard of others before. The first one stays for as long
        again, where there are others to ask it.
        """
        try:
            found = self._found()
            if self._kept is not None and self.world_size - len(found) > 1:
                time.sleep(SILENT_FOR)
        except RuntimeError:  # what torch raises of a store that has gone
            heard: list[int] = self._heard.get("gone", [0])
            return heard
        return found

    def _found(self) -> list[int]:
        if not self._asked.check(["gone"]):  # who is asked later would also name those who ended for the sake of the first
            before = self._beats()
            time.sleep(SILENT_FOR)
            after = self._beats()
            silent = [rank for rank in range(self.world_size) if before[rank] == after[rank] and rank != self.rank]
            self._asked.set("gone", json.dumps(silent))
        found: list[int] = json.loads(self._asked.get("gone"))
        return found

    def _beats(self) -> Sequence[int]:
        return [self._asked.add(str(rank), 0) for rank in range(self.world_size)]

    def _beat(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_BEATS):
            try:
                self._store.add(str(self.rank), 1)
                self._heard |= {name: value for name in ("words", "gone") if (value := _value(self._store, name)) is not None}
            except RuntimeError:  # the first process has gone; whoever waits for it is told by what it waits in
                return


def _value(store: TCPStore, name: str) -> Any:
    """What stands in a store under a name; ``None`` where nothing does."""
    return json.loads(store.get(name)) if store.check([name]) else None
