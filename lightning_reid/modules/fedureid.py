"""A client of FedUReID: bottom-up clustering that stops a round's training when it has learned its clusters."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from lightning_reid.arguments import require_number
from lightning_reid.modules.bottom_up import BottomUpReID


class FedUReIDClient(BottomUpReID):
    """``BottomUpReID`` with the personalized epoch of FedUReID (Zhuang et al. 2021): a fit ends with the epoch that is precise enough.

    The other two optimizations are not the module's: personalized clustering is ``BottomUpClustering(profile_steps=...)``, the personalized
    update is the strategy ``FedUReID``. ``federation.fedureid_client`` puts them together, each on a switch.

    Args:
        stop_at_precision: PE, ``train/precision`` of an epoch (share of images whose nearest cluster is their own, in (0, 1]) that ends the
            fit; ``None`` trains all epochs. The poster says "enough computation for good precision" and not how it is measured; here it is
            with the dropout of the training, as :class:`BottomUpReID` logs it.
        options: Arguments of :class:`BottomUpReID`.

    Raises:
        ValueError: The precision is out of range.

    Example:
        >>> import torch
        >>> from lightning_reid.modules import FedUReIDClient
        >>> tiny = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
        >>> model = FedUReIDClient(stop_at_precision=0.9, **tiny)
        >>> model.eval()(torch.rand(2, 3, 64, 32)).shape, model.hparams.stop_at_precision
        (torch.Size([2, 16]), 0.9)
    """

    def __init__(self, stop_at_precision: float | None = 0.95, **options: Any) -> None:
        require_number("stop_at_precision", stop_at_precision, above=0, high=1, optional=True)
        super().__init__(**options)

    @override
    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.trainer.barebones and self.hparams["stop_at_precision"] is not None:
            raise ValueError("Trainer(barebones=True) logs nothing, and stop_at_precision goes by what is logged: leave one of them out")

    @override
    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        enough = self.hparams["stop_at_precision"]
        if enough is not None and float(self.trainer.callback_metrics["train/precision"]) >= enough:
            self.trainer.should_stop = True
