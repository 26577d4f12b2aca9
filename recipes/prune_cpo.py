"""Train an image network, prune it layer by layer up to an expected drop (CPO, thesis chapter 5), retrain and export it.

Without --data.root or --data.dataset it generates a small data set and trains a small network: minutes on two CPU cores.
With them, the defaults are a ResNet-50 at 256x128 and the text's 8 epochs a trial.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt

from lightning_reid.callbacks import CPOPruning
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.files import write_json
from lightning_reid.modules import SupervisedReID
from lightning_reid.recipes.workshop.options import RunOptions
from lightning_reid.recipes.workshop.pruning_run import PruningRun
from lightning_reid.recipes.workshop.report import ResultRow
from lightning_reid.recipes.workshop.run_folder import RunFolder, is_first_process
from lightning_reid.recipes.workshop.small_run import NO_ERASING, SMALL_CROPS, SMALL_NETWORK, parse_or_small_run
from lightning_reid.recipes.workshop.tables import per_cent, print_table

# a trial is an epoch, and the search makes dozens of them
SMALL_RUN = {
    **(SMALL_CROPS | NO_ERASING | SMALL_NETWORK | {"data.dataset": "duke-like", "data.val_identities": 30}),
    **{"model.lr": 1e-3, "model.milestones": [15, 21], "epochs": 25, "cpo.retrain_epochs": 1, "tuning_epochs": 4},
}


def parse(argv: list[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, prog="prune_cpo.py")
    RunOptions.add_to(parser, output="runs/cpo")
    parser.add_argument("--epochs", type=PositiveInt, default=120, help="passes over the data before pruning")
    parser.add_argument("--checkpoint", type=str | None, default=None, help="prune this trained SupervisedReID instead of training one")
    parser.add_argument("--pruning_lr", type=PositiveFloat, default=1e-4, help="learning rate of trials and of retraining (Adam)")
    parser.add_argument("--tuning_epochs", type=PositiveInt, default=40, help="passes over the data after pruning")
    parser.add_class_arguments(ImageReIDDataModule, "data", skip={"seed"})
    parser.add_class_arguments(SupervisedReID, "model")
    parser.add_class_arguments(CPOPruning, "cpo", skip={"network"})
    parser.set_defaults({"cpo.expected_drop": 0.02})
    return parse_or_small_run(parser, argv, SMALL_RUN)


def references(pruning: CPOPruning) -> list[float]:
    """What drops were measured against: the metric of the whole network, one by one, or the one that was given."""
    return pruning.references if pruning.reference is None else [pruning.reference]


def print_trials(pruning: CPOPruning) -> None:
    """What was tried, and what was kept of it."""
    rows = []
    for row in pruning.history:
        shares = (per_cent(row[name]) for name in ("flops", "params"))
        verdict = "probe" if row["probe"] else row["verdict"]
        rows.append((row["layer"], verdict, str(row["trial"]), f"{row['factor']:.3g}", f"{row['drop']:+.4f}", *shares))
    against = ", ".join(f"{value:.3f}" for value in references(pruning))
    whole = "the whole network, retrained as often" if pruning.reference is None else "the whole network"
    title = f"trials against {pruning.metric} of {whole} ({against}), expected drop {pruning.expected_drop:g}"
    print_table(title, ("layer", "verdict", "trial", "factor", "drop", "multiply-adds left %", "parameters left %"), rows, names=2)


def main(argv: list[str] | None = None) -> list[ResultRow]:
    cfg, began = parse(argv), time.monotonic()
    with RunFolder(cfg) as folder:
        run = PruningRun(RunOptions.of(cfg), ImageReIDDataModule(**cfg.data, seed=cfg.seed), SupervisedReID)
        folder.holds(run.data.dataset)
        results, checkpoint = [], cfg.checkpoint
        if checkpoint is None:
            run.stage("trained").seed_everything()
            trained, checkpoint = run.fit("trained", SupervisedReID(**cfg.model), cfg.epochs)
            results.append(trained)
        gentle: dict[str, Any] = {"lr": cfg.pruning_lr, "warmup_epochs": 0, "milestones": []}
        pruning, every = CPOPruning(**cfg.cpo), cfg.cpo.retrain_epochs
        pruned, small = run.prune("pruned", run.load(checkpoint, **gentle), pruning, max_epochs=-1, validate_every_n_epochs=every)
        model = run.load(small, **gentle)
        retrained, _ = run.fit("retrained", model, cfg.tuning_epochs)
        results += [pruned, retrained]
        if pruning.history and is_first_process():  # empty where pruning was finished by an earlier run
            write_json(Path(cfg.output) / "trials.json", {"references": references(pruning), "trials": pruning.history})
            print_trials(pruning)
        title = f"pruned up to a drop of {cfg.cpo.expected_drop:g} in {cfg.cpo.metric} on {cfg.data.dataset}"
        run.finish(results, model, title, began)
        return results


if __name__ == "__main__":
    main()
