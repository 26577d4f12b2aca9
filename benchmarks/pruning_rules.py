"""What chapter 5's rule for residual blocks, and a constraint on peak memory, leave of one small network. One seed: no ordering.

    python benchmarks/pruning_rules.py                     # about ten minutes of one core
    python benchmarks/pruning_rules.py --rows whole "CAIE, peak memory 60 %"

A narrow resnet18 (two blocks a stage) learns generated people (``market-like``, crops 48x24) for 600 steps; all rows prune this network.
CPO stops by ``val/mAP`` of people held out of training, at an expected drop of two points; a trial is 25 steps. CAIE ends on its
constraints, 8 channels after every 30 batches; its networks and the whole one are fine-tuned for 100 steps. Both train while they prune:
the whole network is trained on for as many steps, too. Scores are mAP on the set's queries and gallery, by which nothing is decided.
Settings are those of ``pruning_ordering.py``; none was looked for here.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import read_back
import torch
from torch import Tensor

from lightning_reid.callbacks import CAIEPruning, CPOPruning
from lightning_reid.datamodules import ImageReIDDataModule
from lightning_reid.modules import SupervisedReID
from lightning_reid.networks import count_multiply_adds
from lightning_reid.networks.channels.activation_memory import peak_activation_bytes
from lightning_reid.recipes.workshop.tables import per_cent

DATA, IMAGE = "market-like", (48, 24)
NETWORK: dict[str, Any] = {"backbone": "resnet18", "backbone_options": {"channels": [16, 32, 64, 128], "layers": [2, 2, 2, 2]}}
ADAM: dict[str, Any] = {"optimizer": "adam", "lr": 3e-4}
SGD: dict[str, Any] = {"optimizer": "sgd", "lr": 1e-2, "weight_decay": 1e-4}
EPOCHS, TUNING_EPOCHS, STEPS_AN_EPOCH, VAL_IDENTITIES = 24, 4, 25, 30
EXPECTED_DROP = 0.02
CAIE_STEP = {"filters_per_step": 8, "batches_per_step": 30}
ROWS: dict[str, dict[str, Any]] = {
    "whole": {},
    "CPO, coupled": {"residual_blocks": "coupled"},
    "CPO, zero-padded": {"residual_blocks": "zero-padded"},
    "CAIE, multiply-adds 60 %": {"constraints": {"flops": 0.6}},
    "CAIE, peak memory 60 %": {"constraints": {"peak_memory": 0.6}},
    "CAIE, both 60 %": {"constraints": {"flops": 0.6, "peak_memory": 0.6}},
}
RESOURCES = {"peak": "peak memory left %", "flops": "multiply-adds left %", "params": "parameters left %"}
COLUMNS = RESOURCES | {"steps": "steps", "pruned": "mAP %", "tuned": "mAP fine-tuned %"}
CONTROLS = {"whole, as many steps of Adam": "CPO, coupled", "whole, as many steps of SGD": "CAIE, multiply-adds 60 %"}
"""The whole network, trained on for as many steps as the weights of a row, to the next epoch."""


class Experiment:
    """One network at one seed: trained once, then pruned in several ways."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        options = {"crop_padding": 4, "erasing_probability": 0.0, "num_workers": 0, "eval_batch_size": 256}
        self.data = ImageReIDDataModule(DATA, image_size=IMAGE, p=8, k=4, seed=seed, val_identities=VAL_IDENTITIES, **options)
        self.data.prepare_data()
        self.data.setup()

    def model(self, weights: Mapping[str, Tensor] | None = None, **options: Any) -> SupervisedReID:
        """The module, of random weights or of ``weights``."""
        torch.manual_seed(self.seed)
        model = SupervisedReID(**NETWORK, num_classes=self.data.num_classes, warmup_epochs=0, **options)
        if weights is not None:
            model.load_state_dict(weights)
        return model

    def trainer(self, epochs: int, callbacks: Sequence[pl.Callback] = (), *, validate: bool = False) -> pl.Trainer:
        """For so many epochs of 25 steps."""
        pl.seed_everything(self.seed, verbose=False)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        batches: dict[str, Any] = {"limit_train_batches": STEPS_AN_EPOCH, "limit_val_batches": 1.0 if validate else 0}
        return pl.Trainer(accelerator="cpu", max_epochs=epochs, callbacks=list(callbacks), num_sanity_val_steps=0, **quiet, **batches)

    def trained(self) -> dict[str, Tensor]:
        """Weights of the whole network."""
        model = self.model(optimizer="adam", lr=1e-3, milestones=[EPOCHS // 2, EPOCHS * 3 // 4])
        self.trainer(EPOCHS).fit(model, self.data)
        return model.state_dict()

    def score(self, model: SupervisedReID) -> float:
        """MAP on queries and gallery, in [0, 1]."""
        return float(self.trainer(1).test(model, self.data, verbose=False)[0]["test/mAP"])

    def row(self, weights: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, float]:
        """Costs and mAP right after pruning, and mAP after fine-tuning but for CPO, whose trials are that; of the whole network too."""
        by_cpo, steps = "residual_blocks" in options, 0
        model = self.model(weights, **(ADAM if by_cpo else SGD))
        if options:
            pruning = CPOPruning(EXPECTED_DROP, retrain_epochs=1, **options) if by_cpo else CAIEPruning(**options, **CAIE_STEP)
            trainer = self.trainer(-1, [pruning], validate=by_cpo)
            trainer.fit(model, self.data)
            model.materialize(pruning.plan)
            kept = sum(row["verdict"] == "keep" for row in pruning.history) if by_cpo else 0
            steps = kept * STEPS_AN_EPOCH if by_cpo else trainer.global_step
        return self.measured(model, steps, tune=not by_cpo)

    def control(self, weights: Mapping[str, Tensor], steps: int, *, by_cpo: bool) -> dict[str, float]:
        """The row of the whole network after as many steps."""
        model, epochs = self.model(weights, **(ADAM if by_cpo else SGD)), math.ceil(steps / STEPS_AN_EPOCH)
        self.trainer(epochs).fit(model, self.data)
        return self.measured(model, epochs * STEPS_AN_EPOCH, tune=not by_cpo)

    def measured(self, model: SupervisedReID, steps: int, *, tune: bool) -> dict[str, float]:
        """What a network takes and scores, after so many steps of training since it was whole and as it was learned first."""
        found = costs(model) | {"steps": float(steps), "pruned": self.score(model)}
        if tune:
            model.hparams["milestones"] = [TUNING_EPOCHS // 2]
            self.trainer(TUNING_EPOCHS).fit(model, self.data)
            found["tuned"] = self.score(model)
        return found


def costs(model: SupervisedReID) -> dict[str, float]:
    """What the network takes for an image."""
    shape = (1, 3, *IMAGE)
    params = sum(parameter.numel() for parameter in model.network.parameters())
    peak = peak_activation_bytes(model.network, shape)
    return {"peak": float(peak), "flops": float(count_multiply_adds(model.network, shape).total), "params": float(params)}


def shares(found: Mapping[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Costs as shares of the whole network's; scores as they are."""
    whole = found["whole"]
    return {name: row | {key: row[key] / whole[key] for key in RESOURCES} for name, row in found.items()}


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """As Markdown."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---:|" * len(COLUMNS)]
    for name, row in rows.items():
        cells = [f"{row[key]:.0f}" if key == "steps" else per_cent(row[key]) if key in row else "" for key in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def settings_of_rows() -> dict[str, Any]:
    """By which all rows are measured."""
    trained = {"network": NETWORK, "data": DATA, "image": IMAGE, "adam": ADAM, "epochs": EPOCHS, "steps_an_epoch": STEPS_AN_EPOCH}
    pruned = {"sgd": SGD, "tuning_epochs": TUNING_EPOCHS, "caie_step": CAIE_STEP, "expected_drop": EXPECTED_DROP}
    return trained | pruned | {"val_identities": VAL_IDENTITIES, "lightning-reid": version("lightning-reid")}


def main(argv: list[str] | None = None) -> dict[str, dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of weights, draws and augmentations (default: 0)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="which, beside the whole network's (default: all)")
    parser.add_argument("--output", type=Path, default=Path("runs/pruning_rules"), help="folder of the rows (default: %(default)s)")
    arguments = parser.parse_args(argv)
    experiment, found = Experiment(arguments.seed), {}
    weights = read_back.weights(arguments.output / f"seed{arguments.seed}.pt", experiment.trained, settings_of_rows())
    for name in (*dict.fromkeys(("whole", *arguments.rows)), *CONTROLS):
        like = CONTROLS.get(name, "whole")
        if like not in found and found:
            continue
        settings = settings_of_rows() | {"row": ROWS[like] if name in CONTROLS else ROWS[name]}
        if name in CONTROLS:
            settings |= {"steps": (steps := int(found[like]["steps"]))}
            measure = partial(experiment.control, weights, steps, by_cpo="residual_blocks" in ROWS[like])
        else:
            measure = partial(experiment.row, weights, ROWS[name])
        found[name] = read_back.row(arguments.output / f"seed{arguments.seed}, {name}.json", measure, settings)
    rows = shares(found)
    print(table(rows))
    return rows


if __name__ == "__main__":
    main()
