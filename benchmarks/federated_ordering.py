"""FedUReID and FedFR on generated clients: several seeds, paired differences of the means over clients, on the same queries.

`--method fedureid` runs `recipes/fedureid.py` on the two clients of `two_camera_clients.py`, from the network that is shipped, which was
trained on other drawn people, with the settings of ``FEDUREID``. The primary comparison is all over the baseline, the text's; others are
exploratory. The row "true labels" is the baseline told who is who: what the loss and the training could come to. Settings were looked for
on seed 100, whose people, to train on and to test on, are in no seed below 100.
`--method fedfr` runs `recipes/fedfr.py` as it is by default, and FedAvg once more with so many local epochs that it takes as many steps
as FedFR, which also trains on public images. A seed changes who the clients are, weights, draws and augmentations. Fixed before any of
its seeds was run, but for that longer FedAvg, which was added after the others; seed 100 was for looking.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from read_back import finished_rows, rows_of_recipe
from result_files import parse_options, write_scores
from two_camera_clients import clients_of

from lightning_reid.files import write_json
from lightning_reid.recipes import fedfr, fedureid
from lightning_reid.recipes.workshop.seeds import seed_comparison

TOLD = {
    "benchmark": "federated_ordering",
    "table": "FedUReID, clients of 100 people and more",
    "unit": "points of mAP",
    "protocol": "Two clients, a generated domain each, of 240 people in all and at least 100 each, four images a person in two cameras,"
    " drawn anew for each seed; 60 other people a domain are queried. From the shipped network at 64x32, 5 rounds of at most 3 epochs."
    " Settings were looked for on seed 100, on other people to train on and to test on, and fixed before these seeds were run.",
}
ROWS = ("baseline", "all", "true labels", "PC", "PE", "PU")
PRIMARY = ("all", "baseline")
FEDUREID: dict[str, Any] = {
    "test_every_n_rounds": 5,
    "data.image_size": [64, 32],
    "data.crop_padding": 4,
    "data.batch_size": 16,
    "data.num_workers": 0,
    "start_from": "generated-people-small",
    "model.lr": 0.003,
    "model.loss_features": 2048,
    "clustering.merge_share": 0.18,
    "clustering.portions": 20,
    "clustering.size_penalty_images": 12936,
    "clustering.k1": 6,
    "clustering.k2": 2,
    "clustering.min_samples": 2,
    "rounds": 5,
    "epochs": 3,
    "personalization.precision": 0.8,
}
FEDUREID_PAIRS = (
    PRIMARY,
    *(("all", row) for row in ("PC", "PE", "PU")),
    *((row, "baseline") for row in ("PC", "PE", "PU")),
    *((row, "first network") for row in ("all", "baseline")),
    *(("true labels", row) for row in ("all", "baseline", "first network")),
)
LONGER = "FedAvg, as many steps"
FEDFR_PAIRS = (("FedFR", "FedAvg"), ("FedFR", LONGER), (LONGER, "FedAvg"), ("FedFR", "pre-trained"), ("FedAvg", "pre-trained"))
COUNTS, SHARES = ("clusters", "people"), ("v_measure", "homogeneity", "completeness", "largest_share")
MODELS = ("server's", "client's", "client's, transformed")
DFC_PAIRS = (("client's, transformed", "client's"), ("client's, transformed", "server's"))


def run_fedureid(seed: int, arguments: argparse.Namespace, more: Sequence[str]) -> dict[str, Any]:
    """What the recipe found in the rows that are asked for; rows that were run before are read back, one that was begun goes on."""
    folder = arguments.output / f"fedureid-seed{seed}"
    spent = arguments.output / f"fedureid-seed{seed}-cpu.json"
    common = [f"--seed={seed}", f"--output={folder}", "--quiet", "--resume", *more]

    def of_rows(rows: Collection[str]) -> list[str]:
        told = {"datasets": clients_of(Path(arguments.root), seed), "rows": [row for row in ROWS if row in rows]}
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in (FEDUREID | told).items()}
        return [*(f"--{name}={text}" for name, text in texts.items()), *common]

    done = finished_rows(fedureid, of_rows(arguments.rows)) or {}
    if not {*arguments.rows} <= {*done}:
        began, before = time.process_time(), json.loads(spent.read_text())["seconds"] if spent.is_file() else 0.0
        done = fedureid.main(of_rows({*arguments.rows, *done}))
        write_json(spent, {"seconds": before + time.process_time() - began})
    asked = {"first network", *arguments.rows}
    return {row: one for row, one in json.loads(json.dumps(done)).items() if row in asked}  # as read from a file, names of rounds too


def run_fedfr(seed: int, arguments: argparse.Namespace, more: Sequence[str]) -> dict[str, Any]:
    """What the recipe found; a seed that was run before is read back, one that was begun goes on."""
    common = [f"--seed={seed}", f"--data.root={arguments.root}", "--quiet", "--resume", *more]
    folder, longer = arguments.output / f"fedfr-seed{seed}", arguments.output / f"fedfr-longer-seed{seed}"
    rows = rows_of_recipe(fedfr, [*common, f"--output={folder}"], ("FedFR", "FedAvg"))
    epochs = round(fedfr.parse(common).epochs * rows["FedFR"]["steps"] / rows["FedAvg"]["steps"])
    rows[LONGER] = rows_of_recipe(fedfr, [*common, '--rows=["FedAvg"]', f"--epochs={epochs}", f"--output={longer}"])["FedAvg"]
    return rows


def compare_fedureid(found: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the clients of mAP and rank-1, the share of the baseline's steps that each row took, and how good its clusters were."""
    summary: dict[str, Any] = {}
    for score in ("mAP", "R1"):
        means = {
            seed: {row: mean(one[score] for one in result["scores"].values()) for row, result in rows.items()}
            for seed, rows in found.items()
        }
        summary[score] = means
        if len(means) > 1:
            text = seed_comparison(means, FEDUREID_PAIRS, PRIMARY if score == "mAP" else None)
            print(f"\n## FedUReID, mean over the clients\n\n{text.replace('mAP', score, 1)}")
    if all("baseline" in rows for rows in found.values()):
        summary["steps"] = {
            seed: {row: one["steps"] / rows["baseline"]["steps"] for row, one in rows.items()} for seed, rows in found.items()
        }
        print("\nlocal steps, in shares of the baseline's:")
        for seed, shares in summary["steps"].items():
            print(f"seed {seed}: " + ", ".join(f"{row} {share:.2f}" for row, share in shares.items()))
    summary["clusters"] = {seed: {row: clusters_by_round(one) for row, one in rows.items()} for seed, rows in found.items()}
    print_cluster_rounds(summary["clusters"])
    return summary


def clusters_by_round(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Means over the clients of what the clusters of each round were."""
    rounds = result.get("clusters by round", {})
    return {
        number: {name: mean(one[name] for one in clients.values()) for name in next(iter(clients.values()))}
        for number, clients in rounds.items()
    }


def print_cluster_rounds(found: Mapping[int, Mapping[str, Mapping[str, Mapping[str, float]]]]) -> None:
    """A Markdown table a row and round, means over clients and seeds."""
    print("\n## FedUReID, clusters against true identities, means over clients and seeds, per cent but for the counts\n")
    print("| row | round | clusters | people | V-measure | homogeneity | completeness | images in the largest |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for row in next(iter(found.values())):
        for number in next(iter(found.values()))[row]:
            means = {name: mean(one[row][number][name] for one in found.values()) for name in COUNTS + SHARES}
            cells = [f"{means[name]:.0f}" for name in COUNTS] + [f"{100 * means[name]:.1f}" for name in SHARES]
            print(f"| {row} | {number} | " + " | ".join(cells) + " |")


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
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="of FedUReID (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/federated_ordering"), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--root", default="data", help="folder for the generated data (default: data)")
    arguments, more = parse_options(parser, argv, settings=True)
    if arguments.results is not None and arguments.method != "fedureid":
        parser.error("--results is for --method fedureid: FedFR has several scores a row, which its file in the folder of runs holds")
    run = run_fedureid if arguments.method == "fedureid" else run_fedfr
    found = {seed: run(seed, arguments, more) for seed in arguments.seeds}
    summary = compare_fedureid(found) if arguments.method == "fedureid" else compare_fedfr(found)
    if arguments.method == "fedureid":
        files = [arguments.output / f"fedureid-seed{seed}-cpu.json" for seed in arguments.seeds]
        noted = all(file.is_file() for file in files)
        hours = sum(json.loads(file.read_text())["seconds"] for file in files) / 3600 if noted else None
        write_scores(arguments, TOLD, summary["mAP"], FEDUREID_PAIRS, PRIMARY, hours)
    write_json(arguments.output / f"{arguments.method}.json", summary)
    return summary


if __name__ == "__main__":
    main()
