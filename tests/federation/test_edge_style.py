"""Pictures in the style of camera 1: six numbers, or a network that learned it where the pictures are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils._pytree import tree_flatten

from lightning_reid.datamodules import DeviceDataModule, ImageReIDDataModule
from lightning_reid.datamodules.decoding import CorruptImageError
from lightning_reid.datamodules.unpaired_images import UnpairedImages
from lightning_reid.federated.sharing import LeakError
from lightning_reid.federation.edge_style import (
    LEAST_KEPT,
    StyleReport,
    by_cyclegan,
    by_statistics,
    public_pictures,
    shared_addresses,
    shared_pictures,
    statistics_of,
    style_report,
    translated,
)
from lightning_reid.modules import StyleTransfer, TrackletReID
from lightning_reid.networks.color_style import color_statistics, in_colors_of
from lightning_reid.recipes.workshop.edge_pictures import print_styles, stored_bytes
from lightning_reid.records import ReIDDataset

TINY = {"backbone": "resnet18", "backbone_options": {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}}


@pytest.fixture(scope="module")
def cameras() -> list[DeviceDataModule]:
    whole = ImageReIDDataModule("generated-people,people=6,cameras=2", p=4, val_identities=0)
    whole.setup()
    found = []
    for camid in (1, 2):
        data = DeviceDataModule(f"camera{camid}", batch_size=8, image_size=(32, 16), num_workers=0)
        data.serve(ReIDDataset(f"camera{camid}", tuple(record for record in whole.dataset.train if record.camid == camid)))
        found.append(data)
    return found


def test_statistics_are_those_of_all_pixels_and_a_translation_has_the_others():
    pictures = [torch.randint(40, 120, (3, 9 + row, 5), dtype=torch.uint8) for row in range(6)]
    pixels = torch.cat([one.flatten(1) for one in pictures], dim=1).double() / 255
    found = color_statistics(pictures)
    torch.testing.assert_close(found.mean, pixels.mean(1).float())
    torch.testing.assert_close(found.std, pixels.std(1, unbiased=False).float())
    other = color_statistics([torch.randint(100, 200, (3, 20, 20), dtype=torch.uint8)])
    moved = color_statistics([in_colors_of(one, found, other) for one in pictures])
    assert found.distance(other) > 0.2
    assert moved.distance(other) < 0.005
    flat = torch.full((3, 4, 4), 7, dtype=torch.uint8)
    assert in_colors_of(flat, color_statistics([flat]), other).flatten(1).float().std(dim=1).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="there are none"):
        color_statistics([])


def test_by_statistics_a_device_comes_close_to_camera_1_and_people_stay(cameras, tmp_path):
    first, second = cameras
    style = statistics_of(first)
    after = translated(second, by_statistics(second, style), tmp_path / "second", num_workers=0)
    torch.manual_seed(0)
    report = style_report(TrackletReID(**TINY), second, after, style)
    assert report.after < 0.2 * report.before
    assert report.kept > 1.5 / second.num_tracklets
    assert torch.equal(after.tracklets, second.tracklets)
    joined = translated(second, by_statistics(second, style), tmp_path / "second", joined=True, num_workers=0)
    assert joined.num_images == 2 * second.num_images
    assert joined.num_tracklets == second.num_tracklets


def test_pictures_cross_only_where_it_is_said_and_one_of_each_tracklet_first(cameras, tmp_path):
    first = cameras[0]
    with pytest.raises(LeakError, match="none may leave it: say share_style_images=True"):
        shared_pictures(first, 4, share_style_images=False)
    shared = shared_pictures(first, first.num_tracklets, share_style_images=True)
    assert len(shared) == first.num_tracklets
    by_tracklet = {
        tracklet: [
            first.picture(one.path) for one, of in zip(first.target_records, first.tracklets.tolist(), strict=True) if of == tracklet
        ]
        for tracklet in range(first.num_tracklets)
    }
    of = [next(number for number, mine in by_tracklet.items() if any(torch.equal(one, other) for other in mine)) for one in shared]
    assert sorted(of) == list(range(first.num_tracklets))
    assert len(shared_pictures(first, 10_000, share_style_images=True)) == first.num_images
    stored = translated(first, lambda picture: picture, tmp_path / "first", num_workers=0)
    files = shared_addresses(stored, 4, share_style_images=True)
    assert stored_bytes(stored, files) == sum(Path(file).stat().st_size for file in files) < stored_bytes(stored)


QUICK = {"image_size": (32, 16), "accelerator": "cpu", "quiet": True}


def test_a_generator_that_was_learned_is_not_learned_again(cameras, tmp_path):
    first, second = cameras
    pictures = shared_pictures(first, 6, share_style_images=True)

    def learned() -> torch.Tensor:
        module = StyleTransfer(1, 4, 2, 4, epochs=1, decay_epochs=0)
        translate = by_cyclegan(second, pictures, module, tmp_path / "style", **QUICK)
        return translate(second.picture(second.target_records[0].path))

    once = learned()
    assert once.shape == second.picture(second.target_records[0].path).shape
    assert torch.equal(learned(), once)


class PowerCutError(Exception):
    """What ends a process at once."""


class CutOff(StyleTransfer):
    """Learns up to the fifth pair of its second pass."""

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        if self.current_epoch == 1 and batch_idx == 4:
            raise PowerCutError
        super().training_step(batch, batch_idx)


def test_a_generator_whose_learning_was_cut_off_within_a_pass_ends_as_an_unbroken_one(cameras, tmp_path):
    pictures = shared_pictures(cameras[0], 6, share_style_images=True)
    few = DeviceDataModule("camera2", batch_size=8, image_size=(32, 16), num_workers=0)
    few.serve(ReIDDataset("camera2", cameras[1].dataset.train[:8]))
    told = {"epochs": 2, "decay_epochs": 1, "pool_size": 3, "seed": 3}

    def learn(kind: type[StyleTransfer], folder: str) -> torch.Tensor:
        translate = by_cyclegan(few, pictures, kind(1, 4, 2, 4, **told), tmp_path / folder, seed=3, **QUICK)
        return translate(few.picture(few.target_records[0].path))

    whole = learn(StyleTransfer, "whole")
    with pytest.raises(PowerCutError):
        learn(CutOff, "cut")
    halfway = torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)
    assert halfway["global_step"] == 2 * few.num_images  # of two optimizers, after one pass
    assert torch.equal(learn(StyleTransfer, "cut"), whole)
    ends = [torch.load(tmp_path / folder / "last.ckpt", weights_only=True) for folder in ("whole", "cut")]
    for name in ("state_dict", "pools", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
        one, other = (tree_flatten(end[name]) for end in ends)
        assert one[1] == other[1], name
        assert all(torch.equal(*pair) if isinstance(pair[0], torch.Tensor) else pair[0] == pair[1] for pair in zip(one[0], other[0])), name
    assert len(ends[0]["optimizer_states"]) == len(ends[0]["lr_schedulers"]) == len(ends[0]["pools"]) == 2
    assert not torch.equal(ends[0]["pools"]["to_style"], halfway["pools"]["to_style"])


def test_translations_that_were_stopped_leave_no_folder_and_are_made_from_the_beginning(cameras, tmp_path):
    second, made = cameras[1], []

    def failing(picture: torch.Tensor) -> torch.Tensor:
        made.append(picture)
        if len(made) == 3:
            raise PowerCutError
        return picture

    with pytest.raises(PowerCutError):
        translated(second, failing, tmp_path / "second", num_workers=0)
    assert list(tmp_path.iterdir()) == []
    after = translated(second, failing, tmp_path / "second", num_workers=0)
    assert len(made) == 3 + second.num_images == 3 + len(list((tmp_path / "second").iterdir()))
    translated(second, failing, tmp_path / "second", num_workers=0)
    assert len(made) == 3 + second.num_images
    assert torch.equal(after.picture(after.target_records[0].path), second.picture(second.target_records[0].path))


def test_pictures_of_a_public_folder_are_drawn_by_the_seed_and_what_is_no_picture_is_named(tmp_path):
    for number in range(6):
        Image.new("RGB", (4, 8), (40 * number, 0, 0)).save(tmp_path / f"{number}.png")

    def drawn(number: int, seed: int) -> list[int]:
        return [int(one.max()) // 40 for one in public_pictures(tmp_path, number, seed=seed)]

    assert sorted(drawn(100, 0)) == list(range(6))
    assert drawn(3, 1) == drawn(6, 1)[:3] != drawn(3, 2)
    (tmp_path / "2.png").write_bytes(b"no picture")
    with pytest.raises(CorruptImageError, match=r"cannot decode .*2\.png"):
        public_pictures(tmp_path, 6)
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder .*missing"):
        public_pictures(tmp_path / "missing", 6)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no images"):
        public_pictures(tmp_path / "empty", 6)
    with pytest.raises(ValueError, match="number must be"):
        public_pictures(tmp_path, 0)


def test_a_style_of_no_pictures_or_for_none_is_refused_by_the_name_of_the_device(cameras, tmp_path):
    first, second = cameras
    nobody = DeviceDataModule("camera7", batch_size=8, image_size=(32, 16), num_workers=0)
    nobody.serve(ReIDDataset("camera7", ()))
    refused = r"camera7 has no pictures: .* Leave it out"
    with pytest.raises(ValueError, match=refused):
        shared_pictures(nobody, 6, share_style_images=True)
    with pytest.raises(ValueError, match=refused):
        by_statistics(nobody, statistics_of(first))
    with pytest.raises(ValueError, match=refused):
        by_statistics(second, statistics_of(nobody))
    pictures = shared_pictures(first, 6, share_style_images=True)
    with pytest.raises(ValueError, match=refused):
        by_cyclegan(nobody, pictures, StyleTransfer(1, 4), tmp_path, **QUICK)
    with pytest.raises(ValueError, match=r"pictures of two cameras, got \d+ and 0"):
        by_cyclegan(second, [], StyleTransfer(1, 4), tmp_path, **QUICK)


@pytest.mark.parametrize(("image_size", "message"), [((30, 16), r"divisible by 4, got \(30, 16\)"), ((64, 20), "sides of 24 or more")])
def test_sides_that_generators_or_judges_cannot_take_are_refused(cameras, tmp_path, image_size, message):
    first, second = cameras
    module = StyleTransfer(1, 4, 3, 4, epochs=1, decay_epochs=0)
    with pytest.raises(ValueError, match=message):
        by_cyclegan(second, shared_pictures(first, 2, share_style_images=True), module, tmp_path, **(QUICK | {"image_size": image_size}))


def test_a_picture_of_a_device_that_cannot_be_read_is_named(cameras, tmp_path):
    data = translated(cameras[1], lambda picture: picture, tmp_path / "second", num_workers=0)
    (tmp_path / "second" / "000002.png").write_bytes(b"")
    with pytest.raises(CorruptImageError, match=r"000002\.png: zero bytes"):
        by_statistics(data, statistics_of(cameras[0]))


@pytest.mark.parametrize(("kept", "warnings"), [(0.021, 1), (LEAST_KEPT, 0), (0.9, 0)])
def test_a_device_whose_people_dissolve_is_warned_of(kept, warnings, capsys, caplog):
    print_styles({"camera2": StyleReport(0.27, 0.19, kept)})
    assert f"{100 * kept:.1f}" in capsys.readouterr().out
    assert len(caplog.records) == warnings
    if warnings:
        assert caplog.records[0].getMessage() == "camera2: only 2.1 % of its translations are still nearest to their own tracklet"


def test_an_under_trained_generator_keeps_few(cameras, tmp_path, capsys, caplog):
    first, second = cameras
    module = StyleTransfer(1, 4, 2, 4, epochs=1, decay_epochs=0)
    translate = by_cyclegan(second, shared_pictures(first, 6, share_style_images=True), module, tmp_path / "learned", **QUICK)
    after = translated(second, translate, tmp_path / "second", num_workers=0)
    torch.manual_seed(0)
    report = style_report(TrackletReID(**TINY), second, after, statistics_of(first))
    assert report.kept < LEAST_KEPT
    print_styles({second.dataset_name: report})
    assert "camera2: only" in caplog.text


def test_pairs_follow_from_seed_and_epoch_and_what_is_empty_is_refused():
    black, white = torch.zeros(3, 20, 10, dtype=torch.uint8), torch.full((3, 20, 10), 255, dtype=torch.uint8)
    own = {str(number): black + number for number in range(6)}

    def epoch(seed: int) -> list[int]:
        data = UnpairedImages([*own], own.__getitem__, [white, white - 1], image_size=(16, 8), seed=seed)
        return [int(batch["images"].max()) for batch in data.train_dataloader()]

    assert sorted(epoch(0)) == list(range(6))
    assert epoch(0) == epoch(0) != epoch(1)
    with pytest.raises(ValueError, match="pictures of two cameras, got 0 and 1"):
        UnpairedImages([], own.__getitem__, [white])
    with pytest.raises(ValueError, match="divisible by 4"):
        UnpairedImages(["0"], own.__getitem__, [white], image_size=(30, 16))
