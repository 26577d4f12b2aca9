"""Tokens: what lets a node in, for which cameras, until when. Only the gateway that issued one can tell that it is true."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lightning_reid.arguments import require_number, require_switch, require_texts, shown

SECRET_BYTES = 32
LONGEST_TOKEN = 2**16
"""Characters."""


class TokenRefusedError(ValueError):
    """A token does not let in; the message says why, and shows nothing of it that is secret."""


@dataclass(frozen=True)
class Token:
    """What a token says.

    Attributes:
        id: By which logs and the audit log name it; it does not let in.
        cameras: Of which its bearer may tell.
        expires: Seconds since 1970 when it ends.
        asks: Whether its bearer may ask that a match is undone or a person forgotten.
    """

    id: str
    cameras: tuple[str, ...]
    expires: float
    asks: bool = False


def read_secret(path: str | Path) -> bytes:
    """The secret of a gateway, by which it signs tokens; a new one, readable by its owner alone, where there is none.

    Raises:
        OSError: The file cannot be read or written.
        ValueError: It is no secret of :data:`SECRET_BYTES` bytes; the message names it.
    """
    path = Path(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
    secret = path.read_bytes()
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"{path} holds {len(secret)} bytes, a gateway's secret has {SECRET_BYTES}: remove it, and issue new tokens")
    return secret


def issue_token(secret: bytes, cameras: Sequence[str], *, expires: float, asks: bool = False) -> str:
    """A token for these cameras: JSON and its HMAC-SHA-256, both in base64.

    Args:
        secret: Of the gateway that it is for.
        cameras: Of which its bearer may tell; may be empty.
        expires: Seconds since 1970 when it ends.
        asks: Whether its bearer may ask that a match is undone or a person forgotten.

    Raises:
        ValueError: An argument is not as described.

    Example:
        >>> from lightning_reid.live.tokens import check_token, issue_token
        >>> token = issue_token(secret := bytes(32), ["door"], expires=2e9)
        >>> check_token(secret, token, now=1.9e9).cameras
        ('door',)
    """
    require_texts("cameras", cameras)
    require_number("expires", expires, low=0, high=1e11)
    require_switch("asks", asks)
    said = Token(secrets.token_hex(4), tuple(cameras), float(expires), asks)
    content = json.dumps(asdict(said), separators=(",", ":")).encode()
    return f"{_text(content)}.{_text(_signature(secret, content))}"


def read_token(token: str) -> Token:
    """What a token says of itself, which its bearer may look at; nobody has checked it.

    Raises:
        TokenRefusedError: It is no token.
    """
    return _parts(token)[0]


def check_token(secret: bytes, token: str, *, now: float) -> Token:
    """What a token says, if this gateway has issued it and it holds.

    Args:
        secret: Of this gateway.
        token: From outside.
        now: Seconds since 1970.

    Raises:
        TokenRefusedError: It is no token, another gateway's, changed, or expired.
    """
    said, content, signature = _parts(token)
    if not hmac.compare_digest(_signature(secret, content), signature):
        raise TokenRefusedError(f"token {said.id} is not of this gateway, or was changed: have this gateway issue one")
    if now >= said.expires:
        raise TokenRefusedError(f"token {said.id} expired {now - said.expires:.0f} s ago: have a new one issued")
    return said


def _parts(token: object) -> tuple[Token, bytes, bytes]:
    try:
        if not isinstance(token, str) or len(token) > LONGEST_TOKEN or token.count(".") != 1:
            raise ValueError("it is not two parts of base64 with a point between")
        content, signature = (base64.b64decode(part.encode(), altchars=b"-_", validate=True) for part in token.split("."))
        told = json.loads(content)
        said = Token(**told)
        require_texts("cameras", told["cameras"])
        require_texts("id", [said.id])
        if not re.fullmatch("[0-9a-f]{8}", said.id):
            raise ValueError("its id is none")
        require_number("expires", said.expires, high=1e11)
        require_switch("asks", said.asks)
        return Token(said.id, tuple(said.cameras), said.expires, said.asks), content, signature
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error, RecursionError) as error:
        raise TokenRefusedError(
            f"what came is no token ({shown(str(error))}): have the gateway issue one (track_cameras.py token)"
        ) from error


def _signature(secret: bytes, content: bytes) -> bytes:
    return hmac.new(secret, content, hashlib.sha256).digest()


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode()
