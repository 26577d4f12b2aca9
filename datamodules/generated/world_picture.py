"""Pictures of a generated world: each person as a sprite, laid over the place from far to near, and recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_reid.datamodules.generated.appearance import Person
from lightning_reid.datamodules.generated.camera import Camera, Weather, expose
from lightning_reid.datamodules.generated.figure import draw_figure
from lightning_reid.datamodules.generated.foreground import cast_shadow
from lightning_reid.datamodules.generated.pose import Arms
from lightning_reid.datamodules.generated.streams import Stream, stream
from lightning_reid.datamodules.generated.surface import Canvas, Projection
from lightning_reid.datamodules.generated.wide_place import cut_light, cut_place, draw_place
from lightning_reid.datamodules.generated.world_camera import CODE, FAR, NEAR, WALL, WorldCamera

OVERSAMPLING = 2
"""Sprite pixels per pixel of the picture."""
FIRST_PLACE = 10_000
"""Number of the first camera's place: ``GeneratedPeople`` shows those before."""
ROWS_OF_PLACE = 210
"""Of a backdrop, that a picture shows."""
_CALM = Weather(exposure=1.0, gain=(1.0, 1.0, 1.0), blur=1.0)
_KEY = (1, 2, 253)
"""A color that nobody wears, for what a sprite leaves free."""
_MARGIN = 64
"""How far the cut of the noise moves from frame to frame, pixels."""


@dataclass(frozen=True)
class Sprite:
    """One person, drawn twice as large as they appear.

    Attributes:
        image: ``[2 h, 2 w, 3]`` uint8 RGB.
        mask: ``[2 h, 2 w]`` uint8, 255 where the person is.
        left: Column of the picture at which it begins, pixels; may lie outside.
        top: Row of the picture.
        view: Where the ground point is and how large the person, in pixels of the picture.
    """

    image: Canvas
    mask: NDArray[np.uint8]
    left: int
    top: int
    view: Projection

    def inside(self, image_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of what the picture holds of it, pixels of the picture; without area where it holds nothing."""
        (height, width), (rows, columns) = image_size, self.mask.shape
        left, top = min(max(self.left, 0), width), min(max(self.top, 0), height)
        right, bottom = min(self.left + columns // OVERSAMPLING, width), min(self.top + rows // OVERSAMPLING, height)
        return left, top, max(right, left), max(bottom, top)

    def cut(self, box: tuple[int, int, int, int]) -> tuple[slice, slice]:
        """Rows and columns of the sprite that show a box of the picture."""
        left, top, right, bottom = (OVERSAMPLING * side for side in box)
        x, y = OVERSAMPLING * self.left, OVERSAMPLING * self.top
        return slice(top - y, bottom - y), slice(left - x, right - x)


@dataclass(frozen=True)
class Scene:
    """What a camera sees without anybody, and what it adds.

    Attributes:
        camera: How it records whole pictures.
        ground: ``[H, W, 3]`` uint8 RGB, not yet recorded.
        light: ``[H, W, 3]`` float32 factors.
        noise: ``[H + 64, W + 64, 3]`` int16, cut at random.
    """

    camera: Camera
    ground: Canvas
    light: NDArray[np.float32]
    noise: NDArray[np.int16]


def draw_sprite(person: Person, view: Projection, phase: float, arms: Arms) -> Sprite:
    """Draw somebody by themselves; ``view`` is in pixels of the picture."""
    reach, (x, y) = max(view.scale_x, view.scale_y), view.ground
    left, top = int(x - 0.6 * reach) - 1, int(y - 1.15 * reach) - 1
    columns, rows = int(1.2 * reach) + 4, int(1.55 * reach) + 4
    ground = (OVERSAMPLING * (x - left), OVERSAMPLING * (y - top))
    image = np.empty((OVERSAMPLING * rows, OVERSAMPLING * columns, 3), np.uint8)
    cv2.rectangle(image, (0, 0), image.shape[1::-1], _KEY, cv2.FILLED)  # assigning takes as long as drawing the person
    large = replace(view, ground=ground, scale_x=OVERSAMPLING * view.scale_x, scale_y=OVERSAMPLING * view.scale_y)
    draw_figure(image, person, large, phase, arms)
    return Sprite(image, np.asarray(cv2.bitwise_not(cv2.inRange(image, _KEY, _KEY))), left, top, view)


def boxes_and_shares(sprites: Sequence[Sprite], image_size: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where people are, and how much of each can be seen.

    Args:
        sprites: The farthest first.
        image_size: (height, width) of the picture, pixels.

    Returns:
        Boxes ``[N, 4]`` float64 x0, y0, x1, y1 in pixels around what the picture holds of each person, hidden or not, all 0 where it holds
        nothing; shares ``[N]`` float64 in 0..1 of each whole person that lies in the picture and that nobody nearer hides.
    """
    boxes, shares = np.zeros((len(sprites), 4)), np.zeros(len(sprites))
    taken = np.zeros((OVERSAMPLING * image_size[0], OVERSAMPLING * image_size[1]), np.uint8)
    for row in reversed(range(len(sprites))):
        sprite = sprites[row]
        left, top, right, bottom = sprite.inside(image_size)
        mask = sprite.mask[sprite.cut((left, top, right, bottom))]
        if mask.size == 0:
            continue
        x, y, width, height = cv2.boundingRect(mask)
        if width == 0:
            continue
        corner = np.array([left, top, left, top])
        boxes[row] = corner + np.array([x, y, x + width, y + height]) / OVERSAMPLING
        nearer = taken[OVERSAMPLING * top : OVERSAMPLING * bottom, OVERSAMPLING * left : OVERSAMPLING * right]
        free = cv2.countNonZero(cv2.bitwise_and(mask, cv2.bitwise_not(nearer)))
        shares[row] = free / cv2.countNonZero(sprite.mask)
        np.maximum(nearer, mask, out=nearer)
    return boxes, shares


def lay_over(canvas: Canvas, sprites: Sequence[Sprite]) -> None:
    """Draw people into a picture ``[H, W, 3]``, the farthest first; where they are not, it stays as it is to the bit."""
    size = canvas.shape[:2]
    for sprite in sprites:
        left, top, right, bottom = box = sprite.inside((size[0], size[1]))
        if left == right or top == bottom:
            continue
        under = canvas[top:bottom, left:right]
        rows, columns = sprite.cut(box)
        large = cv2.resize(under, None, fx=OVERSAMPLING, fy=OVERSAMPLING, interpolation=cv2.INTER_NEAREST)
        cv2.copyTo(sprite.image[rows, columns], sprite.mask[rows, columns], large)
        under[:] = cv2.resize(large, (right - left, bottom - top), interpolation=cv2.INTER_AREA)


def build_scene(seed: int, number: int, camera: WorldCamera) -> Scene:
    """Draw what camera ``number`` (from 0) sees when nobody is there."""
    height, width = camera.image_size
    rng = stream(seed, CODE, Stream.PLACE, number)
    place = draw_place(seed, FIRST_PLACE + number, camera.wide.camera)
    window = (ROWS_OF_PLACE, round(ROWS_OF_PLACE * width / height))
    ground = cut_place(place, rng.random(), camera.row(WALL) / height, window, camera.image_size)
    person = camera.row((NEAR + FAR) / 2) - camera.row((NEAR + FAR) / 2, up=1.7)
    # the optics of the preset are those of crops: what is one pixel there is one in 128 of a person here
    whole = replace(camera.wide.camera, resolution=1.0, blur=camera.wide.camera.blur * person / height)
    noise = np.rint(rng.normal(0.0, whole.noise, (height + _MARGIN, width + _MARGIN, 3))).astype(np.int16)
    return Scene(whole, ground, cut_light(rng, place, camera.image_size), noise)


def record(scene: Scene, sprites: Sequence[Sprite], rng: np.random.Generator) -> Canvas:
    """Take the picture ``[H, W, 3]`` uint8 RGB of a scene with people, the farthest first; ``rng`` decides the noise."""
    canvas = scene.ground.copy()
    for sprite in sprites:
        _shade_ground(canvas, sprite.view, scene.camera.sun)
    lay_over(canvas, sprites)
    top, left = rng.integers(_MARGIN, size=2)
    noise = scene.noise[top : top + canvas.shape[0], left : left + canvas.shape[1]]
    return expose(canvas, scene.camera, _CALM, scene.light, noise)


def _shade_ground(canvas: Canvas, view: Projection, sun: float) -> None:
    """Cast a shadow, in the columns that it can reach."""
    x, y = view.ground
    left, right = max(0, int(x - 0.8 * view.scale_y)), min(canvas.shape[1], int(x + 0.8 * view.scale_y) + 1)
    if left < right:
        cast_shadow(canvas[:, left:right], (x - left, y), view.scale_y, sun)
