"""The command ``lightning-reid`` and its verbs."""

from __future__ import annotations

import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from lightning_reid import __version__
from lightning_reid.command_line.printable import printable

DESCRIPTION = """Person re-identification for people who have pictures and no script of their own.

lightning-reid doctor my_folder/                                            # what is this, what is wrong with it, what can be done with it?
lightning-reid convert my_folder/ people.csv --pattern "{camera}/{person}_{frame}.jpg"
"""
VERBS = {
    "doctor": "tell what a folder, table or video is, what is wrong with it, and what can be done with it",
    "convert": "make a table, or a folder in the Market naming, of images that are named in a way of their own",
    "crops": "find and track people in videos: their crops as tracklets, for training without labels",
}
"""What each does: its module is imported once it is asked for, for some need torch, which takes seconds."""


class _AsWritten(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of a description."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the verbs.

    Args:
        argv: Its name and options; ``None`` for those of the process.

    Returns:
        0 where all went well, 1 where there is nothing to be used, or the verb says why; 2 is left by wrong options.
    """
    told = list(sys.argv[1:] if argv is None else argv)
    asked = next((one for one in told if not one.startswith("-")), "")
    parser = ArgumentParser(description=DESCRIPTION, prog="lightning-reid", formatter_class=_AsWritten)
    parser.add_argument("--version", action="version", version=f"lightning-reid {__version__}")
    verbs = parser.add_subcommands(required=True, dest="verb")
    for name, does in VERBS.items():
        needed = name == asked
        verbs.add_subcommand(name, import_module(f"{__package__}.{name}").build_parser() if needed else ArgumentParser(), help=does)
    cfg = parser.parse_args(told)
    try:
        code: int = import_module(f"{__package__}.{cfg.verb}").run(cfg[cfg.verb])
    except (ValueError, OSError, ModuleNotFoundError) as error:  # of what was given, in a sentence; a fault of the program is another error
        sys.stderr.write(printable(f"lightning-reid {cfg.verb}: {error}") + "\n")
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
