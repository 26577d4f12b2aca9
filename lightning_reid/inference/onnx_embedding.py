"""Networks from ONNX files as functions of crops, run by onnxruntime. Needs the extra ``onnx``."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.arguments import checked_image_size, require_count, require_path
from lightning_reid.datamodules.transforms import resized
from lightning_reid.inference.told_by_file import SPACE, WEIGHTS_WORD, ToldByFile, weights_digest
from lightning_reid.networks.backbones import PERSON_SIZE
from lightning_reid.normalization import normalize_images
from lightning_reid.onnx_session import onnx_module, open_session

logger = logging.getLogger(__name__)

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
_IMAGES, _CLIPS = 4, 5
"""Axes of a batch."""


class OnnxEmbedder:
    """Embeds crops, or the crops of one person as a clip, by a graph of ``export_network`` or ``export_onnx``, or one like theirs.

    Such a graph takes ``[batch, 3, H, W]`` (images) or ``[batch, T, 3, H, W]`` (clips), RGB: uint8 that it normalizes itself, or float32
    or float16 with ImageNet's normalization. It gives ``[batch, D]``. Where it fixes the batch, images go through one by one. May be
    called by several threads.

    Args:
        path: The ``.onnx`` file.
        image_size: (height, width) in pixels that crops are resized to; ``None`` is the graph's own, 256x128 where it takes any.
        num_threads: CPU threads of onnxruntime; ``None`` for all cores.

    Attributes:
        image_size: (height, width) in pixels that crops are resized to.
        takes_clips: Whether ``embed_clip`` is to be called, not ``embed_crops``.
        num_frames: T, the frames of a clip; ``None`` for any number, and for images.
        num_features: D.
        model: Its name: that of the network that ``export_network`` made it of, which the file tells. Other files share one if their
            bytes, and those of weights beside them, are the same.

    Raises:
        FileNotFoundError: There is no such file.
        ModuleNotFoundError: The extra ``onnx`` is not installed.
        ValueError: The file is no ONNX network, it does not take images or clips and give embeddings, or not of ``image_size``, or what
            it tells of itself is no name of a model.

    Example:
        >>> import torch
        >>> from lightning_reid import from_pretrained
        >>> from lightning_reid.inference import OnnxEmbedder, crop_embedder, export_onnx
        >>> network = from_pretrained()
        >>> export_onnx(network, folder / "network.onnx", inputs=torch.rand(2, 3, *network.image_size)) <= 1e-4
        True
        >>> crops = [torch.zeros(3, 90, 40, dtype=torch.uint8), torch.full((3, 60, 30), 200, dtype=torch.uint8)]
        >>> found = OnnxEmbedder(folder / "network.onnx").embed_crops(crops)
        >>> torch.allclose(found, crop_embedder(network)(crops), atol=1e-4)
        True
    """

    def __init__(self, path: str | Path, *, image_size: tuple[int, int] | None = None, num_threads: int | None = None) -> None:
        require_path("path", path)
        require_count("num_threads", num_threads, optional=True)
        wanted = None if image_size is None else checked_image_size("image_size", image_size)
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no network at {path}: expected an .onnx file")
        self.path, self._session = path, open_session(path, num_threads)
        shape = self._inspect()
        self.takes_clips = len(shape) == _CLIPS
        self._batch = shape[0] if isinstance(shape[0], int) else None
        if self._batch is not None and self._batch != 1:
            raise self._unfit(f"takes {self._batch} at once, always: export it with a free batch size, or of 1")
        self.num_frames = shape[1] if self.takes_clips and isinstance(shape[1], int) else None
        own = tuple(side if isinstance(side, int) else None for side in shape[-2:])
        sides = wanted or tuple(side or usual for side, usual in zip(own, PERSON_SIZE, strict=True))
        self.image_size = checked_image_size(f"the image size of {path}", sides)
        if any(side not in (None, given) for side, given in zip(own, self.image_size, strict=True)):
            raise self._unfit(f"takes images of {own[0]} x {own[1]} pixels, not of {self.image_size[0]} x {self.image_size[1]}")
        self.num_features = self._probe()
        self.model = self._told_model() or self._digests()

    def embed_crops(self, crops: Sequence[Tensor]) -> Tensor:
        """Embed crops ``[3, h, w]`` uint8 RGB of any sizes, one or more, as ``[n, D]`` float32 of length 1.

        Raises:
            ValueError: The graph takes clips, or what it gives is not finite or all 0.
        """
        if self.takes_clips:
            raise self._unfit("takes clips: call embed_clip")
        return self._embed(self._inputs(crops))

    def embed_clip(self, crops: Sequence[Tensor]) -> Tensor:
        """Embed the T crops of a clip, ``[3, h, w]`` uint8 RGB of any sizes, as one ``[D]`` float32 of length 1.

        Raises:
            ValueError: The graph takes images or clips of another length, or what it gives is not finite or all 0.
        """
        if not self.takes_clips:
            raise self._unfit("takes images: call embed_crops")
        if self.num_frames not in (None, len(crops)):
            raise self._unfit(f"takes clips of {self.num_frames} frames, not of {len(crops)}")
        return self._embed(self._inputs(crops)[None])[0]

    def _inputs(self, crops: Sequence[Tensor]) -> Tensor:
        pixels = torch.stack([resized(crop, *self.image_size) for crop in crops])
        return pixels if self._dtype is np.uint8 else normalize_images(pixels)

    def _embed(self, inputs: Tensor) -> Tensor:
        parts = inputs.split(1) if self._batch == 1 else (inputs,)
        found = torch.cat([self._run(part) for part in parts])
        if not found.isfinite().all() or not found.any(1).all():
            raise self._unfit("gives numbers that are not finite, or nothing but zeros")
        return F.normalize(found, dim=1)

    def _run(self, inputs: Tensor) -> Tensor:
        try:
            (answer,) = self._session.run([self._output], {self._input: inputs.numpy().astype(self._dtype, copy=False)})
        except Exception as error:  # each of onnxruntime's is a class of its own
            raise self._unfit(f"does not run on {list(inputs.shape)}: {error}") from error
        if np.ndim(answer) != 2 or len(answer) != len(inputs):
            raise self._unfit(f"gives {list(np.shape(answer))} for {list(inputs.shape)}: expected embeddings [batch, D]")
        return torch.from_numpy(answer).float()

    def _inspect(self) -> list[int | str | None]:
        """The shape of the graph's input."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise self._unfit(
                f"has inputs {[one.name for one in inputs]} and outputs {[one.name for one in outputs]}: expected one of each"
            )
        (image,), (output,) = inputs, outputs
        if image.type not in _DTYPES or len(image.shape) not in (_IMAGES, _CLIPS) or image.shape[-3] not in (3, None):
            expected = "expected floats or uint8 [batch, 3, H, W], or [batch, T, 3, H, W] of clips"
            raise self._unfit(f"takes {image.shape} of {image.type}: {expected}")
        self._input, self._output, self._dtype = image.name, output.name, _DTYPES[image.type]
        return list(image.shape)

    def _probe(self) -> int:
        """D; of two inputs, where the graph says to take them."""
        frames = (self.num_frames or 2,) if self.takes_clips else ()
        return self._run(torch.zeros(self._batch or 2, *frames, 3, *self.image_size)).shape[1]

    def _told_model(self) -> str | None:
        """The name of the network that it was exported from, where it tells."""
        words = self._session.get_modelmeta().custom_metadata_map
        own = {name.removeprefix(f"{SPACE}."): word for name, word in words.items() if name.startswith(f"{SPACE}.")}
        told = ToldByFile.of_words(own, self.path)
        if told is None:
            return None
        if told.image_size != self.image_size:
            height, width = self.image_size
            raise self._unfit(f"tells that it is {told.model}, and takes images of {height} x {width} pixels: export it again")
        graph = onnx_module("onnx").load(str(self.path), load_external_data=False)
        if words.get(WEIGHTS_WORD) != weights_digest(graph):
            logger.warning("%s has other weights than %s, of which it was exported: it is another model", self.path, told.name)
            return None
        return told.name

    def _digests(self) -> str:
        beside = Path(f"{self.path}.data")  # where large networks have their weights
        return " ".join(["onnx", *(_digest(file) for file in (Path(self.path), beside) if file.is_file())])

    def _unfit(self, what: str) -> ValueError:
        return ValueError(f"{self.path} {what}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
