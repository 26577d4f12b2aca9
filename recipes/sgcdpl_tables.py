"""The rows of Tables 3.2 and 3.4 of the thesis, for ``sgcdpl_market.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import pytorch_lightning as pl
from jsonargparse import Namespace

from lightning_reid.datamodules import ImageReIDDataModule, SemiSupervisedDataModule
from lightning_reid.modules import SupervisedReID
from lightning_reid.recipes.workshop.options import RunOptions, network_arguments
from lightning_reid.recipes.workshop.report import ResultRow
from lightning_reid.recipes.workshop.stages import Stage


class Method(NamedTuple):
    """A row: how unlabeled images are clustered, for how long, and from which initialization."""

    clustering: Literal["median", "guided", "dbscan", "dbscan-ssg"]
    labels: Literal["soft", "hard"] = "hard"
    progressive: bool = False
    first_iteration_only: bool = False


LABELED, INITIALIZATION, FULL = "labeled only", "initialization", "all identities labeled"
SEEDED_AS = MappingProxyType({LABELED: "labelled only", INITIALIZATION: "initialisation", FULL: "all identities labelled"})
"""What seeds are derived from, for the scores that these rows always had."""
SGCDPL_ROW = "SGC-DPL"
METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "AP, hard": Method("median"),
        "AP, soft": Method("median", "soft"),
        "AP, soft, progressive": Method("median", "soft", progressive=True),
        SGCDPL_ROW: Method("guided", "soft", progressive=True),
    }
)
"""The other rows of Table 3.2, all from the initialization."""
FIRST_ITERATION: Mapping[str, Method] = MappingProxyType(
    {
        "one iteration, AP": Method("median", first_iteration_only=True),
        "one iteration, DBSCAN": Method("dbscan", first_iteration_only=True),
        "one iteration, DBSCAN, SSG's radius": Method("dbscan-ssg", first_iteration_only=True),
    }
)
"""The rows of Table 3.4, from the model that saw labeled images only."""


def all_labeled(
    run: RunOptions, cfg: Namespace, optimizer: Mapping[str, Any], scoring: Callable[[Path], Sequence[pl.Callback]]
) -> ResultRow:
    """Train with all identities labeled, on so many images in all as the initialization and the iterations see.

    Args:
        run: Options of the recipe.
        cfg: Arguments of ``sgcdpl_market.py``.
        optimizer: Arguments of the initialization's optimizer.
        scoring: A folder to callbacks that score and draw into it.
    """
    theirs = {name: value for name, value in cfg.data.items() if name not in ("labeled", "guides", "unlabeled_per_batch", "split_seed")}
    data = ImageReIDDataModule(**theirs, seed=cfg.seed, val_identities=0)
    options = network_arguments(cfg.model) | {"label_smoothing": 0.0, "margin": cfg.model.margin} | dict(optimizer)
    stage = Stage(run, FULL, seeded_as=SEEDED_AS[FULL])
    return stage.row(lambda: SupervisedReID(**options), data, cfg.initial_epochs, scoring(stage.folder))


def counted_clusters(data: SemiSupervisedDataModule) -> Callable[..., dict[str, float]]:
    """What gives the columns of Table 3.4 after a fit: clusters, beside the identities that there are."""

    def count(*_: object) -> dict[str, float]:
        state = data.target_state
        return {} if state is None else {"clusters": state.num_clusters, "identities": len(data.ground_truth().unique())}

    return count
