"""One federation from its first round to its last: what its clients score, what they believed, what it cost."""

from __future__ import annotations

from typing import Any

from lightning_reid.datamodules import UnlabeledDataModule
from lightning_reid.federation import Federation
from lightning_reid.recipes.workshop.round_clusters import RoundClusters
from lightning_reid.recipes.workshop.round_scores import RoundScores


def federated_row(federation: Federation, rounds: int, test_every_n_rounds: int) -> dict[str, Any]:
    """Run a federation of clients that cluster their own images; its row, as ``results.json`` has it."""
    scores, clusters = RoundScores(federation, test_every_n_rounds), RoundClusters(federation)

    def after_round(done: int) -> None:
        scores(done)
        clusters(done)

    federation.fit(rounds, after_round)
    states = {one.id: one.data.target_state for one in federation.clients if isinstance(one.data, UnlabeledDataModule)}
    going = [one for one in federation.rounds if not one.report.repeat]
    payload = max((size for one in going for size in (*one.bytes_down.values(), *one.report.bytes_up.values())), default=0)
    return {
        "scores": scores.test(),
        "mAP by round": scores.means("mAP"),
        "clusters": {name: state.num_clusters for name, state in states.items() if state is not None},
        "clusters by round": clusters.rounds,
        "V-measure by round": clusters.means("v_measure"),
        "steps": sum(sum(one.steps.values()) for one in federation.rounds),
        "payload_bytes": payload,
    }
