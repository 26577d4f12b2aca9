"""Are the probabilities of a calibration right, and the false match rates of its thresholds, on people it was not fitted on?

    python benchmarks/calibration.py
    python benchmarks/calibration.py --pets PETS --mobilenet MOBILENETV2    # and on real people; and another network

Generated people of a seed that neither the network's training nor its own calibration used, half fitted on and half scored, by several
seeds of the division: the expected calibration error (target: at most 0.05), and what the thresholds at false match rates of 0.01 and 0.001
do to the others, with the interval by person of those. The interval is of the people who are scored; the threshold was found on as many
others and is as uncertain, so that the rate asked for lies in it some 83 times of 100, not 95.
Then the calibration that comes with the library on all of these people, and on the real ones of PETS (ten people, one camera's four
zones), where nothing is fitted: what is printed is how far a calibration on generated people is off. MOBILENETV2 are ImageNet's weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_reid import from_pretrained
from lightning_reid.datamodules.catalog import read_prepared
from lightning_reid.inference import EmbeddingPass, calibration_path, name_with_size, read_calibration
from lightning_reid.metrics import Calibration, calibrate_similarity
from lightning_reid.metrics.calibrating import reliability_of, share_beyond
from lightning_reid.metrics.calibration import expected_calibration_error
from lightning_reid.metrics.labeled_pairs import labeled_pairs
from lightning_reid.networks import EmbeddingNetwork, build_backbone
from lightning_reid.networks.shipped import DEFAULT

SEED = 11
"""Of the generated people; 0 was trained on and 7 the shipped calibration fitted."""
RATES = (0.01, 0.001)
DIVIDED = "generated people, division"
Row = dict[str, Any]


class Embedded(NamedTuple):
    """Images of people who are somebody."""

    embeddings: Tensor
    pids: Tensor
    camids: Tensor


def embedded(network: EmbeddingNetwork, data: str) -> Embedded:
    records = [one for _, split in read_prepared(data, None).splits() for one in split if one.pid > 0]
    embeddings = EmbeddingPass(device="cpu", quiet=True).run(network, [one.path for one in records]).embeddings
    return Embedded(embeddings, torch.tensor([one.pid for one in records]), torch.tensor([one.camid for one in records]))


def mobilenet(weights: Path) -> EmbeddingNetwork:
    network = EmbeddingNetwork(build_backbone("mobilenetv2_100", weights=str(weights)), neck="none").eval()
    network.image_size = (128, 64)
    return network


def divided(network: EmbeddingNetwork, people: Embedded, data: str, seeds: int) -> list[Calibration]:
    model = name_with_size(network, network.image_size or (128, 64))
    return [calibrate_similarity(*people, model=model, data=data, seed=seed) for seed in range(seeds)]


def on_others(calibration: Calibration, people: Embedded) -> Row:
    """A calibration on people it has nothing to do with."""
    genuine, impostor = labeled_pairs(*people)
    thresholds = [one for one in calibration.match if one.rate in RATES]
    rates = zip(thresholds, *share_beyond(impostor, [one.similarity for one in thresholds]), strict=True)
    return {
        "people": len(people.pids.unique()),
        "error": expected_calibration_error(reliability_of(calibration, genuine, impostor)),
        **{f"{one.rate:g}": (share, *interval) for one, share, interval in rates},
    }


def row_of(calibration: Calibration) -> Row:
    thresholds = [one for one in calibration.match if one.rate in RATES]
    rates = {f"{one.rate:g}": (one.realized, *one.realized_interval) for one in thresholds}
    return {"people": calibration.people[1], "error": calibration.calibration_error, **rates}


def measure(network: EmbeddingNetwork, shipped: Calibration | None, args: argparse.Namespace) -> dict[str, Row]:
    data = f"generated-people,people={args.people},shots=2,seed={SEED}"
    generated = embedded(network, data)
    found = divided(network, generated, data, args.seeds)
    rows = {f"{DIVIDED} {calibration.seed}": row_of(calibration) for calibration in found}
    calibration = shipped or found[0]
    if shipped is not None:
        rows["generated people, the shipped calibration"] = on_others(calibration, generated)
    if args.pets is not None:
        kept = "the shipped calibration" if shipped is not None else "the calibration of division 0"
        rows[f"PETS, {kept}"] = on_others(calibration, embedded(network, str(args.pets)))
    return rows


def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, Row]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=300, help="generated people, beside a hundred more of the test part")
    parser.add_argument("--seeds", type=int, default=5, help="divisions of the people")
    parser.add_argument("--pets", type=Path, help="folder of the PETS crops in the Market naming")
    parser.add_argument("--mobilenet", type=Path, help="MobileNetV2's ImageNet weights, safetensors with timm's names")
    args = parser.parse_args(argv)
    found = {DEFAULT: measure(from_pretrained(DEFAULT), read_calibration(calibration_path(DEFAULT)), args)}
    if args.mobilenet is not None:
        found["MobileNetV2, ImageNet"] = measure(mobilenet(args.mobilenet), None, args)
    print("| network | scored on | people | calibration error | false matches, asked 0.01 | asked 0.001 |")
    print("|---|---|---:|---:|---|---|")
    for name, rows in found.items():
        for scored, row in rows.items():
            shares = " | ".join("{:.4f} ({:.4f}-{:.4f})".format(*row[rate]) if rate in row else "" for rate in map("{:g}".format, RATES))
            print(f"| {name} | {scored} | {row['people']} | {row['error']:.4f} | {shares} |")
    for name, rows in found.items():
        divisions = [row for scored, row in rows.items() if scored.startswith(DIVIDED)]
        asked = [(rate, row[f"{rate:g}"]) for row in divisions for rate in RATES if f"{rate:g}" in row]
        inside = sum(low <= rate <= high for rate, (_, low, high) in asked)
        print(f"{name}: the rate asked for lies in the interval {inside} of {len(asked)} times on divided people")
    return found


if __name__ == "__main__":
    main()
