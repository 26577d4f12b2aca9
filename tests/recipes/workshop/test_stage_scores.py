"""The row of a finished stage: an interval over people, the queries that were not scored."""

from __future__ import annotations

import json
from types import SimpleNamespace

import torch

from lightning_reid.metrics import RetrievalMetrics, bootstrap_interval
from lightning_reid.recipes.workshop.report import Queries, ResultRow
from lightning_reid.recipes.workshop.stages import RunOptions, Stage


class Data:
    def evaluation_records(self):
        return (), ()

    def protocol_stamp(self):
        return "a stamp"


def scored_row(folder, query_pids: list[int]) -> tuple[ResultRow, RetrievalMetrics]:
    """A stage's row where these people were asked for; the gallery holds two images of 1, 2 and 3 each, in another camera."""
    pids = torch.tensor([*query_pids, 1, 1, 2, 2, 3, 3])
    is_query = torch.arange(len(pids)) < len(query_pids)
    indices = torch.cat([torch.arange(len(query_pids)), torch.arange(6)])
    metric = RetrievalMetrics()
    metric.update(torch.randn(len(pids), 4, generator=torch.Generator().manual_seed(0)), pids, is_query.long(), indices, is_query)
    module = SimpleNamespace(last_scores=metric.scores(), protocol_stamp=lambda data: data.protocol_stamp())
    logged = {f"test/{name}": float(value) for name, value in metric.compute().items()}
    logged["test/unmatched_queries"] = float(metric.scores().num_unmatched_queries)
    trainer = SimpleNamespace(loggers=[], is_global_zero=True, test=lambda *_, **__: [logged])
    return Stage(RunOptions(output=str(folder)), "a method").score(trainer, module, Data()), metric


def test_the_interval_is_drawn_over_people_and_the_unmatched_are_counted_beside_the_scores(tmp_path):
    row, metric = scored_row(tmp_path, [1, 1, 1, 2, 2, 3, 9])
    scores = metric.scores()
    assert row.mAP_interval == bootstrap_interval(scores.average_precision, torch.tensor([1, 1, 1, 2, 2, 3]))
    assert row.mAP_interval != bootstrap_interval(scores.average_precision)
    assert row.queries == Queries(asked=7, unmatched=1, people=3)
    assert list(row.scores) == ["mAP", "R1", "R5", "R10", "mINP"]
    assert json.loads((tmp_path / "a-method" / "scores.json").read_text()) == json.loads(json.dumps(row.as_json()))


def test_a_stage_with_queries_of_one_person_ends_without_an_interval(tmp_path):
    row, _ = scored_row(tmp_path, [2, 2])
    assert row.mAP_interval is None
    assert row.cells()[2] == "one person"
    assert 0 < row.scores["mAP"] <= 1
