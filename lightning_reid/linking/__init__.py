"""Re-detect and link: choosing the person in each frame of a noisy tracklet, and aligning the frames to that person."""

from lightning_reid.linking.alignment import AlignedTracklet, EmbedCrops, align_tracklet
from lightning_reid.linking.placing import (
    MIDDLE,
    SLIM_SHARE,
    PlacedPerson,
    cut_out,
    place_person,
    side_of_slim_box,
    whole_frame,
    whole_picture,
)
from lightning_reid.linking.running_embedding import NOBODY, candidates_to_embed, largest_box, link_candidates

__all__ = [
    "MIDDLE",
    "NOBODY",
    "SLIM_SHARE",
    "AlignedTracklet",
    "EmbedCrops",
    "PlacedPerson",
    "align_tracklet",
    "candidates_to_embed",
    "cut_out",
    "largest_box",
    "link_candidates",
    "place_person",
    "side_of_slim_box",
    "whole_frame",
    "whole_picture",
]
