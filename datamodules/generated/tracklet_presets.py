"""The two generated video domains: whom their cameras see, and how badly the boxes follow them.

The numbers were set once, by how MARS (weak detector, tracker on color histograms) and DukeMTMC-VideoReID (boxes drawn by hand) look, on
contact sheets, before any network was trained on them: changing one changes every score reported on generated tracklets, so raise
``TRACKLET_VERSION`` with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lightning_reid.datamodules.generated.presets import DUKE_LIKE, MARKET_LIKE, DomainPreset

TRACKLET_VERSION = 1


@dataclass(frozen=True)
class Wander:
    """Standard deviations of the three parts of an error: the same all through a tracklet, coming and going slowly, new in every frame."""

    steady: float
    drift: float
    jitter: float


@dataclass(frozen=True)
class TrackletNoise:
    """What detector and tracker do wrong, and who and what gets in the way (thesis section 2.4, Fig. 2.6).

    Attributes:
        across: Where the person stands beside the middle of the box, in box widths.
        along: Where the person stands above or below it, in box heights.
        share: Usual share of the box's height that the person takes up.
        scale: Error of that share, of its natural logarithm.
        companion: Probability that somebody walks beside the person all the time.
        passing: Probability that somebody crosses, in every 16 frames.
        in_front: Probability that such a second person is nearer to the camera than the first.
        switch: Probability that the box follows the second person for a while: once for who crosses, in every 16 frames for a companion.
        obstacle: Probability that a thing moves through the picture in front, in every 16 frames.
        false_box: Share of the ``0000`` tracklets that show nobody.
        junk: ``00-1`` tracklets per ``0000`` tracklet.
    """

    across: Wander
    along: Wander
    share: float
    scale: Wander
    companion: float
    passing: float
    in_front: float
    switch: float
    obstacle: float
    false_box: float = 0.0
    junk: float = 0.0


@dataclass(frozen=True)
class TrackletPreset:
    """A domain of people and cameras, filmed.

    Attributes:
        domain: Wardrobe, cameras, and whether distractors are ``0000`` tracklets (layout ``market1501``) or people whom no query asks for
            (layout ``dukemtmc``).
        noise: What goes wrong.
    """

    domain: DomainPreset
    noise: TrackletNoise


MARS_LIKE = TrackletPreset(
    replace(MARKET_LIKE, name="mars-like", code=3),
    TrackletNoise(
        across=Wander(0.11, 0.12, 0.07),
        along=Wander(0.03, 0.03, 0.03),
        share=0.9,
        scale=Wander(0.14, 0.11, 0.06),
        companion=0.25,
        passing=0.35,
        in_front=0.5,
        switch=0.5,
        obstacle=0.25,
        false_box=0.4,
        junk=0.5,
    ),
)

DUKEV_LIKE = TrackletPreset(
    replace(DUKE_LIKE, name="dukev-like", code=4),
    TrackletNoise(
        across=Wander(0.015, 0.01, 0.01),
        along=Wander(0.008, 0.005, 0.006),
        share=0.87,
        scale=Wander(0.02, 0.01, 0.015),
        companion=0.03,
        passing=0.05,
        in_front=0.2,
        switch=0.0,
        obstacle=0.05,
    ),
)

TRACKLET_PRESETS = {preset.domain.name: preset for preset in (DUKEV_LIKE, MARS_LIKE)}
