from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_reid.callbacks import RedetectAndLink
from lightning_reid.callbacks.crop_embedding import network_embedder
from lightning_reid.datamodules import VideoReIDDataModule
from lightning_reid.datamodules.generated import GeneratedBoxDetector, GeneratedTracklets
from lightning_reid.detection import Detections
from lightning_reid.modules import VideoReID
from lightning_reid.networks import EmbeddingNetwork, VideoResNet50, build_backbone
from lightning_reid.packed_tracklets import PackedTracklet, store
from lightning_reid.protocols import TrackletData
from lightning_reid.records import TrackletRecord

SIZE = (16, 8)
HEIGHT, WIDTH = 40, 24
NUM_FRAMES = 4


class ColorBlobs:
    """People are the red and the blue rectangles on gray; ``breaks_after`` calls it is killed."""

    def __init__(self, name: str = "color blobs", breaks_after: int | None = None) -> None:
        self.name, self.breaks_after, self.calls = name, breaks_after, 0

    def __call__(self, images: Sequence[Tensor]) -> list[Detections]:
        if self.breaks_after is not None and self.calls >= self.breaks_after:
            raise KeyboardInterrupt
        self.calls += 1
        return [self.people(image) for image in images]

    def people(self, image: Tensor) -> Detections:
        boxes = []
        for channel, other in ((0, 2), (2, 0)):
            inside = (image[channel] > 180) & (image[other] < 90)
            if inside.any():
                rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
                boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        return Detections(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.full((len(boxes),), 0.9))


class MeanColor(nn.Module):
    """A backbone whose feature map is a 1 x 1 convolution of the image."""

    num_features = 3

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        nn.init.eye_(self.conv.weight[:, :, 0, 0])

    @override
    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images)


def extractor() -> EmbeddingNetwork:
    return EmbeddingNetwork(MeanColor(), neck="none")


def drawn_frame(people: Mapping[str, tuple[int, int, int, int]]) -> np.ndarray:
    frame = np.full((HEIGHT, WIDTH, 3), 128, dtype=np.uint8)
    for color, (x0, y0, x1, y1) in people.items():
        frame[y0:y1, x0:x1] = (220, 20, 20) if color == "red" else (20, 20, 220)
    return frame


RED_ALONE, BLUE_ALONE = {"red": (8, 4, 20, 36)}, {"blue": (8, 4, 20, 36)}
RED_LARGE, RED_SMALL = {"red": (2, 2, 14, 38), "blue": (16, 8, 23, 28)}, {"red": (16, 8, 23, 28), "blue": (2, 2, 14, 38)}
NOBODY_THERE: dict[str, tuple[int, int, int, int]] = {}


class Tracklets(pl.LightningDataModule):
    """The least that RedetectAndLink asks of a datamodule: three tracklets as lossless images in folders."""

    def __init__(self, root: Path, shades: int = 0) -> None:
        super().__init__()
        self.image_size, self.clip_length = SIZE, 2
        scripts = {
            "0001": [RED_LARGE, RED_SMALL, RED_SMALL, NOBODY_THERE],  # the red person, whoever is larger later
            "0002": [BLUE_ALONE, BLUE_ALONE, NOBODY_THERE, BLUE_ALONE],
            "0003": [{"red": (0, 0, 5, 40)}, RED_ALONE, RED_ALONE, RED_ALONE],  # cut by the left edge in the first frame
        }
        self.records = tuple(self.written(root / name, script, int(name), shades) for name, script in scripts.items())
        self.files: dict[tuple[str, ...], Path] | None = None
        self.published: list[dict[tuple[str, ...], Path] | None] = []
        self.batches_drawn_from: list[Path] = []

    def written(self, folder: Path, script: list, pid: int, shades: int) -> TrackletRecord:
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for number, people in enumerate(script):
            frame = drawn_frame(people)
            frame[0, 0] = 128 + shades
            paths.append(str(folder / f"{number}.png"))
            cv2.imwrite(paths[-1], frame[:, :, ::-1])
        return TrackletRecord(tuple(paths), pid, camid=1)

    def tracklet_records(self) -> tuple[TrackletRecord, ...]:
        return self.records

    def read_frames(self, record: TrackletRecord) -> list[Tensor]:
        return [torch.from_numpy(cv2.imread(path)[:, :, ::-1].transpose(2, 0, 1).copy()) for path in record.paths]

    def serve_processed(self, files: Mapping[tuple[str, ...], Path] | None) -> None:
        self.files = None if files is None else dict(files)
        self.published.append(self.files)

    @override
    def train_dataloader(self) -> DataLoader:
        assert self.files is not None, "the first batch was drawn before the tracklets were served"
        self.batches_drawn_from.append(next(iter(self.files.values())).parent)
        clips = torch.stack([PackedTracklet(path).read(range(2))[0] for path in self.files.values()]).float() / 255
        return DataLoader(list(clips), batch_size=3)

    def test_dataloader(self) -> DataLoader:
        return self.train_dataloader()

    def val_dataloader(self) -> DataLoader:
        return self.train_dataloader()


class Brightness(pl.LightningModule):
    """One weight that changes with every step."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)

    @override
    def forward(self, clips: Tensor) -> Tensor:
        return self.conv(clips.flatten(0, 1)).mean((2, 3)).unflatten(0, clips.shape[:2]).mean(1)

    @override
    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self(batch).square().mean()

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self(batch)

    validation_step = test_step

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, callback: RedetectAndLink, **options) -> pl.Trainer:
    quiet = {"devices": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(default_root_dir=folder, accelerator="cpu", callbacks=[callback], **quiet | options)


def run_test(folder: Path, callback: RedetectAndLink, data: Tracklets) -> dict[tuple[str, ...], PackedTracklet]:
    trainer(folder, callback).test(Brightness(), data, verbose=False)
    assert data.files is not None
    return {paths: PackedTracklet(path) for paths, path in data.files.items()}


@pytest.fixture
def data(tmp_path: Path) -> Tracklets:
    return Tracklets(tmp_path / "frames")


def test_the_stand_in_is_a_datamodule_of_tracklets(data):
    assert isinstance(data, TrackletData)


def test_a_test_without_a_fit_serves_aligned_tracklets_and_counts_them(data, tmp_path):
    callback = RedetectAndLink(ColorBlobs(), extractor(), tmp_path / "cache")
    packed = run_test(tmp_path, callback, data)
    assert set(packed) == {record.paths for record in data.records}
    first, second, third = (packed[record.paths].read(range(NUM_FRAMES)) for record in data.records)
    red, blue = torch.tensor([220, 20, 20]).view(3, 1, 1), torch.tensor([20, 20, 220]).view(3, 1, 1)
    assert (first[0][:3] - red).abs().max() == 0, "the red person fills the frame, also where the blue one is larger"
    assert (second[0][[0, 1, 3]] - blue).abs().max() == 0
    assert (second[0][2] == 128).float().mean() > 0.9, "where nobody was found the frame is kept whole"
    assert third[1].tolist() == [[6, 0, 8, 16]] + [[0, 0, 8, 16]] * 3, "the slim box was shifted to the right"
    assert callback.report is not None
    assert callback.report.metrics() == {
        "redetect/tracklets": 3,
        "redetect/frames": 12,
        "redetect/redetected": 10,
        "redetect/several_candidates": 3,
        "redetect/shifted": 1,
        "redetect/kept_whole": 2,
    }


def test_a_second_run_reads_the_cache_and_reports_the_same(data, tmp_path):
    first, second = ColorBlobs(), ColorBlobs()
    callbacks = [RedetectAndLink(detector, extractor(), tmp_path / "cache") for detector in (first, second)]
    for callback in callbacks:
        run_test(tmp_path, callback, data)
    assert (first.calls, second.calls) == (3, 0)
    assert callbacks[0].report == callbacks[1].report


def test_a_killed_run_goes_on_where_it_stopped(data, tmp_path):
    killed, resumed = ColorBlobs(breaks_after=2), ColorBlobs()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run_test(tmp_path, RedetectAndLink(killed, extractor(), tmp_path / "cache"), data)
    assert data.files is None
    callback = RedetectAndLink(resumed, extractor(), tmp_path / "cache")
    run_test(tmp_path, callback, data)
    assert (killed.calls, resumed.calls) == (2, 1)
    unbroken = RedetectAndLink(ColorBlobs(), extractor(), tmp_path / "other cache")
    run_test(tmp_path, unbroken, data)
    assert callback.report == unbroken.report


@pytest.mark.parametrize(
    "changed",
    [{"detector": ColorBlobs("other weights")}, {"alpha": 0.5}, {"padding": 0.25}, {"encoding": "jpeg"}, {"extractor": "other"}],
    ids=lambda changed: next(iter(changed)),
)
def test_other_settings_never_meet_the_files(data, tmp_path, changed):
    run_test(tmp_path, RedetectAndLink(ColorBlobs(), extractor(), tmp_path / "cache"), data)
    detector = changed.get("detector", ColorBlobs())
    network = extractor()
    if "extractor" in changed:
        nn.init.constant_(network.backbone.conv.weight, 0.3)
        changed = {}
    options = {"detector": detector, "extractor": network, "cache": tmp_path / "cache"} | changed
    run_test(tmp_path, RedetectAndLink(**options), data)
    before, after = ({path.parent for path in files.values()} for files in data.published)
    assert before.isdisjoint(after)
    assert detector.calls == 3


def test_changed_frames_are_processed_anew(data, tmp_path):
    run_test(tmp_path, RedetectAndLink(ColorBlobs(), extractor(), tmp_path / "cache"), data)
    changed, detector = Tracklets(tmp_path / "frames", shades=1), ColorBlobs()
    run_test(tmp_path, RedetectAndLink(detector, extractor(), tmp_path / "cache"), changed)
    assert detector.calls == 3
    assert changed.files is not None
    assert set(changed.files) == set(data.files)
    assert set(changed.files.values()).isdisjoint(data.files.values())


def test_a_file_moved_from_another_cache_is_named(data, tmp_path):
    run_test(tmp_path, RedetectAndLink(ColorBlobs(), extractor(), tmp_path / "cache"), data)
    foreign = next(iter(data.files.values()))
    run_test(tmp_path, RedetectAndLink(ColorBlobs("other"), extractor(), tmp_path / "cache"), data)
    own = next(iter(data.files.values()))
    foreign.replace(own)
    with pytest.raises(ValueError, match=r"moved here from another cache. Delete it") as raised:
        run_test(tmp_path, RedetectAndLink(ColorBlobs("other"), extractor(), tmp_path / "cache"), data)
    assert str(own) in str(raised.value)


def test_what_a_killed_run_left_half_written_goes_even_where_nothing_is_missing(data, tmp_path, draft_of_a_dead_process):
    run_test(tmp_path, RedetectAndLink(ColorBlobs(), extractor(), tmp_path / "cache"), data)
    before = sorted((tmp_path / "cache").rglob("*"))
    draft_of_a_dead_process(before[-1]).write_text("half")
    run_test(tmp_path, RedetectAndLink(ColorBlobs(), extractor(), tmp_path / "cache"), data)
    assert sorted((tmp_path / "cache").rglob("*")) == before


def test_a_disk_that_is_too_small_is_found_before_the_work(data, tmp_path, monkeypatch):
    monkeypatch.setattr(store.shutil, "disk_usage", lambda folder: SimpleNamespace(free=12 * 16 * 8 * 3 - 1))
    detector = ColorBlobs()
    with pytest.raises(OSError, match=r"12 linked frames of 16x8 as raw takes about 4,608 bytes.*4,607 free.*encoding=jpeg"):
        run_test(tmp_path, RedetectAndLink(detector, extractor(), tmp_path / "cache"), data)
    assert detector.calls == 0
    assert not (tmp_path / "cache").exists()


def test_the_cache_says_its_settings(data, tmp_path):
    run_test(tmp_path, RedetectAndLink(ColorBlobs(), extractor(), tmp_path / "cache"), data)
    settings = json.loads(next((tmp_path / "cache").glob("*/settings.json")).read_text())
    assert settings["detector"] == "color blobs"
    assert (settings["alpha"], settings["image_size"]) == ("0.9", "(16, 8)")


def test_a_detector_that_answers_nonsense_is_named_with_the_frame(data, tmp_path):
    class Nonsense(ColorBlobs):
        @override
        def people(self, image: Tensor) -> Detections:
            return Detections(torch.tensor([[1.0, 1.0, torch.nan, 9.0]]), torch.tensor([0.5]))

    with pytest.raises(ValueError, match=r"color blobs.*0001.*0.png.*NaN"):
        run_test(tmp_path, RedetectAndLink(Nonsense(), extractor(), tmp_path / "cache"), data)


def test_a_fit_links_again_with_the_module_under_training(data, tmp_path):
    detector = ColorBlobs()
    callback = RedetectAndLink(detector, extractor(), tmp_path / "cache", every_n_epochs=2)
    runner = trainer(tmp_path, callback, max_epochs=4, limit_val_batches=0)
    module = Brightness()
    runner.fit(module, data)
    assert len(data.published) == 2, "before the fit and after epoch 2; after the last epoch nobody would look"
    folders = data.batches_drawn_from
    assert [folder == folders[0] for folder in folders] == [True, True, False, False]
    runner.test(module, data, verbose=False)
    assert data.batches_drawn_from[-1] == folders[-1], "a test after the fit sees what was trained on"


def test_a_new_fit_begins_with_the_extractor_again(data, tmp_path):
    callback = RedetectAndLink(ColorBlobs(), extractor(), tmp_path / "cache", every_n_epochs=1)
    for _ in range(2):
        runner = trainer(tmp_path, callback, max_epochs=2, limit_val_batches=0)
        runner.fit(Brightness(), data)
    first, linked, again, _ = data.batches_drawn_from
    assert first == again != linked


def test_progress_bars_of_linking_and_of_the_trainer_get_along(data, tmp_path):
    callback = RedetectAndLink(ColorBlobs(), extractor(), tmp_path / "cache", every_n_epochs=1)
    options = {"max_epochs": 2, "limit_val_batches": 0, "enable_progress_bar": True}
    trainer(tmp_path, callback, **options).fit(Brightness(), data)
    assert len(data.published) == 2


def test_embedding_leaves_every_part_of_the_network_in_its_mode():
    network = EmbeddingNetwork(MeanColor(), neck="bnneck").train()
    network.neck.eval()
    with network_embedder(network, SIZE, torch.device("cpu")) as embed:
        embed([torch.zeros(3, 5, 5, dtype=torch.uint8)])
    assert (network.training, network.backbone.training, network.neck.training) == (True, True, False)


def test_a_video_baseline_embeds_crops_as_the_image_network_of_its_weights():
    narrow = {"channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}
    video = VideoResNet50("resnet18", **narrow)
    image = EmbeddingNetwork(build_backbone("resnet18", **narrow))
    image.load_state_dict(video.state_dict())
    crops = [torch.randint(0, 256, (3, 40, 20), dtype=torch.uint8)] * 2
    embeddings = []
    for network in (video, image):
        with network_embedder(network, (64, 32), torch.device("cpu")) as embed:
            embeddings.append(embed(crops))
    torch.testing.assert_close(*embeddings)


def test_crops_are_embedded_normalized_at_unit_length():
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(3, 1, 1).expand(3, 7, 5)
    with network_embedder(extractor(), SIZE, torch.device("cpu")) as embed:
        embedding = embed([red])
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (torch.tensor([1.0, 0.0, 0.0]) - mean) / std
    torch.testing.assert_close(embedding, (expected / expected.norm())[None], atol=1e-6, rtol=0)


def fitted_checkpoint(folder: Path, data: Tracklets, callback: RedetectAndLink) -> str:
    runner = trainer(folder, callback, max_epochs=2, limit_val_batches=0)
    runner.fit(Brightness(), data)
    runner.save_checkpoint(folder / "two.ckpt")
    return str(folder / "two.ckpt")


def relinking(folder: Path, detector: ColorBlobs | None = None, **options) -> RedetectAndLink:
    return RedetectAndLink(detector or ColorBlobs(), extractor(), folder / "cache", every_n_epochs=1, **options)


def test_a_fit_made_longer_is_linked_as_one_that_was_that_long_and_a_test_of_its_checkpoint_sees_what_was_linked_last(data, tmp_path):
    torch.manual_seed(0)
    checkpoint = fitted_checkpoint(tmp_path, data, relinking(tmp_path))
    linked = data.files
    assert linked is not None
    again = Tracklets(tmp_path / "frames")
    runner = trainer(tmp_path, relinking(tmp_path), max_epochs=3, limit_val_batches=0)
    runner.fit(Brightness(), again, ckpt_path=checkpoint)
    unbroken = Tracklets(tmp_path / "frames")
    torch.manual_seed(0)
    trainer(tmp_path, relinking(tmp_path), max_epochs=3, limit_val_batches=0).fit(Brightness(), unbroken)
    assert again.batches_drawn_from == unbroken.batches_drawn_from[2:]  # the linking after what seemed to be the last epoch is made up for
    tested = Tracklets(tmp_path / "frames")
    detector = ColorBlobs()
    trainer(tmp_path, relinking(tmp_path, detector)).test(Brightness(), tested, ckpt_path=checkpoint, verbose=False)
    assert tested.files == linked
    assert detector.calls == 0


def test_a_resumed_fit_whose_linked_tracklets_have_gone_says_so(data, tmp_path):
    checkpoint = fitted_checkpoint(tmp_path, data, relinking(tmp_path))
    for path in data.files.values():
        path.unlink()
    runner = trainer(tmp_path, relinking(tmp_path), max_epochs=3, limit_val_batches=0)
    with pytest.raises(FileNotFoundError, match=r"have gone from the cache.*2 others.*new run"):
        runner.fit(Brightness(), data, ckpt_path=checkpoint)


def test_a_run_that_was_begun_without_it_goes_on_with_aligned_tracklets_and_says_so(data, tmp_path, caplog):
    started = Tracklets(tmp_path / "frames")
    run_test(tmp_path, RedetectAndLink(ColorBlobs(), extractor(), tmp_path / "cache"), started)  # the stand-in draws from files alone
    begun = trainer(tmp_path, pl.Callback(), max_epochs=1, limit_val_batches=0)
    begun.fit(Brightness(), started)
    begun.save_checkpoint(tmp_path / "begun.ckpt")
    callback = RedetectAndLink(ColorBlobs(), extractor(), tmp_path / "cache", padding=0)
    with caplog.at_level("WARNING"):
        trainer(tmp_path, callback, max_epochs=2, limit_val_batches=0).fit(Brightness(), data, ckpt_path=tmp_path / "begun.ckpt")
    assert "RedetectAndLink is new to this run, which has trained on tracklets as they are" in caplog.text
    assert data.files is not None


def test_a_fit_cannot_be_resumed_with_other_settings(data, tmp_path):
    checkpoint = fitted_checkpoint(tmp_path, data, relinking(tmp_path))
    runner = trainer(tmp_path, relinking(tmp_path, alpha=0.5), max_epochs=3, limit_val_batches=0)
    with pytest.raises(ValueError, match=r"alpha: '0.9', now '0.5'"):
        runner.fit(Brightness(), data, ckpt_path=checkpoint)


def test_a_checkpoint_with_the_state_loads_with_weights_only(data, tmp_path):
    checkpoint = torch.load(fitted_checkpoint(tmp_path, data, relinking(tmp_path)), weights_only=True)
    state = checkpoint["callbacks"]["RedetectAndLink"]
    assert state["first_settings"]["extractor"] != state["served_settings"]["extractor"]


def test_loggers_are_told_once(data, tmp_path):
    callback = RedetectAndLink(ColorBlobs(), extractor(), tmp_path / "cache")
    logger = pl.loggers.CSVLogger(tmp_path)
    runner = trainer(tmp_path, callback, max_epochs=1, limit_val_batches=0, logger=logger)
    runner.fit(Brightness(), data)
    logger.save()
    rows = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    assert len(rows) == 2
    assert "redetect/kept_whole" in rows[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_n_epochs": 0}, "every_n_epochs must be a whole number"),
        ({"alpha": 1.5}, "alpha must be a number in"),
        ({"padding": -0.1}, "padding must be a number in"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"encoding": "png"}, "encoding must be one of"),
    ],
)
def test_arguments_out_of_range_are_refused_at_once(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        RedetectAndLink(ColorBlobs(), extractor(), tmp_path, **options)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at"):
        RedetectAndLink(ColorBlobs(), str(tmp_path / "none.ckpt"), tmp_path)


def test_linking_again_wants_the_length_of_clips(data, tmp_path):
    del data.clip_length
    callback = RedetectAndLink(ColorBlobs(), extractor(), tmp_path / "cache", every_n_epochs=1)
    with pytest.raises(ValueError, match="needs the attribute clip_length"):
        trainer(tmp_path, callback, max_epochs=2).fit(Brightness(), data)


def test_a_datamodule_without_tracklets_is_refused(tmp_path):
    callback = RedetectAndLink(ColorBlobs(), extractor(), tmp_path / "cache")
    with pytest.raises(ValueError, match="wants a datamodule of tracklets"):
        trainer(tmp_path, callback).test(Brightness(), pl.LightningDataModule(), verbose=False)


class BreaksInRankOne(ColorBlobs):
    @override
    def __call__(self, images: Sequence[Tensor]) -> list[Detections]:
        if dist.get_rank() == 1:
            raise ValueError("the detector of rank 1 broke")
        return super().__call__(images)


def redetected_by(folder: Path, detector: ColorBlobs) -> dict[str, Any]:
    data, callback = Tracklets(folder / "frames"), RedetectAndLink(detector, extractor(), folder / "cache")
    try:
        trainer(folder, callback, devices=2, strategy="ddp").test(Brightness(), data, verbose=False)
    except ValueError as error:
        return {"error": str(error)}
    return {"calls": detector.calls, "report": callback.report.metrics(), "files": sorted(map(str, data.files.values()))}


def test_two_processes_share_the_tracklets_and_serve_what_one_does(data, tmp_path, two_processes):
    one = RedetectAndLink(ColorBlobs(), extractor(), tmp_path / "cache of one")
    run_test(tmp_path, one, data)
    first, second = two_processes(redetected_by, tmp_path, ColorBlobs())
    assert (first["calls"], second["calls"]) == (2, 1)
    assert first["report"] == second["report"] == one.report.metrics()
    assert first["files"] == second["files"]
    assert [Path(path).name for path in first["files"]] == sorted(path.name for path in data.files.values())


def test_an_error_in_one_process_is_raised_in_both(tmp_path, two_processes):
    assert two_processes(redetected_by, tmp_path, BreaksInRankOne()) == [{"error": "the detector of rank 1 broke"}] * 2


class BatchesSeen(pl.Callback):
    def __init__(self) -> None:
        self.masks: dict[str, list[Tensor]] = {"train": [], "test": []}

    @override
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.masks["train"].append(batch["masks"])

    @override
    def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0) -> None:
        self.masks["test"].append(batch["masks"])


def test_video_training_and_testing_see_masks_from_the_first_batch_of_the_workers_on(tmp_path):
    people = GeneratedTracklets("mars-like", num_train_pids=4, num_test_pids=3, num_distractors=0, frames=(4, 6), height=64, width=32)
    root = people.write(tmp_path / "people", progress=False)
    narrow = {"backbone": "resnet18", "channels": [4, 4, 8, 8], "layers": [1, 1, 1, 1]}
    data = VideoReIDDataModule(str(root), image_size=(64, 32), clip_length=4, p=2, k=2, num_workers=2, val_identities=0)
    callback, seen = RedetectAndLink(GeneratedBoxDetector(root), VideoResNet50(**narrow), tmp_path / "cache"), BatchesSeen()
    options = {"max_epochs": 1, "limit_val_batches": 0}
    runner = trainer(tmp_path, callback, **options)
    runner.callbacks.append(seen)
    module = VideoReID("baseline", narrow)
    runner.fit(module, data)
    runner.test(module, data, verbose=False)
    assert callback.report is not None
    assert callback.report.frames == sum(len(record.paths) for record in data.tracklet_records())
    assert callback.report.redetected > 0.8 * callback.report.frames
    for masks in seen.masks.values():
        shown = torch.cat([batch.flatten(0, -3) for batch in masks])
        assert shown.dtype == torch.bool
        assert shown.any((1, 2)).all()
        assert not shown.all()
