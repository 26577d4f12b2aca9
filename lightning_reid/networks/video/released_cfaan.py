"""The parameter names of the CF-AAN networks that its authors released, in ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

LAYER_NAMES = {"qkv_transform": "qkv", "bn_qkv": "qkv_norm", "bn_similarity": "similarity_norm", "bn_output": "output_norm"}
MODULE_NAMES = {"conv_up": "projection", "bn2": "norm"}


def rename_released_cfaan(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a released CF-AAN to those of ``CFAAN``, or of one of its modules or layers to ours.

    The released network holds its modules inside the stages of its backbone (``base.layer2.3.axial_gran.0.qkv_transform.weight`` is
    our ``attention.stage2.0.scales.0.axes.0.qkv.weight``), its blocks are counted on after them. Its convolutions are made for clips;
    their single time step is dropped. ``flatten_index``, which is no parameter, is left out; ``classifier.weight`` and names that are
    not known here keep their names, to be reported by who loads them.

    Args:
        state: Tensors by released name: of a whole network (``base.*``, ``bottleneck.*``), of one module (``axial_gran.*``,
            ``conv_up.*``, ``bn2.*``) or of one axial layer (``qkv_transform.*``, ...). Unchanged.

    Returns:
        Tensors by our name; they share the memory of ``state``.
    """
    prefixes = _stage_prefixes(state) | {"base.": "backbone.trunk.", "bottleneck.": "neck."}
    return {_renamed(name, prefixes): _for_frames(tensor) for name, tensor in state.items() if not name.endswith("flatten_index")}


def _stage_prefixes(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Released prefix of each block and module in the stages, and ours, where blocks and modules are counted apart."""
    matches = [match for name in state if (match := re.match(r"base\.(layer\d)\.(\d+)\.(axial_gran\.)?", name))]
    modules = {(match[1], int(match[2])) for match in matches if match[3]}
    prefixes: dict[str, str] = {}
    for stage in sorted({match[1] for match in matches}):
        ours = {True: f"attention.stage{stage[-1]}", False: f"backbone.trunk.{stage}"}
        counts = {True: 0, False: 0}
        for index in sorted({int(match[2]) for match in matches if match[1] == stage}):
            is_module = (stage, index) in modules
            prefixes[f"base.{stage}.{index}."] = f"{ours[is_module]}.{counts[is_module]}."
            counts[is_module] += 1
    return prefixes


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    theirs = next((prefix for prefix in prefixes if name.startswith(prefix)), "")  # those of the stages come before base.
    ours, rest = prefixes.get(theirs, ""), name.removeprefix(theirs)
    return ours + (rest if ours.startswith(("backbone.", "neck.")) else _module_name(rest))


def _module_name(name: str) -> str:
    """Within one module: layer 3 s + a of ``axial_gran`` is axis a of scale s."""
    if match := re.match(r"axial_gran\.(\d+)\.", name):
        scale, axis = divmod(int(match[1]), 3)
        return f"scales.{scale}.axes.{axis}.{_module_name(name[match.end() :])}"
    layer, _, rest = name.partition(".")
    known = LAYER_NAMES | MODULE_NAMES
    return f"{known[layer]}.{rest}" if layer in known else name


def _for_frames(tensor: Tensor) -> Tensor:
    """A convolution's weight over lines ``[O, I, 1]`` or over clips ``[O, I, 1, h, w]`` as one over frames ``[O, I, h, w]``."""
    if tensor.ndim == 3:
        return tensor[..., None]
    return tensor.squeeze(2) if tensor.ndim == 5 else tensor
