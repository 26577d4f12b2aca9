"""Readers: one plain function a data set, from its official folder to a ``ReIDDataset`` or ``TrackletDataset``.

No image is opened, nothing is downloaded.
"""

from lightning_reid.datamodules.readers.by_name import read_dataset, read_video_dataset
from lightning_reid.datamodules.readers.image_check import find_unreadable_images
from lightning_reid.datamodules.readers.market_naming import read_market_folder
from lightning_reid.datamodules.readers.mars import read_mars_folder
from lightning_reid.datamodules.readers.table import read_table
from lightning_reid.datamodules.readers.tracklet_table import read_tracklet_table

__all__ = [
    "find_unreadable_images",
    "read_dataset",
    "read_market_folder",
    "read_mars_folder",
    "read_table",
    "read_tracklet_table",
    "read_video_dataset",
]
