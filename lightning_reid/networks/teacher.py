"""A trained network that others learn from: frozen, in evaluation mode, without a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Self

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lightning_reid.networks.backbones import build_backbone
from lightning_reid.networks.embedding_network import EmbeddingNetwork
from lightning_reid.networks.foreign import load_embedding_network, trained_image_size
from lightning_reid.networks.shipped import located
from lightning_reid.networks.told_building import built_from
from lightning_reid.networks.weights import read_checkpoint, read_state_dict
from lightning_reid.normalization import normalize_images
from lightning_reid.records import TrainedPeople

CHECKPOINT_SUFFIXES = (".ckpt", ".pth", ".pt", ".tar", ".safetensors")


class TeacherOutput(NamedTuple):
    """What a teacher says of B images.

    Attributes:
        embedding: ``[B, D]`` as at test time.
        logits: ``[B, C]``, ``None`` from a teacher without classifier.
    """

    embedding: Tensor
    logits: Tensor | None


class Teacher(nn.Module):
    """A frozen network, and its classifier where there is one. Never in training mode; its outputs carry no graph.

    Args:
        network: Images ``[B, 3, H, W]`` to embeddings; its parameters are frozen in place.
        classifier: ``[C, D]``, for logits.
        image_size: (height, width) in pixels it was trained on: images of another size are resized to it; ``None`` takes them as
            they come.
        people: Who its classes are; ``None`` where nobody tells.

    Raises:
        ValueError: The classifier takes embeddings of another width.
    """

    def __init__(
        self,
        network: EmbeddingNetwork,
        classifier: nn.Linear | None = None,
        image_size: tuple[int, int] | None = None,
        people: TrainedPeople | None = None,
    ) -> None:
        super().__init__()
        if classifier is not None and classifier.in_features != network.num_features:
            raise ValueError(f"the classifier takes {classifier.in_features} numbers, the network gives {network.num_features}")
        self.network, self.classifier, self.image_size, self.people = network, classifier, image_size, people
        self.requires_grad_(False)
        self.eval()

    @property
    def num_features(self) -> int:
        """D, the length of an embedding."""
        return self.network.num_features

    @property
    def num_classes(self) -> int | None:
        """C, the number of classes of its classifier; ``None`` without one."""
        return None if self.classifier is None else self.classifier.out_features

    @override
    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    @override
    @torch.no_grad()
    def forward(self, images: Tensor) -> TeacherOutput:
        """Images ``[B, 3, H, W]`` of any size, uint8 or normalized, to embeddings and logits."""
        if images.dtype == torch.uint8:  # before they are resized: floats of half precision are not, on a CPU
            images = normalize_images(images)
        if self.image_size is not None and tuple(images.shape[2:]) != self.image_size:
            images = F.interpolate(images, self.image_size, mode="bilinear", antialias=True)
        embedding: Tensor = self.network(images).embedding
        return TeacherOutput(embedding, None if self.classifier is None else self.classifier(embedding))


class RememberedTeacher:
    """Asks a teacher once for each image and repeats the answer: for images that are the same in every epoch.

    Holds a row of D + C numbers an image on the images' device, 145 MB for Market-1501 and a ResNet-50.
    """

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self._answers: dict[int, TeacherOutput] = {}

    def __call__(self, images: Tensor, indices: Tensor) -> TeacherOutput:
        """Answers to ``images [B, 3, H, W]``, the numbers ``indices [B]`` int64 of which tell them apart."""
        rows = indices.tolist()
        places = {row: place for place, row in enumerate(rows) if row not in self._answers}
        if places:
            asked = self.teacher(images[list(places.values())])
            for number, row in enumerate(places):
                logits = None if asked.logits is None else asked.logits[number].clone()
                self._answers[row] = TeacherOutput(asked.embedding[number].clone(), logits)
        answers = [self._answers[row] for row in rows]
        logits = [answer.logits for answer in answers if answer.logits is not None]
        return TeacherOutput(torch.stack([answer.embedding for answer in answers]), torch.stack(logits) if logits else None)


def load_teacher(source: str | Path, **backbone_options: Any) -> Teacher:
    """A teacher from a checkpoint, or a network of timm.

    Args:
        source: A file, a model folder or a name as ``load_embedding_network`` reads it, ours with the classifier that it holds; or timm's
            name of a network, which has the embeddings of its last feature map and no classifier of people.
        **backbone_options: Of ``build_backbone``, for a name only; ``pretrained`` is on unless ``weights`` are given.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Neither a checkpoint that can be rebuilt nor a network that timm knows, or options for a checkpoint.
        RuntimeError: timm's weights are to be loaded and its hub cannot be reached.

    Example:
        >>> import torch
        >>> from lightning_reid.networks import load_teacher
        >>> teacher = load_teacher("resnet18", pretrained=False, channels=[8, 8, 16, 16], layers=[1, 1, 1, 1])  # or a checkpoint
        >>> output = teacher(torch.rand(2, 3, 64, 32))
        >>> output.embedding.shape, output.embedding.requires_grad, output.logits
        (torch.Size([2, 16]), False, None)
    """
    path = located(source)
    named_as_file = path.suffix.lower() in CHECKPOINT_SUFFIXES
    if named_as_file or path.exists() or not timm.is_model(str(source)):
        if backbone_options:
            raise ValueError(f"the checkpoint {source} says how its network is built: options are for a network named by timm's name")
        if not named_as_file and not path.exists():
            raise ValueError(f"the teacher {str(source)!r} is neither a file nor a network that timm knows")
        network = load_embedding_network(path)
        if path.is_dir():  # a model folder, which tells of no classifier
            return Teacher(network, None, network.image_size, None)
        with built_from(path, {}):
            return Teacher(network, _classifier_of(path, network.num_features), trained_image_size(path), _people_of(path))
    options = {"pretrained": "weights" not in backbone_options, **backbone_options}
    return Teacher(EmbeddingNetwork(build_backbone(str(source), **options), neck="none"))


def _classifier_of(path: Path, num_features: int) -> nn.Linear | None:
    """The identity classifier of one of our own checkpoints."""
    state = read_state_dict(path)
    weight = state.get("classifier.weight")
    if weight is None or not any(name.startswith("network.backbone.") for name in state):
        return None
    if not weight.is_floating_point() or weight.ndim != 2 or weight.shape[1] != num_features or not len(weight):
        told = f"{list(weight.shape)} of {weight.dtype}"
        raise ValueError(f"{path} holds classifier.weight {told}, expected floats [num_classes, {num_features}]: it was changed")
    classifier = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    classifier.load_state_dict({"weight": weight})
    return classifier


def _people_of(path: Path) -> TrainedPeople | None:
    return None if path.suffix.lower() == ".safetensors" else TrainedPeople.of_checkpoint(read_checkpoint(path))
