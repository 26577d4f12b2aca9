"""What a camera does to what it sees: resolution, light, white balance, contrast, blur and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from lightning_reid.datamodules.generated.surface import Canvas

Ground = Literal["paving", "asphalt", "lawn", "tiles", "floor"]
Back = Literal["brick", "shop", "trees", "concrete", "cars", "bikes", "wall"]
Occluder = Literal["pole", "hedge", "bike", "railing", "sign"]


@dataclass(frozen=True)
class Camera:
    """One camera of a domain: where it hangs and how it records. Angles in degrees, lengths relative to the crop.

    Attributes:
        ground: What people walk on.
        back: What is behind them.
        horizon: Height of the horizon in the crop, 0 the top, 1 the bottom; negative where it lies above the crop.
        yaws: Usual directions of walking, 0 towards the camera, 90 to the right, 180 away.
        pitch: How far it looks down.
        gain: White balance, factors of red, green and blue.
        exposure: Factor of all channels.
        gamma: Exponent of the tone curve; above 1 deepens shadows.
        haze: Gray level of black, 0..1.
        saturation: 1 leaves colors as they are, 0 is gray.
        sun: Strength of light and shade, 0 (overcast)..1; negative where the sun stands to the left.
        resolution: Height of a person's recording relative to the crop's, at most 1.
        blur: Standard deviation of the defocus in pixels of the default crop.
        noise: Standard deviation of sensor noise in gray levels.
        quality: JPEG quality.
        occluders: What may stand in front of people.
        traffic: How many of all people pass here, relative to the other cameras.
    """

    ground: Ground
    back: Back
    horizon: float
    yaws: tuple[float, ...]
    pitch: float
    gain: tuple[float, float, float]
    exposure: float
    gamma: float
    haze: float
    saturation: float
    sun: float
    resolution: float
    blur: float
    noise: float
    quality: int
    occluders: tuple[Occluder, ...]
    traffic: float


@dataclass(frozen=True)
class Weather:
    """What differs from moment to moment in one camera: factors near 1."""

    exposure: float
    gain: tuple[float, float, float]
    blur: float


@lru_cache(maxsize=64)
def _tone_curve(gamma: float, haze: float) -> NDArray[np.uint8]:
    levels = np.linspace(0.0, 1.0, 256) ** gamma
    return np.rint(255.0 * (haze + (1.0 - haze) * levels)).astype(np.uint8)


def _color_matrix(camera: Camera, weather: Weather) -> NDArray[np.float32]:
    gray = np.array([[0.299, 0.587, 0.114]]).repeat(3, axis=0)
    mix = camera.saturation * np.eye(3) + (1.0 - camera.saturation) * gray
    gains = camera.exposure * weather.exposure * np.array(camera.gain) * np.array(weather.gain)
    return np.asarray(gains[:, None] * mix, np.float32)


def light_field(rng: np.random.Generator, camera: Camera, height: int, width: int) -> NDArray[np.float32]:
    """Light and shade over the camera's field of view, with the fine grain of cloth and ground.

    Args:
        rng: Source of randomness.
        camera: Its ``sun`` sets the strength.
        height: Of a crop, pixels.
        width: Of a crop, pixels.

    Returns:
        ``[2 height, 4 width, 3]`` float32 factors around 1, to be cut at random.
    """
    shape = (2 * height, 4 * width)
    field = np.zeros(shape, np.float32)
    sun = abs(camera.sun)
    for cells, strength in ((3, 0.22 * sun), (9, 0.07 * sun + 0.02), (height // 5, 0.03), (height // 2, 0.04)):
        coarse = rng.standard_normal((max(2, cells * 2), max(2, cells * 2))).astype(np.float32)
        field += strength * cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    slope = np.linspace(-1.0, 1.0, shape[1], dtype=np.float32) * 0.25 * camera.sun
    return np.ascontiguousarray(np.clip(1.0 + field + slope, 0.35, 1.7)[:, :, None].repeat(3, axis=2))


def expose(canvas: Canvas, camera: Camera, weather: Weather, light: NDArray[np.float32], noise: NDArray[np.int16]) -> Canvas:
    """Record a scene as a camera does: light, blur, noise and color.

    Args:
        canvas: ``[h, w, 3]`` uint8 RGB scene, at least the size of the crop.
        camera: Which one.
        weather: The moment.
        light: ``[height, width, 3]`` float32 factors.
        noise: ``[height, width, 3]`` int16 added at the end.

    Returns:
        ``[height, width, 3]`` uint8 RGB crop.
    """
    height, width = light.shape[:2]
    rows, columns = max(8, round(height * camera.resolution)), max(4, round(width * camera.resolution))
    image = cv2.resize(canvas, (columns, rows), interpolation=cv2.INTER_AREA)
    image = cv2.transform(image, _color_matrix(camera, weather))
    if (rows, columns) != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    image = cv2.multiply(image, light, dtype=cv2.CV_8U)
    image = cv2.LUT(image, _tone_curve(camera.gamma, camera.haze))
    sigma = camera.blur * weather.blur * height / 128
    if sigma > 0.2:
        size = 2 * math.ceil(2.5 * sigma) + 1
        image = cv2.GaussianBlur(image, (size, size), sigma)
    return np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U))
