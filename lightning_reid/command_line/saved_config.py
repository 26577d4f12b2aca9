"""The options of a training as Lightning's command line keeps them in a file: without how a store is reached."""

from __future__ import annotations

from typing import Any

from jsonargparse import Namespace
from pytorch_lightning.cli import LightningArgumentParser, SaveConfigCallback

_SECRET = "storage_options"


class SaveConfigWithoutCredentials(SaveConfigCallback):
    """Saves ``config.yaml`` as Lightning does, but for ``storage_options``, which may hold a key: give them again to go on."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace, *arguments: Any, **options: Any) -> None:
        config = config.clone()
        for name in [name for name in config.as_flat().__dict__ if _SECRET in name.split(".")]:
            config[name[: name.index(_SECRET) + len(_SECRET)]] = None
        super().__init__(parser, config, *arguments, **options)
