"""The recipe of FedUReID, run as a user runs it, on a small generated folder."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from lightning_reid.networks import load_embedding_network
from lightning_reid.recipes import fedureid

TINY = [
    "--split=identity",
    "--num_clients=2",
    "--rounds=2",
    "--epochs=3",
    "--data.image_size=[64,32]",
    "--data.batch_size=8",
    "--data.num_workers=0",
    "--model.backbone=resnet18",
    '--model.backbone_options={"channels":[8,8,16,16],"layers":[1,1,1,1]}',
    "--clustering.min_samples=2",
    "--clustering.k1=6",
    "--clustering.k2=2",
    "--personalization.precision=0.001",
    "--accelerator=cpu",
    "--quiet",
]


def test_the_true_labels_are_the_ceiling_with_as_many_steps_and_every_round_says_how_good_its_clusters_were(
    market_folder, tmp_path, capsys
):
    rows = '--rows=["baseline","true labels"]'
    options = [
        f'--datasets=["{market_folder}"]',
        f"--output={tmp_path}",
        rows,
        "--model.loss_features=24",
        "--min_identities=4",
        *TINY,
        "--epochs=1",
    ]
    found = fedureid.main(options)
    assert found["true labels"]["steps"] == found["baseline"]["steps"]
    for clusters in found["true labels"]["clusters by round"].values():
        for one in clusters.values():
            assert one["v_measure"] == one["homogeneity"] == one["completeness"] == 1.0
            assert one["clusters"] == one["people"] >= 4
    first, second = found["baseline"]["clusters by round"].values()
    for name, one in second.items():
        assert one["clusters"] < first[name]["clusters"]
        assert first[name]["homogeneity"] == pytest.approx(1.0)  # every image a cluster
        assert first[name]["largest_share"] == pytest.approx(1 / first[name]["clusters"])
    agreement = found["baseline"]["V-measure by round"]
    assert agreement[2] == pytest.approx(sum(one["v_measure"] for one in second.values()) / 2)
    printed = " ".join(capsys.readouterr().out.split())  # titles are broken into lines
    assert "V-measure of the clusters that a round trained on" in printed
    assert "clusters of the last round against true identities" in printed
    again = fedureid.main([*options, "--resume"])
    assert again["baseline"]["clusters by round"] == found["baseline"]["clusters by round"]


def test_the_baseline_and_all_optimizations_leave_their_rows_with_what_they_trained_and_sent(market_folder, tmp_path, capsys):
    found = fedureid.main([f'--datasets=["{market_folder}"]', f"--output={tmp_path}", *TINY])
    assert list(found) == ["first network", "baseline", "all"]
    for row in found.values():
        assert set(row["scores"]) == {"client0", "client1"}
        assert all(0 < scores["mAP"] <= 1 for scores in row["scores"].values())
    assert found["all"]["steps"] < found["baseline"]["steps"]  # so low a precision is soon reached
    assert found["first network"]["steps"] == 0
    assert found["all"]["clusters"] != found["baseline"]["clusters"]
    assert found["all"]["payload_bytes"] == found["baseline"]["payload_bytes"] > 0
    printed = capsys.readouterr().out
    assert "2 clients by identity, seed 0" in printed
    assert "local steps" in printed
    assert all(column in printed for column in ("every client's personal model", "R5", "R10"))
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == json.loads(json.dumps(found))
    assert list(found["all"]["mAP by round"]) == [1, 2]
    assert (tmp_path / "curves.png").stat().st_size > 0
    assert json.loads((tmp_path / "clients.json").read_text())["split"] == "identity"


def test_all_clients_start_from_a_network_that_is_named_and_is_not_trained_before_too(market_folder, capsys):
    asked = [f'--datasets=["{market_folder}"]', "--start_from=generated-people-small", "--split=identity", "--num_clients=2"]
    cfg = fedureid.parse([*asked, "--data.image_size=[64,32]", "--data.num_workers=0", "--output=nowhere"])
    assert cfg.model.backbone_options["channels"] == [24, 48, 96, 192]
    experiment = fedureid.Experiment(cfg, SimpleNamespace(holds=lambda *_: None))
    named = load_embedding_network("generated-people-small").state_dict()
    for client in experiment.clients("all"):
        assert all(torch.equal(tensor, named[name]) for name, tensor in client.module.network.state_dict().items())
    with pytest.raises(SystemExit):
        fedureid.parse([*asked, "--pretraining=duke-like"])
    assert "leave --pretraining duke-like out" in " ".join(capsys.readouterr().err.split())
    for rows in ('["PU","PU"]', "[]"):
        with pytest.raises(SystemExit):
            fedureid.parse([*asked, f"--rows={rows}"])
        assert "--rows names one federation or more, each once" in " ".join(capsys.readouterr().err.split())
