"""The page to watch: cameras with the people in them, each with one number everywhere. Extra ``tracking``."""

try:
    import starlette as _starlette  # noqa: F401
    import uvicorn as _uvicorn  # noqa: F401
    import websockets as _websockets  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"the page needs {error.name}: pip install 'lightning-reid[tracking]'", name=error.name) from error

from lightning_reid.live.page.live_view import LiveView
from lightning_reid.live.page.server import Page, serve

__all__ = ["LiveView", "Page", "serve"]
