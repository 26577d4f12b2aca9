"""The nodes of a run of Flower: who is connected, which client each is, and what they answer."""

from __future__ import annotations

import logging
import math
import reprlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from google.protobuf.message import DecodeError

from lightning_reid.federation.client import LONGEST_TEXT
from lightning_reid.federation.messages import WHO, query_request

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 0.2
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError, DecodeError)
"""What Flower raises of replies that it cannot put together."""
_Said = TypeVar("_Said")
_Introduced = TypeVar("_Introduced")


class FlowerNodes(Generic[_Introduced]):
    """Finds nodes, waits for them, asks them and believes them; several federations of one run share one, and so what it knows.

    A node stays the client that it was when it first answered.

    Args:
        grid: Flower's, of the run.
        clients: Ids of all clients.
        read_who: Of a node's answer to who it is: the client's id, and what it tells of itself; raises ``ValueError``.
        patience: Seconds to wait for enough nodes, and for a node to say who it is.
        grace: Seconds that a server which was resumed waits for all to be back, and that a single client's node is waited for.

    Attributes:
        introduced: What each client told of itself.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        grid: Grid,
        clients: Sequence[str],
        read_who: Callable[[Message], tuple[str, _Introduced]],
        *,
        patience: float = 600.0,
        grace: float = 30.0,
    ) -> None:
        if patience < 0 or grace < 0:
            raise ValueError(f"nodes are waited for 0 seconds or more, got patience={patience}, grace={grace}")
        self.grid, self.clients, self.patience, self.grace = grid, list(clients), patience, grace
        self.introduced: dict[str, _Introduced] = {}
        self._read_who = read_who
        self._client_of: dict[int, str] = {}
        self._silent: set[int] = set()

    def connected(self, enough: int, all_of: int, *, resumed: bool) -> list[int]:
        """Nodes, as soon as there are enough, or when patience has ended; a sitting that knows nobody yet waits for all first."""
        waits_for_all = 0.0 if self._client_of else self.grace if resumed else math.inf
        began = time.monotonic()
        while True:
            nodes, waited = sorted(self.grid.get_node_ids()), time.monotonic() - began
            needed = all_of if waited < waits_for_all else enough
            if len(nodes) >= needed:
                return nodes
            if waited > self.patience:
                logger.warning("%d nodes are connected after %g s, %d were waited for", len(nodes), self.patience, needed)
                return nodes
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def find(self, clients: Collection[str], deadline: float | None = None) -> tuple[dict[str, int], dict[str, str]]:
        """The node of each client; and by client, or by node where nobody knows whose it is, why others are not found.

        Where a client's node is not known, is not connected, or was silent when it was last asked, nodes that nobody knows are asked who
        they are. What is not connected is waited for as long as grace lasts.

        Args:
            clients: Whose nodes to find.
            deadline: Seconds that a node may take to say who it is, no more than patience.
        """
        until, reasons, asked = time.monotonic() + self.grace, dict[str, str](), set[int]()
        while True:
            connected = sorted(self.grid.get_node_ids())
            found = self._nodes_of(clients, connected)
            strangers = [node for node in connected if node not in self._client_of and node not in asked]
            if strangers and any(client not in found or found[client] in self._silent for client in clients):
                asked.update(strangers)
                reasons |= self._introduce(strangers, self.patience if deadline is None else min(deadline, self.patience))
                continue
            missing = [client for client in clients if client not in found]
            if not missing or time.monotonic() >= until:
                return found, dict.fromkeys(missing, "its node is not connected") | reasons
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _nodes_of(self, clients: Collection[str], connected: Collection[int]) -> dict[str, int]:
        found: dict[str, int] = {}
        for node, client in self._client_of.items():
            if client in clients and node in connected and (client not in found or found[client] in self._silent):
                found[client] = node
        return found

    def _introduce(self, strangers: Sequence[int], seconds: float) -> dict[str, str]:
        """Ask nodes who they are; why those are not believed that are not, by node or client."""
        holders = self._nodes_of(self.clients, [*self.grid.get_node_ids()])

        def read(node: int, message: Message) -> tuple[str, _Introduced]:
            client, told = self._read_who(message)
            if holders.get(client, node) != node and holders[client] not in self._silent:
                raise ValueError(f"it says that it is {client}, who is node {holders[client]}")
            return client, told

        believed, absent = self.believed(dict.fromkeys(strangers, query_request(WHO)), WHO, read, seconds, "who")
        for client, told in believed.items():
            self.introduced[client] = told
            if client in holders:  # that one was silent, and another is the client now
                del self._client_of[holders[client]]
        for name, reason in absent.items():
            logger.warning("%s did not say who it is: %s", name, reason)
        return {name: reason for name, reason in absent.items() if name not in self.clients}

    def believed(
        self,
        contents: Mapping[int, RecordDict],
        kind: str,
        read: Callable[[int, Message], tuple[str, _Said]],
        deadline: float | None,
        group: str,
    ) -> tuple[dict[str, _Said], dict[str, str]]:
        """What each client says; and by client, or by node where nobody knows whose it is, why others are not believed.

        A node stays the client that it was when it first answered, and of several nodes that say they are one client that one is
        believed which was it before; where none was, nobody is.

        Args:
            contents: What is sent, by node.
            kind: Of the messages.
            read: Of a node's answer: the client's id, and what it says; raises ``ValueError``.
            deadline: Seconds to wait; ``None`` waits for everybody.
            group: Of the messages.
        """
        lost: dict[int, str] = {}
        said: dict[str, dict[int, _Said]] = {}
        for node, message in self._answers(contents, kind, lost, deadline, group):
            try:
                client, found = read(node, message)
                before = self._client_of.get(node, client)
                if client != before:
                    raise ValueError(f"it says that it is {client}, and was {before}: resume the server, if nodes have been set up anew")
            except ValueError as error:  # what a stranger sends is told, and must not stop the others
                lost[node] = f"its reply cannot be read: {error}"
                continue
            said.setdefault(client, {})[node] = found
        believed: dict[str, _Said] = {}
        absent: dict[str, str] = {}
        for client, by_node in said.items():
            of_client = [node for node in by_node if len(by_node) == 1 or node in self._client_of]
            if len(of_client) != 1:
                absent[client] = f"{len(by_node)} nodes say that they are it"
                continue
            self._client_of[of_client[0]], believed[client] = client, by_node[of_client[0]]
            lost |= {node: f"it says that it is {client}, who is node {of_client[0]}" for node in by_node if node != of_client[0]}
        for node, reason in lost.items():
            known = self._client_of.get(node)
            absent[f"node {node}" if known is None or known in believed else known] = reason
        return believed, absent

    def _answers(
        self, contents: Mapping[int, RecordDict], kind: str, lost: dict[int, str], deadline: float | None, group: str
    ) -> Iterator[tuple[int, Message]]:
        """Send to nodes; their answers as they come, with who was asked; ``lost`` tells of those that are errors, or do not come."""
        until = None if deadline is None else time.monotonic() + deadline
        waiting: dict[str, int] = {}
        for node, content in contents.items():
            message = Message(content, node, kind, ttl=deadline or None, group_id=group)
            waiting |= dict.fromkeys(self.grid.push_messages([message]), node)
        while waiting:
            for sent in list(waiting):
                try:
                    arrived = [*self.grid.pull_messages([sent])]
                except _MALFORMED as error:  # one id is asked at a time, so that it is this node's
                    lost[waiting.pop(sent)] = f"its reply cannot be put together: {reprlib.repr(error)}"
                    continue
                if not arrived:
                    continue
                node = waiting.pop(sent)
                self._silent.discard(node)
                if arrived[0].has_error():
                    lost[node] = _line(arrived[0].error.reason or "an error without a reason")
                    self._silent.add(node)
                else:
                    yield node, arrived[0]
            if not waiting or (until is not None and time.monotonic() >= until):
                break
            time.sleep(SECONDS_BETWEEN_LOOKS)
        for node in waiting.values():
            lost[node] = f"no reply after {deadline:g} s"
            self._silent.add(node)


def _line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text[:LONGEST_TEXT])
