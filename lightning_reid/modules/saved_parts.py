"""What modules keep in a checkpoint beside their weights, and the optimizers it goes on with: checked before it is taken over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import Optimizer

from lightning_reid.arguments import shown

WAY_ON = "resume from a checkpoint of this module, or start a new fit from its weights"
_OF_ANY_OPTIMIZER = {"params", "param_names", "lr", "initial_lr", "weight_decay"}
_OF_SOME_VERSIONS = {"foreach", "fused", "maximize", "capturable", "differentiable", "decoupled_weight_decay"}


def saved_part(checkpoint: Mapping[str, Any], name: str, needs: Mapping[str, type]) -> dict[str, Any]:
    """What a module keeps under a name of its own, in a checkpoint.

    Args:
        checkpoint: As Lightning read it.
        name: Under which ``on_save_checkpoint`` keeps it.
        needs: What is in it, no more and no less, each with its type.

    Raises:
        ValueError: It is not there, or something else; the message tells what.
    """
    part = checkpoint.get(name)
    if not isinstance(part, Mapping) or set(part) != set(needs):
        has = f"{name}={shown(part)}" if name in checkpoint else f"no {name!r}"
        raise ValueError(f"the checkpoint holds {has}, expected {', '.join(needs)} in it: {WAY_ON}")
    for one, kind in needs.items():
        if not isinstance(part[one], kind) or isinstance(part[one], bool):
            raise ValueError(f"the checkpoint holds {shown(part[one])} as {name}[{one!r}], expected {kind.__name__}: {WAY_ON}")
    return dict(part)


def saved_groups(checkpoint: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """The groups of parameters of each optimizer that a checkpoint holds the memory of, without the memory.

    Raises:
        ValueError: It holds something else in their place.
    """
    states = checkpoint.get("optimizer_states", [])
    groups = [state.get("param_groups") if isinstance(state, Mapping) else None for state in states] if isinstance(states, list) else [None]
    for one in groups:
        if not isinstance(one, list) or not all(isinstance(group, dict) and isinstance(group.get("params"), list) for group in one):
            raise ValueError(f"the checkpoint holds optimizer_states that are none, {shown(states)}: {WAY_ON}")
    return [one for one in groups if one is not None]


def check_optimizers(saved: Sequence[Sequence[Mapping[str, Any]]], optimizers: Sequence[Optimizer]) -> None:
    """Check that a resumed fit goes on with the optimizers that the checkpoint holds the memory of.

    Args:
        saved: Of ``saved_groups``.
        optimizers: That the fit is configured with.

    Raises:
        ValueError: There are fewer or more, one is of another kind, or its parameters are in other groups; the message tells both sides.
    """
    if len(saved) != len(optimizers):
        raise ValueError(f"the checkpoint holds the states of {len(saved)} optimizers, the fit has {len(optimizers)}: {WAY_ON}")
    for told, optimizer in zip(saved, optimizers):
        here = optimizer.param_groups
        theirs, ours = (set().union(*groups) - _OF_ANY_OPTIMIZER - _OF_SOME_VERSIONS for groups in (told, here))
        name = type(optimizer).__name__
        if theirs != ours:
            kind = "SGD" if "nesterov" in theirs else "Adam" if "betas" in theirs else "another optimizer"
            raise ValueError(
                f"the checkpoint was trained with {kind} (its options: {', '.join(sorted(theirs))}), and this fit has {name}"
                f" ({', '.join(sorted(ours))}): resume with the optimizer that the checkpoint was trained with, or start a new fit from its"
                " weights"
            )
        sizes = [[len(group["params"]) for group in groups] for groups in (told, here)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"the checkpoint's {name} has groups of {sizes[0]} parameters, that of this fit of {sizes[1]}: resume with the same parts"
                " of the network trained, or start a new fit from the checkpoint's weights"
            )
