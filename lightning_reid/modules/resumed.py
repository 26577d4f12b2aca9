"""What a resumed fit goes on with, looked at before it is taken over: Lightning and torch take it as they find it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from lightning_reid.arguments import is_number, require_count, require_number, shown
from lightning_reid.modules.saved_parts import WAY_ON, check_optimizers, saved_groups

_RATES = ("lr", "initial_lr", "weight_decay")
"""Options of an optimizer that a schedule changes, or that a resumed fit may be told anew, which is said."""
_OF_THE_MACHINE = ("foreach", "fused", "capturable", "differentiable")
_LIKE_A_WEIGHT = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer")
_PROGRESS = ("epoch_progress", "epoch_loop.batch_progress")


@contextmanager
def named(path: object) -> Iterator[None]:
    """Name the checkpoint in what is refused within the block.

    Raises:
        ValueError: What was raised, with the path before it.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check_loops(checkpoint: Mapping[str, Any]) -> None:
    """Check how far a checkpoint says that its fit has come, and that what it keeps for callbacks is by name.

    Raises:
        ValueError: It does not say, counts something else than whole numbers, or keeps something else; the message tells what.
    """
    loops = checkpoint.get("loops")
    fit = loops.get("fit_loop") if isinstance(loops, Mapping) else None
    if not isinstance(fit, Mapping) or not all(isinstance(fit.get(name), Mapping) for name in _PROGRESS):
        raise ValueError(f"the checkpoint holds loops={shown(loops)}, and not how far its fit has come: {WAY_ON}")
    for name in ("epoch", "global_step"):
        require_count(f"{name} of the checkpoint", checkpoint.get(name), low=0, optional=True)
    for name, progress in fit.items():
        if str(name).endswith("progress"):
            _check_counts(f"{name} of the checkpoint", progress)
    callbacks = checkpoint.get("callbacks")
    if callbacks is not None and not isinstance(callbacks, Mapping):
        raise ValueError(f"the checkpoint holds callbacks={shown(callbacks)}, expected their states by name: {WAY_ON}")


def told_anew(checkpoint: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """How a module's arguments differ from those that a checkpoint was trained with, and which hold; empty where they are the same."""
    theirs = checkpoint.get("hyper_parameters")
    both = [name for name in own if name in theirs] if isinstance(theirs, Mapping) else []
    other = [name for name in both if _plain(theirs[name]) != _plain(own[name])] if isinstance(theirs, Mapping) else []
    if not other or not isinstance(theirs, Mapping):
        return ""
    before, now = (", ".join(f"{name}={shown(one[name])}" for name in other) for one in (theirs, own))
    kept = [name for name in other if name in _RATES]
    goes_on = f" Of these {', '.join(kept)} of the checkpoint is kept, which its optimizer holds." if kept else ""
    return f"was trained with {before}, and goes on with a module of {now}.{goes_on} Start a new fit from its weights to change them all"


def check_resumed(checkpoint: Mapping[str, Any], optimizers: Sequence[Optimizer], schedulers: Sequence[Any]) -> None:
    """Check the optimizers and schedules that a checkpoint holds; of a part that is missing Lightning says so itself.

    Args:
        checkpoint: As Lightning read it.
        optimizers: That the fit is configured with.
        schedulers: That the fit is configured with.

    Raises:
        ValueError: See ``check_optimizers``, ``check_memory`` and ``check_schedules``.
    """
    if "optimizer_states" in checkpoint:
        check_optimizers(saved_groups(checkpoint), optimizers)
        check_memory(checkpoint["optimizer_states"], optimizers)
    if "lr_schedulers" in checkpoint:
        check_schedules(checkpoint["lr_schedulers"], schedulers)


def check_memory(states: Sequence[Mapping[str, Any]], optimizers: Sequence[Optimizer]) -> None:
    """Check what a checkpoint's optimizers are to go on with, whose groups are those of the fit (``check_optimizers``).

    Args:
        states: ``optimizer_states`` of the checkpoint.
        optimizers: That the fit is configured with.

    Raises:
        ValueError: An option is another than configured, or no number; or what is remembered of a parameter has another shape, or
            numbers that are not finite.
    """
    for state, optimizer in zip(states, optimizers):
        whose, memory = f"the checkpoint's {type(optimizer).__name__}", state.get("state")
        for told, here in zip(state["param_groups"], optimizer.param_groups):
            _check_options(told, here, optimizer.defaults, whose)
            for place, parameter in zip(told["params"], here["params"]):
                if not isinstance(memory, Mapping) or not isinstance(place, (int, str)):
                    raise ValueError(f"{whose} holds {shown(memory)} as its memory of parameter {shown(place)}: {WAY_ON}")
                _check_memory_of(memory.get(place, {}), parameter, f"{whose} holds for its parameter {place}")


def check_schedules(saved: Any, schedulers: Sequence[Any]) -> None:
    """Check the states of the schedules of the learning rate that a checkpoint holds.

    Args:
        saved: ``lr_schedulers`` of the checkpoint.
        schedulers: That the fit is configured with.

    Raises:
        ValueError: There are fewer or more, or one is not of a schedule such as the fit's.
    """
    if not isinstance(saved, list) or len(saved) != len(schedulers) or not all(isinstance(one, Mapping) for one in saved):
        raise ValueError(f"the checkpoint holds lr_schedulers={shown(saved)}, and the fit has {len(schedulers)} of them: {WAY_ON}")
    for told, scheduler in zip(saved, schedulers):
        for name, here in scheduler.state_dict().items():
            if name.startswith("_"):
                continue
            value = told.get(name)
            if not _is_alike(value, here) or (name == "last_epoch" and value < 0):
                raise ValueError(
                    f"the checkpoint holds {name}={shown(value)} of its {type(scheduler).__name__}, and the fit has {shown(here)}: {WAY_ON}"
                )


def _check_counts(name: str, progress: Any) -> None:
    if isinstance(progress, Mapping):
        for part, value in progress.items():
            _check_counts(f"{part} in {name}", value)
    elif not isinstance(progress, bool):
        require_count(name, progress, low=0)


def _check_options(told: Mapping[str, Any], here: Mapping[str, Any], defaults: Iterable[str], whose: str) -> None:
    cycled = ("betas", "momentum") if "max_momentum" in here else ()  # of OneCycleLR and CyclicLR
    for name in told:
        value = _plain(told[name])
        if name in _RATES:
            require_number(f"{name} of {whose}", value, low=0)
        elif name in _OF_THE_MACHINE and (value is None or isinstance(value, bool)):
            continue
        elif name in here and name in defaults and name not in cycled and value != _plain(here[name]):
            raise ValueError(
                f"{whose} was configured with {name}={shown(value)}, and that of this fit with {name}={shown(here[name])}: resume with the"
                " same, or start a new fit from the checkpoint's weights"
            )


def _check_memory_of(memory: Any, parameter: Tensor, where: str) -> None:
    if not isinstance(memory, Mapping):
        raise ValueError(f"{where} {shown(memory)}: {WAY_ON}")
    for name, value in memory.items():
        if name in _LIKE_A_WEIGHT and value is not None and (not isinstance(value, Tensor) or value.shape != parameter.shape):
            got = list(value.shape) if isinstance(value, Tensor) else shown(value)
            raise ValueError(f"{where} {name} {got}, and the parameter is {list(parameter.shape)}: {WAY_ON}")
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all()):
            raise ValueError(f"{where} {name} with NaN or infinite numbers, of a training that diverged: resume from an earlier checkpoint")


def _is_alike(value: Any, here: Any) -> bool:
    if isinstance(here, list):
        return isinstance(value, list) and len(value) == len(here) and all(map(_is_alike, value, here))
    return (is_number(value) and value == value) if is_number(here) else isinstance(value, type(here))


def _plain(value: Any) -> Any:
    """As it can be compared: tuples and lists of the same are the same, and so are a number and a tensor of it."""
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else f"a tensor {list(value.shape)}"
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value
