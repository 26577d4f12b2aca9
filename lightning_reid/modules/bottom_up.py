"""Learning from clusters that merge bottom up, without a classifier: clusters are rows of a table that images leave their mark in."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import require_count, require_number
from lightning_reid.losses import repelled_loss
from lightning_reid.losses.repelled import updated_table
from lightning_reid.modules.image_module import ImageReIDModule
from lightning_reid.modules.pseudo_identities import fitted_target_data
from lightning_reid.modules.saved_parts import saved_part
from lightning_reid.networks import group_batch_norm
from lightning_reid.networks.told_architecture import LARGEST


class BottomUpReID(ImageReIDModule):
    """Bottom-up clustering for unsupervised re-ID: the repelled loss against a table of clusters (Lin et al. 2019).

    The clusters come from ``BottomUpClustering`` through the datamodule's :class:`~lightning_reid.records.TargetState`. With each new
    state the table starts from zeros and fills with the images of its clusters as they come, on every rank with the images of all.

    Batch: ``images [B, 3, H, W]``, ``pids [B]`` pseudo-labels in ``0..C-1``.
    Logs ``train/loss`` and ``train/accuracy`` (share of a batch whose nearest row is its own cluster's) a step; its mean
    ``train/precision`` and the scores of :class:`ReIDModule` an epoch. Both are measured on what is trained: embeddings
    after ``dropout``, with the weights of each step; not on what the network says of its images when the epoch is over.

    With ``loss_features`` the loss has a layer of its own, as in the public code: a linear one and a batch normalization, from the
    embedding to the vectors that are compared with the table. Clustered and tested is the embedding before it: with ``neck="none"``, as
    there, the pooled one. The layer is no part of ``network``: a federation leaves it with its client, pruning leaves it as it is (the
    embedding keeps its width), and a model folder or an exported file has none. Without it the loss is on the embedding.

    Args:
        temperature: tau of the loss (the public code: 0.1).
        momentum: Of the table's rows (the public code: 0.5).
        dropout: Of the normalized vectors in training, in [0, 1) (the public code: 0.5).
        loss_features: Length of the vectors of a layer of the loss's own, 1 to 16384 (the public code: 2048); ``None`` for no such layer.
        optimizer: See :class:`ReIDModule`.
        lr: Learning rate; ``milestones`` are counted from the start of a fit.
        options: Further arguments of :class:`ImageReIDModule`.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> import torch
        >>> from lightning_reid.modules import BottomUpReID
        >>> model = BottomUpReID(dropout=0.0, backbone="resnet18", backbone_options={"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]})
        >>> model.eval()(torch.rand(2, 3, 64, 32)).shape, model.hparams.temperature
        (torch.Size([2, 16]), 0.1)
    """

    def __init__(
        self,
        temperature: float = 0.1,
        momentum: float = 0.5,
        dropout: float = 0.5,
        loss_features: int | None = None,
        **options: Any,
    ) -> None:
        require_number("temperature", temperature, above=0)
        require_number("momentum", momentum, low=0, below=1)
        require_number("dropout", dropout, low=0, below=1)
        require_count("loss_features", loss_features, high=LARGEST, optional=True)
        super().__init__(**options)
        self.loss_layer = None if loss_features is None else new_loss_layer(self.network.num_features, loss_features)
        if self.loss_layer is not None and self.hparams["bn_group"] is not None:
            self.loss_layer = group_batch_norm(self.loss_layer, self.hparams["bn_group"])
        self.table = torch.empty(0, 0)  # no buffer: its length changes, and DDP would send it with every batch
        self.table_iteration = -1

    @override
    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.trainer.ckpt_path is None:
            self.table_iteration = -1  # iterations may be counted anew
        self.adopt_latest_state()
        self.table = self.table.to(self.device)

    @override
    def on_train_epoch_end(self) -> None:
        self.adopt_latest_state()

    def adopt_latest_state(self) -> None:
        """Start the table anew when the callbacks, whose hooks run before this one, have published a new state.

        Raises:
            RuntimeError: There is no state.
        """
        state = fitted_target_data(self).target_state
        if state is None:
            raise RuntimeError(f"{type(self).__name__} found no clusters: add BottomUpClustering to the Trainer's callbacks")
        if state.iteration != self.table_iteration:
            width = self.hparams["loss_features"] or self.network.num_features
            self.table = torch.zeros(state.num_clusters, width, device=self.device)
            self.table_iteration = state.iteration

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        pids = batch["pids"]
        embedding = self.embed(batch["images"]).embedding
        compared = embedding if self.loss_layer is None else self.loss_layer(embedding)
        embeddings = F.dropout(F.normalize(compared, dim=1), self.hparams["dropout"], self.training)
        loss = repelled_loss(embeddings, pids, self.table, self.hparams["temperature"])
        with torch.no_grad():
            accuracy = ((embeddings.to(self.table.dtype) @ self.table.T).argmax(1) == pids).float().mean()
        gathered, labels = self.all_gather(embeddings.detach()), self.all_gather(pids)
        assert isinstance(gathered, Tensor)  # of a tensor all_gather makes one
        assert isinstance(labels, Tensor)
        self.table = updated_table(self.table, gathered.flatten(0, -2), labels.flatten(), self.hparams["momentum"])
        self.log_dict({"train/loss": loss, "train/accuracy": accuracy}, batch_size=len(pids))
        self.log("train/precision", accuracy, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(pids))
        return loss

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["cluster_table"] = {"rows": self.table.cpu(), "iteration": self.table_iteration}

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        theirs, ours = checkpoint.get("hyper_parameters", {}), self.hparams["loss_features"]
        if theirs and theirs.get("loss_features") != ours:  # a checkpoint from before there was such a layer does not tell
            raise ValueError(
                f"the checkpoint's loss is with loss_features={theirs.get('loss_features')!r}, this module's has loss_features={ours!r}:"
                " build the module with the checkpoint's arguments, or start without the checkpoint"
            )
        saved = saved_part(checkpoint, "cluster_table", {"rows": Tensor, "iteration": int})
        self.table, self.table_iteration = saved["rows"], saved["iteration"]


def new_loss_layer(num_features: int, loss_features: int) -> nn.Sequential:
    """A linear layer and a batch normalization from embeddings ``[B, num_features]`` to ``[B, loss_features]``, of BUC's public code."""
    linear = nn.Linear(num_features, loss_features)
    nn.init.kaiming_normal_(linear.weight, mode="fan_out")
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, nn.BatchNorm1d(loss_features))
