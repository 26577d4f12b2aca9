"""What a device learns when the walking model is there: to tell its own tracklets apart."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_number, require_switch
from lightning_reid.clustering.memories import tracklet_memories
from lightning_reid.modules.classifier import built, classifier_like, new_classifier
from lightning_reid.modules.image_module import ImageReIDModule
from lightning_reid.modules.pseudo_identities import fitted_target_data
from lightning_reid.modules.refusals import is_being_fitted
from lightning_reid.modules.schedule import EpochFactor
from lightning_reid.networks.embedding_network import EmbeddingOutput
from lightning_reid.networks.front import front_modules
from lightning_reid.records import TargetState

TrackletClassifierInit = Literal["memories", "random"]
WalkingStatistics = Literal["walk", "frozen"]
Negatives = Literal["all", "held"]
NETWORK = "network."


class TrackletReID(ImageReIDModule):
    """Cross-entropy over a device's tracklets: local ones (eq. 3), or labels across cameras with a classifier that walks along.

    The front of the network, its stem and the first stages, is frozen, and so are its running statistics; what walks is the middle,
    ``walking_prefixes``. Embeddings are the pooled features, without a neck.

    Without ``num_labels`` the classifier is made anew when a fit begins. With it, rows of labels that the device does not hold are as
    they were after a fit: no gradient, momentum or decay touches them.

    Batch: ``images [B, 3, H, W]``, ``pids [B]`` labels of tracklets, as ``DeviceDataModule`` gives them.
    Logs ``train/loss`` and ``train/accuracy`` a step; the scores of :class:`ReIDModule` an epoch.

    Source: edge-device text, sections 3.2 and 3.4, eq. 3, and 4.2. What it leaves open is decided here, and says so.

    Args:
        frozen_stages: Of four, at least 0; the text fixes the first two.
        num_labels: C, where a classifier of all labels walks; ``None`` for one of the local tracklets.
        classifier_init: ``"memories"``: a row begins as the memory of its tracklet, which takes ``TrackletMemories`` among the callbacks
            (decided here); ``"random"`` as the text has it, which tears the arriving network.
        memory_scale: Logit of an image at its own memory when a fit begins, above 0.
        negatives: The softmax is over ``"all"`` labels, or over those ``"held"`` here.
        update_all: Let rows of labels that are not held here change, too.
        statistics: ``"walk"``: running statistics of the middle are learned, and travel; ``"frozen"``: they stay as they are.
        lr: Of the classifier; SGD with momentum 0.9, nesterov, or Adam (``optimizer``).
        walking_lr_factor: Of the middle, a share of ``lr``; 1 is the text's.
        options: Further arguments of :class:`ImageReIDModule`.

    Attributes:
        camera_statistics: Running statistics of the middle by camera, ``camid`` to tensors by name: an image of such a camera is embedded
            with its camera's when scores are taken; of all others, and where it is empty, with the module's own.
        first_rows: ``[labels held here, D]``, where a classifier without ``num_labels`` begins in place of the local memories, by ascending
            label; ``None`` for those.

    Raises:
        ValueError: An argument is out of range, or the network has no stages that are known.

    Example:
        >>> import torch
        >>> from lightning_reid.modules import TrackletReID
        >>> tiny = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}
        >>> model = TrackletReID(**tiny)
        >>> model.walking_prefixes
        ('network.backbone.trunk.layer3.', 'network.backbone.trunk.layer4.')
        >>> model.eval()(torch.rand(2, 3, 64, 32)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        frozen_stages: int = 2,
        num_labels: int | None = None,
        classifier_init: TrackletClassifierInit = "memories",
        memory_scale: float = 16.0,
        negatives: Negatives = "all",
        update_all: bool = False,
        statistics: WalkingStatistics = "walk",
        lr: float = 0.1,
        walking_lr_factor: float = 0.1,
        **options: Any,
    ) -> None:
        require_count("frozen_stages", frozen_stages, low=0, high=3)
        require_count("num_labels", num_labels, low=2, optional=True)
        require_choice("classifier_init", classifier_init, get_args(TrackletClassifierInit))
        require_number("memory_scale", memory_scale, above=0)
        require_choice("negatives", negatives, get_args(Negatives))
        require_switch("update_all", update_all)
        require_choice("statistics", statistics, get_args(WalkingStatistics))
        require_number("walking_lr_factor", walking_lr_factor, above=0, high=1)
        super().__init__(neck="none", lr=lr, optimizer=options.pop("optimizer", "sgd"), **options)
        trunk = self.network.backbone.trunk
        self._front = tuple(f"network.backbone.trunk.{name}" for name in front_modules(trunk, frozen_stages))
        for name in self._front:
            self.get_submodule(name).requires_grad_(False)
        self.classifier: nn.Linear | None = None if num_labels is None else new_classifier(self.network.num_features, num_labels)
        self.first_rows: Tensor | None = None
        self.camera_statistics: dict[int, dict[str, Tensor]] = {}
        self._held: Tensor | None = None
        self._others: Tensor | None = None
        self._kept = torch.empty(0)
        self.train()

    @property
    def walking_prefixes(self) -> tuple[str, ...]:
        """How the names begin that walk: the modules behind the front, in their order, and the pooling where it learns."""
        prefixes = []
        for name in self.state_dict():
            if not name.startswith(NETWORK) or any(name.startswith(f"{front}.") for front in self._front):
                continue
            parts = name.split(".")
            depth = 4 if name.startswith("network.backbone.trunk.") else 2
            inside = ".".join(parts[:depth]) + "."
            if any(front.startswith(inside) for front in self._front):  # a module of which a part is frozen
                inside = ".".join(parts[: depth + 1]) + "."
            prefixes.append(inside)
        return tuple(dict.fromkeys(prefixes))

    @override
    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for name in self._front if mode else ():
            self.get_submodule(name).eval()
        if mode and self.hparams["statistics"] == "frozen":
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    @override
    def configure_model(self) -> None:
        """Make the classifier of the local tracklets, anew for each fit."""
        if self.hparams["num_labels"] is None and is_being_fitted(self):
            number = len(self._state_labels().unique())
            if number < 2:
                raise ValueError(f"a device with {number} tracklets has nothing to tell apart: do not visit it")
            self.classifier = new_classifier(self.network.num_features, number)

    @override
    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.train()
        state = fitted_target_data(self).target_state
        if state is None:
            raise RuntimeError("TrackletReID found no labels of tracklets: add TrackletMemories to the Trainer's callbacks")
        classifier = built(self.classifier, self)
        held = state.labels.unique().to(self.device)
        if self.hparams["num_labels"] is None:
            if self.hparams["classifier_init"] == "memories" and self.trainer.ckpt_path is None:
                self._begin_with_memories(classifier, state)
        elif int(held.max()) >= classifier.out_features:
            raise ValueError(f"a label here is {int(held.max())}, the classifier that arrived has {classifier.out_features}")
        self._held = held
        elsewhere = torch.ones(classifier.out_features, dtype=torch.bool, device=self.device)
        elsewhere[held if self.hparams["num_labels"] is not None else slice(None)] = False
        self._others = elsewhere.nonzero().flatten()

    @override
    def embed_batch(self, batch: dict[str, Tensor]) -> EmbeddingOutput:
        if not self.camera_statistics:
            return super().embed_batch(batch)
        whole = super().embed_batch(batch)
        for camid in batch["camids"].unique().tolist():
            told = self.camera_statistics.get(camid)
            if told is None:
                continue
            mine = batch["camids"] == camid
            tensors = {name.removeprefix(NETWORK): tensor.to(self.device) for name, tensor in told.items()}
            found: EmbeddingOutput = torch.func.functional_call(self.network, tensors, (batch["images"][mine],))
            for part, own in ((whole.embedding, found.embedding), (whole.before_bnneck, found.before_bnneck)):
                part[mine] = own.to(part.dtype)
        return whole

    def _begin_with_memories(self, classifier: nn.Linear, state: TargetState) -> None:
        if self.first_rows is None:
            embeddings = state.embedded
            rows = tracklet_memories(embeddings, state.labels, classifier.out_features)
            rows *= self.hparams["memory_scale"] / float(embeddings.norm(dim=1).mean())
        else:
            rows = self.first_rows
        if rows.shape != classifier.weight.shape:
            raise ValueError(
                f"the classifier of the labels held here is {list(classifier.weight.shape)}, first_rows are {list(rows.shape)}"
            )
        with torch.no_grad():
            classifier.weight.copy_(rows)

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        logits = built(self.classifier, self)(self.embed(batch["images"]).embedding)
        if self.hparams["negatives"] == "held" and self._others is not None:
            logits = logits.index_fill(1, self._others, -torch.inf)
        loss = F.cross_entropy(logits, batch["pids"])
        accuracy = (logits.detach().argmax(1) == batch["pids"]).float().mean()
        self.log_dict({"train/loss": loss.detach(), "train/accuracy": accuracy}, batch_size=len(batch["pids"]))
        return loss

    @override
    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if not self.hparams["update_all"] and self._others is not None and len(self._others):
            self._kept = built(self.classifier, self).weight.detach()[self._others].clone()

    @override
    def on_train_batch_end(self, outputs: Any, batch: dict[str, Any], batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        if not self.hparams["update_all"] and self._others is not None and len(self._others):
            with torch.no_grad():  # decay and momentum reach rows that have no gradient, too
                built(self.classifier, self).weight[self._others] = self._kept

    @override
    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        head = built(self.classifier, self).weight
        walking = [one for one in self.parameters() if one.requires_grad and one is not head]
        lr, decay = self.hparams["lr"], self.hparams["weight_decay"]
        groups = [{"params": [head], "lr": lr}, {"params": walking, "lr": lr * self.hparams["walking_lr_factor"]}]
        optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=decay)
            if self.hparams["optimizer"] == "sgd"
            else torch.optim.Adam(groups, weight_decay=decay)
        )
        return {"optimizer": optimizer, "lr_scheduler": EpochFactor(optimizer, self._lr_factor)}

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.classifier = classifier_like(checkpoint)

    def _state_labels(self) -> Tensor:
        data: Any = fitted_target_data(self)
        labels: Tensor = data.state_of(None, 0).labels
        return labels
