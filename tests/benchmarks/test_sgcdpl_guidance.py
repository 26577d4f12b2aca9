"""What is read off labeled images, guides and the truth, on points where it can be said beforehand."""

from __future__ import annotations

import math

import pytest
import sgcdpl_guidance
import torch
from sgcdpl_guidance import COLUMNS, Guidance


def people(spread: float, num_people: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Ten images of each person."""
    generator = torch.Generator().manual_seed(seed)
    centers = 6 * torch.randn(num_people, 8, generator=generator).repeat_interleave(10, 0)
    return centers + spread * torch.randn(10 * num_people, 8, generator=generator), torch.arange(num_people).repeat_interleave(10)


def test_memorized_images_lie_closer_and_ask_for_more_clusters_than_images_like_those_to_be_clustered():
    unlabeled, truth = people(3.5)
    memorized, pids = people(0.2, seed=1)
    by_labeled = dict(zip(COLUMNS, sgcdpl_guidance.figures(Guidance(memorized, pids, unlabeled, truth, among=False)), strict=True))
    by_guides = dict(zip(COLUMNS, sgcdpl_guidance.figures(Guidance(unlabeled[:60], truth[:60], unlabeled, truth, among=True)), strict=True))
    median = "squared distance in a person, median"
    assert by_labeled[median] < by_guides[median] / 10
    assert by_labeled["clusters of SG-AP"] > by_guides["clusters of SG-AP"] == by_guides["people"] == 12
    assert math.isnan(by_labeled["tau_l of exemplars"])  # nothing tells it
    assert by_guides["tau_l of exemplars"] > 0


def test_the_report_has_the_means_and_the_clusters_of_every_seed():
    rows = [{"labeled images": [1.0, 2.0, 100.0, float("nan"), float("nan"), clusters, 12.0, 0.5]} for clusters in (20.0, 31.0)]
    assert sgcdpl_guidance.report(rows).splitlines()[-1] == "| labeled images | 1.0 | 2.0 | 100.0 |  |  | 26 | 12 | 0.500 | 20, 31 |"


def test_without_initial_networks_it_says_what_to_run_first(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no initial network: run benchmarks/sgcdpl_ordering.py --seeds 3 first"):
        sgcdpl_guidance.main(["--seeds", "3", "--output", str(tmp_path)])
