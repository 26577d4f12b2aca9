"""RetrievalMetrics: rows in any order, on any number of processes, each counted once."""

import pytest
import torch
import torch.distributed as dist

from lightning_reid.metrics import RetrievalMetrics, bootstrap_interval, retrieval_scores


def generated_rows():
    draw = torch.Generator().manual_seed(2)
    is_query = torch.arange(91) < 21
    pids = torch.where(is_query, torch.randint(1, 7, (91,), generator=draw), torch.randint(-1, 7, (91,), generator=draw))
    embeddings = torch.randn(8, 10, generator=draw)[pids + 1] + torch.randn(91, 10, generator=draw)
    indices = torch.cat([torch.arange(21), torch.arange(70)])
    return {
        "embeddings": embeddings,
        "pids": pids,
        "camids": torch.randint(3, (91,), generator=draw),
        "indices": indices,
        "is_query": is_query,
    }


ROWS = generated_rows()


def picked(rows, positions):
    return {name: values[positions] for name, values in rows.items()}


def scored(*batches, **options):
    metric = RetrievalMetrics(**options)
    for batch in batches:
        metric.update(**batch)
    return metric.compute()


def direct_scores(**options):
    sides = [picked(ROWS, ROWS["is_query"] == side) for side in (True, False)]
    return retrieval_scores(*(side[name] for name in ("embeddings", "pids", "camids") for side in sides), **options)


def test_metric_equals_the_function_it_calls():
    for options in ({}, {"metric": "euclidean", "ap": "trapezoid"}, {"protocol": "no-camera"}, {"rerank": True}):
        values, direct = scored(ROWS, **options), direct_scores(**options)
        expected = {"mAP": direct.mAP, "R1": direct.cmc[0], "R5": direct.cmc[4], "R10": direct.cmc[9], "mINP": direct.mINP}
        assert values == pytest.approx({name: float(value) for name, value in expected.items()})
        assert all(value.dtype == torch.float32 and value.ndim == 0 for value in values.values())


def test_order_and_batches_do_not_matter():
    order = torch.randperm(91, generator=torch.Generator().manual_seed(0))
    assert scored(*(picked(ROWS, some) for some in order.split(13))) == scored(ROWS)


def test_ties_rank_in_data_set_order_whatever_came_first():
    same = {**ROWS, "embeddings": torch.ones(91, 4)}
    assert scored(picked(same, torch.arange(91).flip(0))) == scored(same)


def test_repeated_rows_count_once():
    assert scored(ROWS, picked(ROWS, torch.tensor([0, 25, 90, 25]))) == scored(ROWS)


def test_one_bool_marks_a_whole_batch():
    metric = RetrievalMetrics()
    for side in (True, False):
        batch = picked(ROWS, ROWS["is_query"] == side)
        metric.update(**{**batch, "is_query": side})
    assert metric.compute() == scored(ROWS)


def test_leave_one_out_takes_each_image_once_or_twice():
    gallery = picked(ROWS, ~ROWS["is_query"])
    as_query = {**gallery, "is_query": torch.ones(70, dtype=torch.bool)}
    embeddings, pids = gallery["embeddings"], gallery["pids"]
    direct = retrieval_scores(embeddings, embeddings, pids, pids, None, None, protocol="leave-one-out")
    once, twice = scored(as_query, protocol="leave-one-out"), scored(as_query, gallery, protocol="leave-one-out")
    assert once == twice
    assert float(once["mAP"]) == pytest.approx(direct.mAP)


def test_leave_one_out_refuses_a_gallery_of_other_images():
    with pytest.raises(ValueError, match="got 21 and 70 with different indices"):
        scored(ROWS, protocol="leave-one-out")


def test_scores_and_stamp_tell_what_lies_behind_the_numbers():
    metric = RetrievalMetrics(ap="trapezoid")
    metric.update(**ROWS)
    low, high = bootstrap_interval(metric.scores().average_precision)
    assert low < float(metric.compute()["mAP"]) < high
    stamp = metric.stamp("generated", "none", seed=2)
    assert (stamp.num_query, stamp.num_gallery) == (21, int((ROWS["pids"][21:] != -1).sum()))
    assert (stamp.num_query_ids, stamp.ap, stamp.seed) == (len(ROWS["pids"][:21].unique()), "trapezoid", 2)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_scores_follow_the_rows_of_the_moment():
    metric = RetrievalMetrics()
    metric.update(**picked(ROWS, torch.arange(60)))
    early = metric.scores().mAP
    metric.update(**picked(ROWS, torch.arange(60, 91)))
    assert metric.scores().mAP == direct_scores().mAP != early
    metric.reset()
    with pytest.raises(RuntimeError, match="has no rows yet"):
        metric.scores()


def test_one_index_with_two_identities_is_refused():
    other = {**picked(ROWS, torch.tensor([30])), "pids": torch.tensor([77])}
    with pytest.raises(ValueError, match=r"index 9 of the gallery came with pids -?\d+ and 77"):
        scored(ROWS, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"protocol": "duke"}, "protocol must be one of"), ({"max_rank": 5}, "at least 10, got 5"), ({"ap": "mean"}, "ap must be one of")],
)
def test_bad_options_are_refused_by_the_constructor(options, message):
    with pytest.raises(ValueError, match=message):
        RetrievalMetrics(**options)


def test_rows_that_are_not_as_many_are_refused_by_update():
    with pytest.raises(ValueError, match=r"need embeddings \[B, D\] and \[B\]"):
        RetrievalMetrics().update(**{**ROWS, "pids": ROWS["pids"][:-1]})


def scored_share():
    rows = torch.arange(dist.get_rank(), 91, 2)
    if len(rows) < 46:  # a distributed sampler pads the shorter share with a row of the other rank
        rows = torch.cat([rows, torch.tensor([0])])
    metric = RetrievalMetrics()
    metric.update(**picked(ROWS, rows))
    return metric.compute(), metric.scores().average_precision


def test_two_processes_score_as_one(two_processes):
    for scores, average_precision in two_processes(scored_share):
        assert torch.equal(average_precision, direct_scores().average_precision)
        assert scores == scored(ROWS)
