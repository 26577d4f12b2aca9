"""Networks as files that take pixels and give embeddings, written only if these are PyTorch's."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_reid import __version__
from lightning_reid.inference.capture import PixelEmbedder
from lightning_reid.inference.exported_files import ExportFormat, opened, place_of, write_exported
from lightning_reid.inference.latency import median_milliseconds
from lightning_reid.inference.parity import TOLERANCE, require_parity
from lightning_reid.inference.told_by_file import ToldByFile
from lightning_reid.networks import EmbeddingNetwork
from lightning_reid.networks.backbones import SENSELESS
from lightning_reid.networks.evaluating import evaluating
from lightning_reid.networks.network_name import network_name
from lightning_reid.networks.video.network import VideoNetwork

COMPARED = (1, 2, 5)
"""Sizes of batches, besides that of all crops, that every file is tried with."""
_MOST_SECONDS = 3.0


class ExportedNetwork(NamedTuple):
    """A network that was exported.

    Attributes:
        files: What was written, the file that was named first.
        format: Of it.
        told: What it tells of itself.
        largest_difference: From PyTorch's embeddings, of any number.
        batches: Sizes of the batches that were compared.
        difference_unasked: The same of a file of OpenVINO that is not asked for float32; ``None`` for other formats.
    """

    files: tuple[Path, ...]
    format: ExportFormat
    told: ToldByFile
    largest_difference: float
    batches: tuple[int, ...]
    difference_unasked: float | None


def export_network(
    network: EmbeddingNetwork,
    path: str | Path,
    pixels: Tensor,
    *,
    format: ExportFormat | None = None,
    card: str | None = None,
    tolerance: float = TOLERANCE,
) -> ExportedNetwork:
    """Write a network as one that takes RGB pixels in batches of any size, and keep the file if its embeddings are PyTorch's.

    The file takes ``[batch, 3, H, W]`` uint8, or ``[batch, T, 3, H, W]`` of clips, as ``pixels`` are, normalizes them itself, and gives
    ``[batch, D]`` float32 of length 1.

    Args:
        network: Of images or of clips; moved to the CPU, in evaluation mode while it is exported.
        path: A new file: ``.onnx`` (extra ``onnx``), ``.pt2`` of torch.export, or ``.xml``, beside which ``.bin`` gets the weights, of
            OpenVINO (extra ``openvino``).
        pixels: ``[N, 3, H, W]`` or ``[N, T, 3, H, W]`` uint8, N at least 5: crops to compare on, of the size that the file is to take.
        format: ``"onnx"``, ``"torch-export"`` or ``"openvino"``; ``None`` as the suffix says.
        card: Where it is told what the network is good for, for the file to say.
        tolerance: Largest absolute difference of a number that is allowed.

    Raises:
        ModuleNotFoundError: The extra is not installed.
        OSError: The disk does not take it.
        ParityError: The embeddings differ by more.
        ValueError: The file is there, or has no such suffix; the pixels are of another kind; the network does not take them, gives
            something not finite, takes no batch of any size, or is too large for the format. Nothing is written.

    Example:
        >>> import torch
        >>> from lightning_reid import from_pretrained
        >>> from lightning_reid.inference import OnnxEmbedder, export_network, model_name
        >>> network, crops = from_pretrained(), torch.randint(0, 256, (5, 3, 128, 64), dtype=torch.uint8)
        >>> export_network(network, folder / "people.onnx", crops).largest_difference <= 1e-4
        True
        >>> OnnxEmbedder(folder / "people.onnx").model == model_name(network)
        True
    """
    place = place_of(path, format)
    _check_pixels(network, pixels)
    told = ToldByFile(network_name(network), (int(pixels.shape[-2]), int(pixels.shape[-1])), __version__, card)
    embedder = PixelEmbedder(network).cpu()
    expected, batches = _expected(embedder, pixels), tuple(sorted({*COMPARED, len(pixels)}))
    differences: list[float] = []
    tolerances = ((True, tolerance), (False, 2.0))  # in bfloat16 it is measured, and told

    def check(draft: Path) -> None:
        for exact, most in tolerances if place.format == "openvino" else tolerances[:1]:
            run = opened(draft, place.format, exact=exact)
            differences.append(require_parity(path, run, pixels.numpy(), expected, batches=batches, tolerance=most))

    write_exported(place, embedder, pixels, told, check)
    return ExportedNetwork(place.files, place.format, told, differences[0], batches, differences[1] if differences[1:] else None)


def milliseconds(
    network: EmbeddingNetwork, exported: ExportedNetwork, pixels: Tensor, sizes: tuple[int, ...]
) -> dict[int, dict[str, float]]:
    """Median time of a batch by PyTorch and by the file, on the CPU with torch's number of threads, from pixels to embeddings.

    Args:
        network: What was exported.
        exported: What became of it.
        pixels: ``[N, ...]`` uint8, which are repeated where a batch is larger.
        sizes: Of the batches that are timed.

    Returns:
        By the size of the batch and by ``"PyTorch"`` or the name of the format, milliseconds a batch.
    """
    embedder, run = PixelEmbedder(network), opened(exported.files[0], exported.format, torch.get_num_threads())
    found: dict[int, dict[str, float]] = {}
    with evaluating(embedder), torch.inference_mode():
        for size in sizes:
            batch = pixels[torch.arange(size) % len(pixels)]
            runs = {"PyTorch": partial(embedder, batch), exported.format: partial(run, batch.numpy())}
            found[size] = {who: median_milliseconds(one, warm_up=1, most_seconds=_MOST_SECONDS) for who, one in runs.items()}
    return found


def _check_pixels(network: EmbeddingNetwork, pixels: Tensor) -> None:
    axes = 5 if isinstance(network, VideoNetwork) else 4
    if pixels.dtype != torch.uint8 or pixels.ndim != axes or pixels.shape[-3] != 3 or len(pixels) < max(COMPARED):
        expected = "[N, T, 3, H, W]" if axes == 5 else "[N, 3, H, W]"
        told = f"{pixels.dtype} {list(pixels.shape)}"
        raise ValueError(f"pixels must be uint8 {expected} with N of at least {max(COMPARED)}, got {told}: crops to compare on")


def _expected(embedder: PixelEmbedder, pixels: Tensor) -> NDArray:
    """The embeddings of PyTorch, which are some."""
    try:
        with evaluating(embedder), torch.inference_mode():
            expected: Tensor = embedder(pixels)
    except (RuntimeError, *SENSELESS) as error:
        raise ValueError(f"the network does not take pixels {list(pixels.shape)}: {error or type(error).__name__}") from error
    if not expected.isfinite().all() or not expected.any(1).all():
        raise ValueError("the network gives embeddings that are not finite, or nothing but zeros: its training diverged, give another")
    return expected.numpy()
