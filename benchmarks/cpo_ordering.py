"""Does CPO remove more than uniform removal at the same drop? Small networks, several seeds, curves on what nobody decided by.

    python benchmarks/cpo_ordering.py                                          # a VGG, retrieval: a quarter of an hour of one core
    python benchmarks/cpo_ordering.py --networks resnet --tasks retrieval      # elsewhere: exploratory

Both searches of a seed begin from the same trained network, decide by mAP on 60 people held out of training, and measure their drop
against the whole network retrained as often. Uniform removal retrains for two epochs a trial, CPO for one: both take about as many in all.

Every state that a search kept is then scored on the test's people, after 12 epochs since the whole network: those of its trials and the
rest, the last two at a tenth of the learning rate. (A state that is reached after more than ten gets two more all the same; their number is
told.) The whole network gets 12. So each search leaves a curve of mAP over the share of multiply-adds left, from the whole network down,
with straight lines between its states.

Classification is of 60 identities, trained with three images of four; every other of the rest decides, the others are scored: other
images, of the same people, who are the classes.

A drop that not every curve comes to is left out of the table, and named: where a search stopped before, more might have been removed.

Primary comparison: multiply-adds removed at a drop of five points on the test's people, VGG, retrieval, CPO - uniform. All others are
exploratory. Settings were fixed on seed 100 by its own 60 people, for the VGG and retrieval; the expected drop is ten points, so that both
curves pass five. The other network and task have the same settings; nothing was looked for with them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import pairwise, product
from pathlib import Path
from statistics import mean
from typing import Any

import pytorch_lightning as pl
import torch
from pruning_runs import NETWORKS, TASKS, Experiment, TwiceHeldOutImages, generated_data, metric_of, shared_settings
from read_back import row
from result_files import parse_options, score_table, write_tables
from torch import Tensor
from typing_extensions import override

from lightning_reid.callbacks import CPOPruning
from lightning_reid.callbacks.cpo_pruning import SearchName
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.metrics import paired_difference_interval
from lightning_reid.networks import ChannelPlan
from lightning_reid.recipes.workshop.seeds import seed_comparison

SEEDS = (0, 1, 2, 3, 4)
EPOCHS, VAL_PEOPLE, LR = 24, 60, 3e-4
EXPECTED_DROP = 0.1
TOTAL_EPOCHS, LAST_EPOCHS = 12, 2
SEARCHES: dict[str, tuple[SearchName, int]] = {"CPO": ("layer by layer", 1), "uniform": ("uniform", 2)}
"""What is compared, and the epochs of a trial."""
DROPS = (0.02, 0.05, 0.08)
PRIMARY = ("CPO, 5 points", "uniform, 5 points")
PRIMARY_OF = ("vgg", "retrieval")
"""Where it is primary."""
SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
PROTOCOL = (
    "Generated crops 48x24, 600 steps with Adam; both searches decide by {decide} against the whole network retrained as often. Every kept"
    " state is scored {score} after 12 epochs of 25 steps since the whole network, which gets as many; straight lines between the states."
)
PEOPLE = {
    "retrieval": {"decide": "mAP on 60 people held out of training", "score": "on the test's people"},
    "classification": {"decide": "accuracy on held-out images of the 60 classes", "score": "on other held-out images of them"},
}

Point = Mapping[str, float]


class KeptStates(pl.Callback):
    """Remembers every state that a search keeps; comes after it in the list of callbacks."""

    def __init__(self, pruning: CPOPruning) -> None:
        self.pruning = pruning
        self.states: list[dict[str, Any]] = []

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        kept = [trial for trial in self.pruning.history if trial["verdict"] == "keep"]
        if len(kept) > len(self.states):
            state = self.pruning.state_dict()
            plan = {name: mask for name, mask in state["kept"]["channels"].items() if not mask.all()}
            self.states.append({"weights": state["kept"]["weights"], "plan": ChannelPlan(tuple(state["input_shape"]), plan)} | kept[-1])


def final_score(experiment: Experiment, weights: Mapping[str, Tensor], epochs: int, plan: ChannelPlan | None = None) -> float:
    """The score on the test part after ``epochs`` more, the last ones at a tenth of the learning rate."""
    model = experiment.model(weights, optimizer="adam", lr=LR)
    if plan is not None:
        model.materialize(plan)
    model.hparams["milestones"] = [max(1, epochs - LAST_EPOCHS)]
    experiment.trainer(epochs).fit(model, experiment.data)
    return experiment.score(model)


def searched(experiment: Experiment, weights: Mapping[str, Tensor], name: str, expected_drop: float) -> dict[str, Any]:
    """The states that a search kept: multiply-adds and parameters left, drop by which it decided, score on the test part."""
    search, epochs = SEARCHES[name]
    pruning = CPOPruning(expected_drop, f"val/{experiment.metric}", epochs, search=search)
    kept = KeptStates(pruning)
    model = experiment.model(weights, optimizer="adam", lr=LR)
    experiment.trainer(-1, [pruning, kept], validate_every=epochs).fit(model, experiment.data)
    points = []
    for place, state in enumerate(kept.states):
        before = epochs * (place + 1)
        rest = max(TOTAL_EPOCHS - before, LAST_EPOCHS)
        score = final_score(experiment, state["weights"], rest, state["plan"])
        points.append({key: state[key] for key in ("flops", "params", "drop")} | {"score": score, "epochs": before + rest})
    return {"points": points, "epochs": epochs * (len(pruning.history) + len(pruning.references)), "references": pruning.references}


def run(network: str, task: str, seed: int, expected_drop: float, output: Path) -> dict[str, dict[str, Any]]:
    """Both searches of a seed; what was run before is read back."""
    other = "" if expected_drop == EXPECTED_DROP else f"-drop{expected_drop:g}"
    folder = output / f"{network}-{task}{other}-seed{seed}"
    told = {"epochs": EPOCHS, "val_people": VAL_PEOPLE, "lr": LR, "total_epochs": TOTAL_EPOCHS, "last_epochs": LAST_EPOCHS}
    settings = shared_settings(network) | told
    trained = cache(partial(trained_network, network, task, seed, output))

    def whole() -> dict[str, float]:
        experiment, weights = trained()
        return {"score": final_score(experiment, weights, TOTAL_EPOCHS)}

    def search(name: str) -> dict[str, Any]:
        return searched(*trained(), name, expected_drop)

    found = {"whole": row(folder / "whole.json", whole, settings)}
    for name in SEARCHES:
        asked = settings | {"expected_drop": expected_drop, "search": SEARCHES[name]}
        found[name] = row(folder / f"{name}.json", partial(search, name), asked)
    return found


def trained_network(network: str, task: str, seed: int, output: Path) -> tuple[Experiment, dict[str, Tensor]]:
    """The experiment, and the weights of its whole network."""
    data = generated_data(ImageReIDDataModule, seed, VAL_PEOPLE) if task == "retrieval" else generated_data(TwiceHeldOutImages, seed)
    experiment = Experiment(network, task, seed, EPOCHS, data)
    return experiment, experiment.trained(output)


def curve(found: Mapping[str, Mapping[str, Any]], name: str, *, most_epochs: float = math.inf) -> list[tuple[float, float]]:
    """(share of multiply-adds left, score), from the whole network down; only states of at most ``most_epochs``."""
    states = [(point["flops"], point["score"]) for point in found[name]["points"] if point["epochs"] <= most_epochs]
    return [(1.0, found["whole"]["score"]), *states]


def score_at(points: Sequence[tuple[float, float]], share: float) -> float | None:
    """The score where so much is left; ``None`` where the curve ends before."""
    for (more, before), (less, after) in pairwise(points):
        if less <= share <= more:
            return after if more == less else after + (before - after) * (share - less) / (more - less)
    return None


def removed_at(points: Sequence[tuple[float, float]], drop: float) -> float | None:
    """The largest share removed at which the curve is at most ``drop`` below its beginning; ``None`` where it ends above that."""
    if not all(math.isfinite(score) for _, score in points):
        raise ValueError(f"a curve of scores that are no numbers: {points}")
    least = points[0][1] - drop
    if points[-1][1] > least:
        return None
    for (more, before), (less, after) in reversed(list(pairwise(points))):
        if after >= least:
            return 1 - less
        if before >= least:
            return 1 - (less + (more - less) * (least - after) / (before - after))
    raise AssertionError("a curve that begins above a score and ends below it passes it")


def measures(
    found: Mapping[int, Mapping[str, Mapping[str, Any]]], *, most_epochs: float = math.inf
) -> dict[str, dict[int, dict[str, float]]]:
    """Of every seed: what is removed at given drops; scores at given shares, as far down as all curves go."""
    curves = {seed: {name: curve(one, name, most_epochs=most_epochs) for name in SEARCHES} for seed, one in found.items()}
    drops = [drop for drop in DROPS if not ends_before(curves, drop)]
    removed = {
        seed: {f"{name}, {100 * drop:.0f} points": removed_at(points, drop) or 0.0 for drop in drops for name, points in one.items()}
        for seed, one in curves.items()
    }
    reached = [share for share in SHARES if all(score_at(points, share) is not None for one in curves.values() for points in one.values())]
    scores = {
        seed: {"whole": one["whole"]["score"]}
        | {f"{name}, {share:.0%} left": score_at(points, share) or 0.0 for share in reached for name, points in curves[seed].items()}
        for seed, one in found.items()
    }
    return {"removed": removed, "scores": scores}


def ends_before(curves: Mapping[int, Mapping[str, Sequence[tuple[float, float]]]], drop: float) -> list[str]:
    """Whose curves end before a drop."""
    return [f"{name}'s of seed {seed}" for seed, one in curves.items() for name, points in one.items() if removed_at(points, drop) is None]


def pairs(rows: Mapping[str, float]) -> list[tuple[str, str]]:
    """CPO and uniform removal, under the same condition."""
    return [(name, name.replace("CPO", "uniform", 1)) for name in rows if name.startswith("CPO")]


def how_it_ended(found: Mapping[int, Mapping[str, Mapping[str, Any]]], name: str, expected_drop: float) -> str:
    """What a search ended at, in the mean, and what it took; a seed where nothing was kept counts as nothing removed, and no drop."""
    nothing = {"flops": 1.0, "params": 1.0, "drop": 0.0}
    ends = [one[name]["points"][-1] if one[name]["points"] else nothing | one["whole"] for one in found.values()]
    removed = [100 * mean(1 - end[key] for end in ends) for key in ("flops", "params")]
    decided = 100 * mean(end["drop"] for end in ends)
    tested = [one["whole"]["score"] - end["score"] for one, end in zip(found.values(), ends)]
    within = sum(drop <= expected_drop for drop in tested)
    kept, epochs = (
        mean(values) for values in ([len(x[name]["points"]) for x in found.values()], [x[name]["epochs"] for x in found.values()])
    )
    gain = 100 * mean(one[name]["references"][-1] - one[name]["references"][0] for one in found.values())
    longer = sum(point["epochs"] > TOTAL_EPOCHS for one in found.values() for point in one[name]["points"])
    return (
        f"{name}, where it ended: {removed[0]:.1f} % of multiply-adds and {removed[1]:.1f} % of parameters removed; drop {decided:+.1f}"
        f" points where it decided, {100 * mean(tested):+.1f} on the test part (within the"
        f" expected {100 * expected_drop:.0f} in {within} of {len(tested)} seeds); {kept:.1f} trials kept, {epochs:.0f} epochs; the whole"
        f" network gained {gain:+.1f} from its first retraining to its last; {longer} states of all seeds had more than {TOTAL_EPOCHS}"
    )


def comparison_lines(scores: Mapping[int, Mapping[str, float]]) -> str:
    """Means and paired differences in one line each."""
    lines = []
    for one, other in pairs(next(iter(scores.values()))):
        first, second = (torch.tensor([rows[name] for rows in scores.values()], dtype=torch.float64) for name in (one, other))
        low, high = paired_difference_interval(first, second)
        means = f"{100 * float(first.mean()):.1f} and {100 * float(second.mean()):.1f} %"
        lines.append(f"{one} - {other}: {means}, {100 * float((first - second).mean()):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})")
    return "; ".join(lines) or "no drop that all curves come to"


def at_first_state(found: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> str:
    """Both where uniform removal's first state is: above it, its curve is a straight line, CPO's is not.

    At its share of multiply-adds left, the scores; at its drop, what is removed. Looked at when the seeds of the VGG and of the ResNet's
    retrieval had been seen.
    """
    scores: dict[int, float] = {}
    removed: dict[int, float] = {}
    for seed, one in found.items():
        cpo = curve(one, "CPO")
        for state in one["uniform"]["points"][:1]:
            score, share = score_at(cpo, state["flops"]), removed_at(cpo, cpo[0][1] - state["score"])
            if score is not None:
                scores[seed] = 100 * (score - state["score"])
            if share is not None:
                removed[seed] = 100 * (share - (1 - state["flops"]))
    parts = [_in_the_mean(scores, "points of score at its share"), _in_the_mean(removed, "points of multiply-adds at its drop")]
    return f"at the first state of uniform removal, CPO - uniform: {'; '.join(parts)}"


def _in_the_mean(differences: Mapping[int, float], what: str) -> str:
    """Of the seeds where CPO's curve goes so far, with their interval."""
    each = ", ".join(f"seed {seed} {difference:+.1f}" for seed, difference in differences.items())
    if len(differences) < 2:
        return f"{what} of {len(differences)} seeds: {each or 'none'}"
    values = torch.tensor([*differences.values()], dtype=torch.float64)
    low, high = paired_difference_interval(values, torch.zeros_like(values))
    return f"{what} {float(values.mean()):+.1f} ({low:+.1f} to {high:+.1f}; {each})"


def report(
    found: Mapping[int, Mapping[str, Mapping[str, Any]]],
    expected_drop: float = EXPECTED_DROP,
    metric: str = "mAP",
    primary: tuple[str, str] | None = PRIMARY,
) -> str:
    """Both tables, how the searches went, and the curves."""
    tables = measures(found)
    compared = {name: pairs(rows[next(iter(found))]) for name, rows in tables.items()}
    there = primary if primary in compared["removed"] else None
    removed = seed_comparison(tables["removed"], compared["removed"], there)
    scores = seed_comparison(tables["scores"], compared["scores"])
    parts = [removed.replace("mAP", "multiply-adds removed", 1)] if compared["removed"] else []
    if primary != there:
        parts.append("the primary comparison cannot be made")
    curves = {seed: {name: curve(one, name) for name in SEARCHES} for seed, one in found.items()}
    for drop in DROPS:
        if ended := ends_before(curves, drop):
            parts.append(f"at a drop of {100 * drop:.0f} points nothing is compared: these curves end before it: {', '.join(ended)}")
    parts.append(scores.replace("mAP", metric, 1))
    equal = measures(found, most_epochs=TOTAL_EPOCHS)["removed"]
    parts.append(at_first_state(found))
    parts.append(f"states of more than {TOTAL_EPOCHS} epochs left out: " + comparison_lines(equal))
    parts += [how_it_ended(found, name, expected_drop) for name in SEARCHES]
    for seed, one in found.items():
        for name in SEARCHES:
            parts.append(f"seed {seed}, {name}: " + ", ".join(f"{100 * x:.0f} % {100 * y:.1f}" for x, y in curve(one, name)))
    return "\n\n".join(parts)


Found = Mapping[tuple[str, str], Mapping[int, Mapping[str, Mapping[str, Any]]]]


def results(found: Found, commit: str) -> list[dict[str, Any]]:
    """Of the results file, for every network and task: what is removed at given drops, and scores at given shares."""
    tables = []
    for (network, task), seeds in found.items():
        metric, where = metric_of(task), "" if (network, task) == PRIMARY_OF else f", small {network}, {task}"
        hours = sum(part["seconds"] for one in seeds.values() for part in one.values()) / 3600
        small = "Small VGG. " if network == "vgg" else "Small ResNet. "
        told = {"benchmark": "cpo_ordering", "protocol": small + PROTOCOL.format(**PEOPLE[task])}
        for name, title, unit in (
            ("removed", "removed at a drop", "points of multiply-adds removed"),
            ("scores", f"{metric} at a share left", f"points of {metric}"),
        ):
            scores = measures(seeds)[name]
            primary = PRIMARY if (network, task) == PRIMARY_OF and name == "removed" else None
            if primary is None and not pairs(next(iter(scores.values()))):
                continue  # no drop, or no share, that all curves come to
            described = told | {"table": f"Table 5.3, {title}{where}", "unit": unit}
            tables.append(score_table(described, scores, pairs(next(iter(scores.values()))), primary, commit, hours))
    return tables


def main(argv: list[str] | None = None) -> dict[tuple[str, str], dict[int, dict[str, dict[str, Any]]]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="at least two for a report (default: 0 to 4)")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=[PRIMARY_OF[0]], help="which (default: vgg)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=[PRIMARY_OF[1]], help="which (default: retrieval)")
    parser.add_argument("--expected_drop", type=float, default=EXPECTED_DROP, help="by which both search (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/cpo_ordering"), help="folder of the runs (default: %(default)s)")
    arguments, _ = parse_options(parser, argv)
    if arguments.results is not None and arguments.expected_drop != EXPECTED_DROP:
        parser.error(f"--results is of the protocol, whose expected drop is {EXPECTED_DROP}, got --expected_drop {arguments.expected_drop}")
    found: dict[tuple[str, str], dict[int, dict[str, dict[str, Any]]]] = {}
    for network, task in product(arguments.networks, arguments.tasks):
        seeds = {seed: run(network, task, seed, arguments.expected_drop, arguments.output) for seed in arguments.seeds}
        found[network, task] = seeds
        if len(seeds) > 1:
            primary = PRIMARY if (network, task) == PRIMARY_OF else None
            print(f"\n{network}, {task}\n\n{report(seeds, arguments.expected_drop, metric_of(task), primary)}", flush=True)
    if arguments.results is not None:
        write_tables(arguments.results, results(found, arguments.commit))
    return found


if __name__ == "__main__":
    main()
