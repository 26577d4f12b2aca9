"""The recipe of federated supervised re-ID, run as a user runs it, on small generated folders."""

from __future__ import annotations

import json

from lightning_reid.recipes import fedpav


def test_two_data_sets_are_two_clients_and_a_third_that_nobody_saw_is_scored(market_folder, duke_folder, tmp_path, capsys):
    found = fedpav.main(
        [
            f'--datasets=["{market_folder}","{duke_folder}"]',
            f'--unseen=["{market_folder}"]',
            f"--output={tmp_path}",
            "--rounds=1",
            "--epochs=1",
            "--data.image_size=[64,32]",
            "--data.p=4",
            "--data.num_workers=0",
            "--model.backbone=resnet18",
            '--model.backbone_options={"channels":[8,8,16,16],"layers":[1,1,1,1]}',
            "--accelerator=cpu",
            "--quiet",
        ]
    )
    local, fedavg = found["local supervised"], found["FedAvg"]
    assert set(local["clients"]) == set(fedavg["clients"]) == {"market", "duke"}
    assert local["clients"] == fedavg["clients"]  # one round: both trained from the same first weights, and nothing came back yet
    assert fedavg["server"] != fedavg["clients"]
    assert fedavg["unseen"][str(market_folder)]["mAP"] == fedavg["server"]["market"]["mAP"]
    assert local["unseen"] == {}
    printed = capsys.readouterr().out
    assert "Table 7.5: unseen data sets" in printed
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == json.loads(json.dumps(found))
    assert (tmp_path / "curves.png").stat().st_size > 0
