"""One crop of each track: the largest view of the person so far."""

from __future__ import annotations

from torch import Tensor

from lightning_reid.live.page.people_view import PeopleView
from lightning_reid.live.page.pictures import crop_of
from lightning_reid.tracking import CameraTracks, usable_boxes


def take_crops(people: PeopleView, picture: Tensor, tracks: CameraTracks) -> None:
    """Keep crops of those in a picture who were not seen as large before, unless others hide them.

    Args:
        people: Whose tracks they are; they keep the crops.
        picture: ``[3, H, W]`` uint8 RGB.
        tracks: Who is in it.
    """
    boxes = tracks.boxes.tolist()
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes]
    wanted = [row for row, key in enumerate(tracks.keys) if people.wants_crop(key, areas[row])]
    if not wanted:
        return
    good = usable_boxes(tracks.boxes, tracks.scores).tolist()
    for row in wanted:
        if good[row] and (crop := crop_of(picture, boxes[row])) is not None:
            people.put_crop(tracks.keys[row], crop, areas[row], tracks.stamp.captured_utc)
