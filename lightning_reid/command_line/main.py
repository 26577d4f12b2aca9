"""The command ``lightning-reid`` and its verbs."""

from __future__ import annotations

import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from importlib import import_module

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from lightning_reid import __version__
from lightning_reid.command_line.printable import printable

DESCRIPTION = """Person re-identification for people who have pictures and no script of their own.

lightning-reid doctor my_folder/                                            # what is this, what is wrong with it, what can be done with it?
lightning-reid convert my_folder/ people.csv --pattern "{camera}/{person}_{frame}.jpg"
lightning-reid index add people.index my_folder/ --pattern "{camera}/{person}_{frame}.jpg"
lightning-reid search people.index --query somebody.jpg --picture answers.png
lightning-reid export last.ckpt people.onnx --crops my_folder/
"""
VERBS = {
    "doctor": "tell what a folder, table or video is, what is wrong with it, and what can be done with it",
    "convert": "make a table, or a folder in the Market naming, of images that are named in a way of their own",
    "crops": "find and track people in videos: their crops as tracklets, for training without labels",
    "pack": "pack a data set into blocks, in a folder or at an address such as s3://bucket/market; --append adds to it",
    "health": "tell whether every block of a packed set is as it was packed",
    "unpack": "write the frames of a packed set as files again",
    "train": "train a network: the recipes as presets, and Lightning's own command line over modules, data and callbacks",
    "evaluate": "score several networks on several data sets in one table, under every protocol, with intervals",
    "report": "show in one HTML file what a run has come to: table, rank lists, failures by camera, distances, map, clusters",
    "reassociate": "tell whether the same person is found N frames later, in an annotated video (MOTChallenge)",
    "embed": "make embeddings of crops of people, numbers that tell how alike they look",
    "index": "keep pictures of people in an index on the disk: add, remove, forget, show, speed",
    "search": "find the pictures in an index that look most like a person in a picture",
    "calibrate": "find out what a network's similarities mean: the probability of the same person, and thresholds",
    "compare": "tell whether two pictures show the same person, and how probable that is",
    "export": "write a network as ONNX, torch.export or OpenVINO, which takes pixels and gives what PyTorch gives; or as a model folder",
}
"""What each does: its module is imported once it is asked for, for some need torch, which takes seconds."""
STOPPED = 130
"""What a shell takes for an end by Ctrl-C."""
HANDED_OVER = ("train",)
"""Verbs that parse what follows themselves, by a ``main`` in place of ``build_parser`` and ``run``."""


class _AsWritten(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of a description."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the verbs.

    Args:
        argv: Its name and options; ``None`` for those of the process.

    Returns:
        0 where all went well, 1 where there is nothing to be used, or the verb says why, 130 where somebody stopped it; 2 is left by wrong
        options.
    """
    told = list(sys.argv[1:] if argv is None else argv)
    if told and told[0] in HANDED_OVER:
        return _in_sentences(told[0], lambda: import_module(f"{__package__}.{told[0]}").main(told[1:]))
    cfg = parse(told)
    return _in_sentences(cfg.verb, lambda: import_module(f"{__package__}.{cfg.verb}").run(cfg[cfg.verb]))


def parse(told: Sequence[str]) -> Namespace:
    """The options of a verb; wrong ones end the process with 2 and say so.

    Args:
        told: Name of the verb and its options; ``train`` parses what follows it by itself.
    """
    asked, act = [*(one for one in told if not one.startswith("-")), "", ""][:2]
    parser = ArgumentParser(description=DESCRIPTION, prog="lightning-reid", formatter_class=_AsWritten)
    parser.add_argument("--version", action="version", version=f"lightning-reid {__version__}")
    verbs = parser.add_subcommands(required=True, dest="verb")
    for name, does in VERBS.items():
        module = import_module(f"{__package__}.{name}") if name == asked else None
        verb = ArgumentParser() if module is None else module.build_parser()
        verbs.add_subcommand(name, verb, help=does)
        if module is not None and hasattr(module, "add_acts"):  # levels of commands can only be added from the top
            module.add_acts(verb, act)
    return parser.parse_args(told)


def _in_sentences(verb: str, act: Callable[[], int]) -> int:
    try:
        return act()
    except KeyboardInterrupt:
        sys.stderr.write(f"\nlightning-reid {verb}: stopped. No output is left half written; an index keeps what was added before\n")
        return STOPPED
    except _of_what_was_given() as error:
        sys.stderr.write(printable(f"lightning-reid {verb}: {error}") + "\n")
        return 1


def _of_what_was_given() -> tuple[type[Exception], ...]:
    """Errors that say in a sentence what is wrong with what was given; a fault of the program is another one."""
    from lightning_reid.datamodules.decoding import CorruptImageError  # needs OpenCV, which help does not wait for

    return ValueError, OSError, ImportError, CorruptImageError


if __name__ == "__main__":
    sys.exit(main())
