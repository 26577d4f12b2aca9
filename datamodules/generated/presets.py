"""The two generated domains.

Both were chosen once, by how real sets of their kind look, by what color histograms score on them (little) and by what a
supervised network scores (clearly more). No adaptation method was run on them before they were fixed: changing a number
here changes every score reported on generated data, so raise ``GENERATOR_VERSION`` with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lightning_reid.datamodules.generated.appearance import Wardrobe
from lightning_reid.datamodules.generated.camera import Camera

GENERATOR_VERSION = 1


@dataclass(frozen=True)
class DomainPreset:
    """Everything that distinguishes one domain from another.

    Attributes:
        name: Name of the preset.
        layout: Whose folder and file names it writes.
        code: Number that separates the random streams of the presets.
        wardrobe: What people wear.
        cameras: Cameras 1..C in order.
        camera_share: Probability that a person seen by two cameras is also seen by each further one.
        fill: Least and greatest share of the crop's height that a person takes up.
        jitter: Standard deviation of the box's misplacement, in crop heights.
        miss: Probability of a badly placed box.
        stretch: Standard deviation of the box's aspect ratio.
        occlusion: Probability that something stands in front.
        crowd: Probability that somebody else walks in the crop.
        junk: Junk boxes per distractor.
    """

    name: str
    layout: Literal["market1501", "dukemtmc"]
    code: int
    wardrobe: Wardrobe
    cameras: tuple[Camera, ...]
    camera_share: float
    fill: tuple[float, float]
    jitter: float
    miss: float
    stretch: float
    occlusion: float
    crowd: float
    junk: float


# Tables stay as they are: three lines a camera.
# fmt: off
# A campus in winter: dark coats and jackets, backpacks, eight cameras on buildings, hand-drawn boxes with room around people.
DUKE_LIKE = DomainPreset(
    name="duke-like",
    layout="dukemtmc",
    code=2,
    wardrobe=Wardrobe(
        tops={"coat": 0.24, "jacket": 0.34, "hoodie": 0.24, "shirt": 0.18},
        top_colors={
            (28, 28, 32): 5, (62, 62, 68): 4, (104, 106, 110): 3, (30, 40, 74): 4, (66, 48, 38): 2, (76, 80, 52): 2,
            (96, 34, 38): 2, (148, 132, 104): 1.5, (36, 68, 50): 1.5, (176, 176, 172): 1.5, (162, 40, 38): 1, (52, 92, 152): 1.5,
        },
        patterns={"plain": 0.52, "checks": 0.12, "stripes": 0.1, "logo": 0.1, "block": 0.14, "pinstripes": 0.02},
        bottoms={"trousers": 0.9, "skirt": 0.08, "shorts": 0.02},
        bottom_colors={(38, 46, 72): 5, (26, 26, 30): 4, (78, 82, 90): 2.5, (138, 120, 92): 2, (66, 88, 124): 2.5, (84, 66, 50): 1},
        shoe_colors={(28, 26, 26): 5, (86, 62, 44): 3, (206, 206, 204): 2, (112, 112, 116): 2},
        bags={"none": 0.3, "backpack": 0.46, "shoulder": 0.16, "handbag": 0.08},
        bag_colors={(26, 26, 30): 5, (62, 64, 72): 2, (40, 56, 96): 2, (120, 40, 40): 1, (96, 86, 60): 1, (150, 150, 150): 0.7},
        hair={"short": 0.46, "bob": 0.1, "long": 0.14, "ponytail": 0.08, "bald": 0.04, "beanie": 0.14, "cap": 0.04},
        num_shared=18,
        share=0.3,
    ),
    cameras=(
        Camera(
            ground="paving", back="brick", horizon=0.1, pitch=14, yaws=(0, 180), traffic=1.2, occluders=("pole",),
            gain=(0.99, 1.0, 1.04), exposure=1.0, gamma=1.05, haze=0.03, saturation=0.9, sun=0.15,
            resolution=0.85, blur=0.5, noise=3.0, quality=80,
        ),
        Camera(
            ground="asphalt", back="cars", horizon=0.02, pitch=18, yaws=(80, 265), traffic=1.0, occluders=("bike", "pole"),
            gain=(0.95, 0.99, 1.08), exposure=0.86, gamma=1.08, haze=0.02, saturation=0.85, sun=-0.3,
            resolution=0.75, blur=0.6, noise=4.0, quality=70,
        ),
        Camera(
            ground="lawn", back="trees", horizon=0.22, pitch=10, yaws=(20, 200), traffic=0.8, occluders=("hedge",),
            gain=(1.03, 1.02, 0.94), exposure=1.08, gamma=1.0, haze=0.04, saturation=0.95, sun=0.4,
            resolution=0.65, blur=0.5, noise=3.0, quality=75,
        ),
        Camera(
            ground="paving", back="concrete", horizon=-0.15, pitch=26, yaws=(0, 150), traffic=1.0, occluders=("pole",),
            gain=(1.0, 1.0, 1.02), exposure=1.14, gamma=0.95, haze=0.06, saturation=0.85, sun=0.1,
            resolution=0.8, blur=0.6, noise=3.0, quality=80,
        ),
        Camera(
            ground="asphalt", back="trees", horizon=0.15, pitch=12, yaws=(90, 270), traffic=1.2, occluders=("bike",),
            gain=(1.05, 1.0, 0.92), exposure=0.92, gamma=1.08, haze=0.02, saturation=0.95, sun=-0.5,
            resolution=0.85, blur=0.4, noise=3.0, quality=75,
        ),
        Camera(
            ground="tiles", back="brick", horizon=0.05, pitch=16, yaws=(180, 30), traffic=0.8, occluders=("railing", "pole"),
            gain=(1.06, 0.99, 0.91), exposure=0.86, gamma=1.0, haze=0.03, saturation=0.9, sun=0.2,
            resolution=0.7, blur=0.7, noise=4.0, quality=65,
        ),
        Camera(
            ground="paving", back="trees", horizon=0.28, pitch=8, yaws=(45, 225), traffic=0.7, occluders=("hedge", "pole"),
            gain=(0.96, 1.01, 1.02), exposure=1.02, gamma=1.0, haze=0.07, saturation=0.8, sun=0.1,
            resolution=0.6, blur=0.6, noise=3.0, quality=75,
        ),
        Camera(
            ground="asphalt", back="concrete", horizon=-0.05, pitch=22, yaws=(270, 0), traffic=1.0, occluders=("railing",),
            gain=(0.98, 0.99, 1.06), exposure=0.94, gamma=1.12, haze=0.01, saturation=0.95, sun=-0.2,
            resolution=0.9, blur=0.5, noise=3.0, quality=80,
        ),
    ),
    camera_share=0.25,
    fill=(0.8, 0.92),
    jitter=0.012,
    miss=0.02,
    stretch=0.06,
    occlusion=0.16,
    crowd=0.14,
    junk=0.0,
)

# The front of a supermarket in summer: T-shirts, shorts, skirts, bright colors, six cameras, tight boxes of a detector.
MARKET_LIKE = DomainPreset(
    name="market-like",
    layout="market1501",
    code=1,
    wardrobe=Wardrobe(
        tops={"tshirt": 0.5, "tank": 0.1, "shirt": 0.16, "dress": 0.16, "hoodie": 0.04, "jacket": 0.04},
        top_colors={
            (236, 236, 232): 5, (32, 32, 36): 2.5, (150, 152, 156): 2, (204, 44, 48): 2, (238, 140, 168): 1.8,
            (126, 188, 230): 2, (40, 84, 180): 2, (240, 208, 70): 1.5, (70, 160, 84): 1.5, (242, 140, 52): 1.2,
            (128, 76, 156): 1.2, (30, 44, 92): 1.5,
        },
        patterns={"plain": 0.46, "stripes": 0.14, "logo": 0.2, "checks": 0.07, "dots": 0.07, "pinstripes": 0.03, "block": 0.03},
        bottoms={"trousers": 0.36, "shorts": 0.44, "skirt": 0.2},
        bottom_colors={
            (84, 112, 158): 4, (34, 36, 42): 4, (48, 58, 92): 3, (190, 176, 146): 2, (226, 224, 220): 1.5, (140, 142, 140): 2,
            (206, 92, 110): 0.8, (96, 122, 84): 0.8,
        },
        shoe_colors={(228, 228, 226): 4, (36, 34, 36): 3, (196, 60, 58): 1, (92, 124, 184): 1, (172, 140, 104): 2},
        bags={"none": 0.36, "backpack": 0.26, "shoulder": 0.22, "handbag": 0.16},
        bag_colors={
            (30, 30, 34): 3, (202, 52, 52): 1.5, (66, 104, 178): 1.5, (232, 226, 214): 1.5, (146, 100, 64): 1.5,
            (236, 150, 172): 1,
        },
        hair={"short": 0.42, "bob": 0.14, "long": 0.18, "ponytail": 0.18, "bald": 0.02, "cap": 0.06},
        num_shared=18,
        share=0.3,
    ),
    cameras=(
        Camera(
            ground="tiles", back="shop", horizon=-0.02, pitch=16, yaws=(0, 180), traffic=1.3, occluders=("bike",),
            gain=(1.04, 1.0, 0.95), exposure=1.06, gamma=0.98, haze=0.03, saturation=1.05, sun=0.4,
            resolution=0.8, blur=0.5, noise=3.0, quality=60,
        ),
        Camera(
            ground="paving", back="bikes", horizon=0.08, pitch=14, yaws=(85, 200), traffic=1.0, occluders=("bike", "pole"),
            gain=(0.97, 1.01, 1.04), exposure=0.95, gamma=1.03, haze=0.03, saturation=1.0, sun=-0.5,
            resolution=0.7, blur=0.6, noise=4.0, quality=50,
        ),
        Camera(
            ground="asphalt", back="trees", horizon=0.16, pitch=10, yaws=(0, 270), traffic=1.0, occluders=("pole",),
            gain=(0.99, 1.03, 0.97), exposure=1.1, gamma=0.96, haze=0.04, saturation=1.05, sun=0.8,
            resolution=0.85, blur=0.4, noise=3.0, quality=65,
        ),
        Camera(
            ground="tiles", back="concrete", horizon=-0.1, pitch=22, yaws=(180, 60), traffic=0.9, occluders=("railing",),
            gain=(1.07, 1.0, 0.9), exposure=0.88, gamma=1.05, haze=0.02, saturation=1.0, sun=-0.2,
            resolution=0.65, blur=0.8, noise=4.0, quality=45,
        ),
        Camera(
            ground="paving", back="shop", horizon=0.02, pitch=15, yaws=(30, 210), traffic=1.2, occluders=("bike", "pole"),
            gain=(1.0, 1.0, 1.02), exposure=1.02, gamma=1.08, haze=0.02, saturation=1.1, sun=0.6,
            resolution=0.9, blur=0.5, noise=3.0, quality=60,
        ),
        Camera(
            ground="asphalt", back="cars", horizon=0.2, pitch=8, yaws=(270, 90), traffic=0.7, occluders=("hedge", "bike"),
            gain=(0.94, 0.99, 1.08), exposure=0.92, gamma=0.98, haze=0.07, saturation=0.88, sun=0.3,
            resolution=0.5, blur=0.6, noise=4.0, quality=55,
        ),
    ),
    camera_share=0.4,
    fill=(0.86, 1.0),
    jitter=0.022,
    miss=0.04,
    stretch=0.09,
    occlusion=0.14,
    crowd=0.16,
    junk=0.75,
)
# fmt: on

PRESETS = {preset.name: preset for preset in (DUKE_LIKE, MARKET_LIKE)}
