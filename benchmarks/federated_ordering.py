"""FedUReID and FedFR on generated clients: several seeds, paired differences of the means over clients, on the same queries.

`--method fedureid` runs `recipes/fedureid.py` on two small domains dealt to four clients, from MobileNetV2 with ImageNet weights
(`--weights FILE`, which is not shipped): 64x32, 6 rounds of at most 4 epochs; the baseline merges 18 % of the images' number of clusters a
round, 90 % in all. A small network without such weights did not learn on these sets: 4.7 mAP before, 4.4 after four rounds of seed 100 at
48x24. `--method fedfr` runs
`recipes/fedfr.py` as it is by default, and FedAvg once more with so many local epochs that it takes as many steps as FedFR, which also
trains on public images. A seed changes who the clients are, weights, draws and augmentations.
The rows of FedUReID are no test of its optimizations: on these clients the bottom-up clustering below all of them chains clusters together.
Fixed before any of its seeds was run, but for that longer FedAvg, which was added after the others; seed 100 was for looking.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from lightning_reid.files import write_json
from lightning_reid.recipes import fedfr, fedureid
from lightning_reid.recipes.workshop.seeds import seed_comparison

RECIPES = {"fedureid": fedureid, "fedfr": fedfr}
ROWS = ("baseline", "PC", "PE", "PU", "all")
FEDUREID = {
    "datasets": ["market-like-small", "duke-like-small"],
    "split": "dirichlet",
    "num_clients": 2,
    "data.image_size": [64, 32],
    "data.crop_padding": 4,
    "data.batch_size": 32,
    "data.num_workers": 0,
    "model.backbone": "mobilenetv2_100",
    "model.pooling": "gem",
    "clustering.merge_share": 0.18,
    "clustering.k1": 10,
    "clustering.k2": 3,
    "rounds": 6,
    "epochs": 4,
}
FEDUREID_PAIRS = (*(("all", row) for row in ROWS[:-1]), *((row, "baseline") for row in ROWS[1:-1]), ("all", "first network"))
LONGER = "FedAvg, as many steps"
FEDFR_PAIRS = (("FedFR", "FedAvg"), ("FedFR", LONGER), (LONGER, "FedAvg"), ("FedFR", "pre-trained"), ("FedAvg", "pre-trained"))
MODELS = ("server's", "client's", "client's, transformed")
DFC_PAIRS = (("client's, transformed", "client's"), ("client's, transformed", "server's"))


def run_seed(method: str, seed: int, arguments: argparse.Namespace, more: Sequence[str]) -> dict[str, Any]:
    """What the recipe found; a seed that was run before is read back, one that was begun goes on."""
    folder = arguments.output / f"{method}-seed{seed}"
    if not (folder / "results.json").is_file():
        common = [f"--seed={seed}", f"--output={folder}", f"--data.root={arguments.root}", "--quiet", "--resume", *more]
        if method == "fedureid":
            options = FEDUREID | {"model.weights": str(arguments.weights), "rows": list(arguments.rows)}
            texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in options.items()}
            RECIPES[method].main([*(f"--{name}={text}" for name, text in texts.items()), *common])
        else:
            RECIPES[method].main(common)
    rows: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))["rows"]
    if method == "fedfr":
        longer = arguments.output / f"fedfr-longer-seed{seed}"
        if not (longer / "results.json").is_file():
            epochs = round(RECIPES[method].SMALL_RUN["epochs"] * rows["FedFR"]["steps"] / rows["FedAvg"]["steps"])
            only = ['--rows=["FedAvg"]', f"--epochs={epochs}", f"--output={longer}"]
            RECIPES[method].main([f"--seed={seed}", f"--data.root={arguments.root}", "--quiet", "--resume", *only, *more])
        rows[LONGER] = json.loads((longer / "results.json").read_text(encoding="utf-8"))["rows"]["FedAvg"]
    return rows


def mean_score(result: Mapping[str, Any], score: str) -> float:
    """Over the clients."""
    return mean(one[score] for one in result["scores"].values())


def compare_fedureid(found: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the clients of mAP and rank-1, and the share of the baseline's steps that each row took."""
    summary: dict[str, Any] = {}
    for score in ("mAP", "R1"):
        means = {
            seed: {row: mean(one[score] for one in result["scores"].values()) for row, result in rows.items()}
            for seed, rows in found.items()
        }
        summary[score] = means
        if len(means) > 1:
            print(f"\n## FedUReID, {score}, mean over the clients\n\n{seed_comparison(means, FEDUREID_PAIRS)}")
    if all("baseline" in rows for rows in found.values()):
        summary["steps"] = {
            seed: {row: one["steps"] / rows["baseline"]["steps"] for row, one in rows.items()} for seed, rows in found.items()
        }
        print("\nlocal steps, in shares of the baseline's:")
        for seed, shares in summary["steps"].items():
            print(f"seed {seed}: " + ", ".join(f"{row} {share:.2f}" for row, share in shares.items()))
    return summary


def compare_fedfr(found: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Generic scores of the server, personal ones of the best and of each model."""
    summary: dict[str, Any] = {}
    first = next(iter(found.values()))
    for score in first["FedFR"]["generic"]:
        summary[f"generic {score}"] = {seed: {row: one["generic"][score] for row, one in rows.items()} for seed, rows in found.items()}
    for score in first["FedFR"]["personal"]["server's"]:
        summary[f"personal {score}"] = {
            seed: {row: list(one["personal"].values())[-1][score] for row, one in rows.items()} for seed, rows in found.items()
        }
        summary[f"models, personal {score}"] = {
            seed: {model: rows["FedFR"]["personal"][model][score] for model in MODELS} for seed, rows in found.items()
        }
    if len(found) > 1:
        for name, scores in summary.items():
            text = seed_comparison(scores, DFC_PAIRS if name.startswith("models") else FEDFR_PAIRS)
            print(f"\n## FedFR, {name}\n\n{text}".replace("mAP in per cent", "per cent"))
    return summary


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", choices=("fedureid", "fedfr"), required=True, help="whose rows")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="at least two for intervals (default: 0 1 2 3 4)")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), help="of FedUReID (default: %(default)s)")
    parser.add_argument("--weights", type=Path, help="MobileNetV2 on ImageNet, safetensors with timm's names; needed for fedureid")
    parser.add_argument("--output", type=Path, default=Path("runs/federated_ordering"), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--root", default="data", help="folder for the generated data (default: data)")
    arguments, more = parser.parse_known_args(argv)
    if arguments.method == "fedureid" and (arguments.weights is None or not arguments.weights.is_file()):
        parser.error(f"--method fedureid starts from ImageNet weights: give --weights FILE, got {arguments.weights}")
    found = {seed: run_seed(arguments.method, seed, arguments, more) for seed in arguments.seeds}
    summary = compare_fedureid(found) if arguments.method == "fedureid" else compare_fedfr(found)
    write_json(arguments.output / f"{arguments.method}.json", summary)
    return summary


if __name__ == "__main__":
    main()
