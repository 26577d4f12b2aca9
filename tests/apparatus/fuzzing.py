"""How many damaged inputs are drawn: ``REID_FUZZ=10 pytest tests/fuzz`` draws ten times as many as the quick tests do."""

import os

TIMES = int(os.environ.get("REID_FUZZ", "1"))
