"""Scores of a federation round by round: a table and a curve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lightning_reid.federation.in_process import Federation
from lightning_reid.files import read_json, write_atomically, write_json
from lightning_reid.recipes.workshop.tables import per_cent, print_table


class RoundScores:
    """Tests every client's personal model after every n rounds, for ``Federation.fit``; kept in the federation's ``scores.json``.

    What is in the file is not tested again, and only what is of this federation, and of rounds that it has done, is read. A round that
    was done when a sitting ended, and not tested yet, is tested when the next one begins: ``Federation.fit`` sees to it.

    Attributes:
        rounds: Number of rounds that are done, to the clients' scores.

    Args:
        federation: Whose clients.
        every_n_rounds: At least 1.

    Raises:
        ValueError: ``every_n_rounds`` is below 1.
    """

    def __init__(self, federation: Federation, every_n_rounds: int = 1) -> None:
        if every_n_rounds < 1:
            raise ValueError(f"clients are tested after every n rounds, n at least 1, got {every_n_rounds}")
        self.federation, self.every_n_rounds = federation, every_n_rounds
        self.file = federation.output / "scores.json"
        self.rounds: dict[int, dict[str, dict[str, float]]] = {}
        if self.file.is_file():
            told = read_json(self.file, {"rounds": dict}, way_on="remove it, and the clients are tested anew")
            done, own = federation.state.round, federation.state.federation
            if told.get("federation", own) == own:  # files of earlier versions do not say whose they are
                self.rounds = {int(number): scores for number, scores in told["rounds"].items() if int(number) <= done}

    def __call__(self, rounds_done: int) -> None:
        """After a round."""
        if rounds_done % self.every_n_rounds == 0:
            self.test()

    def test(self) -> dict[str, dict[str, float]]:
        """The clients' scores at this moment."""
        done = self.federation.state.round
        if done not in self.rounds:
            self.rounds[done] = self.federation.test_clients()
            rounds = {str(number): scores for number, scores in sorted(self.rounds.items())}
            write_json(self.file, {"federation": self.federation.state.federation, "rounds": rounds})
        return self.rounds[done]

    def means(self, score: str) -> dict[int, float]:
        """Rounds done to the mean of a score over the clients."""
        return {number: mean(one[score] for one in scores.values()) for number, scores in sorted(self.rounds.items())}


def told_with_unmatched(caption: str, scores: Mapping[str, Mapping[str, float]]) -> str:
    """A table's caption, and how many queries of which data have no match and are not scored, where there are any.

    Args:
        caption: Of the table.
        scores: Name of a client or data set to its scores, as ``score_client`` gives them.
    """
    unmatched = [f"{name} {int(one['unmatched_queries'])}" for name, one in scores.items() if one["unmatched_queries"]]
    return f"{caption}; queries without a match, not scored: {', '.join(unmatched)}" if unmatched else caption


def print_rounds(curves: Mapping[str, Mapping[int, float]], title: str) -> None:
    """A table with a row a round and a column a method; scores are fractions, shown in per cent."""
    numbers = sorted({number for curve in curves.values() for number in curve})
    cells = [[str(number), *(per_cent(curve[number]) if number in curve else "" for curve in curves.values())] for number in numbers]
    print_table(title, ("rounds", *curves), cells, names=0)


def draw_rounds(path: Path, curves: Mapping[str, Mapping[int, float]], label: str) -> None:
    """Draw scores, fractions, over the rounds, a line a method."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(list(curve), [100 * value for value in curve.values()], marker="o", markersize=3, label=name)
    axes.set_xlabel("rounds")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    write_atomically(path, lambda file: figure.savefig(file, dpi=150, metadata={"Software": None}))
