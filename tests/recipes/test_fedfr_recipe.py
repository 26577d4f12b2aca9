"""The recipe of FedFR, run as a user runs it, on small generated folders."""

from __future__ import annotations

import json

import pytest

from lightning_reid.recipes import fedfr

TINY = [
    "--split=identity",
    "--num_clients=2",
    "--pretraining_epochs=1",
    "--rounds=2",
    "--epochs=1",
    "--far=[0.1]",
    "--fpir=[0.5]",
    "--data.image_size=[64,32]",
    "--batch_size=8",
    "--data.p=4",
    "--data.num_workers=0",
    "--model.backbone=resnet18",
    '--model.backbone_options={"channels":[8,8,16,16],"layers":[1,1,1,1]}',
    "--accelerator=cpu",
    "--quiet",
]


def test_fedavg_and_fedfr_leave_generic_and_personal_scores_and_the_three_models(market_folder, tmp_path, capsys):
    found = fedfr.main([f"--public={market_folder}", f'--clients=["{market_folder}"]', f"--output={tmp_path}", "--seed=1", *TINY])
    assert list(found) == ["pre-trained", "FedAvg", "FedFR"]
    for row in found.values():
        assert set(row["generic"]) == {"mAP", "R1", "TAR@FAR=0.1", "TPIR@FPIR=0.5"}
        assert all(0 <= value <= 1 for value in row["generic"].values())
    assert list(found["FedFR"]["personal"]) == ["server's", "client's", "client's, transformed"]
    assert set(found["FedFR"]["personal"]["client's"]) == {"TAR@FAR=0.1", "TPIR@FPIR=0.5"}
    assert found["FedFR"]["payload_bytes"] > found["FedAvg"]["payload_bytes"]  # the public proxies
    assert found["FedAvg"]["public share"] == 0 < found["FedFR"]["public share"] <= 1
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == found
    printed = capsys.readouterr().out
    assert "2 clients by identity, seed 1" in printed
    assert "Table 7.3" in printed
    assert "TAR and TPIR count pairs of one camera, mAP and R1 do not" in " ".join(printed.split())


@pytest.mark.slow
def test_the_ablation_prints_the_three_tables(market_folder, tmp_path, capsys):
    found = fedfr.main(
        [
            f"--public={market_folder}",
            f'--clients=["{market_folder}"]',
            f"--output={tmp_path}",
            *TINY,
            "--rounds=1",
            "--tuning_epochs=1",
            "--ablation",
            "--sweep",
        ]
    )
    sweep = [f"FedFR, t_HN={threshold}" for threshold in (0.2, 0.3, 0.5, 0.6)]
    rows = ["pre-trained", "FedAvg", "FedFace", "hard negatives", "and contrastive", "FedFR, CosFace branch", "FedFR"]
    assert list(found) == [*rows, *sweep]
    shares = [found[row]["public share"] for row in sorted([*sweep, "FedFR"], key=lambda row: float(row[-3:]) if "=" in row else 0.4)]
    assert shares == sorted(shares, reverse=True)  # the higher the threshold, the fewer public images
    assert (tmp_path / "sweep.png").stat().st_size > 0
    assert found["FedFace"]["payload_bytes"] > found["FedAvg"]["payload_bytes"]  # it gives away the proxies of local people
    ways = found["and contrastive"]["personal"]
    assert list(ways) == ["server's", "client's", "fine-tuning", "distillation"]
    assert all(0 <= score <= 1 for way in ways.values() for score in way.values())
    printed = capsys.readouterr().out
    assert all(row in printed for row in ("Table 7.2", "Table 7.3", "fine-tuning", "distillation", "CosFace branch", "one-vs-all branch"))


def test_public_data_without_clients_is_refused_before_anything_is_read(capsys):
    with pytest.raises(SystemExit):
        fedfr.main(["--public=market1501"])
    assert "--public and --clients go together" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        fedfr.main(["--sweep", '--rows=["FedAvg"]'])
    assert "name it among --rows" in capsys.readouterr().err


def test_a_rate_that_so_few_images_cannot_show_is_refused_before_the_server_is_trained(market_folder, tmp_path):
    arguments = [f"--public={market_folder}", f'--clients=["{market_folder}"]', f"--output={tmp_path}", *TINY, "--far=[1e-9]"]
    with pytest.raises(ValueError, match="a rate of 1e-09 cannot be measured"):
        fedfr.main(arguments)
    assert not (tmp_path / "pretraining").exists()
