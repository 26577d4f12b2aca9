"""The file of a calibration: where it is kept, and whether it is whole and of the network that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_reid.arguments import shown
from lightning_reid.files import read_json, write_json
from lightning_reid.inference.loading import model_name
from lightning_reid.inference.onnx_embedding import OnnxEmbedder
from lightning_reid.metrics.calibration import Calibration, ReliabilityBin, Threshold
from lightning_reid.metrics.calibration_content import CHECKSUM, LIBRARY, calibration_checksum, calibration_content
from lightning_reid.networks import EmbeddingNetwork
from lightning_reid.networks.shipped import located

SUFFIX = "calibration.json"
_WAY_ON = "make it anew by lightning-reid calibrate"
_NEEDS: dict[str, Any] = {
    **dict.fromkeys((LIBRARY, CHECKSUM, "model", "data"), str),
    **dict.fromkeys(("genuine", "impostor", "cameras", "seed"), int),
    **dict.fromkeys(("people", "similarities", "evidence", "match", "non_match", "bins"), list),
    "calibration_error": (int, float),
}


def name_with_size(network: EmbeddingNetwork | OnnxEmbedder, image_size: tuple[int, int]) -> str:
    """The name of a network that is given images of (height, width) pixels: cosines under two names are not compared.

    Example:
        >>> from lightning_reid import from_pretrained
        >>> from lightning_reid.inference import name_with_size
        >>> name_with_size(from_pretrained("generated-people-small"), (128, 64)).endswith(" at 128x64")
        True
    """
    return f"{model_name(network)} at {image_size[0]}x{image_size[1]}"


def calibration_path(source: str | Path) -> Path:
    """Where the calibration of a network is kept: in its model folder, or beside its file.

    Args:
        source: As ``load_network`` takes it.

    Example:
        >>> from lightning_reid.inference import calibration_path
        >>> calibration_path("run/last.ckpt").as_posix(), calibration_path("run/last.onnx").as_posix()
        ('run/last.calibration.json', 'run/last.onnx.calibration.json')
    """
    path = located(source)
    if path.is_dir():
        return path / SUFFIX
    if path.suffix.lower() == ".onnx":  # beside the checkpoint that it was made of, whose calibration is another
        return path.with_name(f"{path.name}.{SUFFIX}")
    return path.with_suffix(f".{SUFFIX}")


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration as JSON, with the version of the library and a checksum.

    Example:
        >>> from lightning_reid.inference import calibration_path, read_calibration, write_calibration
        >>> calibration = read_calibration(calibration_path("generated-people-small"))
        >>> write_calibration(folder / "calibration.json", calibration)
        >>> read_calibration(folder / "calibration.json") == calibration
        True
    """
    write_json(path, calibration_content(calibration))


def read_calibration(path: str | Path) -> Calibration:
    """Read a calibration as it was written.

    Raises:
        OSError: The file cannot be read; ``FileNotFoundError`` where there is none.
        ValueError: It is no calibration, or was changed since; the message names the file, what is wrong and the way on.

    Example:
        >>> from lightning_reid.inference import calibration_path, read_calibration
        >>> calibration = read_calibration(calibration_path("generated-people-small"))
        >>> calibration.data
        'generated-people,people=500,shots=2,seed=7'
    """
    path = Path(path)
    content = read_json(path, _NEEDS, way_on=_WAY_ON)
    try:
        found = Calibration(
            **{name: content[name] for name in ("model", "data", "genuine", "impostor", "cameras", "seed")},
            people=_numbers(content["people"]),
            similarities=_numbers(content["similarities"]),
            evidence=_numbers(content["evidence"]),
            match=tuple(_threshold(one) for one in content["match"]),
            non_match=tuple(_threshold(one) for one in content["non_match"]),
            bins=tuple(ReliabilityBin(**one) for one in content["bins"]),
        )
    except (ValueError, TypeError, AttributeError) as error:  # a number is out of range; or a row is no row of such a table
        raise ValueError(f"{path} holds no calibration, {error}: {_WAY_ON}") from error
    if content[CHECKSUM] != calibration_checksum(content):
        raise ValueError(f"{path} was changed since it was made, its checksum is of other numbers: {_WAY_ON}")
    return found


def find_calibration(source: str | Path, model: str) -> Calibration | None:
    """The calibration that is kept with a network; ``None`` where there is none.

    An ONNX file that was exported of a checkpoint beside it has the checkpoint's, where its own is missing.

    Args:
        source: As ``load_network`` takes it.
        model: Name of the network with its image size, see ``name_with_size``.

    Raises:
        ValueError: It is of another network, or was changed since it was made.

    Example:
        >>> from lightning_reid import from_pretrained
        >>> from lightning_reid.inference import find_calibration, name_with_size
        >>> network = from_pretrained("generated-people-small")
        >>> calibration = find_calibration("generated-people-small", name_with_size(network, network.image_size))
        >>> calibration.data, sum(calibration.people)
        ('generated-people,people=500,shots=2,seed=7', 600)
    """
    path = calibration_path(source)
    if path.is_file():
        return of_model(path, model)
    beside = sorted(path.parent.glob(f"*{SUFFIX}")) if path.name.endswith(f".onnx.{SUFFIX}") else []
    return next((found for found in map(read_calibration, beside) if found.model == model), None)


def of_model(path: str | Path, model: str) -> Calibration:
    """Read the calibration of a network, and of no other.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is of another network, or was changed since it was made.
    """
    found = read_calibration(path)
    if found.model != model:
        raise ValueError(f"{path} is of another network, {shown(found.model)}, and cosines here are of {model}: {_WAY_ON}")
    return found


def _numbers(told: Any) -> Any:
    return tuple(told) if isinstance(told, list) else told


def _threshold(told: Mapping[str, Any]) -> Threshold:
    return Threshold(**{name: _numbers(value) for name, value in told.items()})
