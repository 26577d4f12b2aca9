"""Multiply-adds of the video networks beside the figures of the thesis: Tables 2.1 to 2.5, 2.8 and 2.10, 256x128 pixels.

    python benchmarks/video_costs.py
    python benchmarks/video_costs.py --tables 2.1 2.8
    python benchmarks/video_costs.py --check          # ends with an error where a count is not the integer expected

Three figures a network: counted truly (convolutions, linear layers and the products of attention), counted as the text counts (three
tables, three rules: see ``textual_costs.py`` beside this file), and printed in the text. Nothing is computed, all shapes run through
torch's meta device. Parameters are those of backbone and attention, without neck and classifier.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from textual_costs import cost_in_table_2_1, cost_in_table_2_8, cost_in_table_2_10

from lightning_reid.networks import build_backbone
from lightning_reid.networks.backbones import Backbone
from lightning_reid.networks.multiply_adds import MultiplyAdds, count_multiply_adds
from lightning_reid.networks.video.network import VideoNetwork
from lightning_reid.recipes.workshop.video_tables import VIDEO_TABLES, VideoTableRow

Rule = Callable[[VideoNetwork, Sequence[int]], int]

RESNET50_FRAME = 4_053_270_528
"""Multiply-adds of ResNet-50 with last stride 1 on one frame."""

HEADER = (
    "network",
    "T",
    "parameters",
    "multiply-adds, truly",
    "to ResNet-50",
    "truly, G",
    "as the text counts, G",
    "printed, G",
    "truly to printed",
    "as the text counts to printed",
)


class Exact(NamedTuple):
    """Counts a network must have."""

    layers: int
    attention: int
    parameters: int


class Figure(NamedTuple):
    """What a row must count, what the text prints for it (in the table's unit), and why the two differ."""

    exact: Exact
    printed: float | None = None
    note: str = ""


class CostTable(NamedTuple):
    """A table of the text. With ``increases`` every network but ResNet-50 is given as what it adds to ResNet-50, the first row."""

    title: str
    rule: Rule
    unit: float
    digits: int
    rows: tuple[VideoTableRow, ...]
    figures: tuple[Figure, ...]
    increases: bool = False

    def adds(self, number: int) -> bool:
        """Whether row ``number`` is given as an increase."""
        return self.increases and self.rows[number].network != "baseline"


class Cost(NamedTuple):
    """What was counted for a row."""

    truly: MultiplyAdds
    as_the_text_counts: int
    parameters: int


NO_RULE = "no rule was found that gives this figure"
STRIPES = "ResNet-50's own figure, for every S: the 1x1 convolutions between the stripes, counted here, were left out"
TWO_RULES = "the plain multiply-adds, 16.48 and 16.46, would print as 16.5: the table mixes two rules"
RELATIVE = "no rule is known that gives the three relative rows; half of the five products of an axis comes nearest"
ROUNDED = "24.520 and 17.213 added after rounding"
NOT_IN_TEXT = "not in the text"

RESNET_8, RESNET_6 = Exact(32_426_164_224, 0, 23_508_032), Exact(24_319_623_168, 0, 23_508_032)
NVAN_8, NVAN_6 = Exact(43_163_582_464, 20_401_094_656, 30_866_496), Exact(32_372_686_848, 11_475_615_744, 30_866_496)
CFAAN_4 = Exact(30_351_556_608, 245_942_784, 32_942_352)
SPATIAL_16 = Figure(Exact(33_365_688_320, 67_108_864, 30_866_496), 30.4, STRIPES)
TEMPORAL_2 = Figure(Exact(24_641_536_000, 17_985_175_552, 30_866_496), 40.4, NO_RULE)

# in the order of VIDEO_TABLES
FIGURES: dict[str, tuple[Figure, ...]] = {
    "2.1": (
        Figure(RESNET_8, 30.4),
        Figure(RESNET_8, 30.4),
        Figure(NVAN_8, 60.0, NO_RULE),
        SPATIAL_16,
        TEMPORAL_2,
        Figure(Exact(17_662_214_144, 29_360_128, 30_866_496), 16.5, TWO_RULES),
        Figure(Exact(17_662_214_144, 10_485_760, 30_866_496), 16.5, TWO_RULES),
    ),
    "2.2": (Figure(Exact(21_581_791_232, 5_100_273_664, 30_866_496)), Figure(NVAN_6), Figure(NVAN_8)),
    "2.3": (
        Figure(Exact(34_573_647_872, 1_073_741_824, 25_609_792)),
        Figure(Exact(38_868_615_168, 10_737_418_240, 28_238_144)),
        Figure(NVAN_8),
    ),
    "2.4": (
        Figure(Exact(32_661_045_248, 4_194_304, 30_866_496), 30.4, STRIPES),
        Figure(Exact(32_895_926_272, 16_777_216, 30_866_496), 30.4, STRIPES),
        SPATIAL_16,
    ),
    "2.5": (Figure(NVAN_8, 60.0, NO_RULE), Figure(Exact(35_513_171_968, 20_401_094_656, 30_866_496), 53.6, NO_RULE), TEMPORAL_2),
    "2.8": (
        Figure(RESNET_6, 24.320),
        Figure(RESNET_6, 24.320),
        Figure(NVAN_6, 17.213),
        Figure(Exact(52_505_346_048, 360_972_288, 49_280_094), 0.361),
        Figure(Exact(52_505_346_048, 360_972_288, 49_280_304), 0.361),
        Figure(Exact(52_505_346_048, 360_972_288, 49_280_304), 0.377),
        Figure(Exact(52_505_346_048, 842_268_672, 49_376_016), 0.424, RELATIVE),
        Figure(Exact(35_895_902_208, 481_001_472, 38_405_904), 0.245, RELATIVE),
        Figure(CFAAN_4, 0.126, RELATIVE),
        Figure(Exact(24_434_515_968, 30_742_848, 23_864_656), None, NOT_IN_TEXT),
    ),
    "2.10": (Figure(RESNET_6, 24.520), Figure(NVAN_6, 41.733, ROUNDED), Figure(CFAAN_4, 24.646, RELATIVE)),
}
TABLE_2_10 = ("ResNet-50", "non-local", "CF-AAN: axial, relative, 4 scales")
ROWS = {**VIDEO_TABLES, "2.10": tuple(row for row in VIDEO_TABLES["2.8"] if row.name in TABLE_2_10)}


def cost_table(number: str) -> CostTable:
    rows, figures = ROWS[number], FIGURES[number]
    if number == "2.8":
        return CostTable("Table 2.8: T = 6, G = 10^9, increases over ResNet-50", cost_in_table_2_8, 1e9, 3, rows, figures, increases=True)
    if number == "2.10":
        return CostTable("Table 2.10: T = 6, G = 10^9", cost_in_table_2_10, 1e9, 3, rows, figures)
    return CostTable(f"Table {number}: G = 2^30", cost_in_table_2_1, 2**30, 1, rows, figures)


TABLES = {number: cost_table(number) for number in FIGURES}


def count(row: VideoTableRow, rule: Rule, backbone: Backbone) -> Cost:
    clip = (1, row.clip_length, 3, 256, 128)
    with torch.device("meta"):
        network = row.build(backbone)
    parameters = sum(weights.numel() for module in (network.backbone, network.attention) for weights in module.parameters())
    return Cost(count_multiply_adds(network, clip), rule(network, clip), parameters)


def in_units(table: CostTable, costs: Sequence[Cost], number: int) -> tuple[float, float]:
    """Row ``number`` in the unit of its table, as an increase where the table has one: truly, and as the text counts."""
    first, cost = costs[0], costs[number]
    truly, text = cost.truly.total, cost.as_the_text_counts
    if table.adds(number):
        truly, text = truly - first.truly.total, text - first.as_the_text_counts
    return truly / table.unit, text / table.unit


def per_cent(ratio: float) -> str:
    return f"{round(100 * (ratio - 1), 1) + 0.0:+.1f} %"  # + 0.0: no minus before a zero


def cells(table: CostTable, costs: Sequence[Cost], number: int, notes: Sequence[str]) -> list[str]:
    row, figure, cost = table.rows[number], table.figures[number], costs[number]
    truly, text = in_units(table, costs, number)
    sign = "+" if table.adds(number) else ""
    counted = f"{sign}.{max(table.digits, 2)}f"
    beside_printed = ["-"] * 3
    if figure.printed is not None:
        beside_printed = [f"{figure.printed:{sign}.{table.digits}f}", per_cent(truly / figure.printed), per_cent(text / figure.printed)]
    return [
        row.name + (f" [{notes.index(figure.note) + 1}]" if figure.note else ""),
        str(row.clip_length),
        f"{cost.parameters:,}",
        f"{cost.truly.total:,}",
        per_cent(cost.truly.total / (row.clip_length * RESNET50_FRAME)),
        format(truly, counted),
        format(text, counted),
        *beside_printed,
    ]


def print_both_ways(table: CostTable, costs: Sequence[Cost]) -> None:
    notes = list(dict.fromkeys(figure.note for figure in table.figures if figure.note))
    rows = [cells(table, costs, number, notes) for number in range(len(costs))]
    footnotes = [f"[{number}] {note}" for number, note in enumerate(notes, start=1)]
    drawn = Table(title=table.title, caption="\n".join(footnotes).replace("[", r"\["), caption_justify="left")
    for number, heading in enumerate(HEADER):
        drawn.add_column(heading, justify="right" if number else "left", min_width=max(len(row[number]) for row in rows))
    for row in rows:
        drawn.add_row(row[0].replace("[", r"\["), *row[1:])
    console = Console()
    console.width = max(console.width, 190)  # where there is no terminal, or a narrow one, wrapped figures could not be read
    console.print(drawn)
    lines = [f"### {table.title}", "", "| " + " | ".join(HEADER) + " |", "|---|" + "---:|" * (len(HEADER) - 1)]
    print("\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows), "", *footnotes, ""]))


def differences(table: CostTable, costs: Sequence[Cost]) -> list[str]:
    """What was not counted as it must be."""
    counted = [Exact(*cost.truly, cost.parameters) for cost in costs]
    return [
        f"{table.title}, {row.name}: {got}, expected {figure.exact}"
        for row, figure, got in zip(table.rows, table.figures, counted, strict=True)
        if got != figure.exact
    ]


def main(argv: list[str] | None = None) -> dict[str, list[Cost]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES), help="tables of the text")
    parser.add_argument("--check", action="store_true", help="fail where a count is not the exact integer expected")
    args = parser.parse_args(argv)
    with torch.device("meta"):
        backbone = build_backbone("resnet50")
    costs = {name: [count(row, TABLES[name].rule, backbone) for row in TABLES[name].rows] for name in args.tables}
    for name in args.tables:
        print_both_ways(TABLES[name], costs[name])
    wrong = [difference for name in args.tables for difference in differences(TABLES[name], costs[name])]
    if args.check and wrong:
        raise SystemExit("not the counts expected:\n" + "\n".join(wrong))
    return costs


if __name__ == "__main__":
    main()
