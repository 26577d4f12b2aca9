"""The page to watch: cameras with the people in them, each with one number everywhere. Extra ``tracking``."""

from lightning_reid.live.page.live_view import LiveView
from lightning_reid.live.page.server import Page, serve

__all__ = ["LiveView", "Page", "serve"]
