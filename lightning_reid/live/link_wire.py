"""What a node and a gateway say to each other over their WebSocket: a greeting, batches of messages, and what became of them.

A node sends ``Hello`` as JSON text; the gateway answers with what it is, or ``{"refused": why}`` and an end. Then the node sends batches:
messages of ``write_message``, each after its length in four bytes, all in one stream of zlib that lasts as long as the connection, flushed
after each batch. The gateway answers each with ``{"taken": its number, "refused_messages": [why, ...]}`` once its messages are matched
and written down.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lightning_reid.arguments import require_count, require_number, require_switch, require_text, require_texts, shown
from lightning_reid.tracking import CameraGone, CameraTracks, StageHealth
from lightning_reid.tracking.records import FromCameras
from lightning_reid.tracking.wire import LARGEST_MESSAGE

FromNode = FromCameras | StageHealth | CameraGone
"""What a node tells; that a camera is gone is told by gateways alone."""
CLOCK_TOLERANCE = 1.0
"""Seconds from which on a clock that differs is told of."""
PROTOCOL = 1
LARGEST_BATCH = LARGEST_MESSAGE + 2**16
"""In bytes, compressed or not."""
LARGEST_HELLO = 2**16
"""In characters."""
MOST_CAMERAS = 256
"""Of a node."""
_LENGTH = struct.Struct("<I")
_LEVEL = 6


class LinkRefusedError(ValueError):
    """What the other side says cannot be taken; the message says why."""


@dataclass(frozen=True)
class Hello:
    """Who a node is.

    Attributes:
        protocol: Version of what is spoken.
        node: 8 to 64 hexadecimal digits, drawn anew by each process: who comes back under it takes the place of its own dead connection.
        model: Name or digest of the network that makes its features.
        feature_size: D of its features.
        cameras: Of which it tells.
        utc: Its clock when it says so, in seconds since 1970.
        peer: Whether it is another gateway, whose messages are not handed on.
    """

    protocol: int
    node: str
    model: str
    feature_size: int
    cameras: tuple[str, ...]
    utc: float
    peer: bool


def write_hello(hello: Hello) -> str:
    """A greeting as the text that is sent."""
    return json.dumps(asdict(hello))


def read_hello(text: object) -> Hello:
    """A greeting from outside.

    Raises:
        LinkRefusedError: It is none, or of another version of the protocol.
    """
    try:
        if not isinstance(text, str) or len(text) > LARGEST_HELLO:
            raise ValueError(f"a text of up to {LARGEST_HELLO:,} characters is due")
        told: Any = json.loads(text)
        if not isinstance(told, dict) or "protocol" not in told:
            raise ValueError(f"got {shown(told)}")
        if told["protocol"] != PROTOCOL:
            version = f"protocol {shown(told['protocol'])} is spoken there and {PROTOCOL} here"
            raise LinkRefusedError(f"{version}: install the same version of the library at both ends")
        hello = Hello(**told)
        require_text("model", hello.model)
        require_text("node", hello.node)
        if not re.fullmatch("[0-9a-f]{8,64}", hello.node):
            raise ValueError(f"node must be 8 to 64 hexadecimal digits, got {shown(hello.node)}")
        require_count("feature_size", hello.feature_size, high=2**16)
        require_texts("cameras", hello.cameras)
        require_count("the number of cameras", len(hello.cameras), high=MOST_CAMERAS)
        require_number("utc", hello.utc, low=0, high=1e11)
        require_switch("peer", hello.peer)
    except LinkRefusedError:
        raise
    except (ValueError, TypeError, RecursionError) as error:
        raise LinkRefusedError(f"a connection must begin with a greeting ({error}): is it a node of this library?") from error
    return Hello(**{**told, "cameras": tuple(hello.cameras)})


class BatchWriter:
    """Makes one stream of the batches of a connection: what heads repeat costs little."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(_LEVEL)

    def write(self, contents: Sequence[bytes]) -> bytes:
        """The bytes of a batch of messages; those of a connection must be sent in order, none left out."""
        plain = b"".join(_LENGTH.pack(len(one)) + one for one in contents)
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


class BatchReader:
    """Reads the batches of a connection, which are not believed."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj()

    def read(self, content: bytes) -> list[bytes]:
        """The messages of the next batch, as bytes.

        Raises:
            LinkRefusedError: It is no batch, or unpacks to more than :data:`LARGEST_BATCH`; the connection cannot be read any further.
        """
        try:
            plain = self._inflate.decompress(content, LARGEST_BATCH + 1)
        except zlib.error as error:
            raise LinkRefusedError(
                f"a batch of {len(content):,} bytes cannot be unpacked ({error}): the sender is no node of this library"
            ) from error
        if len(plain) > LARGEST_BATCH or self._inflate.unconsumed_tail:
            raise LinkRefusedError(f"a batch of {len(content):,} bytes unpacks to more than {LARGEST_BATCH:,}")
        if self._inflate.eof:
            raise LinkRefusedError("the stream of batches has ended, and the connection has not")
        found, start = [], 0
        while start < len(plain):
            end = start + _LENGTH.size
            if end > len(plain) or (length := _LENGTH.unpack_from(plain, start)[0]) > len(plain) - end:
                raise LinkRefusedError(f"a batch is cut short at byte {start:,} of {len(plain):,}")
            found.append(plain[end : end + length])
            start = end + length
        return found


def camera_of(message: FromNode) -> str:
    """Name of the camera that a message is of."""
    return message.stamp.camera if isinstance(message, CameraTracks) else message.camera


def read_answer(text: str | bytes) -> dict[str, Any]:
    """What a gateway answers.

    Raises:
        LinkRefusedError: It refuses, for a reason that the message gives.
        ValueError: It is no answer.
    """
    try:
        answer = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"the gateway answers what is no answer of this library's ({error})") from error
    if not isinstance(answer, dict) or not isinstance(answer.get("refused_messages", []), list):
        raise ValueError(f"the gateway answers {shown(answer)}, which is no answer of this library's")
    if "refused" in answer:
        raise LinkRefusedError(f"refused by the gateway: {answer['refused']}")
    return answer
