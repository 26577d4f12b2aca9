"""What tells things apart in the page of ``lightning-reid report``: ticks of epochs, and the marks of people on the map."""

from __future__ import annotations

import re
from math import inf, nan

import pytest

from lightning_reid.command_line.report_page.charts import line_chart
from lightning_reid.command_line.report_page.findings import MOST_PEOPLE
from lightning_reid.command_line.report_page.map_section import mark_of
from lightning_reid.command_line.report_page.training_section import LEARNED, charts_of


@pytest.mark.parametrize("epochs", [[1.0], [1.0, 2.0], [1.0, 2.0, 3.0], [float(one) for one in range(1, 62)]])
def test_epochs_have_whole_ticks_alone(epochs):
    chart = line_chart("Training loss", "epoch", "loss", {"HSR": (epochs, [0.5] * len(epochs))}, ["HSR"])
    ticks = re.findall(r'<text x="[^"]*" y="196" text-anchor="middle">([^<]*)<', chart)
    assert ticks
    assert all(tick.isdecimal() for tick in ticks), ticks


def test_values_that_are_not_finite_are_left_out_and_counted():
    logged = {"HSR": {"train/loss": ([1.0, 2.0, 3.0, nan], [0.5, nan, 1e308, 0.1]), "val/mAP": ([1.0], [inf])}}
    charts = charts_of(LEARNED, logged)
    assert "Training loss (3 values that are not finite are left out)" in charts[0]
    assert "from 0.5 to 0.5" in charts[0]
    assert charts[1] == "<p>mAP in validation: none of the 1 values is finite.</p>"


def test_people_differ_in_shape_from_the_first_on_and_no_two_look_the_same():
    marks = [mark_of(place) for place in range(MOST_PEOPLE)]
    assert len({shape for shape, _ in marks[:4]}) == 4
    assert len(set(marks)) == MOST_PEOPLE
