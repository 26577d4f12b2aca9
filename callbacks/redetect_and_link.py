"""Aligning noisy tracklets before they are trained or tested on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, get_args

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_number, require_path
from lightning_reid.callbacks.across_ranks import from_all_ranks, once_for_all_ranks
from lightning_reid.callbacks.crop_embedding import module_embedder, network_embedder
from lightning_reid.callbacks.epoch_ends import goes_on, require_ended_epoch
from lightning_reid.callbacks.linked_tracklet_cache import LinkedTrackletCache, RedetectionReport
from lightning_reid.callbacks.pictures import log_picture
from lightning_reid.callbacks.redetection_picture import draw_before_and_after
from lightning_reid.callbacks.tracklet_linking import Contents, clip_length, fill_cache, tracklet_contents, tracklet_data
from lightning_reid.detection import PersonDetector
from lightning_reid.detection.digests import module_digest
from lightning_reid.detection.padding import MOST_PADDING, detect_in_padded
from lightning_reid.files import write_atomically
from lightning_reid.linking.alignment import AlignedTracklet, EmbedCrops, align_tracklet
from lightning_reid.linking.placing import MIDDLE, SLIM_SHARE
from lightning_reid.networks import EmbeddingNetwork, load_embedding_network
from lightning_reid.networks.shipped import DEFAULT
from lightning_reid.packed_tracklets.format import Encoding
from lightning_reid.protocols import TrackletData
from lightning_reid.records import TrackletRecord

logger = logging.getLogger(__name__)

SHOWN_TRACKLETS = 8
"""In the picture, spread evenly over all of them."""
_METHOD = "re-detect and link, 1"
"""To be counted up when the same settings begin to give other frames."""


class RedetectAndLink(pl.Callback):
    """Finds the person in every frame of every tracklet anew, links through the tracklet, and has the datamodule serve aligned frames.

    Source: re-detect and link, section 2.5.1. It works in ``setup``, before the first batch of a fit, a validation or a test is drawn,
    on training, query and gallery tracklets alike; the datamodule then serves frames and masks from the cache. A frame in which nobody is
    found is kept whole, and counted. Processing takes minutes to hours and happens once: what is in the cache is served from there, and a
    run that was killed goes on where it stopped. Ranks share the tracklets and one cache folder; where one may have to wait for the
    others longer than half an hour, raise the ``timeout`` of the DDP strategy.

    Logs once, when it was done: ``redetect/tracklets``, ``redetect/frames``, ``redetect/redetected``, ``redetect/several_candidates``,
    ``redetect/shifted``, ``redetect/kept_whole``.

    Args:
        detector: Finds people in frames.
        extractor: Network that tells candidates apart, best trained on the original tracklets of the same data: a checkpoint that
            ``load_embedding_network`` reads, or a network. Crops have the image size of its training where the checkpoint says it, else
            the datamodule's. By default the network that comes with the library, see ``from_pretrained``, which is said.
        cache: Folder for processed tracklets, of any data and settings: each finds only its own. By default ``redetected`` where one is.
        every_n_epochs: Link again after every n-th epoch but the last, with the network under training as the extractor; ``None`` never
            does. It needs a datamodule with ``clip_length``, and has the Trainer ask for loaders anew after every epoch.
        alpha: Share of the old running embedding, eq. 2.2, in [0, 1].
        padding: Gray border on every side of a frame before it goes to the detector, as a share of its height; 0 for none. Detectors are
            trained on scenes and miss people who fill the whole image.
        encoding: ``"raw"``, the pixels, 98 KB a frame of 256 x 128; or ``"jpeg"``, about a tenth of that, to be decoded whenever read.
        batch_size: Frames a call of the detector and crops a pass of the extractor.
        picture: PNG to write of some tracklets before and after, which W&B and TensorBoard show too; ``None`` for none.

    Attributes:
        report: What was done to the tracklets served now, see ``RedetectionReport``; ``None`` before ``setup``.

    Raises:
        ValueError: An argument is out of range (here), the Trainer does not fit, the detector answers wrongly, or a fit is resumed with
            other settings than it was begun with.
        OSError: The cache does not fit on its disk; found before the work begins.
        FileNotFoundError: The checkpoint is not there, or tracklets that a resumed run was served have gone from the cache.

    Example:
        >>> import pytorch_lightning as pl
        >>> from lightning_reid.callbacks import RedetectAndLink
        >>> from lightning_reid.datamodules import VideoReIDDataModule
        >>> from lightning_reid.datamodules.generated import GeneratedBoxDetector
        >>> from lightning_reid.modules import VideoReID
        >>> model = VideoReID("baseline", {"backbone": "resnet18", "channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]})
        >>> data = VideoReIDDataModule(mars, image_size=(64, 32), clip_length=4, p=2, num_workers=0)  # mars: what GeneratedTracklets wrote
        >>> redetect = RedetectAndLink(GeneratedBoxDetector(mars), model.network, cache=folder)
        >>> trainer = pl.Trainer(accelerator="cpu", callbacks=[redetect], logger=False, enable_progress_bar=False)
        >>> scores = trainer.test(model, data, verbose=False)
        >>> redetect.report.redetected + redetect.report.kept_whole == redetect.report.frames
        True
    """

    def __init__(
        self,
        detector: PersonDetector,
        extractor: str | Path | EmbeddingNetwork = DEFAULT,
        cache: str | Path = "redetected",
        every_n_epochs: int | None = None,
        alpha: float = 0.9,
        padding: float = 0.5,
        encoding: Encoding = "raw",
        batch_size: int = 32,
        picture: str | Path | None = None,
    ) -> None:
        require_count("every_n_epochs", every_n_epochs, optional=True)
        require_number("alpha", alpha, low=0, high=1)
        require_number("padding", padding, low=0, high=MOST_PADDING)
        require_count("batch_size", batch_size)
        require_choice("encoding", encoding, get_args(Encoding))
        require_path("cache", cache)
        require_path("picture", picture, optional=True)
        self.cache, self.every_n_epochs, self.picture = Path(cache), every_n_epochs, None if picture is None else Path(picture)
        self.detector, self.alpha, self.padding, self.encoding, self.batch_size = detector, alpha, padding, encoding, batch_size
        if isinstance(extractor, EmbeddingNetwork):
            self.extractor, self.extractor_size = extractor, None
        else:
            self.extractor = load_embedding_network(extractor)
            self.extractor_size = self.extractor.image_size
            if str(extractor) == DEFAULT:
                rank_zero_info(f"re-detect and link: candidates are told apart by {DEFAULT}, trained on generated people alone")
        self.report: RedetectionReport | None = None
        self._first_settings: dict[str, str] = {}
        self._served: LinkedTrackletCache | None = None
        self._finished_epochs: int | None = None
        self._left_out, self._goes_on = False, True

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        data = tracklet_data(trainer)
        if stage == "fit" and self.every_n_epochs is not None:
            clip_length(data)  # that it has one is found now
            # loaders that live on would go on serving the old tracklets
            setattr(trainer, "reload_dataloaders_every_n_epochs", 1)  # noqa: B010  (the attribute is set dynamically)
        cache = self._cache_for(data, f"network {module_digest(self.extractor)}")
        contents = tracklet_contents(trainer, data)
        served_before, self._first_settings = self._first_settings, cache.settings
        if stage != "fit" and self._served and served_before == cache.settings and self._served.holds(contents.values()):
            cache = self._served  # a fit linked these tracklets again: a test after it sees the frames it trained on
        else:
            crop_size = self.extractor_size or data.image_size
            with network_embedder(self.extractor, crop_size, trainer.strategy.root_device) as embed:
                self._fill(trainer, data, cache, contents, embed)
        self._serve(trainer, data, cache, contents)

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.ckpt_path is not None and self._left_out and self._goes_on:  # what seemed to be the last epoch was not
            self._link_again(trainer, pl_module)
        self._left_out = False

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.every_n_epochs is not None:
            require_ended_epoch(trainer, self, self._finished_epochs)
        if trainer.ckpt_path is None:
            self._finished_epochs = 0

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        finished = self._finished_epochs = trainer.current_epoch + 1
        due = self.every_n_epochs is not None and finished % self.every_n_epochs == 0
        self._left_out = due and finished == trainer.max_epochs
        if due and not self._left_out:
            self._link_again(trainer, pl_module)

    def _link_again(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = tracklet_data(trainer)
        digest = once_for_all_ranks(trainer, lambda: module_digest(pl_module))
        cache = self._cache_for(data, f"module under training {digest}")
        contents = tracklet_contents(trainer, data)
        embed = module_embedder(trainer, pl_module, data.image_size, clip_length(data))
        self._fill(trainer, data, cache, contents, embed)
        self._serve(trainer, data, cache, contents)

    def _fill(self, trainer: pl.Trainer, data: TrackletData, cache: LinkedTrackletCache, contents: Contents, embed: EmbedCrops) -> None:
        """Detect, link and place the tracklets that the cache lacks."""

        def align(record: TrackletRecord) -> AlignedTracklet:
            frames, size = data.read_frames(record), self.batch_size
            found = detect_in_padded(self.detector, frames, padding=self.padding, batch_size=size, frame_names=record.paths)
            boxes = [people.boxes for people in found]
            return align_tracklet(frames, boxes, embed, image_size=data.image_size, alpha=self.alpha, batch_size=size)

        fill_cache(trainer, data, cache, contents, align, self.encoding)

    @override
    def state_dict(self) -> dict[str, Any]:
        served = self._served.settings if self._served else {}
        return {"first_settings": self._first_settings, "served_settings": served, "finished_epochs": self._finished_epochs} | {
            "left_out": self._left_out
        }

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._finished_epochs, self._left_out = state_dict.get("finished_epochs"), state_dict.get("left_out", False)

    @override
    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Serve what the checkpoint's run was served; it comes after ``setup`` and before any loader is made, in a fit and in a test."""
        state, fitting = checkpoint["callbacks"].get(self.state_key), trainer.state.fn == "fit"
        if state is None:
            if fitting:
                logger.warning(
                    "RedetectAndLink is new to this run, which has trained on tracklets as they are and goes on with re-detected ones"
                )
            return
        first, served = state["first_settings"], state["served_settings"]
        if fitting:
            self._goes_on = goes_on(trainer, checkpoint)
            self._require_settings(first)
        elif self.every_n_epochs is None or first != self._first_settings:
            return  # a test may ask for other settings, or for the extractor's linking, than the training
        if served != first:
            data = tracklet_data(trainer)
            self._serve(trainer, data, LinkedTrackletCache(self.cache, served), tracklet_contents(trainer, data))

    def _require_settings(self, settings: dict[str, str]) -> None:
        names = [name for name in sorted(settings | self._first_settings) if settings.get(name) != self._first_settings.get(name)]
        changed = [f"{name}: {settings.get(name)!r}, now {self._first_settings.get(name)!r}" for name in names]
        if changed:
            raise ValueError(
                f"the checkpoint's run trained on tracklets that were re-detected with other settings ({'; '.join(changed)}): "
                "resume with the same ones, or start a new run from its weights"
            )

    def _cache_for(self, data: TrackletData, extractor: str) -> LinkedTrackletCache:
        settings = {
            "method": _METHOD,
            "detector": self.detector.name,
            "extractor": extractor,
            "image_size": tuple(data.image_size),
            "crop_size": self.extractor_size or tuple(data.image_size),
            "alpha": float(self.alpha),
            "padding": float(self.padding),
            "slim_share": SLIM_SHARE,
            "middle": MIDDLE,
            "encoding": self.encoding,
        }
        return LinkedTrackletCache(self.cache, {name: str(value) for name, value in settings.items()})

    def _serve(self, trainer: pl.Trainer, data: TrackletData, cache: LinkedTrackletCache, contents: Contents) -> None:
        from_all_ranks(trainer, lambda: cache.require(contents.values()))
        report = once_for_all_ranks(trainer, lambda: cache.total_report(contents.values()))
        data.serve_processed({record.paths: cache.path(content) for record, content in contents.items()})
        told_before = self._served is not None and self._served.key == cache.key and self.report == report
        self._served, self.report = cache, report
        if told_before:
            return
        logger.info("tracklets of %s: %s", cache.folder, report)
        for one in trainer.loggers if trainer.is_global_zero else ():
            one.log_metrics(report.metrics(), step=trainer.global_step)
        if self.picture is not None and trainer.is_global_zero:
            shown = list(contents)[:: max(1, len(contents) // SHOWN_TRACKLETS)][:SHOWN_TRACKLETS]
            pairs = [(data.read_frames(record), cache.frames(contents[record])) for record in shown]
            write_atomically(self.picture, draw_before_and_after(pairs).save)
            log_picture(trainer, "redetect/before_and_after", self.picture)
