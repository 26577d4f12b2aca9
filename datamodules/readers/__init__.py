"""Readers: one plain function a data set, from its official folder to a ``ReIDDataset`` or ``TrackletDataset``.

No image is opened, nothing is downloaded.
"""

from lightning_reid.datamodules.readers.by_name import DatasetName, VideoDatasetName, read_dataset, read_video_dataset
from lightning_reid.datamodules.readers.corrections import Correction, corrected, read_corrections
from lightning_reid.datamodules.readers.cub200 import read_cub200
from lightning_reid.datamodules.readers.dukemtmc_video import read_dukemtmc_video
from lightning_reid.datamodules.readers.grid import read_grid
from lightning_reid.datamodules.readers.hidden_cameras import read_3dpes, read_ilids
from lightning_reid.datamodules.readers.ilids_vid import read_ilids_vid
from lightning_reid.datamodules.readers.image_check import UnreadableImage, find_unreadable_files, find_unreadable_images
from lightning_reid.datamodules.readers.market_naming import read_cuhk03_np, read_duke, read_market1501, read_market_folder, read_veri776
from lightning_reid.datamodules.readers.mars import read_mars, read_mars_folder
from lightning_reid.datamodules.readers.msmt17 import read_msmt17
from lightning_reid.datamodules.readers.official_counts import DatasetCountWarning, OfficialCounts
from lightning_reid.datamodules.readers.prid2011_video import read_prid2011_video
from lightning_reid.datamodules.readers.table import read_table
from lightning_reid.datamodules.readers.tracklet_table import read_tracklet_table
from lightning_reid.datamodules.readers.two_cameras import read_cuhk01, read_prid2011, read_viper

__all__ = [
    "Correction",
    "DatasetCountWarning",
    "DatasetName",
    "OfficialCounts",
    "UnreadableImage",
    "VideoDatasetName",
    "corrected",
    "find_unreadable_files",
    "find_unreadable_images",
    "read_3dpes",
    "read_corrections",
    "read_cub200",
    "read_cuhk01",
    "read_cuhk03_np",
    "read_dataset",
    "read_duke",
    "read_dukemtmc_video",
    "read_grid",
    "read_ilids",
    "read_ilids_vid",
    "read_market1501",
    "read_market_folder",
    "read_mars",
    "read_mars_folder",
    "read_msmt17",
    "read_prid2011",
    "read_prid2011_video",
    "read_table",
    "read_tracklet_table",
    "read_veri776",
    "read_video_dataset",
    "read_viper",
]
