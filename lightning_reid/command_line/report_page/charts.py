"""Charts as SVG that lies in the page, each with its numbers in a table below."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lightning_reid.command_line.report_page.markup import Markup, details, joined, table, tag

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 12, 40
HEADROOM = 1.05
"""Of what is drawn, so that the largest does not touch the edge."""
SERIES = 6
"""Different looks of lines; the seventh looks as the first."""
_MARKS = (
    "M-3,0a3,3 0 1 0 6,0a3,3 0 1 0 -6,0",
    "M-3,-3h6v6h-6z",
    "M0,-4l4,7h-8z",
    "M0,-4l4,4l-4,4l-4,-4z",
    "M0,4l4,-7h-8z",
    "M-1.3,-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",
)
_DASHES = (None, "7 3", "2 3", "9 3 2 3", "12 4", "4 2")


def line_chart(
    title: str, x_name: str, y_name: str, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], known: Sequence[str]
) -> Markup:
    """Values over epochs, a line each, told apart by color, dashes and marks; epochs are whole numbers.

    Args:
        title: Above it.
        x_name: Of the horizontal axis.
        y_name: Of the vertical axis, with its unit.
        lines: Name to x and y, at least one point each.
        known: All names that other charts have too: each looks the same in all.
    """
    xs, ys = ([value for line in lines.values() for value in line[axis]] for axis in (0, 1))
    across, up = _Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT, whole=True), _Axis(min([0.0, *ys]), HEADROOM * max(ys), HEIGHT - BOTTOM, TOP)
    looks = [known.index(name) for name in lines]
    drawn = [_line(look, across, up, line) for look, line in zip(looks, lines.values())]
    ends = "; ".join(f"{name} from {_number(line[1][0])} to {_number(line[1][-1])}" for name, line in lines.items())
    svg = _svg(f"{title}: {ends}", _frame(across, up, x_name, y_name), *drawn)
    by_x = sorted(set(xs))
    points = [dict(zip(*line)) for line in lines.values()]
    rows = [[_number(x), *(_number(one[x]) if x in one else "–" for one in points)] for x in by_x]
    return _figure(title, svg, dict(zip(lines, looks)), details("The numbers", table(f"{title}, {y_name}", [x_name, *lines], rows)))


def histogram(title: str, edges: Sequence[float], counts: Mapping[str, Sequence[int]], marked: float | None) -> Markup:
    """Shares of each kind of pair over the distance, as outlines, and a threshold as a vertical line.

    Args:
        title: Above it.
        edges: Of B bins, B + 1 of them.
        counts: Kind to B counts, each kind with one pair at least.
        marked: The threshold; ``None`` for none.
    """
    shares = {name: [count / sum(some) for count in some] for name, some in counts.items()}
    filled = [place for place in range(len(edges) - 1) if any(some[place] for some in counts.values())]
    low, high = edges[filled[0]], edges[filled[-1] + 1]
    across = _Axis(low, high, LEFT, WIDTH - RIGHT)
    up = _Axis(0, HEADROOM * max(max(some) for some in shares.values()), HEIGHT - BOTTOM, TOP)
    drawn = [
        _outline(number, across, up, edges[filled[0] : filled[-1] + 2], some[filled[0] : filled[-1] + 1])
        for number, some in enumerate(shares.values())
    ]
    line = _threshold(across, marked) if marked is not None and low <= marked <= high else None
    told = f"{title}, from {low:.2f} to {high:.2f}" + ("" if marked is None else f"; threshold {marked:.3f}")
    svg = _svg(told, _frame(across, up, "cosine distance", "share of the pairs"), *drawn, line)
    rows = [[f"{edges[at]:.2f} – {edges[at + 1]:.2f}", *(f"{some[at]:,}" for some in counts.values())] for at in filled]
    looks = {name: number for number, name in enumerate(counts)}
    return _figure(title, svg, looks, details("The numbers", table("Pairs by distance", ["cosine distance", *counts], rows)))


class _Axis:
    """From values to pixels, with round numbers for ticks, whole ones where there are no others."""

    def __init__(self, low: float, high: float, first: float, last: float, *, whole: bool = False) -> None:
        if high <= low:
            low, high = low - (0.5 if low else 0), high + 0.5
        self.low, self.high, self.first, self.last, self.whole = low, high, first, last, whole

    def at(self, value: float) -> float:
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)

    def ticks(self, count: int = 5) -> list[float]:
        rough = (self.high - self.low) / count
        step = 10 ** math.floor(math.log10(rough))
        step *= next(factor for factor in (1, 2, 5, 10) if factor * step >= rough * 0.999)
        step = max(1, step) if self.whole else step
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(place * step, 10) for place in range(first, last + 1)]


def _svg(label: str, *children: str | None) -> Markup:
    return tag("svg", *children, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label, class_="chart")


def _figure(title: str, svg: Markup, looks: Mapping[str, int], *below: Markup) -> Markup:
    keys = [tag("li", _key(number), name) for name, number in looks.items()]
    return tag("figure", tag("figcaption", title), svg, tag("ul", *keys, class_="legend"), *below)


def _key(number: int) -> Markup:
    look = number % SERIES
    line = tag("path", d="M2,8H30", class_=f"line series-{look}", stroke_dasharray=_DASHES[look])
    mark = tag("path", d=_MARKS[look], transform="translate(16,8)", class_=f"mark series-{look}")
    return tag("svg", line, mark, viewBox="0 0 32 16", width=32, height=16, aria_hidden="true")


def _line(number: int, across: _Axis, up: _Axis, line: tuple[Sequence[float], Sequence[float]]) -> Markup:
    look, places = number % SERIES, [(across.at(x), up.at(y)) for x, y in zip(*line)]
    path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in places)
    marks = [tag("path", d=_MARKS[look], transform=f"translate({x:.1f},{y:.1f})", class_=f"mark series-{look}") for x, y in places]
    return joined(tag("path", d=path, class_=f"line series-{look}", stroke_dasharray=_DASHES[look]), *(marks if len(marks) <= 40 else []))


def _outline(number: int, across: _Axis, up: _Axis, edges: Sequence[float], shares: Sequence[float]) -> Markup:
    look, base = number % SERIES, up.at(0)
    steps = "".join(f"V{up.at(share):.1f}H{across.at(end):.1f}" for share, end in zip(shares, edges[1:]))
    path = f"M{across.at(edges[0]):.1f},{base:.1f}{steps}V{base:.1f}"
    return tag("path", d=path, class_=f"line area series-{look}", stroke_dasharray=_DASHES[look])


def _threshold(across: _Axis, value: float) -> Markup:
    x = across.at(value)
    right = x > (LEFT + WIDTH) / 2
    words = tag("text", "threshold", x=x + (-5 if right else 5), y=TOP + 10, text_anchor="end" if right else "start", class_="words")
    return joined(tag("path", d=f"M{x:.1f},{TOP}V{HEIGHT - BOTTOM}", class_="threshold"), words)


def _frame(across: _Axis, up: _Axis, x_name: str, y_name: str) -> Markup:
    parts = [tag("path", d=f"M{LEFT},{TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}", class_="axis")]
    for value in across.ticks(6):
        x = across.at(value)
        parts.append(tag("path", d=f"M{x:.1f},{HEIGHT - BOTTOM}v4", class_="axis"))
        parts.append(tag("text", _number(value), x=round(x, 1), y=HEIGHT - BOTTOM + 16, text_anchor="middle"))
    for value in up.ticks():
        y = up.at(value)
        parts.append(tag("path", d=f"M{LEFT},{y:.1f}H{WIDTH - RIGHT}", class_="grid"))
        parts.append(tag("text", _number(value), x=LEFT - 6, y=round(y + 3.5, 1), text_anchor="end"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(tag("text", x_name, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 8, text_anchor="middle"))
    parts.append(tag("text", y_name, transform=f"translate(12,{middle:g}) rotate(-90)", text_anchor="middle"))
    return joined(*parts)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e9 else f"{value:.4g}"
