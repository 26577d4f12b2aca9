"""The recipe of bottom-up clustering, run as a user runs it, on a small generated folder."""

from __future__ import annotations

import json

from lightning_reid.recipes import buc_market

TINY = [
    "--data.image_size=[64,32]",
    "--data.batch_size=16",
    "--data.num_workers=0",
    "--model.backbone=resnet18",
    '--model.backbone_options={"channels":[8,8,16,16],"layers":[1,1,1,1]}',
    "--clustering.initial_epochs=1",
    "--clustering.every_n_epochs=1",
    "--steps=2",
    "--quiet",
]


def test_it_leaves_the_network_before_and_after_with_pictures_and_reads_them_back(market_folder, tmp_path, capsys):
    arguments = [f"--data.dataset={market_folder}", f"--output={tmp_path}", *TINY]
    rows = buc_market.main(arguments)
    assert [row.name for row in rows] == ["untrained network", "BUC"]
    assert all(0 < row.scores["mAP"] <= 1 for row in rows)
    assert list(json.loads((tmp_path / "results.json").read_text())["rows"]) == ["untrained network", "BUC"]
    for file in ("curves.png", "BUC/rank_list.png", "BUC/clusters.png"):
        assert (tmp_path / file).read_bytes().startswith(b"\x89PNG"), file
    assert "bottom-up clustering on" in capsys.readouterr().out
    again = buc_market.main([*arguments, "--resume"])
    assert [row.scores for row in again] == [row.scores for row in rows]
