"""Draw parked cars and bicycles."""

from __future__ import annotations

import cv2

from lightning_reid.datamodules.generated.surface import Canvas, Color, Point, draw_line, fill, shaded

RUBBER: Color = (32.0, 32.0, 34.0)


def draw_car(canvas: Canvas, corner: Point, length: float, paint: Color) -> None:
    """Draw a car from the side, its lower left ``corner`` and ``length`` in pixels."""
    x, y = corner
    tall = 0.2 * length
    roof = [(0.15, 1), (0.3, 2), (0.7, 2), (0.85, 1)]
    fill(canvas, [(x, y), (x, y - tall), (x + length, y - tall), (x + length, y)], paint)
    fill(canvas, [(x + share * length, y - storey * tall) for share, storey in roof], (50, 58, 66))
    for share in (0.2, 0.8):
        cv2.circle(canvas, (round(x + share * length), round(y)), round(0.4 * tall), RUBBER, cv2.FILLED)


def draw_bicycle(canvas: Canvas, foot: Point, size: float, paint: Color) -> None:
    """Draw a bicycle from the side, ``foot`` the point on the ground below its middle, ``size`` its length in pixels."""
    x, y = foot
    width, radius = 0.05 * size, 0.25 * size
    rear, front = (x - 0.3 * size, y - radius), (x + 0.3 * size, y - radius)
    for hub in (rear, front):
        cv2.circle(canvas, (round(hub[0]), round(hub[1])), round(radius), shaded(RUBBER, 1.1), max(1, round(width)))
    saddle, pedals, bars = (x - 0.1 * size, y - 0.65 * size), (x + 0.05 * size, y - radius), (x + 0.22 * size, y - 0.75 * size)
    for start, stop in ((rear, saddle), (saddle, pedals), (pedals, bars), (bars, front)):
        draw_line(canvas, start, stop, width, paint)
