"""What Lightning says at every fit, and nobody can act on."""

from __future__ import annotations

import warnings


def ignore_what_nobody_can_act_on() -> None:
    """Silence two warnings of every fit: Lightning's own use of a torch function, and logs lying in the folder of the checkpoint."""
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*")
    warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
