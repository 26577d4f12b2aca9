"""What an exported network tells of itself, in words beside its graph."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lightning_reid.arguments import shown

SPACE = "lightning_reid"
WEIGHTS_WORD = f"{SPACE}.weights"
"""Of an ONNX file: the digest of the numbers that its words were written for."""
"""What the words of the house are filed under, among those of others."""
_MODEL = re.compile(r"(?P<name>weights [0-9a-f]{16}) at (?P<height>[1-9][0-9]{0,4})x(?P<width>[1-9][0-9]{0,4})")


@dataclass(frozen=True)
class ToldByFile:
    """The words of an exported network.

    Attributes:
        name: Of its weights, as ``model_name`` has it for the network that was exported.
        image_size: (height, width) in pixels of what it takes.
        version: Of lightning-reid, which wrote it.
        card: Where it is said what the network was trained on and must not be used for; ``None`` where nobody said.
    """

    name: str
    image_size: tuple[int, int]
    version: str
    card: str | None = None

    @property
    def model(self) -> str:
        """The name of the model: embeddings of two of them are not to be mixed."""
        return f"{self.name} at {self.image_size[0]}x{self.image_size[1]}"

    def as_words(self) -> dict[str, str]:
        """Every word by its name."""
        words = {
            "model": self.model,
            "version": self.version,
            "pixels": "RGB uint8 in 0..255, channels before height and width; ImageNet's normalization is inside",
            "embedding": "float32 of length 1, compared by cosine",
        }
        return words if self.card is None else {**words, "card": self.card}

    @classmethod
    def of_words(cls, words: Mapping[str, str], path: str | Path) -> Self | None:
        """Read what ``as_words`` has written; ``None`` where a file holds no word of it.

        Raises:
            ValueError: The model is missing, or no name of one; the message names the file at ``path``.
        """
        if not words:
            return None
        told = _MODEL.fullmatch(words.get("model", ""))
        if told is None:
            what = f"that its model is {shown(words['model'])}" if "model" in words else "no model"
            raise ValueError(
                f"{path} tells {what}, expected 'weights 0123456789abcdef at 256x128', as lightning-reid writes it:"
                " the file was edited, export it again"
            )
        size = int(told["height"]), int(told["width"])
        return cls(told["name"], size, words.get("version", ""), words.get("card"))


def weights_digest(model: Any) -> str:
    """A digest of the numbers in a graph of ONNX: who changes them, quantizes them say, and keeps the words of a file, is found out."""
    digest = hashlib.sha256()
    for tensor in sorted(model.graph.initializer, key=lambda one: one.name):
        digest.update(tensor.SerializeToString(deterministic=True))
    return digest.hexdigest()[:32]
