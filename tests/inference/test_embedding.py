from __future__ import annotations

import copy
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from lightning_reid.datamodules.decoding import CorruptImageError
from lightning_reid.datamodules.loading import load_image
from lightning_reid.datamodules.transforms import EvaluationTransform
from lightning_reid.inference import EmbeddedImages, EmbeddingPass, find_crops, write_embeddings
from lightning_reid.networks import EmbeddingNetwork, build_backbone
from lightning_reid.normalization import normalize_images


@pytest.fixture(scope="module")
def network() -> EmbeddingNetwork:
    torch.manual_seed(0)
    return EmbeddingNetwork(build_backbone("resnet18", channels=[8, 8, 16, 16], layers=[1, 1, 1, 1])).eval()


@pytest.fixture
def crops(tmp_path):
    """Seven crops of different sizes, three folders deep."""
    random = np.random.default_rng(0)
    for number in range(7):
        path = tmp_path / "crops" / "ab"[number % 2] / "deep" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40 + number, 20, 3), dtype=np.uint8)).save(path)
    return tmp_path / "crops"


def small(**options) -> EmbeddingPass:
    return EmbeddingPass(**({"image_size": (32, 16), "batch_size": 3, "device": "cpu", "quiet": True} | options))


def one_by_one(network: EmbeddingNetwork, paths) -> torch.Tensor:
    transform = EvaluationTransform((32, 16))
    with torch.no_grad():
        rows = [network(normalize_images(transform(load_image(path))[None])).embedding for path in paths]
    return F.normalize(torch.cat(rows), dim=1)


def test_embeddings_are_those_of_each_image_alone_in_the_order_of_the_paths(network, crops):
    paths = find_crops([crops])
    embedded = small().run(network, paths)
    assert embedded.paths == tuple(paths)
    assert embedded.embeddings.dtype == torch.float32
    torch.testing.assert_close(embedded.embeddings, one_by_one(network, paths), atol=1e-5, rtol=1e-4)


def test_an_image_and_its_mirror_image_share_the_mean_of_both_embeddings(network, crops):
    paths = find_crops([crops])
    for path in paths:
        Image.open(path).resize((16, 32)).save(path)  # of the network's size: resizing may round an image and its mirror image apart
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(f"{path}.mirrored.png")
    mirrored = [f"{path}.mirrored.png" for path in paths]
    found = small(flip=True).run(network, paths).embeddings
    torch.testing.assert_close(found, F.normalize(one_by_one(network, paths) + one_by_one(network, mirrored)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(small(flip=True).run(network, mirrored).embeddings, found, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found, one_by_one(network, paths), atol=1e-3)


def test_worker_processes_change_nothing(network, crops):
    paths = find_crops([crops])
    torch.testing.assert_close(small(num_workers=2).run(network, paths).embeddings, small().run(network, paths).embeddings)


def test_a_network_left_in_training_mode_embeds_as_in_evaluation_mode(network, crops):
    paths = find_crops([crops])
    expected = small().run(network, paths).embeddings
    learning = copy.deepcopy(network).train()
    assert torch.equal(small().run(learning, paths).embeddings, expected)
    assert learning.training


def test_half_precision_stays_close_and_comes_back_in_float32(network, crops):
    paths = find_crops([crops])[:1]
    halved = small(precision="bf16-mixed").run(network, paths).embeddings
    assert halved.dtype == torch.float32
    cosines = (halved * one_by_one(network, paths)).sum(1)
    assert cosines.min() > 0.99
    assert not torch.equal(halved, small().run(network, paths).embeddings)


def test_crops_are_found_at_any_depth_sorted_and_once(crops):
    (crops / "notes.txt").touch()
    (crops / "._0.png").touch()
    (crops / "odd.jpg").mkdir()
    names = [f"{crops}/{name}" for name in ("a/deep/0.png", "a/deep/2.png", "a/deep/4.png", "a/deep/6.png")]
    assert find_crops([crops / "a", crops / "a" / "deep" / "2.png"]) == names
    assert find_crops([crops]) == [*names, *(f"{crops}/b/deep/{n}.png" for n in (1, 3, 5))]


def test_files_given_by_name_need_no_image_suffix(crops):
    (crops / "a" / "deep" / "0.png").rename(crops / "frame")
    assert find_crops([crops / "frame"]) == [str(crops / "frame")]


def test_a_missing_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder .*nowhere"):
        find_crops([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty holds no images at any depth: expected files in \.jpg, "):
        find_crops([tmp_path / "empty"])


def test_an_unreadable_image_is_named_before_the_pass(network, crops):
    (crops / "a" / "deep" / "2.png").write_bytes(b"")
    (crops / "a" / "deep" / "lost.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(CorruptImageError, match=r"a/deep/2\.png is no readable image: zero bytes \(2 of 8 images"):
        small().run(network, find_crops([crops]))


def test_an_image_cut_short_is_named_during_the_pass(network, crops):
    Image.effect_noise((64, 128), 50).save(crops / "cut.jpg")
    (crops / "cut.jpg").write_bytes((crops / "cut.jpg").read_bytes()[:1500])
    with pytest.raises(CorruptImageError, match=r"cut\.jpg: the JPEG is cut short"):
        small().run(network, find_crops([crops]))


def test_skipped_images_leave_no_row_and_are_counted(network, crops, caplog):
    (crops / "a" / "deep" / "2.png").write_bytes(b"no image")
    Image.effect_noise((64, 128), 50).save(crops / "cut.jpg")
    (crops / "cut.jpg").write_bytes((crops / "cut.jpg").read_bytes()[:1500])
    paths = find_crops([crops])
    readable = [path for path in paths if not path.endswith(("2.png", "cut.jpg"))]
    with caplog.at_level(logging.WARNING):
        embedded = small(unreadable="skip").run(network, paths)
    assert embedded.paths == tuple(readable)
    torch.testing.assert_close(embedded.embeddings, one_by_one(network, readable), atol=1e-5, rtol=1e-4)
    assert "left out 2 of 8 images that cannot be read, the first: cannot decode" in caplog.text


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_of_unreadable_images_alone_are_passed_over(network, crops, batch_size):
    paths = find_crops([crops])
    for path in paths[:3]:
        Path(path).write_bytes(b"")
    assert small(unreadable="skip", batch_size=batch_size).run(network, paths).paths == tuple(paths[3:])


def test_nothing_readable_is_an_error(network, tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ValueError, match=r"none of the 1 images can be read, the first: .*a\.jpg: zero bytes"):
        small(unreadable="skip").run(network, [str(tmp_path / "a.jpg")])
    with pytest.raises(ValueError, match="there are no images to embed"):
        small().run(network, [])


def test_an_embedding_that_is_not_finite_names_its_image(network, crops):
    broken = copy.deepcopy(network)
    torch.nn.init.constant_(broken.neck.weight, torch.nan)
    with pytest.raises(ValueError, match=r"the embedding of .*a/deep/0\.png holds NaN or infinite values, as 3 of 3"):
        small().run(broken, find_crops([crops]))


@pytest.mark.parametrize("wrong", [{"image_size": (0, 128)}, {"batch_size": 0}, {"num_workers": -1}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        small(**wrong)


def test_cuda_where_there_is_none_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="finds no CUDA device here: take 'cpu' or 'auto'"):
        EmbeddingPass(device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_embeddings_of_the_cpu(network, crops):
    paths = find_crops([crops])
    there = small(device="cuda").run(network, paths).embeddings
    torch.testing.assert_close(there, small().run(network, paths).embeddings, atol=1e-2, rtol=1e-2)


def test_the_progress_bar_counts_every_image_also_skipped_ones(network, crops, capsys):
    (crops / "a" / "deep" / "2.png").write_bytes(b"")
    small(unreadable="skip", quiet=False).run(network, find_crops([crops]))
    assert "7/7 images" in capsys.readouterr().err


def test_written_embeddings_load_without_pickle(tmp_path):
    images = EmbeddedImages(("a.jpg", "ordner/grün.jpg"), torch.eye(2))
    write_embeddings(tmp_path / "new" / "embeddings.npz", images)
    with np.load(tmp_path / "new" / "embeddings.npz", allow_pickle=False) as file:
        assert sorted(file) == ["embeddings", "paths"]
        assert file["paths"].tolist() == list(images.paths)
        assert file["paths"].dtype.kind == "U"
        assert file["embeddings"].dtype == np.float32
        np.testing.assert_array_equal(file["embeddings"], np.eye(2))
