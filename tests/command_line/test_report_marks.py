"""What tells things apart in the page of ``lightning-reid report``: ticks of epochs, and the marks of people on the map."""

from __future__ import annotations

import re

import pytest

from lightning_reid.command_line.report_page.charts import line_chart
from lightning_reid.command_line.report_page.findings import MOST_PEOPLE
from lightning_reid.command_line.report_page.map_section import mark_of


@pytest.mark.parametrize("epochs", [[1.0], [1.0, 2.0], [1.0, 2.0, 3.0], [float(one) for one in range(1, 62)]])
def test_epochs_have_whole_ticks_alone(epochs):
    chart = line_chart("Training loss", "epoch", "loss", {"HSR": (epochs, [0.5] * len(epochs))}, ["HSR"])
    ticks = re.findall(r'<text x="[^"]*" y="196" text-anchor="middle">([^<]*)<', chart)
    assert ticks
    assert all(tick.isdecimal() for tick in ticks), ticks


def test_people_differ_in_shape_from_the_first_on_and_no_two_look_the_same():
    marks = [mark_of(place) for place in range(MOST_PEOPLE)]
    assert len({shape for shape, _ in marks[:4]}) == 4
    assert len(set(marks)) == MOST_PEOPLE
