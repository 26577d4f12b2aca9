"""Pictures in the style of camera 1: six numbers, or a network that learned it where the pictures are."""

from __future__ import annotations

import pytest
import torch

from lightning_reid.datamodules import DeviceDataModule, ImageReIDDataModule
from lightning_reid.datamodules.unpaired_images import UnpairedImages
from lightning_reid.federated.sharing import LeakError
from lightning_reid.federation.edge_style import by_cyclegan, by_statistics, shared_pictures, statistics_of, style_report, translated
from lightning_reid.modules import StyleTransfer, TrackletReID
from lightning_reid.networks.color_style import color_statistics, in_colors_of
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


def test_pictures_cross_only_where_it_is_said_and_one_of_each_tracklet_first(cameras):
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


def test_a_generator_that_was_learned_is_not_learned_again(cameras, tmp_path):
    first, second = cameras
    pictures = shared_pictures(first, 6, share_style_images=True)

    def learned() -> torch.Tensor:
        module = StyleTransfer(1, 4, 2, 4, epochs=1, decay_epochs=0)
        options = {"image_size": (32, 16), "accelerator": "cpu", "quiet": True}
        translate = by_cyclegan(second, pictures, module, tmp_path / "style", **options)
        return translate(second.picture(second.target_records[0].path))

    once = learned()
    assert once.shape == second.picture(second.target_records[0].path).shape
    assert torch.equal(learned(), once)


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
