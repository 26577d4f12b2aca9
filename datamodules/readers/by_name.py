"""From a name on the command line to a reader."""

from __future__ import annotations

from typing import Literal, get_args

from lightning_reid.datamodules.readers.cub200 import read_cub200
from lightning_reid.datamodules.readers.dukemtmc_video import read_dukemtmc_video
from lightning_reid.datamodules.readers.folders import StrPath
from lightning_reid.datamodules.readers.grid import read_grid
from lightning_reid.datamodules.readers.hidden_cameras import read_3dpes, read_ilids
from lightning_reid.datamodules.readers.ilids_vid import read_ilids_vid
from lightning_reid.datamodules.readers.market_naming import read_cuhk03_np, read_duke, read_market1501, read_market_folder, read_veri776
from lightning_reid.datamodules.readers.mars import read_mars, read_mars_folder
from lightning_reid.datamodules.readers.msmt17 import read_msmt17
from lightning_reid.datamodules.readers.prid2011_video import read_prid2011_video
from lightning_reid.datamodules.readers.table import read_table
from lightning_reid.datamodules.readers.tracklet_table import read_tracklet_table
from lightning_reid.datamodules.readers.two_cameras import read_cuhk01, read_prid2011, read_viper
from lightning_reid.records import ReIDDataset, TrackletDataset

DatasetName = Literal[
    "market1501",
    "dukemtmc-reid",
    "msmt17-v1",
    "msmt17-v2",
    "cuhk03-np-detected",
    "cuhk03-np-labeled",
    "cuhk01",
    "viper",
    "prid2011",
    "grid",
    "ilids",
    "3dpes",
    "veri776",
    "cub200",
    "market-folder",
    "table",
]

VideoDatasetName = Literal["mars", "dukemtmc-video", "ilids-vid", "prid2011-video", "mars-folder", "tracklet-table"]

FOLDERS = {
    "market1501": "Market-1501",
    "dukemtmc-reid": "DukeMTMC-reID",
    "msmt17-v1": "MSMT17_V1",
    "msmt17-v2": "MSMT17_V2",
    "cuhk03-np-detected": "cuhk03-np",
    "cuhk03-np-labeled": "cuhk03-np",
    "cuhk01": "CUHK01",
    "viper": "VIPeR",
    "prid2011": "prid_2011",
    "grid": "underground_reid",
    "ilids": "QMUL-iLIDS",
    "3dpes": "3DPeS",
    "veri776": "VeRi",
    "cub200": "CUB_200_2011",
}
"""Name of an official data set to its folder under the data root."""

VIDEO_FOLDERS = {
    "mars": "MARS",
    "dukemtmc-video": "DukeMTMC-VideoReID",
    "ilids-vid": "i-LIDS-VID",
    "prid2011-video": "prid_2011",
}
"""Name of an official video data set to its folder under the data root."""


def read_dataset(name: DatasetName, root: StrPath, *, split: int = 0) -> ReIDDataset:
    """Read the data set of that name; see the reader named after it for layout, figures and errors.

    Args:
        name: Which data set; ``"market-folder"`` and ``"table"`` are the user's own data.
        root: Its folder; for ``"table"`` the file.
        split: Which split of the sets that have several; must be 0 for the others.

    Raises:
        ValueError: The name is unknown, or ``split`` is given for a set of one split; else as the reader says.

    Example:
        >>> from lightning_reid.datamodules.readers import read_dataset
        >>> dataset = read_dataset("market-folder", market)  # or "market1501" and the folder of that set
        >>> len({record.pid for record in dataset.train}), len({record.pid for record in dataset.query})
        (10, 6)
    """
    match name:
        case "cuhk01":
            return read_cuhk01(root, split)
        case "viper":
            return read_viper(root, split)
        case "prid2011":
            return read_prid2011(root, split)
        case "grid":
            return read_grid(root, split)
        case "ilids":
            return read_ilids(root, split)
        case "3dpes":
            return read_3dpes(root, split)
    if split != 0:
        raise ValueError(f"{name} has one split only, got split={split}; leave it at 0")
    return _read_single_split(name, root)


def _read_single_split(name: DatasetName, root: StrPath) -> ReIDDataset:
    match name:
        case "market1501":
            return read_market1501(root)
        case "dukemtmc-reid":
            return read_duke(root)
        case "msmt17-v1":
            return read_msmt17(root, "v1")
        case "msmt17-v2":
            return read_msmt17(root, "v2")
        case "cuhk03-np-detected":
            return read_cuhk03_np(root, "detected")
        case "cuhk03-np-labeled":
            return read_cuhk03_np(root, "labeled")
        case "veri776":
            return read_veri776(root)
        case "cub200":
            return read_cub200(root)
        case "market-folder":
            return read_market_folder(root)
        case "table":
            return read_table(root)
    raise ValueError(f"there is no data set {name!r}; known are {', '.join(get_args(DatasetName))}")


def read_video_dataset(name: VideoDatasetName, root: StrPath, *, split: int = 0, seed: int = 0) -> TrackletDataset:
    """Read the video data set of that name; see the reader named after it for layout, figures and errors.

    Args:
        name: Which data set; ``"mars-folder"`` and ``"tracklet-table"`` are the user's own data.
        root: Its folder; for ``"tracklet-table"`` the file.
        split: 0 to 9 for iLIDS-VID and PRID-2011; must be 0 for the others.
        seed: Of the random splits of these two, where the published ones are not at hand.

    Raises:
        ValueError: The name is unknown, or ``split`` is given for a set of one split; else as the reader says.

    Example:
        >>> from lightning_reid.datamodules.readers import read_video_dataset
        >>> dataset = read_video_dataset("mars-folder", mars)  # or "mars" and the folder of that set
        >>> [(part, len(records) > 0) for part, records in dataset.splits()]
        [('train', True), ('query', True), ('gallery', True)]
    """
    match name:
        case "ilids-vid":
            return read_ilids_vid(root, split, seed)
        case "prid2011-video":
            return read_prid2011_video(root, split, seed)
    if split != 0:
        raise ValueError(f"{name} has one split only, got split={split}; leave it at 0")
    match name:
        case "mars":
            return read_mars(root)
        case "dukemtmc-video":
            return read_dukemtmc_video(root)
        case "mars-folder":
            return read_mars_folder(root)
        case "tracklet-table":
            return read_tracklet_table(root)
    raise ValueError(f"there is no video data set {name!r}; known are {', '.join(get_args(VideoDatasetName))}")
