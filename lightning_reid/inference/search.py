"""Searching embedded images for the one in a query image: the rank list as numbers, as a picture and on the terminal."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont, ImageOps
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from lightning_reid.datamodules.loading import load_image
from lightning_reid.files import write_atomically
from lightning_reid.inference.embedding import EmbeddedImages

QUERY_FRAME, ANSWER_FRAME, PAPER = (40, 90, 180), (150, 150, 150), (255, 255, 255)


class Neighbor(NamedTuple):
    """An image found for a query: its rank, its file and how similar it is.

    Attributes:
        rank: From 1, the nearest.
        path: Image file.
        similarity: Cosine, in [-1, 1].
    """

    rank: int
    path: str
    similarity: float


def nearest_images(query: str | Path, query_embedding: Tensor, images: EmbeddedImages, top: int) -> list[Neighbor]:
    """The ``top`` images most similar to a query image (cosine); equal ones in their given order. The query's own file is no answer.

    Args:
        query: File of the query; where it is among ``images``, also by way of a link, it is passed over.
        query_embedding: ``[D]`` float32, L2-normalized.
        images: What to search.
        top: At least 1; fewer answers come back from a smaller set.

    Raises:
        ValueError: ``top`` is below 1, or there is no image beside the query.

    Example:
        >>> import torch
        >>> from lightning_reid.inference import EmbeddedImages, find_crops, nearest_images
        >>> images = EmbeddedImages(tuple(find_crops([market + "/query"])[:3]), torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]))
        >>> (answer,) = nearest_images(images.paths[0], images.embeddings[0], images, top=1)
        >>> answer.path == images.paths[1], round(answer.similarity, 3)
        (True, 0.6)
    """
    if top < 1:
        raise ValueError(f"top must be at least 1, got {top}")
    similarities = images.embeddings @ query_embedding
    answers: list[Neighbor] = []
    for row in similarities.argsort(descending=True, stable=True).tolist():
        if len(answers) == top:
            break
        if not same_file(Path(images.paths[row]), Path(query)):
            answers.append(Neighbor(len(answers) + 1, images.paths[row], float(similarities[row])))
    if not answers:
        raise ValueError(f"there is nothing to search for {query}: it is the only image that was embedded")
    return answers


def same_file(one: Path, other: Path) -> bool:
    """Whether both are one file; of files that are not here, as where embeddings come from another machine, whether their names say so."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.absolute() == other.absolute()


def write_neighbors(path: Path, neighbors: Sequence[Neighbor]) -> None:
    """Write a CSV table with the columns ``rank``, ``path``, ``cosine_similarity``."""

    def write(file: Path) -> None:
        # names that are no UTF-8 come out with the bytes they have on disk
        with file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as table:
            rows = csv.writer(table)
            rows.writerow(("rank", "path", "cosine_similarity"))
            rows.writerows((neighbor.rank, neighbor.path, f"{neighbor.similarity:.6f}") for neighbor in neighbors)

    write_atomically(path, write)


def print_neighbors(query: str, neighbors: Sequence[Neighbor]) -> None:
    """Print the rank list on the terminal."""
    table = Table(title=Text(f"most similar to {_printable(query)}"))
    table.add_column("rank", justify="right")
    table.add_column("cosine", justify="right")
    table.add_column("image", overflow="fold")
    for neighbor in neighbors:
        table.add_row(str(neighbor.rank), f"{neighbor.similarity:.3f}", Text(_printable(neighbor.path)))
    Console().print(table)


def _printable(path: str) -> str:
    return path.encode("utf-8", errors="replace").decode("utf-8")


def draw_search(query: str, neighbors: Sequence[Neighbor], *, height: int = 192, width: int = 96, answers_per_row: int = 10) -> Image.Image:
    """The query beside its answers, rank above and cosine similarity below, in neutral frames: nobody knows here who is right.

    Args:
        query: Image file.
        neighbors: At least one.
        height: Of a crop in pixels; crops keep their shape and are fitted into height x width.
        width: Of a crop in pixels.
        answers_per_row: After so many a new row begins.

    Example:
        >>> from lightning_reid.inference import draw_search, find_crops
        >>> from lightning_reid.inference.search import Neighbor
        >>> query, first, second = find_crops([market + "/query"])[:3]  # market: a folder in the Market naming
        >>> picture = draw_search(query, [Neighbor(1, first, 0.9), Neighbor(2, second, 0.4)], height=64, width=32)
        >>> picture.mode, picture.width > picture.height
        ('RGB', True)
    """
    frame, gap, text = 3, 10, 22
    cell_width, cell_height = width + 2 * frame + gap, height + 2 * frame + gap + 2 * text
    num_rows, num_columns = -(-len(neighbors) // answers_per_row), 1 + min(len(neighbors), answers_per_row)
    sheet = Image.new("RGB", (num_columns * cell_width + 2 * gap, num_rows * cell_height + gap), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)

    def draw(path: str, column: int, row: int, above: str, below: str, color: tuple[int, int, int]) -> None:
        x, y = gap + column * cell_width + (gap if column else 0), gap + row * cell_height
        middle, top, bottom = x + frame + width // 2, y + text, y + text + height + 2 * frame
        pen.text((middle, y + text // 2), above, fill=color if path == query else "black", font=font, anchor="mm")
        pen.rectangle((x, top, x + width + 2 * frame - 1, bottom - 1), fill=color)
        sheet.paste(_fitted(path, height, width), (x + frame, top + frame))
        pen.text((middle, bottom + text // 2), below, fill="black", font=font, anchor="mm")

    draw(query, 0, 0, "query", "", QUERY_FRAME)
    for place, (rank, path, similarity) in enumerate(neighbors):
        draw(path, 1 + place % answers_per_row, place // answers_per_row, str(rank), f"{similarity:.3f}", ANSWER_FRAME)
    return sheet


def _fitted(path: str, height: int, width: int) -> Image.Image:
    """The image as the network's loader decodes it (turned as its EXIF data say), scaled to fit."""
    image = Image.fromarray(load_image(path).permute(1, 2, 0).numpy())
    return ImageOps.pad(image, (width, height), color=PAPER)
