"""From image files to embeddings: finding crops, and one pass of a network over them. Needs no Trainer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from lightning_reid.arguments import checked_image_size, require_choice, require_count, require_switch
from lightning_reid.datamodules.decoding import CorruptImageError
from lightning_reid.datamodules.images import require_readable
from lightning_reid.datamodules.loading import load_image
from lightning_reid.datamodules.readers.image_files import IMAGE_SUFFIXES, image_files
from lightning_reid.datamodules.transforms import EvaluationTransform, ImageTransform
from lightning_reid.inference.onnx_embedding import OnnxEmbedder
from lightning_reid.networks import EmbeddingNetwork
from lightning_reid.networks.backbones import PERSON_SIZE
from lightning_reid.networks.embedding_network import EmbeddingOutput
from lightning_reid.networks.embedding_pass import embedding_pass
from lightning_reid.normalization import normalize_images
from lightning_reid.records import JUNK_PID, ImageRecord, PictureSource

logger = logging.getLogger(__name__)

AUTOCAST = {"32-true": torch.float32, "16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


@dataclass(frozen=True)
class EmbeddedImages:
    """Embeddings of image files; row i belongs to ``paths[i]``.

    Attributes:
        paths: N files, as they were given.
        embeddings: ``[N, D]`` float32 on the CPU, L2-normalized.

    Example:
        >>> import torch
        >>> from lightning_reid.inference import EmbeddedImages
        >>> images = EmbeddedImages(("a.jpg", "b.jpg"), torch.tensor([[1.0, 0.0], [0.6, 0.8]]))
        >>> images.embeddings @ images.embeddings[0]  # cosines of both to a.jpg
        tensor([1.0000, 0.6000])
    """

    paths: tuple[str, ...]
    embeddings: Tensor


def find_crops(places: Iterable[str | Path]) -> list[str]:
    """The image files among files and folders, each once: files as given, a folder's at any depth in the order of their names.

    In folders only names with an image's suffix count, hidden ones (``._`` twins of macOS) do not.

    Raises:
        FileNotFoundError: One of the places is not there, or is a folder without images.

    Example:
        >>> from pathlib import Path
        >>> from lightning_reid.inference import find_crops
        >>> crops = find_crops([market + "/query", market + "/bounding_box_test"])  # market: a folder in the Market naming
        >>> len(crops) > 20, {Path(crop).suffix for crop in crops}
        (True, {'.jpg'})
    """
    found: list[Path] = []
    for place in map(Path, places):
        if not place.exists():
            raise FileNotFoundError(f"there is no file or folder {place}: expected image files, or folders with images at any depth")
        images = [place / name for name in image_files(place)] if place.is_dir() else []
        if place.is_dir() and not images:
            raise FileNotFoundError(f"the folder {place} holds no images at any depth: expected files in {', '.join(IMAGE_SUFFIXES)}")
        found += images or [place]
    return [str(file) for file in dict.fromkeys(found)]


@dataclass(frozen=True)
class EmbeddingPass:
    """How a network is passed over image files.

    Attributes:
        image_size: (height, width) in pixels that every image is resized to. ``None`` is what the network was trained with, 256x128 where
            it does not say; another than that works, with a warning.
        batch_size: Images a forward pass.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for CUDA where there is a device.
        precision: ``"32-true"``, or ``"16-mixed"`` or ``"bf16-mixed"`` for autocast, as Lightning names them.
        unreadable: What to do about files that cannot be decoded: ``"error"``, or ``"skip"`` to leave them out, with a count.
        num_workers: Processes that decode images; 0 decodes them in this one.
        flip: Embed each image as the mean of its own embedding and that of its mirror image, each of length 1; twice the work.
        quiet: Show no progress bar.

    Raises:
        ValueError: A number is out of range, or CUDA is asked for where there is none.

    Example:
        >>> from lightning_reid import EmbeddingPass, from_pretrained
        >>> from lightning_reid.inference import find_crops
        >>> crops = find_crops([market + "/query"])  # market: a folder in the Market naming
        >>> images = EmbeddingPass(device="cpu", quiet=True).run(from_pretrained("generated-people-small"), crops)
        >>> len(images.paths) == len(crops), images.embeddings.shape[1], round(float(images.embeddings[0].norm()), 3)
        (True, 192, 1.0)
    """

    image_size: tuple[int, int] | None = None
    batch_size: int = 64
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    unreadable: Literal["error", "skip"] = "error"
    num_workers: int = 0
    flip: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.image_size is not None:
            object.__setattr__(self, "image_size", checked_image_size("image_size", self.image_size))
        require_count("batch_size", self.batch_size)
        require_count("num_workers", self.num_workers, low=0)
        require_choice("device", self.device, ("auto", "cpu", "cuda"))
        require_choice("precision", self.precision, AUTOCAST)
        require_choice("unreadable", self.unreadable, ("error", "skip"))
        require_switch("flip", self.flip)
        require_switch("quiet", self.quiet)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device is 'cuda', but torch {torch.__version__} finds no CUDA device here: take 'cpu' or 'auto'")

    def run(self, network: EmbeddingNetwork | OnnxEmbedder, paths: Sequence[str]) -> EmbeddedImages:
        """Embed image files with a network: an L2-normalized row for each that can be read.

        Args:
            network: Is put onto the device, and into evaluation mode for the time of the pass. Files of ONNX run where onnxruntime does.
            paths: At least one file; those that are skipped have no row in the result.

        Raises:
            CorruptImageError: A file cannot be decoded and ``unreadable`` is ``"error"``; headers are checked before the pass.
            ValueError: There is no image, or none that can be decoded, or an embedding is not finite; the message names the file. Or
                half precision, or another image size than the file's, is asked of a file of ONNX.
        """
        embeddings, kept = torch.empty(len(paths), network.num_features), list[str]()
        for part in self.stream(network, paths):
            embeddings[len(kept) : len(kept) + len(part.paths)] = part.embeddings
            kept += part.paths
        return EmbeddedImages(tuple(kept), embeddings[: len(kept)])

    def stream(
        self, network: EmbeddingNetwork | OnnxEmbedder, paths: Sequence[str], pictures: PictureSource | None = None
    ) -> Iterator[EmbeddedImages]:
        """``run`` batch by batch: no more embeddings are held at a time than a batch has.

        Args:
            network: See ``run``.
            paths: See ``run``.
            pictures: Loads those that are no files, see ``Splits.pictures``.

        Yields:
            The images of each batch that can be read, in the order of ``paths``.
        """
        if not paths:
            raise ValueError("there are no images to embed")
        if self.unreadable == "error":
            require_readable([ImageRecord(path, pid=JUNK_PID, camid=0) for path in paths])
        image_size = self.size_for(network)
        self._check_network(network, image_size)
        device = torch.device("cuda" if self.device != "cpu" and torch.cuda.is_available() else "cpu")
        loader, num_kept, reasons = self._loader(paths, image_size, device, pictures), 0, list[str]()
        with self._progress() as progress:
            task = progress.add_task("embedding", total=len(paths))
            for batch, embeddings in self._embedded(network, loader, device):
                yield EmbeddedImages(tuple(batch.paths), _normalized(embeddings, batch.paths))
                num_kept += len(batch.paths)
                reasons += batch.reasons
                progress.advance(task, len(batch.paths) + len(batch.reasons))
        if not num_kept:
            raise ValueError(f"none of the {len(paths)} images can be read, the first: {reasons[0]}")
        if reasons:
            logger.warning("left out %d of %d images that cannot be read, the first: %s", len(reasons), len(paths), reasons[0])

    def size_for(self, network: EmbeddingNetwork | OnnxEmbedder) -> tuple[int, int]:
        """(height, width) in pixels that images are resized to for a network."""
        return self.image_size or network.image_size or PERSON_SIZE

    def _loader(
        self, paths: Sequence[str], image_size: tuple[int, int], device: torch.device, pictures: PictureSource | None
    ) -> DataLoader:
        images = Crops(paths, EvaluationTransform(image_size), skip_unreadable=self.unreadable == "skip", pictures=pictures)
        pinned = device.type == "cuda"
        return DataLoader(images, batch_size=self.batch_size, num_workers=self.num_workers, collate_fn=collate_crops, pin_memory=pinned)

    def _progress(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
        return Progress(*columns, console=Console(stderr=True), disable=self.quiet)

    def _check_network(self, network: EmbeddingNetwork | OnnxEmbedder, image_size: tuple[int, int]) -> None:
        if isinstance(network, OnnxEmbedder):
            if network.takes_clips or network.image_size != image_size or self.precision != "32-true":
                height, width = network.image_size
                takes = "clips" if network.takes_clips else f"images of {height}x{width}"
                told = f"{image_size[0]}x{image_size[1]} and {self.precision} are asked for"
                raise ValueError(f"{network.path} takes {takes} in the precision it was exported in, and images of {told}")
        elif network.image_size not in (None, image_size):
            told = "the network was trained on images of %dx%d: at %dx%d it finds people less well"
            logger.warning(told, *network.image_size, *image_size)

    def _embedded(
        self, network: EmbeddingNetwork | OnnxEmbedder, loader: DataLoader, device: torch.device
    ) -> Iterator[tuple[CropBatch, Tensor]]:
        """Batches with their embeddings ``[B, D]`` on the CPU."""
        if isinstance(network, OnnxEmbedder):
            for batch in loader:
                none = torch.empty(0, network.num_features)
                yield batch, none if batch.images is None else self._of_both(batch.images, lambda images: network.embed_crops(list(images)))
            return
        network.to(device)
        embed, half = partial(self._embed, network, device), self.precision != "32-true"
        precision = partial(torch.autocast, device.type, AUTOCAST[self.precision], enabled=half)
        for batch, output in embedding_pass(network, loader, embed, precision=precision):
            yield batch, output.embedding.cpu()

    def _embed(self, network: EmbeddingNetwork, device: torch.device, batch: CropBatch) -> EmbeddingOutput:
        if batch.images is None:
            none = torch.empty(0, network.num_features, device=device)
            return EmbeddingOutput(none, none)
        images = normalize_images(batch.images.to(device, non_blocking=True))
        embedding = self._of_both(images, lambda images: network(images).embedding)
        return EmbeddingOutput(embedding, embedding)

    def _of_both(self, images: Tensor, embed: Callable[[Tensor], Tensor]) -> Tensor:
        """Embeddings ``[B, D]``: of the images alone, or with those of their mirror images."""
        if not self.flip:
            return embed(images)
        return (F.normalize(embed(images).float()) + F.normalize(embed(images.flip(-1)).float())) / 2


class Crop(NamedTuple):
    """A file and its ``[3, H, W]`` uint8 image, or the reason why there is none."""

    path: str
    image: Tensor | None
    reason: str = ""


class CropBatch(NamedTuple):
    """The images ``[B, 3, H, W]`` uint8 of the files that could be decoded (``None`` without any), and why the others could not."""

    paths: list[str]
    images: Tensor | None
    reasons: list[str]


class Crops(Dataset[Crop]):
    """Image files in the test-time transform."""

    def __init__(
        self, paths: Sequence[str], transform: ImageTransform, *, skip_unreadable: bool, pictures: PictureSource | None = None
    ) -> None:
        self.paths, self.transform, self.skip_unreadable = paths, transform, skip_unreadable
        self.load = pictures or load_image

    def __len__(self) -> int:
        return len(self.paths)

    @override
    def __getitem__(self, row: int) -> Crop:
        path = self.paths[row]
        try:
            return Crop(path, self.transform(self.load(path)))
        except CorruptImageError as error:
            if not self.skip_unreadable:
                raise
            return Crop(path, None, str(error))


def collate_crops(crops: list[Crop]) -> CropBatch:
    """Stack what could be decoded."""
    readable = [(crop.path, crop.image) for crop in crops if crop.image is not None]
    images = torch.stack([image for _, image in readable]) if readable else None
    return CropBatch([path for path, _ in readable], images, [crop.reason for crop in crops if crop.image is None])


def _normalized(embeddings: Tensor, paths: Sequence[str]) -> Tensor:
    """``[n, D]`` L2-normalized; of each row the file is known by which an error names it."""
    broken = (~embeddings.isfinite().all(1)).nonzero().flatten().tolist()
    if broken:
        raise ValueError(
            f"the embedding of {paths[broken[0]]} holds NaN or infinite values, as {len(broken)} of {len(paths)} in its batch do: the"
            " checkpoint is of a diverged training, or the numbers overflow in half precision (take precision='32-true')"
        )
    return F.normalize(embeddings, dim=1)
