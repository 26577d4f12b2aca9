"""The page to watch, for commands that have something to show."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lightning_reid.live.page import LiveView, serve
from lightning_reid.tracking.events import Request


@dataclass(frozen=True)
class PageOptions:
    """How the page is served.

    Attributes:
        host: Address to listen on; another one than this host's own takes TLS, and draws a token that is part of the page's address.
        port: To listen on; 0 for any that is free.
        certificate: File of a TLS certificate chain, in PEM.
        key: File of its private key.
        insecure: Whether another host may watch without TLS: then pictures of people go over the network for all to read.
        pictures: Whether pictures are shown at all; without, boxes alone leave the cameras, and nobody who watches can change that.
        fps: Most pictures a second of a camera that a browser gets.
        open: Whether a browser is opened, where a person has started this.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    certificate: str | None = None
    key: str | None = None
    insecure: bool = False
    pictures: bool = True
    fps: float = 10.0
    open: bool = True

    @contextmanager
    def shown(self, view: LiveView, ask: Callable[[Request], object]) -> Iterator[str]:
        """Serve a view, and tell where.

        Args:
            view: What there is to watch.
            ask: Takes what somebody who watches asks for.

        Raises:
            OSError: The port is taken, or may not be used.
            ValueError: An option is wrong.
        """
        view.send_requests(ask)
        with serve(view, self.host, self.port, certificate=self.certificate, key=self.key, insecure=self.insecure) as page:
            print(f"watch at {page.url}", flush=True)
            if self.open and sys.stdout.isatty():
                webbrowser.open(page.url)
            yield page.url
