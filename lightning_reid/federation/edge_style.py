"""Devices' pictures in the style of camera 1, each translated where it is.

Source: edge-device text, section 3.1. The text contradicts itself: no images are exchanged, and every device gets some of camera 1's. So
these cross only where it is said that they may.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from lightning_reid.arguments import require_count
from lightning_reid.clustering.memories import tracklet_memories
from lightning_reid.datamodules import DeviceDataModule
from lightning_reid.datamodules.blocks.pictures import of_several
from lightning_reid.datamodules.loading import load_image
from lightning_reid.datamodules.transforms import resized
from lightning_reid.datamodules.unpaired_images import UnpairedImages
from lightning_reid.federated.sharing import LeakError
from lightning_reid.federation.edge_device import device_embeddings
from lightning_reid.files import folder_written_whole
from lightning_reid.inference.embedding import find_crops
from lightning_reid.modules import StyleTransfer, TrackletReID
from lightning_reid.networks.color_style import ColorStatistics, color_statistics, in_colors_of
from lightning_reid.records import ImageRecord, ReIDDataset

StyleName = Literal["cyclegan", "statistics"]
Translate = Callable[[Tensor], Tensor]
"""A picture ``[3, h, w]`` uint8 to one of the same size."""
LEAST_KEPT = 0.5


@dataclass(frozen=True)
class StyleReport:
    """What a device's translation came to, without any label.

    Attributes:
        before: Distance of its color statistics to camera 1's.
        after: The same of its translations.
        kept: Share of translations whose nearest memory among the device's originals is that of their own tracklet; below a half
            people dissolve.
    """

    before: float
    after: float
    kept: float


def shared_pictures(data: DeviceDataModule, number: int, *, share_style_images: bool, seed: int = 0) -> list[Tensor]:
    """The pictures at ``shared_addresses``, which see."""
    addresses = shared_addresses(data, number, share_style_images=share_style_images, seed=seed)
    return [data.picture(address) for address in addresses]


def shared_addresses(data: DeviceDataModule, number: int, *, share_style_images: bool, seed: int = 0) -> list[str]:
    """Which pictures of camera 1 the other devices get: one of each tracklet first, in random order, until there are enough.

    Args:
        data: Of camera 1.
        number: At least 1; fewer where the camera has fewer.
        share_style_images: Whether its owner says that they may cross.
        seed: Of the draw.

    Raises:
        LeakError: They may not.
        ValueError: There are none.
    """
    if not share_style_images:
        raise LeakError(
            f"CycleGAN wants pictures of {data.dataset_name}, and none may leave it: say share_style_images=True, give a public folder"
            " (style_images), or take style='statistics', six numbers"
        )
    require_count("number", number)
    addresses = _addresses(data)
    order = torch.randperm(len(addresses), generator=torch.Generator().manual_seed(seed))
    tracklets = data.tracklets[order]
    seen: dict[int, int] = {}
    turns = []
    for place, tracklet in enumerate(tracklets.tolist()):
        turns.append((seen.get(tracklet, 0), place))
        seen[tracklet] = seen.get(tracklet, 0) + 1
    return [addresses[int(order[place])] for _, place in sorted(turns)[:number]]


def public_pictures(folder: str | Path, number: int, *, seed: int = 0) -> list[Tensor]:
    """Pictures of a folder that is not a device's, drawn at random, to learn a style from: nothing crosses then.

    Args:
        folder: With image files at any depth.
        number: At least 1; fewer where there are fewer.
        seed: Of the draw.

    Raises:
        FileNotFoundError: There is no such folder, or no image in it.
        CorruptImageError: A file that was drawn is no image.
    """
    require_count("number", number)
    files = find_crops([folder])
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed))
    return [load_image(files[row]) for row in order[:number].tolist()]


def by_statistics(own: DeviceDataModule, style: ColorStatistics) -> Translate:
    """The translation of a device's pictures to other color statistics."""
    mine = statistics_of(own)
    return lambda picture: in_colors_of(picture, mine, style)


def by_cyclegan(
    own: DeviceDataModule,
    style_pictures: Sequence[Tensor],
    module: StyleTransfer,
    folder: Path,
    *,
    image_size: tuple[int, int] = (256, 256),
    accelerator: str = "auto",
    seed: int = 0,
    quiet: bool = False,
) -> Translate:
    """Learn the translation of a device's pictures; from ``last.ckpt`` in ``folder`` where an earlier sitting left one.

    Args:
        own: The device's images.
        style_pictures: Of camera 1, or public ones.
        module: Untrained.
        folder: Of its checkpoint.
        image_size: (height, width) in pixels at which pictures are translated.
        accelerator: Of the Trainer.
        seed: Of what is drawn.
        quiet: Show no progress bar.

    Raises:
        ValueError: There are no pictures on one side, or sides of ``image_size`` are not divisible by 4, or too small.
    """
    data = UnpairedImages(_addresses(own), own.picture, style_pictures, image_size=image_size, seed=seed)
    module.require_size(*image_size)
    last = folder / "last.ckpt"
    epochs = module.hparams["epochs"] + module.hparams["decay_epochs"]
    saving = pl.callbacks.ModelCheckpoint(dirpath=folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=epochs,
        callbacks=[saving],
        logger=False,
        enable_progress_bar=not quiet,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    resumed: dict[str, Any] = {"ckpt_path": str(last), "weights_only": True} if last.is_file() else {}
    trainer.fit(module, data, **resumed)
    module.eval()

    def translate(picture: Tensor) -> Tensor:
        height, width = int(picture.shape[1]), int(picture.shape[2])
        return resized(module.translate(resized(picture, *image_size)[None])[0], height, width)

    return translate


def statistics_of(data: DeviceDataModule) -> ColorStatistics:
    """Color statistics of a device's pictures.

    Raises:
        ValueError: It has none.
    """
    return color_statistics(data.picture(address) for address in _addresses(data))


def _addresses(data: DeviceDataModule) -> list[str]:
    """Where a device's pictures are, of which there must be some."""
    if not data.target_records:
        raise ValueError(f"{data.dataset_name} has no pictures: a style is learned from some, and given to some. Leave it out")
    return [record.path for record in data.target_records]


def translated(data: DeviceDataModule, translate: Translate, folder: Path, *, joined: bool = False, **options: Any) -> DeviceDataModule:
    """The device with its pictures translated, or with their translations beside them; written once, as PNG files.

    Args:
        data: The device.
        translate: A picture to one of the same size.
        folder: For the files; where it is, they are there.
        joined: Keep the originals too.
        options: Arguments of ``DeviceDataModule``.
    """
    records = data.target_records
    names = [f"{row:06d}.png" for row in range(len(records))]
    if not folder.is_dir():
        with folder_written_whole(folder) as draft:
            for name, record in zip(names, records, strict=True):
                Image.fromarray(translate(data.picture(record.path)).permute(1, 2, 0).numpy()).save(draft / name)
    made: tuple[ImageRecord, ...] = tuple(replace(one, path=str(folder / name)) for name, one in zip(names, records, strict=True))
    found = DeviceDataModule(data.dataset_name, batch_size=data.batch_size, image_size=data.image_size, **options)
    train = (*records, *made) if joined else made
    pictures = of_several([data.dataset])
    found.serve(ReIDDataset(data.dataset.name, train, data.dataset.query, data.dataset.gallery, pictures=pictures))
    return found


def style_report(module: TrackletReID, before: DeviceDataModule, after: DeviceDataModule, style: ColorStatistics) -> StyleReport:
    """Judge a device's translations without any label; a warning where people dissolve is for whoever prints it.

    Args:
        module: Embeds pictures.
        before: The device as it was.
        after: With its pictures replaced.
        style: Color statistics of camera 1.
    """
    memories = tracklet_memories(device_embeddings(module, before), before.tracklets, before.num_tracklets)
    nearest = (F.normalize(device_embeddings(module, after), dim=1) @ memories.T).argmax(1)
    kept = float((nearest == after.tracklets).double().mean())
    return StyleReport(statistics_of(before).distance(style), statistics_of(after).distance(style), kept)
