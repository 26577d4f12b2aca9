"""Networks that are simply there: what comes with the library, by its name."""

from __future__ import annotations

import json
import logging
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lightning_reid import EmbeddingPass, from_pretrained
from lightning_reid.callbacks import RedetectAndLink
from lightning_reid.detection import OpenCVPeopleDetector
from lightning_reid.inference import export_onnx
from lightning_reid.modules import SupervisedReID
from lightning_reid.networks import build_backbone, load_embedding_network, load_teacher, shipped_names
from lightning_reid.networks.shipped import DEFAULT, FOLDERS, located

NAMES = shipped_names()


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("crops")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 90)).save(folder / f"{number}.png")
    return [str(folder / f"{number}.png") for number in range(3)]


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_network_is_small_and_gives_embeddings_at_once(name, crops):
    network = from_pretrained(name)
    assert not network.training
    assert 128 <= network.num_features <= 256
    assert sum(file.stat().st_size for file in (FOLDERS / name).iterdir()) <= 2_000_000
    images = EmbeddingPass(device="cpu", quiet=True).run(network, crops)
    assert images.embeddings.shape == (3, network.num_features)
    assert float((images.embeddings @ images.embeddings.T).triu(1).max()) < 0.999


@pytest.mark.parametrize("name", NAMES)
def test_its_card_says_what_it_was_trained_on_what_it_scores_and_what_it_must_not_be_used_for(name):
    told = json.loads((FOLDERS / name / "config.json").read_text())
    assert told["trained_on"].startswith("generated-people")
    assert told["first_weights"] == "random"
    card = (FOLDERS / name / "README.md").read_text()
    for words in (told["trained_on"], "No picture of a real person", "PETS", "mAP", "must not", "Strangers in similar clothes"):
        assert words in card


def test_the_default_is_one_of_them():
    assert DEFAULT in NAMES
    assert torch.equal(*(network.neck.running_mean for network in (from_pretrained(), from_pretrained(DEFAULT))))


def test_an_unknown_name_lists_those_that_exist():
    with pytest.raises(ValueError, match=rf"there is no network 'generated-people-huge': .*{DEFAULT}"):
        from_pretrained("generated-people-huge")
    with pytest.raises(FileNotFoundError, match=rf"no weights at generated-people-huge: .* comes with the library: .*{DEFAULT}"):
        load_embedding_network("generated-people-huge")


def test_another_image_size_works_and_says_so(crops, caplog):
    network = from_pretrained()
    with caplog.at_level(logging.WARNING):
        images = EmbeddingPass(image_size=(256, 128), device="cpu", quiet=True).run(network, crops)
    height, width = network.image_size
    assert f"the network was trained on images of {height}x{width}: at 256x128 it finds people less well" in caplog.text
    assert images.embeddings.isfinite().all()


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "of another network"])
def test_a_damaged_copy_of_it_is_an_error_that_names_the_file(damage, tmp_path):
    folder = shutil.copytree(FOLDERS / DEFAULT, tmp_path / "copy")
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    match damage:
        case "cut":
            file.write_bytes(content[: len(content) // 2])
        case "flipped":
            content[9] ^= 0xFF
            file.write_bytes(content)
        case "gone":
            file.unlink()
        case "of another network":
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(config | {"backbone": "resnet50", "backbone_options": None}))
    with pytest.raises((ValueError, FileNotFoundError), match=r"copy"):
        from_pretrained(folder)


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_lies_in_the_working_directory_does_not_stand_for_it(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    match kind:
        case "folder":
            (tmp_path / DEFAULT).mkdir()
        case "file":
            (tmp_path / DEFAULT).touch()
        case "link":
            (tmp_path / DEFAULT).symlink_to("nowhere")
    assert located(DEFAULT) == FOLDERS / DEFAULT
    assert from_pretrained().num_features == 192
    if kind == "folder":
        with pytest.raises(ValueError, match=r"is no model folder, it lacks config\.json"):
            from_pretrained(f"./{DEFAULT}")


@pytest.mark.parametrize("nothing", ["", None, 3])
def test_what_names_nothing_is_refused(nothing):
    with pytest.raises(ValueError, match=r"there is no network ''|source must be a string or a path"):
        from_pretrained(nothing)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pooling": "avg"}, "is a network with pooling 'avg', and its weights are of one with gem: fetch it again"),
        ({"neck": "none"}, "with neck 'none'"),
        ({"embedding": 5}, "with embedding 5, and its weights are of one with 192"),
        ({"normalization": "none"}, "asks for the normalization 'none': networks here have ImageNet's"),
    ],
)
def test_what_a_model_folder_tells_must_be_what_its_weights_are(changed, message, tmp_path):
    folder = shutil.copytree(FOLDERS / DEFAULT, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changed))
    with pytest.raises(ValueError, match=message):
        from_pretrained(folder)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (lambda weights: weights.pop("pooling.p"), "with pooling 'gem', and its weights are of one with avg"),
        (lambda weights: [weights.pop(name) for name in list(weights) if name.startswith("neck.")], "with neck 'bnneck'"),
        (lambda weights: weights["pooling.p"].fill_(-3), "pools with the exponent -3, expected 0.01 to 1000"),
        (lambda weights: weights["neck.running_var"].fill_(-1), "a negative variance in neck.running_var"),
    ],
)
def test_weights_that_have_lost_entries_are_not_another_network(lost, message, tmp_path):
    folder = shutil.copytree(FOLDERS / DEFAULT, tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    lost(weights)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        from_pretrained(folder)


# --- every place that takes weights takes the name


def test_a_module_starts_from_it():
    told = json.loads((FOLDERS / DEFAULT / "config.json").read_text())
    model = SupervisedReID(num_classes=3, backbone=told["backbone"], backbone_options=told["backbone_options"], weights=DEFAULT)
    expected, found = (network.backbone.trunk.state_dict() for network in (from_pretrained(), model.network))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_weights_of_it_are_refused_where_the_network_is_another():
    with pytest.raises(ValueError, match=rf"{DEFAULT} \(for resnet50\) does not fit the network"):
        build_backbone("resnet50", weights=DEFAULT)


def test_it_is_a_teacher():
    teacher = load_teacher(DEFAULT)
    assert teacher.num_features == from_pretrained().num_features


def test_redetect_and_link_takes_it_by_default(tmp_path):
    callback = RedetectAndLink(OpenCVPeopleDetector(), cache=tmp_path)
    assert callback.extractor_size == from_pretrained().image_size


def test_it_gives_the_same_embeddings_as_onnx(tmp_path):
    network = from_pretrained()
    images = torch.randn(4, 3, *network.image_size, generator=torch.Generator().manual_seed(0))
    assert export_onnx(network, tmp_path / "network.onnx", images) < 1e-4
