"""``GeneratedWorld``: several cameras along one street, and people who walk from one to the next."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from lightning_reid.arguments import checked_image_size, require_count, require_number, require_seed, require_switch, shown
from lightning_reid.datamodules.camera_truth import CameraTruth, CameraVisit, stays_of
from lightning_reid.datamodules.generated.streams import Stream, stream
from lightning_reid.datamodules.generated.world_camera import CODE, LEAST_INSIDE, Street, WorldCamera, build_street
from lightning_reid.datamodules.generated.world_cast import Actor, draw_cast
from lightning_reid.datamodules.generated.world_people import draw_people, sight_of
from lightning_reid.datamodules.generated.world_picture import Scene, Sprite, boxes_and_shares, build_scene, record
from lightning_reid.datamodules.generated.world_route import Meeting, Steps, draw_routes, steps_of

LONGEST_ABSENCE = 1.0
"""Seconds; who is back at the same camera sooner has not left it."""


MOST_STEPS = 20_000_000
"""Of all people in all pictures: they are planned at once, in some gigabytes."""


@dataclass(frozen=True)
class GeneratedWorld:
    """A street that several cameras look at, and people who never were who walk along it: for trackers, with the truth beside it.

    People come from one end of the street and walk from camera to camera, with stops; some turn back. Between two cameras nobody sees
    them, for some seconds, unless the views overlap. A picture is a function of the arguments, the camera and the number alone: any can
    be drawn without those before, and it is the same in every process. Cameras differ in place, light, color, optics and noise as those
    of ``GeneratedPeople`` do; people and places are others than there.

    Attributes:
        seed: At least 0; another seed gives other people, cameras and itineraries.
        num_cameras: 1 to 64.
        num_people: 1 to 1000; two for each meeting and each pair of twins.
        seconds: How long it lasts, 10 to 36,000.
        fps: Pictures a second of each camera, 1 to 60.
        image_size: (height, width) of a picture in pixels, 64 to 2160 high and 0.5 to 2.4 times as wide.
        overlapping: Whether neighboring cameras share a part of their views.
        encounters: So many times two people walk towards each other in the view of a camera, meet, and turn back.
        crossings: So many times two people pass each other in the view of a camera.
        twins: So many pairs of people wear nearly the same clothes.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> from lightning_reid.datamodules.generated import GeneratedWorld
        >>> world = GeneratedWorld(seed=0, num_cameras=2, num_people=8, seconds=20, image_size=(144, 192), encounters=1, crossings=1)
        >>> world.frame(camid=1, number=100).shape
        (144, 192, 3)
        >>> truth = world.truth(camid=1, number=100)
        >>> len(truth.boxes) == len(truth.pids) == len(truth.visits) == len(truth.visible)
        True
    """

    seed: int = 0
    num_cameras: int = 3
    num_people: int = 20
    seconds: float = 60.0
    fps: float = 10.0
    image_size: tuple[int, int] = (288, 384)
    overlapping: bool = False
    encounters: int = 3
    crossings: int = 3
    twins: int = 1

    def __post_init__(self) -> None:
        require_seed("seed", self.seed)
        require_count("num_cameras", self.num_cameras, high=64)
        require_count("num_people", self.num_people, high=1000)
        require_number("seconds", self.seconds, low=10, high=36_000)
        require_number("fps", self.fps, low=1, high=60)
        object.__setattr__(self, "image_size", checked_image_size("image_size", self.image_size))
        height, width = self.image_size
        if not (64 <= height <= 2160 and 0.5 <= width / height <= 2.4):
            raise ValueError(f"image_size must be 64 to 2160 pixels high and 0.5 to 2.4 times as wide, got {shown(self.image_size)}")
        require_switch("overlapping", self.overlapping)
        for name in ("encounters", "crossings", "twins"):
            require_count(name, getattr(self, name), low=0)
        if self.num_people * self.num_frames > MOST_STEPS:
            raise ValueError(
                f"{self.num_people} people for {self.num_frames:,} pictures are more than {MOST_STEPS:,} steps: ask for fewer seconds"
            )
        needed = 2 * max(self.encounters + self.crossings, self.twins)
        if needed > self.num_people:
            raise ValueError(
                f"encounters={self.encounters} and crossings={self.crossings} take two people each, and so do twins={self.twins}: "
                f"num_people must be at least {needed}, got {self.num_people}"
            )

    @property
    def num_frames(self) -> int:
        """Pictures of each camera."""
        return int(self.seconds * self.fps)

    @property
    def meetings(self) -> tuple[Meeting, ...]:
        """The encounters, then the crossings."""
        return self._walks[1]

    @property
    def visits(self) -> tuple[CameraVisit, ...]:
        """Every stay of a person in the view of a camera; visit number n is at place n - 1."""
        return self._stays[0]

    def frame(self, camid: int, number: int) -> NDArray[np.uint8]:
        """Draw one picture of a camera.

        Args:
            camid: Camera, from 1.
            number: Of the frame, from 0; all cameras take theirs at the same time.

        Returns:
            ``[H, W, 3]`` uint8 RGB.

        Raises:
            ValueError: There is no such camera or frame.
        """
        camid, number = self._checked(camid, number)
        scene = _scene(self.seed, camid - 1, self.street.cameras[camid - 1])
        sprites = [sprite for _, sprite in _people(self, camid, number)]
        return record(scene, sprites, stream(self.seed, CODE, Stream.FRAME, camid, number))

    def truth(self, camid: int, number: int) -> CameraTruth:
        """Who is in a picture, with a row for everybody of whom it holds about a third or more, by pid.

        Args:
            camid: Camera, from 1.
            number: Of the frame, from 0.

        Raises:
            ValueError: There is no such camera or frame.
        """
        camid, number = self._checked(camid, number)
        drawn = _people(self, camid, number)
        boxes, visible = boxes_and_shares([sprite for _, sprite in drawn], self.image_size)
        visits = self._stays[1][camid - 1, :, number]
        rows = sorted((row for row, (pid, _) in enumerate(drawn) if visits[pid - 1]), key=lambda row: drawn[row][0])
        pids = np.array([drawn[row][0] for row in rows], np.int64)
        return CameraTruth(boxes[rows], pids, visits[pids - 1].astype(np.int64), visible[rows])

    @cached_property
    def street(self) -> Street:
        """Where the cameras stand."""
        return build_street(self.seed, self.num_cameras, self.image_size, overlapping=self.overlapping)

    @cached_property
    def cast(self) -> tuple[Actor, ...]:
        """What people look like; the person of pid p is at place p - 1."""
        return draw_cast(self.seed, self.num_people, self.twins)

    @cached_property
    def _walks(self) -> tuple[Steps, tuple[Meeting, ...]]:
        """All walks, each field ``[num_people, num_frames]``, and who meets on them."""
        routes, meetings = draw_routes(
            self.seed, self.street, self.num_people, self.seconds, encounters=self.encounters, crossings=self.crossings
        )
        walks = [steps_of(route, np.arange(self.num_frames) / self.fps) for route in routes]
        return Steps(*(np.stack([getattr(walk, field.name) for walk in walks]) for field in fields(Steps))), meetings

    @cached_property
    def _stays(self) -> tuple[tuple[CameraVisit, ...], NDArray[np.int32]]:
        """The visits, and the number of the visit by camera, person and frame, 0 for none."""
        steps = self._walks[0]
        sights = [sight_of(camera, self.cast, steps, slice(None)) for camera in self.street.cameras]
        inside = np.stack([sight.share_inside(self.image_size) >= LEAST_INSIDE for sight in sights])
        seen = inside & (steps.under_way > 0)
        visits: list[CameraVisit] = []
        numbers = np.zeros(seen.shape, np.int32)
        for camera, row in np.ndindex(*seen.shape[:2]):
            for stay in stays_of(np.flatnonzero(seen[camera, row]), LONGEST_ABSENCE * self.fps):
                visits.append(CameraVisit(len(visits) + 1, row + 1, camera + 1, int(stay[0]), int(stay[-1])))
                numbers[camera, row, stay] = len(visits)
        return tuple(visits), numbers

    def _checked(self, camid: int, number: int) -> tuple[int, int]:
        require_count("camid", camid, high=self.num_cameras)
        require_count("number", number, low=0, high=self.num_frames - 1)
        return int(camid), int(number)


@lru_cache(maxsize=64)
def _scene(seed: int, number: int, camera: WorldCamera) -> Scene:
    return build_scene(seed, number, camera)


@lru_cache(maxsize=24)
def _people(world: GeneratedWorld, camid: int, number: int) -> tuple[tuple[int, Sprite], ...]:
    """What is drawn and where it is come of the same."""
    return draw_people(world.street.cameras[camid - 1], world.cast, world._walks[0], number)
