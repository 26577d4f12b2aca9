"""What is changed in a row is all that is changed, and what was measured once is read back."""

from __future__ import annotations

import json
from typing import get_args

import generated_people_transfer as transfer
import pytest
import real_people
import torch

from lightning_reid.datamodules.generated import PeopleData
from lightning_reid.datamodules.generated.wide_variation import Variation


def test_every_kind_of_variation_is_left_out_once():
    left_out = [row["people"]["without"] for name, row in transfer.ROWS["variations"].items() if name != transfer.EVERYTHING]
    assert left_out == [(kind,) for kind in get_args(Variation)]
    assert all(rows[transfer.EVERYTHING] == {} for rows in transfer.ROWS.values())


def test_the_curve_goes_from_150_to_10000_identities():
    numbers = [row["people"]["people"] for name, row in transfer.ROWS["people"].items() if name != transfer.EVERYTHING]
    assert (min(numbers), max(numbers)) == (150, 10_000)
    for row in transfer.ROWS["people"].values():
        assert PeopleData(**row.get("people", {})).read().train


def test_what_was_measured_is_read_back_and_compared_pair_by_pair(tmp_path, monkeypatch, capsys):
    measured = []

    def train(row, seed, num_people):
        measured.append((row, seed))
        return row, seed

    def measure(model, real):
        row, seed = model
        worse = 0.0 if not row else 5.0 + seed / 10
        return {"all": 80.0 + seed - worse, "other visit": 70.0 + seed - worse, "generated": 50.0 + seed}

    monkeypatch.setattr(transfer, "train", train)
    monkeypatch.setattr(transfer, "measure", measure)
    monkeypatch.setattr(real_people, "read_people", lambda *_: None)
    threads = torch.get_num_threads()
    (pets := tmp_path / "pets").mkdir()
    told = [str(pets), "--only", "everything", "without light", "--output", str(tmp_path)]
    first = transfer.main(told)
    assert len(measured) == 6
    assert transfer.main(told) == first
    assert len(measured) == 6
    with pytest.raises(ValueError, match=r"everything-seed0\.json was measured by other settings: people: 1000 there, 500 here\."):
        transfer.main([*told, "--people", "500"])
    (others := tmp_path / "others").mkdir()
    with pytest.raises(ValueError, match=r'other settings: distractors: null there, "\w+" here\.'):
        transfer.main([*told, "--distractors", str(others)])
    torch.set_num_threads(threads)
    assert "| everything - without light | +5.1 |" in capsys.readouterr().out
    assert json.loads((tmp_path / "without-light-seed2.json").read_text())["all"] == pytest.approx(76.8)


@pytest.mark.benchmark
def test_a_row_is_trained_and_measured_on_people_that_nothing_was_trained_on(monkeypatch):
    monkeypatch.setattr(transfer, "BATCHES", 1)
    monkeypatch.setattr(transfer, "EPOCHS", 1)
    real = real_people.People(
        ["generated-people://9/1/1/0", "generated-people://9/1/2/0", "generated-people://9/2/1/0", "generated-people://9/2/2/0"],
        *(torch.tensor(numbers) for numbers in ([1, 1, 2, 2], [1, 2, 1, 2], [1, 2, 3, 4])),
        *(torch.ones(4, dtype=torch.bool) for _ in range(2)),
    )
    model = transfer.train({"people": {"without": ("light",)}, "data": {"image_size": (32, 16)}}, 0, 20)
    assert model.network.image_size == (32, 16)
    scores = transfer.measure(model, real)
    assert set(scores) == set(transfer.MEASURES)
    assert all(0 < score <= 100 for score in scores.values())
