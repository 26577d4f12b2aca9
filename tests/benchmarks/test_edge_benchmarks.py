"""The benchmarks of the graph between cameras run, small, and what they draw and count is what they say."""

from __future__ import annotations

import edge_labels
import edge_pets
import edge_runtime
import pytest
import torch

from lightning_reid.clustering import contradictions, global_labels
from lightning_reid.datamodules.readers import read_market_folder


@pytest.mark.benchmark
def test_every_image_of_a_person_is_in_a_tracklet_and_every_way_to_labels_has_its_row(market_folder, capsys):
    found = edge_pets.main([str(market_folder)])
    people = [record for _, records in read_market_folder(market_folder).splits() for record in records if record.pid > 0]
    devices = edge_pets.devices_of(market_folder)
    assert sum(device.num_images for device in devices.values()) == len(people)
    assert sum(device.num_tracklets for device in devices.values()) == len({(record.pid, record.camid) for record in people})
    assert {one.people for one in found.values()} == {len({record.pid for record in people})}
    assert len(found) == 2 * 2 * len(edge_pets.ALPHAS) * 2
    assert capsys.readouterr().out.count("| one_per_camera |") == len(found) / 2


def test_a_drawn_scene_shows_nobody_twice_in_a_camera_and_some_people_not_everywhere():
    scene = edge_labels.drawn(100, 1.1)
    assert contradictions(scene.pids, scene.camids) == 0
    seen = scene.pids.unique(return_counts=True)[1]
    assert int(seen.min()) < int(seen.max()) == edge_labels.CAMERAS
    assert 0.6 < len(scene.pids) / (edge_labels.PEOPLE * edge_labels.CAMERAS) < 0.8
    again = edge_labels.drawn(100, 1.1)
    assert torch.equal(again.memories, scene.memories)


def test_labels_of_drawn_scenes_are_compared_by_their_best_alpha(capsys):
    found = edge_labels.main(["--seeds", "100", "--noises", "1.1"])
    scene = edge_labels.drawn(100, 1.1)
    _, components = edge_labels.judged(scene)
    pairs = torch.combinations(torch.arange(len(scene.pids)))
    one, other = pairs.T
    right = scene.pids[one] == scene.pids[other]
    scores = []
    for alpha in range(4):
        labels = global_labels(scene.memories, scene.camids, alpha)
        together = labels[one] == labels[other]
        scores.append(float(2 * (together & right).sum() / (together.sum() + right.sum())))
        assert components[alpha].f_score == pytest.approx(scores[-1])
    ours = global_labels(scene.memories, scene.camids, 0, "one_per_camera")
    together = ours[one] == ours[other]
    best = float(2 * (together & right).sum() / (together.sum() + right.sum()))
    assert found == {1.1: int(best >= max(scores))}
    assert f"| {100 * best:.1f} | " + " | ".join(f"{100 * score:.1f}" for score in scores) in capsys.readouterr().out


@pytest.mark.benchmark
def test_every_part_is_timed_with_both_networks():
    found = edge_runtime.main(["--small", "--backbones", "resnet18", "mobilenetv2_100"])
    parts = ["style, inference", "style, training", "re-ID, inference", "re-ID, training", "retrieval", "graph"]
    assert [[row.part for row in rows] for rows in found.values()] == [parts, parts]
    assert all(row.seconds > 0 for rows in found.values() for row in rows)
    assert {row.of for row in found["resnet18"] if row.part == "re-ID, training"} == {"a mini-batch of 8, 64x32"}
