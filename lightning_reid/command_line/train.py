"""``lightning-reid train PRESET ...``: the recipes as presets, and Lightning's own command line over the library's classes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

from lightning_reid.command_line.printable import printable

USAGE = """Train a network. What follows PRESET or COMMAND is its own: lightning-reid train PRESET --help tells of it.

  lightning-reid train supervised --data.dataset people.csv
  lightning-reid train fit --model SupervisedReID --data ImageReIDDataModule --data.dataset people.csv --trainer.max_epochs 20
  lightning-reid train fit --config train.yaml

presets, each a method as its paper has it; without data of yours each generates some and trains a small network, in minutes on two cores:
{presets}
commands of LightningCLI, on modules, data and callbacks by their names (RankListLogger) or paths (my_package.MyCallback):
{commands}
"""
PRESETS = {
    "supervised": ("supervised_market", "labeled people: cross-entropy and batch-hard triplet"),
    "generated-people": ("generated_people", "no data at all: people who are drawn while it trains"),
    "buc": ("buc_market", "unlabeled images: every image its own cluster, the closest merge"),
    "hsr": ("hsr_duke2market", "from labeled cameras to unlabeled ones: clusters, refined by the parts of bodies and across cameras"),
    "sgcdpl": ("sgcdpl_market", "few labeled people, and unlabeled images of others"),
    "video": ("video_mars", "tracklets: attention over frames, on boxes as they are or detected anew"),
    "distill": ("distill_market", "a large network teaches a small one"),
    "prune-caie": ("prune_caie", "train, and prune to a budget of multiply-adds, of images or of video"),
    "prune-cpo": ("prune_cpo", "train, and prune layer by layer up to an expected drop"),
    "fedpav": ("fedpav", "federated, labeled: clients share the network, classifiers stay with them"),
    "fedfr": ("fedfr", "federated, generic and personal at once"),
    "fedureid": ("fedureid", "federated, unlabeled: clients cluster their own images"),
}
"""Name of each to its recipe and to whom it is for."""
COMMANDS = {
    "fit": "train and validate",
    "validate": "score a checkpoint on the people held out of training",
    "test": "score a checkpoint on the test part",
    "predict": "embed the test part",
}


def main(argv: Sequence[str]) -> int:
    """Hand the command line over to a recipe or to Lightning.

    Args:
        argv: What follows the verb.

    Returns:
        0, or 2 where there is no such preset or command; a recipe ends by itself with 2 if its options are wrong.
    """
    name, options = (argv[0], list(argv[1:])) if argv else ("", [])
    if name in ("-h", "--help"):
        sys.stdout.write(_usage())
        return 0
    if name in COMMANDS:
        _lightning([name, *options])
    elif name in PRESETS:
        import_module(f"lightning_reid.recipes.{PRESETS[name][0]}").main(options)
    else:
        what = f"there is no preset or command {name!r}" if name else "a preset or command is missing"
        known = ", ".join((*PRESETS, *COMMANDS))
        sys.stderr.write(printable(f"lightning-reid train: {what}; there are {known}. lightning-reid train --help tells of each") + "\n")
        return 2
    return 0


def _usage() -> str:
    width = max(map(len, (*PRESETS, *COMMANDS)))
    presets = "\n".join(f"  {name:{width}}  {told}" for name, (_, told) in PRESETS.items())
    return USAGE.format(presets=presets, commands="\n".join(f"  {name:{width}}  {told}" for name, told in COMMANDS.items()))


def _lightning(argv: list[str]) -> None:
    from pytorch_lightning.cli import LightningCLI

    from lightning_reid.command_line.saved_config import SaveConfigWithoutCredentials

    for package in ("modules", "datamodules", "callbacks"):  # a name alone is looked for among the classes that were imported
        home = import_module(f"lightning_reid.{package}")
        for name in home.__all__:
            getattr(home, name)
    # it warns of a command line beside args, which is the same one here, without the verb
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended to run from within Python")
    LightningCLI(args=argv, parser_kwargs={"prog": "lightning-reid train"}, save_config_callback=SaveConfigWithoutCredentials)
