"""How well the gallery falls into clusters by identity: the measure of sets without cameras."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from typing_extensions import override

from lightning_reid.arguments import require_seed
from lightning_reid.callbacks.across_ranks import once_for_all_ranks
from lightning_reid.callbacks.evaluation_rows import EmbeddedRecords, EvaluationRows
from lightning_reid.metrics import clustering_nmi


class NMILogger(EvaluationRows):
    """After validation and testing, logs ``val/NMI`` and ``test/NMI``: of k-means clusters of the gallery and its identities.

    Source: the measure of CUB-200-2011 (SGC-DPL, Table 3.6); recall@1 beside it is the R1 of the module.

    Args:
        seed: Of the starts of k-means.

    Example:
        >>> import pytorch_lightning as pl
        >>> from lightning_reid.callbacks import NMILogger
        >>> from lightning_reid.datamodules import ImageReIDDataModule
        >>> from lightning_reid.modules import SupervisedReID
        >>> model = SupervisedReID(backbone="resnet18", backbone_options={"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]})
        >>> data = ImageReIDDataModule(market, image_size=(64, 32), p=4, num_workers=0)  # market: a folder in the Market naming
        >>> trainer = pl.Trainer(accelerator="cpu", callbacks=[NMILogger()], logger=False, enable_progress_bar=False)
        >>> (scores,) = trainer.test(model, data, verbose=False)
        >>> 0 <= scores["test/NMI"] <= 1
        True
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        require_seed("seed", seed)
        self.seed = seed

    @override
    def use(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str, query: EmbeddedRecords, gallery: EmbeddedRecords) -> None:
        pids = torch.tensor([record.pid for record in gallery.records])
        known = pids > 0
        nmi = once_for_all_ranks(trainer, lambda: clustering_nmi(gallery.embeddings[known], pids[known], seed=self.seed))
        module.log(f"{stage}/NMI", nmi, on_step=False, on_epoch=True, batch_size=1)
