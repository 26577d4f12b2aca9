"""A small network that learns from labels and from a larger network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, get_args

from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_number, require_switch, require_text
from lightning_reid.losses import distillation_loss, embedding_cosine_loss, identity_losses, relational_distance_loss
from lightning_reid.losses.distillation import check_distillation
from lightning_reid.modules.classifier import built
from lightning_reid.modules.reid_module import ReIDModule
from lightning_reid.modules.supervised import SupervisedReID
from lightning_reid.networks import load_teacher
from lightning_reid.networks.teacher import RememberedTeacher, Teacher, TeacherOutput
from lightning_reid.protocols import RepeatedImages

EmbeddingDistillation = Literal["none", "cosine", "relational"]


class DistilledReID(SupervisedReID):
    """Knowledge distillation: ``alpha T^2 KL(teacher_T || student_T) + (1 - alpha) CE`` and the batch-hard triplet loss.

    Source: Liu et al. 2020 (knowledge distillation for fast re-ID), eq. 3 and section 4.2.

    The teacher is no part of the module's parameters: neither the optimizer nor a checkpoint sees it. A checkpoint of the student is
    that of a ``SupervisedReID`` network: it loads, embeds and exports without the teacher, and needs it again only to be fitted on.

    Batch: ``images [B, 3, H, W]`` ImageNet-normalized, ``pids [B]`` in ``0..num_classes-1``; ``indices [B]`` with ``remember_teacher``.
    Logs ``train/loss``, ``train/loss_ce``, ``train/loss_kd`` (the divergence, with its ``T^2``), ``train/loss_embedding``,
    ``train/loss_triplet`` and ``train/teacher_accuracy`` a step; the scores of :class:`ReIDModule` an epoch.

    Args:
        student: timm's name of the network that learns; ``backbone_options``, ``pooling`` and others of :class:`SupervisedReID` say more.
        teacher: A checkpoint of this house, or of torchreid or fast-reid, timm's name of a network, or a ``Teacher``. ``None`` where
            nothing is asked of one, with ``alpha=0`` and ``embeddings="none"``, or where the module is not fitted.
        temperature: T of eq. 3, above 0.
        alpha: The teacher's share of eq. 3, in [0, 1]. Above 0 the teacher's classifier must be of the same identities in the same
            order, as it is when it was trained on the same data set.
        embeddings: Also pull the student's embeddings to the teacher's: ``"cosine"`` (of one width) or ``"relational"`` (distances
            within the batch, of any widths).
        embedding_weight: Factor of that loss.
        remember_teacher: Ask the teacher once for each image; for datamodules that leave images as they are.
        teacher_options: Of ``build_backbone``, for a teacher that is named by timm's name.
        label_smoothing: Of the cross-entropy, in [0, 1).
        options: Further arguments of :class:`SupervisedReID`.

    Attributes:
        answered_by: Calls what asks the teacher, and returns what it said; a pipeline of processes has one of them ask for all.
        answered_elsewhere: Whether this process never asks it, and needs no room for it on its device.

    Raises:
        ValueError: A number is out of range (here); no teacher, one of other identities or widths, or augmented images with
            ``remember_teacher`` (when a fit begins).

    Example:
        >>> import torch
        >>> from lightning_reid.modules import DistilledReID
        >>> from lightning_reid.networks import load_teacher
        >>> teacher = load_teacher("resnet18", pretrained=False, channels=[8, 8, 16, 16], layers=[1, 1, 1, 1])
        >>> tiny = {"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}
        >>> model = DistilledReID("resnet18", teacher, alpha=0.0, embeddings="relational", backbone_options=tiny).eval()
        >>> images = torch.rand(2, 3, 64, 32)
        >>> model(images).shape, teacher(images).embedding.shape, model.asks_teacher  # relations of any two widths can be compared
        (torch.Size([2, 8]), torch.Size([2, 16]), True)
    """

    unsaved_arguments: ClassVar[tuple[str, ...]] = (*ReIDModule.unsaved_arguments, "teacher", "teacher_options")

    def __init__(
        self,
        student: str = "mobilenetv2_100",
        teacher: str | Teacher | None = None,
        temperature: float = 5.0,
        alpha: float = 0.1,
        embeddings: EmbeddingDistillation = "none",
        embedding_weight: float = 1.0,
        remember_teacher: bool = False,
        teacher_options: dict[str, Any] | None = None,
        label_smoothing: float = 0.0,
        **options: Any,
    ) -> None:
        require_text("student", student)
        check_distillation(temperature, alpha)
        require_choice("embeddings", embeddings, get_args(EmbeddingDistillation))
        require_number("embedding_weight", embedding_weight, above=0)
        require_switch("remember_teacher", remember_teacher)
        if options.setdefault("backbone", student) != student:  # a checkpoint holds both
            raise ValueError(f"the network that learns is called student here: got student={student!r}, backbone={options['backbone']!r}")
        super().__init__(label_smoothing=label_smoothing, **options)
        built = load_teacher(teacher, **(teacher_options or {})) if isinstance(teacher, str) else teacher
        self._teacher = (built,)  # in a tuple torch does not find it: it is neither trained, nor saved, nor sent to other processes
        self._remembered: RememberedTeacher | None = None
        self.answered_by: Callable[[Callable[[], TeacherOutput]], TeacherOutput] = asked_here
        self.answered_elsewhere = False

    @property
    def teacher(self) -> Teacher | None:
        """The network that is learned from."""
        return self._teacher[0]

    def _needed_teacher(self) -> Teacher:
        if self.teacher is None:
            raise ValueError("DistilledReID has no teacher to learn from: give it teacher=, or alpha=0 and embeddings='none'")
        return self.teacher

    @property
    def asks_teacher(self) -> bool:
        """Whether the loss needs a teacher: not with ``alpha=0`` and ``embeddings="none"``."""
        return bool(self.hparams["alpha"] > 0 or self.hparams["embeddings"] != "none")

    @override
    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage != "fit" or not self.asks_teacher:
            return
        teacher, mine = self._needed_teacher(), built(self.classifier, self).out_features
        theirs = teacher.num_classes
        if self.hparams["alpha"] > 0 and theirs != mine:
            has = "no classifier" if theirs is None else f"a classifier of {theirs} identities"
            raise ValueError(
                f"logits cannot be compared: the teacher has {has}, the student learns {mine} identities. Train the teacher on the same"
                " data set, or give alpha=0 and embeddings='relational' to learn from its embeddings alone"
            )
        known, learned = teacher.people, self.people
        if self.hparams["alpha"] > 0 and known is not None and learned is not None and not known.same_classes(learned):
            raise ValueError(
                f"logits cannot be compared: the teacher's {len(known.pids)} classes are people of {known.data}, the student's other"
                f" people, {len(learned.pids)} of {learned.data}. Train the teacher on the same people (data set, val_identities and seed),"
                " or give alpha=0 and embeddings='relational'"
            )
        widths = (teacher.num_features, self.network.num_features)
        if self.hparams["embeddings"] == "cosine" and widths[0] != widths[1]:
            raise ValueError(
                f"cosines cannot be compared: the teacher's embeddings have {widths[0]} numbers, the student's {widths[1]}:"
                " give embeddings='relational'"
            )
        if self.hparams["remember_teacher"]:
            data = getattr(self.trainer, "datamodule", None)
            if not isinstance(data, RepeatedImages) or not data.repeats_images:
                raise ValueError(
                    "remember_teacher repeats what the teacher said of an image, so images must be the same in every epoch: give the"
                    " datamodule flip_probability=0, crop_padding=0 and erasing_probability=0, or leave remember_teacher out"
                )
            self._remembered = RememberedTeacher(teacher)

    @override
    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.asks_teacher and self.teacher is not None and not self.answered_elsewhere:
            self.teacher.to(self.device)

    @override
    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        if not self.asks_teacher:
            return super().training_step(batch, batch_idx)
        output, pids = self.embed_batch(batch), batch["pids"]
        hints, logits = self.answered_by(lambda: self._ask_teacher(batch)), self.logits(output)
        group, smoothing = self.hparams["bn_group"], self.hparams["label_smoothing"]
        losses = identity_losses(
            logits, output.before_bnneck, pids, label_smoothing=smoothing, margin=self.hparams["margin"], group_size=group
        )
        loss, parts = losses.ce, losses._asdict()
        if self.hparams["alpha"] > 0 and hints.logits is not None:
            numbers = {name: self.hparams[name] for name in ("temperature", "alpha", "label_smoothing")}
            loss, parts["kd"], parts["ce"] = distillation_loss(logits, hints.logits, pids, **numbers)
            accuracy = (hints.logits.argmax(1) == pids).float().mean()
            self.log_dict({"train/teacher_accuracy": accuracy}, batch_size=len(pids))
        if self.hparams["embeddings"] != "none":
            pair = (output.embedding, hints.embedding)
            relational = self.hparams["embeddings"] == "relational"
            parts["embedding"] = relational_distance_loss(*pair, group_size=group) if relational else embedding_cosine_loss(*pair)
            loss = loss + self.hparams["embedding_weight"] * parts["embedding"]
        return self.log_losses(loss + losses.triplet, parts, len(pids))

    def _ask_teacher(self, batch: dict[str, Tensor]) -> TeacherOutput:
        if self._remembered is not None:
            return self._remembered(batch["images"], batch["indices"])
        answers: TeacherOutput = self._needed_teacher()(batch["images"])
        return answers


def asked_here(ask: Callable[[], TeacherOutput]) -> TeacherOutput:
    """What the teacher says, asked by this process."""
    return ask()
