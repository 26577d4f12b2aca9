"""``python -m lightning_reid``: the command ``lightning-reid``."""

import sys

from lightning_reid.command_line.main import main

if __name__ == "__main__":
    sys.exit(main())
