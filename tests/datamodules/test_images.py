from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from lightning_reid.datamodules.decoding import CorruptImageError
from lightning_reid.datamodules.images import (
    Draw,
    EvaluationImages,
    ResizedCrops,
    TrainImages,
    collate_images,
    require_readable,
    without_unreadable,
)
from lightning_reid.datamodules.loading import load_image
from lightning_reid.datamodules.transforms import EvaluationTransform, TrainTransform, resized, seeded, shifted
from lightning_reid.normalization import normalize_images
from lightning_reid.records import ImageRecord


@pytest.fixture
def crops(tmp_path):
    colors = np.random.default_rng(0).integers(0, 255, (4, 40, 20, 3), dtype=np.uint8)
    records = []
    for number, color in enumerate(colors):
        Image.fromarray(color).save(tmp_path / f"{number}.png")
        records.append(ImageRecord(str(tmp_path / f"{number}.png"), pid=number // 2, camid=number % 2))
    return records


@pytest.mark.parametrize("suffix", ["png", "bmp", "jpg"])
def test_images_decode_to_rgb_whatever_their_format(tmp_path, suffix):
    pixels = np.zeros((16, 8, 3), dtype=np.uint8)
    pixels[..., 0] = 200
    Image.fromarray(pixels).save(tmp_path / f"red.{suffix}", quality=100)
    image = load_image(str(tmp_path / f"red.{suffix}"))
    assert image.shape == (3, 16, 8)
    assert image.dtype == torch.uint8
    assert abs(int(image[0].float().mean()) - 200) <= 2
    assert image[1:].max() <= 3


def test_a_gray_jpeg_becomes_three_channels(tmp_path):
    cv2.imwrite(str(tmp_path / "gray.jpg"), np.full((16, 8), 77, dtype=np.uint8))
    assert load_image(str(tmp_path / "gray.jpg")).shape == (3, 16, 8)


@pytest.mark.parametrize("name", ["broken.jpg", "broken.bmp", "missing.jpg"])
def test_a_file_that_does_not_decode_is_named(tmp_path, name):
    if "missing" not in name:
        (tmp_path / name).write_bytes(b"not an image")
    with pytest.raises(CorruptImageError, match=f"{name}.*unreadable='skip'"):
        load_image(str(tmp_path / name))


def test_a_jpeg_cut_short_is_an_error_not_a_gray_area(tmp_path):
    whole = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 32, 3), dtype=np.uint8))[1].tobytes()
    (tmp_path / "short.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptImageError, match=r"short\.jpg: the JPEG is cut short"):
        load_image(str(tmp_path / "short.jpg"))


def test_zero_byte_files_are_found_before_training_named_and_counted(crops, tmp_path):
    for number in (1, 3):
        (tmp_path / f"{number}.png").write_bytes(b"")
    with pytest.raises(CorruptImageError, match=r"1\.png is no readable image: zero bytes \(2 of 4 images"):
        require_readable(crops)


def test_unreadable_images_can_be_left_out_with_a_count(crops, tmp_path, caplog):
    whole = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(whole[: len(whole) // 2])  # the header is fine, the pixels are cut short
    with caplog.at_level(logging.WARNING):
        kept = without_unreadable(crops)
    assert [record.path[-5:] for record in kept] == ["0.png", "1.png", "3.png"]
    assert "left out 1 of 4 images" in caplog.text
    assert "2.png" in caplog.text


def test_augmentation_is_a_function_of_seed_epoch_and_position(crops):
    def image(seed: int, epoch: int, position: int) -> torch.Tensor:
        return TrainImages(crops, TrainTransform((32, 16)), seed=seed)[Draw(2, position, epoch=epoch)]["image"]

    assert torch.equal(image(0, 3, 7), image(0, 3, 7))
    for other in (image(1, 3, 7), image(0, 4, 7), image(0, 3, 8)):
        assert not torch.equal(image(0, 3, 7), other)


def test_seeded_leaves_the_global_generator_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with seeded(1, 2, 3):
        torch.rand(100)
    assert torch.equal(torch.rand(3), expected)


def test_normalization_equals_the_usual_formula_in_float64():
    images = torch.randint(0, 256, (2, 3, 5, 4), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).double(), torch.tensor([0.229, 0.224, 0.225]).double()
    expected = (images.double() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(normalize_images(images).double(), expected, atol=1e-6, rtol=0)


def test_erasing_fills_with_the_mean_color_which_normalizes_to_nearly_zero():
    transform = TrainTransform((64, 32), crop_padding=0, erasing_probability=1.0)
    with seeded(0):
        erased = normalize_images(transform(torch.full((3, 64, 32), 255, dtype=torch.uint8)).unsqueeze(0))
    hidden = erased.abs().amax(1) < 0.01
    assert 0.02 <= hidden.float().mean() <= 0.4


@pytest.mark.parametrize(("down", "right"), [(0, 0), (3, -2), (-4, 4), (-1, 0), (4, -4)])
def test_shifting_equals_padding_and_cropping(down, right):
    image = torch.randint(1, 256, (3, 12, 9), dtype=torch.uint8)
    padded = functional.pad(image, [4, 4, 4, 4])
    assert torch.equal(shifted(image, down, right), functional.crop(padded, 4 + down, 4 + right, 12, 9))


def test_resizing_equals_torchvisions():
    image = torch.randint(0, 256, (3, 20, 9), dtype=torch.uint8)
    assert torch.equal(resized(image, 32, 16), functional.resize(image, [32, 16], antialias=True))
    assert resized(image, 20, 9) is image


def test_an_image_of_the_right_size_is_not_changed_in_place():
    image = torch.full((3, 32, 16), 9, dtype=torch.uint8)
    with seeded(1):
        TrainTransform((32, 16), erasing_probability=1.0)(image)
    assert (image == 9).all()


def test_flips_offsets_and_erased_areas_are_distributed_as_torchvisions():
    ramp = torch.arange(1, 33, dtype=torch.uint8).expand(3, 64, 32)
    ours = TrainTransform((64, 32), crop_padding=0, erasing_probability=0.5)
    theirs = v2.RandomErasing(p=0.5, scale=(0.02, 0.4), ratio=(0.3, 3.33), value=[124, 116, 104])
    with seeded(0):
        made = torch.stack([ours(ramp) for _ in range(2000)])
        erased = (made[:, 0] == 124).float().mean((1, 2))
        expected = torch.stack([(theirs(ramp)[0] == 124).float().mean() for _ in range(2000)])
    assert float((erased > 0).float().mean()) == pytest.approx(float((expected > 0).float().mean()), abs=0.05)
    assert float(erased[erased > 0].mean()) == pytest.approx(float(expected[expected > 0].mean()), abs=0.015)
    untouched = made[erased == 0][:, 0, 0, 0]
    assert float((untouched == 32).float().mean()) == pytest.approx(0.5, abs=0.05)
    with seeded(1):
        cropped = torch.stack([TrainTransform((64, 32), crop_padding=3, erasing_probability=0)(ramp)[0, 32, 16] for _ in range(700)])
    assert set(cropped.tolist()) == set(range(13, 21))  # 17 +- 3, or mirrored 16 +- 3


def test_evaluation_items_count_queries_and_gallery_apart(crops):
    images = EvaluationImages(crops[:1], crops[1:], EvaluationTransform((32, 16)))
    batch = collate_images([images[row] for row in range(4)])
    assert batch["images"].shape == (4, 3, 32, 16)
    assert batch["is_query"].tolist() == [True, False, False, False]
    assert batch["indices"].tolist() == [0, 0, 1, 2]
    assert batch["pids"].tolist() == [0, 0, 1, 1]


def test_crops_of_a_small_set_are_decoded_once_with_the_same_pixels_in_every_epoch(crops):
    plain, kept = TrainImages(crops, TrainTransform((32, 16)), seed=0), ResizedCrops((32, 16), len(crops))
    keeping = TrainImages(crops, TrainTransform((32, 16)), seed=0, load=kept)
    draws = [Draw(row, position=row, epoch=epoch) for epoch in (0, 1) for row in range(4)]
    expected = [plain[draw]["image"] for draw in draws]
    tested = EvaluationImages(crops[:1], crops[1:], EvaluationTransform((32, 16)))
    expected_tests = [tested[row]["image"] for row in range(4)]
    assert all(torch.equal(keeping[draw]["image"], image) for draw, image in zip(draws[:4], expected[:4]))
    for record in crops:
        Path(record.path).unlink()
    assert all(torch.equal(keeping[draw]["image"], image) for draw, image in zip(draws[4:], expected[4:]))
    tested.load = kept  # augmentation has changed nothing of what is kept
    assert all(torch.equal(tested[row]["image"], image) for row, image in enumerate(expected_tests))


def test_a_set_that_is_too_large_is_decoded_every_time(crops):
    load = ResizedCrops((32, 16), 10**6)
    load(crops[0].path)
    Path(crops[0].path).unlink()
    with pytest.raises(CorruptImageError, match=r"0\.png"):
        load(crops[0].path)
