"""Who gets which images: nobody's twice, whoever splits again gets the same, and clients that could not learn are refused."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_reid.datamodules import FederatedData, ImageReIDDataModule, UnlabeledDataModule
from lightning_reid.datamodules.catalog import FOLDERS
from lightning_reid.datamodules.client_splits import hold_out, split_clients, split_table
from lightning_reid.datamodules.decoding import CorruptImageError
from lightning_reid.records import ImageRecord


def records(people: int, domains: tuple[str, ...] = ("a",), cameras: int = 3) -> list[ImageRecord]:
    return [
        ImageRecord(f"{domain}{pid}-{camid}-{k}.jpg", pid, camid, domain)
        for domain in domains
        for pid in range(people + 1)
        for camid in range(1, cameras + 1)
        for k in range(2)
    ]


@given(people=st.integers(8, 40), clients=st.integers(2, 4), seed=st.integers(0, 99), concentration=st.sampled_from([None, 0.1, 1.0]))
@settings(max_examples=40)
def test_identities_are_dealt_whole_to_one_client_each_in_whatever_order_records_come(people, clients, seed, concentration):
    mine = records(people, ("a", "b"))
    how = {"by": "identity" if concentration is None else "dirichlet", "concentration": concentration or 1.0, "num_clients": clients}
    found = split_clients(mine, seed=seed, **how)
    assert list(found) == [f"{domain}-client{k}" for domain in "ab" for k in range(clients)]
    owners: dict[tuple[str, int], set[str]] = {}
    for name, rows in found.items():
        for row in rows:
            owners.setdefault((mine[row].domain, mine[row].pid), set()).add(name)
    assert all(len(names) == 1 for names in owners.values())
    assert set(owners) == {(domain, pid) for domain in "ab" for pid in range(1, people + 1)}
    sizes = Counter(next(iter(names)) for names in owners.values())
    assert min(sizes.values()) >= 2
    if concentration is None:
        assert {sizes[name] for name in found} <= {people // clients, -(-people // clients)}
    backwards = split_clients(mine[::-1], seed=seed, **how)
    assert all({mine[::-1][row] for row in backwards[name]} == {mine[row] for row in rows} for name, rows in found.items())


def test_every_client_gets_its_least_number_of_people_however_unequal_they_are():
    mine = records(200)
    split = {"by": "dirichlet", "num_clients": 5, "concentration": 0.1, "seed": 1}
    people = [row[2] for row in split_table(mine, split_clients(mine, min_identities=30, **split))]
    assert sum(people) == 200
    assert min(people) >= 30
    assert max(people) > 40
    assert {row[2] for row in split_table(mine, split_clients(mine, min_identities=40, **split))} == {40}
    with pytest.raises(ValueError, match="5 clients need 41 people each, a shows 200: ask for fewer clients, or for fewer people each"):
        split_clients(mine, min_identities=41, **split)
    with pytest.raises(ValueError, match="min_identities must be a whole number of at least 2"):
        split_clients(mine, min_identities=1, **split)
    with pytest.raises(ValueError, match="clients of camera have the people that are there: min_identities=30 is for 'identity' and"):
        split_clients(mine, "camera", min_identities=30)


def test_a_small_concentration_makes_very_unequal_clients():
    mine = records(200)
    people = [row[2] for row in split_table(mine, split_clients(mine, "dirichlet", num_clients=5, concentration=0.1, seed=1))]
    assert sum(people) == 200
    assert max(people) > 100


def test_data_sets_and_cameras_are_clients_of_their_own_and_strangers_go_to_none():
    mine = records(3, ("market", "duke"))
    by_set = split_clients(mine, "dataset")
    assert {name: len(rows) for name, rows in by_set.items()} == {"duke": 18, "market": 18}  # pid 0 belongs to nobody
    by_camera = split_clients(mine, "camera")
    assert list(by_camera) == [f"{name}-camera{c:03d}" for name in ("duke", "market") for c in (1, 2, 3)]
    assert split_table(mine, by_camera)[0] == ("duke-camera001", 6, 3, 1)


@given(share=st.floats(0.01, 0.99))
@settings(max_examples=20)
def test_holding_out_leaves_everybody_an_image_in_every_camera(share):
    mine = records(4)
    train, held = hold_out(mine, share)
    assert sorted(train + held) == list(range(len(mine)))
    assert {(mine[row].pid, mine[row].camid) for row in train} == {(record.pid, record.camid) for record in mine}


def test_a_federation_has_a_datamodule_for_each_client_and_says_who_has_what(market_folder, tmp_path, capsys):
    options = {"image_size": (64, 32), "p": 16, "k": 2, "num_workers": 0}
    data = FederatedData([str(market_folder)], "identity", num_clients=3, held_out=0.5, seed=4, **options)
    data.prepare_data()
    data.setup()
    assert list(data.clients) == ["client0", "client1", "client2"]
    for client in data.clients.values():
        assert isinstance(client, ImageReIDDataModule)
        query, gallery = client.evaluation_records()
        own = {record.pid for record in client.dataset.train}
        assert {record.pid for record in (*query, *gallery)} <= own
        assert client.p == client.num_classes == len(own)
    data.print()
    assert "3 clients by identity, seed 4" in capsys.readouterr().out
    data.save(tmp_path / "clients.json")
    saved = json.loads((tmp_path / "clients.json").read_text())
    assert saved["held_out"] == 0.5
    files = [file for client in saved["clients"].values() for file in client["files"]]
    assert len(files) == len(set(files)) == sum(client["images"] for client in saved["clients"].values())
    again = FederatedData([str(market_folder)], "identity", num_clients=3, held_out=0.5, seed=4, **options)
    again.setup()
    assert again.as_json() == saved
    unlabeled = FederatedData([str(market_folder)], "camera", unlabeled=True, image_size=(64, 32), num_workers=0)
    unlabeled.setup()
    assert all(isinstance(client, UnlabeledDataModule) for client in unlabeled.clients.values())


def test_the_data_sets_that_are_clients_by_default_are_ones_the_house_reads():
    assert set(FederatedData().datasets) <= set(FOLDERS)


def test_an_image_that_cannot_be_read_is_said_when_a_federation_is_set_up(market_folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(market_folder, broken)
    victim = sorted((broken / "bounding_box_train").glob("*.jpg"))[3]
    victim.write_bytes(b"")
    with pytest.raises(CorruptImageError, match=victim.name):
        FederatedData([str(broken)], "identity", num_clients=2, num_workers=0).setup()


def test_splits_that_make_no_federation_are_refused():
    with pytest.raises(ValueError, match="4 clients need two people each, a shows 7"):
        split_clients(records(7), "identity", num_clients=4)
    with pytest.raises(ValueError, match="need num_clients of at least 2 and concentration > 0, got None"):
        split_clients(records(7), "identity")
    with pytest.raises(ValueError, match="two clients or more, split by dataset gives 1: a"):
        split_clients(records(7), "dataset")
    with pytest.raises(ValueError, match="b has images of one person only"):
        split_clients([*records(3), ImageRecord("x.jpg", 9, 1, "b")], "dataset")
    with pytest.raises(ValueError, match="clients are split by one of"):
        split_clients(records(7), "city")
    with pytest.raises(ValueError, match=r"held_out must be a number in \(0, 1\), got 1"):
        hold_out(records(3), 1)
    with pytest.raises(ValueError, match="needs a data set or more"):
        FederatedData([])


def test_a_client_that_holds_nobody_out_to_be_tested_on_is_named_before_anything_is_trained(market_folder):
    data = FederatedData([str(market_folder)], "identity", num_clients=2, held_out=0.01, image_size=(32, 16), num_workers=0, crop_padding=2)
    with pytest.raises(ValueError, match=r"held_out=0.01 of the images of client .* leaves 0 queries"):
        data.setup()
