"""Is STE-NVAN below its baseline, and why? Clips of eight frames, noisy and clean tracklets, several seeds, on the same queries.

    python benchmarks/stenvan_ordering.py
    python benchmarks/stenvan_ordering.py --part "four frames"
    python benchmarks/stenvan_ordering.py --part "half as long" --output runs/stenvan_half_as_long

On clips of four frames STE-NVAN lost to the baseline (`video_ordering.py`). Three causes were named for that, and each has its rows:
few frames (eight here, and "T = 4" beside them), a short training (40 epochs here, 20 there), and the maximum over pairs of frames, which
lets the wrong person of a noisy tracklet through (the same networks on clean ones, and each reduction by itself). 64x32 pixels, a ResNet-18
of a quarter of its channels (that of `video_ordering.py` has half of them), random weights. A seed changes weights, draws and
augmentations. Nothing here was looked for on any seed.

The other two parts were added, and their comparisons named, when these rows had been seen, and before their own seeds were run.
"Half as long" trains the rows of four frames for 20 epochs, to tell the training's length from the network: in question is whether STE-NVAN
- baseline is another after 40 epochs than after 20. "Four frames" has NVAN and each of the two reductions at four frames, 40 epochs: in
question is which of them costs NVAN what STE-NVAN loses there. Two of its rows are those of above, read back from the same folder.
"""

from __future__ import annotations

import argparse

from video_ordering import compare

from lightning_reid.recipes.workshop.video_tables import VideoTableRow

TOLD = {
    "benchmark": "stenvan_ordering",
    "table": "Table 2.1",
    "unit": "points of mAP",
    "protocol": 'Generated tracklets, noisy and clean ("clean: ..."), 64x32, clips of 8 frames where no other T is named, a ResNet-18 of '
    "a quarter of its channels, 40 epochs from random weights; 170 queries, clean 166. Fixed before its seeds.",
}
LENGTH, SHORT = 8, 4
SETTINGS = {
    "model.network_options": {"backbone": "resnet18", "channels": [16, 32, 64, 128], "layers": [1, 2, 3, 1]},
    "model.milestones": [24, 34],
    "epochs": 40,
}
SPATIAL, TEMPORAL = {"temporal_reduction": False}, {"stripes": None}


def on_noisy(clip_length: int, suffix: str = "") -> tuple[VideoTableRow, ...]:
    """The baseline, NVAN, STE-NVAN, and NVAN with each of its two reductions."""
    return (
        VideoTableRow(f"baseline{suffix}", "baseline", clip_length),
        VideoTableRow(f"NVAN{suffix}", "nvan", clip_length),
        VideoTableRow(f"STE-NVAN{suffix}", "stenvan", clip_length),
        VideoTableRow(f"NVAN + spatial reduction{suffix}", "stenvan", clip_length, SPATIAL),
        VideoTableRow(f"NVAN + temporal reduction{suffix}", "stenvan", clip_length, TEMPORAL),
    )


OF_EIGHT, OF_FOUR = on_noisy(LENGTH), on_noisy(SHORT, ", T = 4")
STE_AND_BASELINE = (OF_FOUR[0], OF_FOUR[2])
ROWS = {
    "mars-like": (*OF_EIGHT, *STE_AND_BASELINE),
    "dukev-like": (
        VideoTableRow("clean: baseline", "baseline", LENGTH),
        VideoTableRow("clean: NVAN", "nvan", LENGTH),
        VideoTableRow("clean: STE-NVAN", "stenvan", LENGTH),
        VideoTableRow("clean: NVAN + temporal reduction", "stenvan", LENGTH, TEMPORAL),
    ),
}
PRIMARY = ("STE-NVAN", "baseline")
PAIRS = (
    PRIMARY,
    ("NVAN", "baseline"),
    ("STE-NVAN", "NVAN"),
    ("NVAN + spatial reduction", "NVAN"),
    ("NVAN + temporal reduction", "NVAN"),
    ("STE-NVAN, T = 4", "baseline, T = 4"),
    ("clean: STE-NVAN", "clean: baseline"),
    ("clean: NVAN", "clean: baseline"),
    ("clean: STE-NVAN", "clean: NVAN"),
    ("clean: NVAN + temporal reduction", "clean: NVAN"),
)
FOUR_ROWS = {"mars-like": OF_FOUR}
FOUR_PAIRS = (
    ("NVAN + temporal reduction, T = 4", "NVAN, T = 4"),
    ("NVAN + spatial reduction, T = 4", "NVAN, T = 4"),
    ("STE-NVAN, T = 4", "NVAN, T = 4"),
    ("NVAN, T = 4", "baseline, T = 4"),
    ("NVAN + temporal reduction, T = 4", "baseline, T = 4"),
    ("NVAN + spatial reduction, T = 4", "baseline, T = 4"),
)
NOISY = (
    "Generated noisy tracklets, 64x32, clips of 4 frames, a ResNet-18 of a quarter of its channels, {} epochs from random weights;"
    " 170 queries."
)
ADDED = " Added when the rows of eight frames had been seen, before its own seeds."
HALF_ROWS = {"mars-like": STE_AND_BASELINE}
HALF_PAIRS = (("STE-NVAN, T = 4", "baseline, T = 4"),)
HALF_SETTINGS = SETTINGS | {"model.milestones": [12, 17], "epochs": 20}
PARTS = {
    "eight frames": (TOLD, ROWS, PAIRS, PRIMARY, SETTINGS),
    "four frames": (
        TOLD | {"table": "Table 2.1, four frames", "protocol": NOISY.format(40) + ADDED},
        FOUR_ROWS,
        FOUR_PAIRS,
        None,
        SETTINGS,
    ),
    "half as long": (
        TOLD | {"table": "Table 2.1, four frames, 20 epochs", "protocol": NOISY.format(20) + ADDED},
        HALF_ROWS,
        HALF_PAIRS,
        None,
        HALF_SETTINGS,
    ),
}


def main(argv: list[str] | None = None) -> dict[int, dict[str, float]]:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--part", choices=PARTS, default="eight frames", help="of the comparison (default: %(default)s)")
    part, _ = parser.parse_known_args(argv)
    told, rows, pairs, primary, settings = PARTS[part.part]
    return compare(argv, __doc__, told, rows, pairs, primary, settings, [parser])


if __name__ == "__main__":
    main()
