"""The rows of Tables 3.2 and 3.4 of the thesis, for ``sgcdpl_market.py``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import pytorch_lightning as pl
from jsonargparse import Namespace

from lightning_reid.callbacks import (
    AffinityPseudoLabels,
    ClusterStripLogger,
    EmbeddingProjector,
    ProgressiveSelection,
    PseudoLabelClustering,
)


class Method(NamedTuple):
    """A row: how unlabeled images are clustered, for how long, and from which initialization."""

    clustering: Literal["median", "guided", "dbscan", "dbscan-ssg"]
    labels: Literal["soft", "hard"] = "hard"
    progressive: bool = False
    first_iteration_only: bool = False

    def callbacks(self, cfg: Namespace, folder: Path) -> list[pl.Callback]:
        """What clusters and selects, and draws pictures of it into ``folder``."""
        found: list[pl.Callback] = []
        if self.clustering == "dbscan" or self.clustering == "dbscan-ssg":
            radius = {"eps": None} if self.clustering == "dbscan-ssg" else {}
            found.append(PseudoLabelClustering(cfg.clustering.every_n_epochs, **(cfg.dbscan.as_dict() | radius)))
        else:
            picture = str(folder / "search.png") if self.clustering == "guided" else None
            found.append(AffinityPseudoLabels(**cfg.clustering, preference=self.clustering, labels=self.labels, picture=picture))
        if self.progressive:
            found.append(ProgressiveSelection(**cfg.selection, picture=str(folder / "threshold.png")))
            found.append(ClusterStripLogger(folder / "strips.png"))
        return [*found, EmbeddingProjector(folder / "clusters.png")]


LABELED, INITIALIZATION, FULL = "labeled only", "initialization", "all identities labeled"
SEEDED_AS = MappingProxyType({LABELED: "labeled only", INITIALIZATION: "initialization", FULL: "all identities labeled"})
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
