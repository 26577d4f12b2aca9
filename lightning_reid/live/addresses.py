"""Where tokens and features may travel: within the machine, or under TLS, unless somebody says aloud that they know better."""

from __future__ import annotations

import ipaddress
import logging
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from lightning_reid.arguments import shown

logger = logging.getLogger(__name__)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, seen from itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_private(host: str, *, tls: bool, insecure: bool) -> None:
    """Refuse a connection that others could read, which shows them tokens and biometric data.

    Args:
        host: That is listened on or connected to.
        tls: Whether it is encrypted.
        insecure: Somebody takes it as it is; that is logged.

    Raises:
        ValueError: The host is another than this one, there is no TLS, and nobody has said ``insecure``.
    """
    if tls or is_loopback(host):
        return
    told = f"{host} is another host than this one, and without TLS everybody on the way reads tokens and features, which are biometric data"
    if not insecure:
        raise ValueError(f"{told}: give a certificate (TLS), or say insecure")
    logger.warning("%s: insecure was said", told)


def checked_address(address: str, *, insecure: bool = False) -> tuple[str, int, bool]:
    """Host, port and whether TLS is spoken, of ``ws://host:port`` or ``wss://host:port``.

    Raises:
        ValueError: It is no such address, or ``require_private`` refuses it.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{shown(address)} is no address: {error}") from error
    if parts.scheme not in ("ws", "wss") or not parts.hostname or port is None or parts.path not in ("", "/") or parts.username:
        raise ValueError(f"expected an address as wss://gateway.local:8443, got {shown(address)}")
    require_private(parts.hostname, tls=parts.scheme == "wss", insecure=insecure)
    return parts.hostname, port, parts.scheme == "wss"


def trusting(authority: str | Path | None) -> ssl.SSLContext:
    """A client's TLS, which checks certificate and host name.

    Args:
        authority: PEM file of the certificate to trust; ``None`` for those that the system trusts.

    Raises:
        ValueError: The file holds none; the message names it.
    """
    try:
        return ssl.create_default_context(cafile=None if authority is None else str(authority))
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"{authority} is no certificate to trust, in PEM: {error}") from error
