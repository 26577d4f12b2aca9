"""Which networks come with the library: model folders beside this file, known by the folder's name."""

from __future__ import annotations

from pathlib import Path

FOLDERS = Path(__file__).with_name("model_folders")
DEFAULT = "generated-people-small"
"""What is taken where a network is needed and none is named."""
MODEL_HELP = (
    "network that tells people apart: our last.ckpt or model folder, a ResNet or OSNet of torchreid, a ResNet of fast-reid, an .onnx"
    " file, or the name of a network that comes with the library"
)
"""Of an option that ``load_network`` reads."""


def shipped_names() -> tuple[str, ...]:
    """Names of the networks that come with the library, in the order of the alphabet.

    Example:
        >>> from lightning_reid.networks import shipped_names
        >>> shipped_names()
        ('generated-people-small',)
    """
    return tuple(sorted(folder.name for folder in FOLDERS.iterdir() if folder.is_dir()))


def located(source: str | Path) -> Path:
    """The model folder of a shipped network by its name, whatever lies in the working directory; else a file or folder as it is named."""
    return FOLDERS / source if str(source) in shipped_names() else Path(source)
