"""How good the clusters are that clients train on, round by round."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

import torch

from lightning_reid.clustering import clustering_agreement
from lightning_reid.federation import Client
from lightning_reid.federation.in_process import Federation
from lightning_reid.files import read_json, write_json
from lightning_reid.protocols import TargetData


class RoundClusters:
    """Judges every client's clusters by the true identities after each round, for ``Federation.fit``; kept in ``clusters.json``.

    Attributes:
        rounds: Number of rounds that are done, to each client's numbers: ``clusters``, ``people``, ``v_measure``, ``homogeneity`` and
            ``completeness`` in [0, 1], ``largest_share`` of the images that are in the largest cluster.

    Args:
        federation: Whose clients; those without clusters are left out.
    """

    def __init__(self, federation: Federation) -> None:
        self.federation, self.file = federation, federation.output / "clusters.json"
        self.rounds: dict[int, dict[str, dict[str, float]]] = {}
        if self.file.is_file():
            told = read_json(self.file, {"federation": str, "rounds": dict}, way_on="remove it: rounds that are done are then not shown")
            if told["federation"] == federation.state.federation:
                done = federation.state.round
                self.rounds = {int(number): found for number, found in told["rounds"].items() if int(number) <= done}

    def __call__(self, rounds_done: int) -> None:
        """After a round."""
        found = {client.id: numbers for client in self.federation.clients if (numbers := cluster_numbers(client))}
        if rounds_done and found:
            self.rounds[rounds_done] = found
            rounds = {str(number): one for number, one in sorted(self.rounds.items())}
            write_json(self.file, {"federation": self.federation.state.federation, "rounds": rounds})

    def means(self, name: str) -> dict[int, float]:
        """Rounds done to the mean of one of the numbers over the clients."""
        return means_of(self.rounds, name)


def means_of(rounds: Mapping[int, Mapping[str, Mapping[str, float]]], name: str) -> dict[int, float]:
    """Rounds done to the mean over the clients."""
    return {number: mean(one[name] for one in found.values()) for number, found in sorted(rounds.items())}


def cluster_numbers(client: Client) -> dict[str, float]:
    """What the clusters of a client's latest fit are worth; nothing where it has none."""
    data = client.data
    if not isinstance(data, TargetData) or data.target_state is None:
        return {}
    labels, pids = data.target_state.labels, data.ground_truth()
    agreement = clustering_agreement(labels, pids)
    return {
        "clusters": float(agreement.num_clusters),
        "people": float(len(pids[pids > 0].unique())),
        "v_measure": agreement.v_measure,
        "homogeneity": agreement.homogeneity,
        "completeness": agreement.completeness,
        "largest_share": int(torch.bincount(labels[labels >= 0]).max()) / len(labels),
    }
