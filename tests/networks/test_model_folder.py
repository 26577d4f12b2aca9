"""Networks saved into a model folder and loaded from it: the same to the bit, whole or not at all, and nothing that no file may ask for."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from lightning_reid import from_pretrained
from lightning_reid.arguments import shown
from lightning_reid.files import replaced_folder
from lightning_reid.inference import load_network, read_calibration, write_calibration
from lightning_reid.modules import SupervisedReID, VideoReID
from lightning_reid.modules.video import load_video_network
from lightning_reid.networks import (
    CFAAN,
    NVAN,
    STENVAN,
    ChannelPlan,
    EmbeddingNetwork,
    ModelFacts,
    VideoResNet50,
    build_backbone,
    group_batch_norm,
    load_embedding_network,
    materialize,
    model_folder,
    weights,
)
from lightning_reid.networks.model_folder import round_weights
from lightning_reid.networks.reduced_embedding import ReducedEmbeddingNetwork
from lightning_reid.networks.shipped import DEFAULT, FOLDERS
from lightning_reid.networks.told_building import built_from
from lightning_reid.networks.video.by_name import VIDEO_NETWORKS
from lightning_reid.networks.video.network import VideoNetwork

NARROW = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
DEEPER = {"channels": [8, 8, 16, 16], "layers": [1, 2, 2, 1]}
SIZE = (64, 32)


def narrow(**options: str) -> EmbeddingNetwork:
    return EmbeddingNetwork(build_backbone("resnet18", **NARROW), **options)


def unpadded() -> EmbeddingNetwork:
    network = narrow()
    network.backbone.trunk.maxpool, network.backbone.first_pooling = torch.nn.MaxPool2d(3, stride=2, ceil_mode=True), "unpadded"
    return network


def padded(network: EmbeddingNetwork) -> EmbeddingNetwork:
    keep = {"backbone.trunk.layer2.0.downsample.0": torch.arange(16) % 3 > 0, "backbone.trunk.layer2.1.conv1": torch.arange(16) < 9}
    return materialize(network, ChannelPlan((1, 3, 64, 32), keep, "zero-padded"))


def pruned(network: EmbeddingNetwork, shape: tuple[int, ...]) -> EmbeddingNetwork:
    return materialize(network, ChannelPlan(shape, {"backbone.trunk.layer1.0.conv1": torch.arange(8) % 3 > 0}))


NETWORKS: dict[str, Callable[[], EmbeddingNetwork]] = {
    "average": narrow,
    "gem": lambda: narrow(pooling="gem"),
    "no neck": lambda: narrow(neck="none"),
    "last stride 2": lambda: EmbeddingNetwork(build_backbone("resnet18", last_stride=2, **NARROW)),
    "transformer": lambda: EmbeddingNetwork(build_backbone("vit_tiny_patch16_224", depth=1, embed_dim=24, num_heads=2)),
    "osnet": lambda: EmbeddingNetwork(build_backbone("osnet_x0_25", channels=(16, 16, 16, 16))),
    "osnet-ain": lambda: EmbeddingNetwork(build_backbone("osnet_ain_x1_0", channels=[16, 16, 16, 16])),
    "released osnet": lambda: ReducedEmbeddingNetwork(build_backbone("osnet_x0_25", channels=[16, 16, 16, 16])),
    "fast-reid's pooling": unpadded,
    "groups of batches": lambda: group_batch_norm(narrow(), 2),
    "pruned": lambda: pruned(narrow(), (1, 3, 64, 32)),
    "pruned, zero-padded": lambda: padded(EmbeddingNetwork(build_backbone("resnet18", channels=[8, 16, 16, 16], layers=[1, 2, 1, 1]))),
    "baseline": lambda: VideoResNet50("resnet18", pooling="max", stem_relu=False, **NARROW),
    "nvan": lambda: NVAN("resnet18", non_local_blocks=(0, 1, 1, 0), **DEEPER),
    "stenvan": lambda: STENVAN("resnet18", stripes=4, temporal_reduction=(3,), pairwise=True, **NARROW),
    "cfaan": lambda: CFAAN(
        "resnet18", heads=4, scales=2, clip_length=2, image_size=SIZE, channels=[16, 16, 32, 32], layers=[1, 1, 1, 1], last_stride=2
    ),
    "pruned nvan": lambda: pruned(NVAN("resnet18", **DEEPER), (1, 2, 3, 64, 32)),
}


def trained(make: Callable[[], EmbeddingNetwork]) -> EmbeddingNetwork:
    """A network none of whose numbers is what it begins with."""
    torch.manual_seed(0)
    network = make()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator))
    return network.eval()


def inputs(network: EmbeddingNetwork) -> torch.Tensor:
    frames = (network.clip_length or 4,) if isinstance(network, VideoNetwork) else ()
    return torch.randint(0, 256, (2, *frames, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def embedded(network: EmbeddingNetwork) -> torch.Tensor:
    with torch.inference_mode():
        return network(inputs(network)).embedding


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "narrow"
    trained(narrow).save_pretrained(folder, image_size=SIZE)
    return folder


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    return shutil.copytree(saved, tmp_path / "copy")


def changed(folder: Path, **keys: object) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | keys))
    return folder


# --- the same to the bit


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_that_was_saved_gives_the_same_embeddings_to_the_bit(kind, tmp_path):
    network = trained(NETWORKS[kind])
    expected = embedded(network)
    network.save_pretrained(
        tmp_path / "model", image_size=SIZE, clip_length=4 if isinstance(network, VideoNetwork) and kind != "cfaan" else None
    )
    assert torch.equal(embedded(network), expected)
    loaded = from_pretrained(tmp_path / "model")
    assert type(loaded) is type(network)
    assert loaded.image_size == SIZE
    assert not loaded.training
    assert torch.equal(embedded(loaded), expected)
    assert loaded.architecture == network.architecture


@pytest.mark.parametrize("kind", ["gem", "fast-reid's pooling", "pruned", "nvan"])
def test_a_network_that_was_loaded_is_saved_as_the_same_files(kind, tmp_path):
    trained(NETWORKS[kind]).save_pretrained(tmp_path / "model", image_size=SIZE)
    from_pretrained(tmp_path / "model").save_pretrained(tmp_path / "again")
    files = [{file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("model", "again")]
    assert files[0] == files[1]


def test_every_kind_of_network_of_clips_is_known_by_its_own_name():
    assert {name: one.name for name, one in VIDEO_NETWORKS.items()} == {name: name for name in VIDEO_NETWORKS}
    assert set(VIDEO_NETWORKS) <= set(NETWORKS)


def test_the_network_that_comes_along_is_saved_as_it_lies_in_the_library(tmp_path):
    network = from_pretrained()
    network.save_pretrained(tmp_path / "model", half=True)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (FOLDERS / DEFAULT / "model.safetensors").read_bytes()
    pixels = torch.randint(0, 256, (2, 3, *network.image_size), dtype=torch.uint8)
    assert torch.equal(from_pretrained(tmp_path / "model")(pixels).embedding, network(pixels).embedding)
    told = [json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "model", FOLDERS / DEFAULT)]
    facts = ("trained_on", "epochs", "first_weights")  # which nobody told here
    assert told[0] == {name: value for name, value in told[1].items() if name not in facts}


def test_a_module_under_training_is_saved_as_it_embeds_in_evaluation_and_goes_on(tmp_path):
    module = SupervisedReID(num_classes=3, backbone="resnet18", backbone_options=NARROW).train()
    module.network.save_pretrained(tmp_path / "model", image_size=SIZE)
    assert module.network.training
    loaded = EmbeddingNetwork.from_pretrained(tmp_path / "model")
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in module.network.state_dict().items())


def test_half_of_the_numbers_are_stored_only_where_no_embedding_changes(tmp_path):
    network = trained(narrow)
    with pytest.raises(ValueError, match=r"has weights that half precision has not: call round_weights\(network\) before half=True"):
        network.save_pretrained(tmp_path / "model", image_size=SIZE, half=True)
    assert not (tmp_path / "model").exists()
    round_weights(network)
    network.save_pretrained(tmp_path / "model", image_size=SIZE, half=True)
    assert torch.equal(embedded(from_pretrained(tmp_path / "model")), embedded(network))


def test_a_network_of_half_precision_is_saved_as_what_float32_makes_of_its_weights(tmp_path):
    network = trained(narrow).bfloat16()
    network.save_pretrained(tmp_path / "model", image_size=SIZE)
    assert network.dtype == torch.bfloat16
    assert torch.equal(embedded(from_pretrained(tmp_path / "model")), embedded(network.float()))
    with pytest.raises(ValueError, match="the network is of float64, and a model folder of float32"):
        network.double().save_pretrained(tmp_path / "other", image_size=SIZE)
    torch.nn.init.constant_(network.float().neck.weight, float("nan"))
    with pytest.raises(ValueError, match=r"neck\.weight has numbers that are not finite"):
        network.save_pretrained(tmp_path / "other", image_size=SIZE)


@pytest.mark.parametrize(
    "change",
    [
        lambda network: network.neck.register_forward_hook(lambda *given: 2 * given[2]),
        lambda network: setattr(network.backbone.trunk, "act1", torch.nn.Identity()),
        lambda network: setattr(network.backbone.trunk, "layer4", torch.nn.Identity()),
        lambda network: setattr(network, "pooling", torch.nn.Sequential(torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten())),
    ],
    ids=["hook", "no activation", "no stage", "another pooling"],
)
def test_a_network_that_was_changed_by_hand_is_not_saved_as_another(change, tmp_path):
    network = trained(narrow)
    change(network)
    with pytest.raises(ValueError, match="the network cannot be saved, as it was changed since it was built"):
        network.save_pretrained(tmp_path / "model", image_size=SIZE)
    assert list(tmp_path.iterdir()) == []


def test_what_was_put_together_by_hand_cannot_be_told_by_a_file(tmp_path):
    network = narrow()
    network.backbone.options = None
    with pytest.raises(ValueError, match=r"the backbone resnet18 was put together by hand.*build_backbone"):
        network.save_pretrained(tmp_path / "model", image_size=SIZE)
    with pytest.raises(ValueError, match="VideoNetwork was put together by hand"):
        VideoNetwork(build_backbone("resnet18", **NARROW)).save_pretrained(tmp_path / "model", image_size=SIZE)


def test_nobody_guesses_the_size_of_the_images(tmp_path):
    with pytest.raises(ValueError, match="image_size must be told"):
        narrow().save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="image_size must be height and width"):
        narrow().save_pretrained(tmp_path / "model", image_size=(0, 3))
    with pytest.raises(ValueError, match="config is not taken"):
        narrow().save_pretrained(tmp_path / "model", image_size=SIZE, config={"a": 1})
    with pytest.raises(ValueError, match="facts must be ModelFacts"):
        narrow().save_pretrained(tmp_path / "model", image_size=SIZE, facts={"title": "x"})


# --- who reads it


def test_a_class_takes_its_own_kind_alone(tmp_path, saved):
    trained(NETWORKS["nvan"]).save_pretrained(tmp_path / "clips", image_size=SIZE)
    assert type(NVAN.from_pretrained(tmp_path / "clips")) is NVAN
    assert type(EmbeddingNetwork.from_pretrained(tmp_path / "clips")) is NVAN
    with pytest.raises(ValueError, match="is a network of the class NVAN, and STENVAN was asked for"):
        STENVAN.from_pretrained(tmp_path / "clips")
    with pytest.raises(ValueError, match="is a network of the class EmbeddingNetwork, and NVAN was asked for"):
        NVAN.from_pretrained(saved)


def test_a_network_of_clips_is_read_where_clips_are_embedded_and_refused_where_crops_are(tmp_path):
    trained(NETWORKS["nvan"]).save_pretrained(tmp_path / "clips", image_size=SIZE, clip_length=4)
    network = load_video_network(tmp_path / "clips")
    assert (network.clip_length, network.image_size) == (4, SIZE)
    with pytest.raises(ValueError, match=r"is of a network of clips \(nvan\), and crops are to be embedded one by one"):
        load_network(tmp_path / "clips")


def test_a_pruned_network_of_a_module_is_saved_as_small_as_it_is(tmp_path):
    module = VideoReID("baseline", {"backbone": "resnet18", **NARROW}, num_classes=2)
    module.materialize(ChannelPlan((1, 2, 3, 64, 32), {"backbone.trunk.layer1.0.conv1": torch.arange(8) < 5}))
    module.network.save_pretrained(tmp_path / "small", image_size=SIZE, clip_length=2)
    loaded = from_pretrained(tmp_path / "small")
    assert loaded.get_submodule("backbone.trunk.layer1.0.conv1").out_channels == 5


# --- whole or not at all


def test_a_folder_that_was_there_is_replaced_as_a_whole_and_its_calibration_goes_with_another_network(tmp_path):
    folder, network = tmp_path / "model", from_pretrained()
    network.save_pretrained(folder, half=True)
    write_calibration(folder / "calibration.json", read_calibration(FOLDERS / DEFAULT / "calibration.json"))
    network.save_pretrained(folder, half=True, facts=ModelFacts("again"))
    assert (folder / "calibration.json").read_bytes() == (FOLDERS / DEFAULT / "calibration.json").read_bytes()
    assert "# again" in (folder / "README.md").read_text()
    trained(narrow).save_pretrained(folder, image_size=SIZE)
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_a_card_stays_where_the_same_network_is_saved_again_and_nothing_is_told_of_it(tmp_path):
    network, folder = trained(narrow), tmp_path / "model"
    network.save_pretrained(folder, image_size=SIZE, facts=ModelFacts("first", trained_on="market1501"))
    (folder / "README.md").write_text("edited by hand")
    network.save_pretrained(folder, image_size=SIZE)
    assert (folder / "README.md").read_text() == "edited by hand"
    assert json.loads((folder / "config.json").read_text())["trained_on"] == "market1501"
    network.save_pretrained(folder, image_size=(96, 48))
    assert "images of 96x48 pixels" in (folder / "README.md").read_text()
    assert "trained_on" not in json.loads((folder / "config.json").read_text())


def test_a_full_disk_leaves_what_was_there(small_disk):
    folder = small_disk / "model"
    small = trained(narrow)
    small.save_pretrained(folder, image_size=SIZE)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(OSError, match=r"cannot write .*model: No space left on device\. Give another folder, or free the disk$"):
        from_pretrained().save_pretrained(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [file.name for file in small_disk.iterdir()] == ["model"]


def test_a_process_killed_between_the_two_renamings_loses_nothing(copy, monkeypatch):
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    copy.rename(replaced_folder(copy))  # as it is at that instant
    with pytest.raises(ValueError, match=r"There is .*\.copy\.replaced, which was to be replaced when its process was stopped"):
        from_pretrained(copy)

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_folder, "model_of_folder", fails)
    with pytest.raises(OSError, match="No space left"):
        trained(narrow).save_pretrained(copy, image_size=SIZE)
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_disk_that_fails_at_a_renaming_leaves_the_old_folder_or_the_new_one(step, copy, monkeypatch):
    import lightning_reid.files as files

    whole, count = files.publish, [0]

    def failing(draft: Path, path: Path) -> None:
        count[0] += 1
        if count[0] == step:
            raise OSError(5, "Input/output error")
        whole(draft, path)

    monkeypatch.setattr(files, "publish", failing)
    new = trained(lambda: narrow(pooling="gem"))
    if step < 3:
        with pytest.raises(OSError, match=r"cannot write .*Input/output error"):
            new.save_pretrained(copy, image_size=SIZE)
    else:
        new.save_pretrained(copy, image_size=SIZE)
    assert from_pretrained(copy).pooling_name == ("avg" if step < 3 else "gem")
    assert [file.name for file in copy.parent.iterdir()] == ["copy"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"README.md": "mine"}, r"is no model folder, it lacks config\.json: its 'README\.md' would be lost: give another folder"),
        ({"config.json": '{"architectures": ["Bert"]}'}, r"lacks model\.safetensors: its 'config\.json' would be lost"),
        ({"config.json": "{}", "model.safetensors": "mine"}, "is no model folder of this library, and would be lost: give another folder"),
        ({"config.json": "{", "model.safetensors": "mine"}, "is no model folder of this library, and would be lost: give another folder"),
        ({"model.safetensors": "mine"}, r"lacks config\.json: its 'model\.safetensors' would be lost"),
        ({"README.md/mine.txt": "mine"}, r"holds 'README\.md', which is no file, as it is in a model folder, and would be lost"),
        ({"mine.txt": "mine"}, r"holds 'mine\.txt', which is no file of a model folder and would be lost"),
    ],
    ids=["a card", "a config", "a foreign config", "a cut config", "weights", "a folder", "another file"],
)
@pytest.mark.parametrize("name", ["m", ".m.replaced"])
def test_what_somebody_else_put_into_a_folder_or_its_neighbor_is_refused_and_stays(name, files, message, tmp_path):
    for file, text in files.items():
        (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name / file).write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        trained(narrow).save_pretrained(tmp_path / "m", image_size=SIZE)
    assert name in str(caught.value)
    assert {file: (tmp_path / name / file).read_text() for file in files} == files
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_a_file_and_a_link_in_the_place_of_what_is_replaced_are_refused_and_stay(copy):
    before = replaced_folder(copy)
    before.write_text("mine")
    with pytest.raises(ValueError, match=r"\.copy\.replaced is in the way, which is no folder, and would be lost: rename it"):
        trained(narrow).save_pretrained(copy, image_size=SIZE)
    assert before.read_text() == "mine"
    before.unlink()
    before.symlink_to(copy.parent)
    with pytest.raises(ValueError, match="is in the way"):
        trained(narrow).save_pretrained(copy, image_size=SIZE)


def test_an_empty_folder_and_a_model_folder_are_filled_anew(copy, tmp_path):
    (tmp_path / "empty").mkdir()
    shutil.copytree(copy, replaced_folder(copy))  # which a process left that was killed after the second renaming
    for place in (tmp_path / "empty", copy):
        trained(lambda: narrow(pooling="gem")).save_pretrained(place, image_size=SIZE)
        assert from_pretrained(place).pooling_name == "gem"
    assert {one.name for one in tmp_path.iterdir()} == {"empty", "copy"}


def test_files_that_are_no_part_of_a_model_folder_are_not_lost(copy, tmp_path, monkeypatch):
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds 'notes.txt', which is no file of a model folder and would be lost: give another folder"):
        trained(narrow).save_pretrained(copy, image_size=SIZE)
    assert (copy / "notes.txt").read_text() == "mine"
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file: give another folder"):
        trained(narrow).save_pretrained(tmp_path / "file", image_size=SIZE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is, or holds, the folder that this process works in"):
        trained(narrow).save_pretrained(".", image_size=SIZE)
    with pytest.raises(ValueError, match="is a network that comes with the library"):
        from_pretrained().save_pretrained(FOLDERS / DEFAULT)


def test_a_folder_called_tilde_is_made_by_nobody_who_meant_their_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("~/model", "~", Path("~/model")):
        with pytest.raises(ValueError, match=r"begins with ~, which a shell expands and Python does not: give Path\(\.\.\.\)\.expanduser"):
            trained(narrow).save_pretrained(folder, image_size=SIZE)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told_without_an_option_that_there_is_not(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write .*: (File exists|Not a directory)\. Give another folder, or free the disk$"):
        trained(narrow).save_pretrained(tmp_path / "file" / "model", image_size=SIZE)


# --- what no file may ask for


class RunsCode:
    """Unpickled, it makes a file."""

    def __init__(self, made: str) -> None:
        self.made = made

    def __reduce__(self):
        return os.mknod, (self.made,)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"weights": "../../etc/passwd"}, "has the key 'weights', which no config of a model folder has"),
        ({"auto_map": {"AutoModel": "modeling.Evil"}}, "has the key 'auto_map'"),
        ({"backbone": "../evil"}, "timm knows no network '../evil'"),
        ({"backbone": "hf-hub:stranger/network"}, "timm knows no network 'hf-hub:stranger/network'"),
        ({"backbone": 3}, "holds 3 as 'backbone'"),
        ({"backbone_options": {"checkpoint_path": "/etc/passwd"}}, "asks for the option 'checkpoint_path'"),
        ({"backbone_options": {"channels": [10**9] * 4}}, "asks for a network with channels"),
        ({"backbone_options": {"layers": [256, 256, 256, 256]}}, "tensors, and the file weights for far fewer|numbers that its weights"),
        ({"image_size": [10**9, 64]}, "images of a size that cannot be"),
        ({"image_size": [64]}, "images of a size that cannot be"),
        ({"embedding": 10**30}, "embedding in .* must be a whole number in 1..16,384"),
        ({"pooling": ["gem"]}, "pooling in .* must be a string"),
        ({"interpolation": "nearest"}, "asks for the interpolation 'nearest': networks here have 'bilinear, antialiased'"),
        ({"mean": [0.5, 0.5, 0.5]}, "asks for the mean"),
        ({"std": [0.5, 0.5, 0.5]}, "asks for the std"),
        ({"channel_order": "BGR"}, "asks for the channel_order 'BGR'"),
        ({"first_pooling": "none"}, "asks for the first pooling 'none'"),
        ({"clip_length": 10**9}, "clip_length in .* must be a whole number in 1..4,096"),
        ({"epochs": -1}, "epochs in .* must be a whole number"),
        ({"trained_on": {"a": 1}}, "trained_on in .* must be a string"),
        ({"network": "nvan", "network_options": {}}, "tells a network of clips and one of images at once"),
        ({"network": "nvan"}, "holds no 'network_options'"),
        ({"channel_plan": {"input_shape": [1, 3, 64, 32]}}, "has the channel plan"),
        ({"channel_plan": {"input_shape": [1, 3, 64, 32], "layers": {"a": {"of": 10**12, "dropped": []}}}}, "channels of 'a'"),
        ({"channel_plan": {"input_shape": [1, 3, 64, 32], "layers": {"a": {"of": 8, "dropped": [8]}}}}, "dropped channels of 'a'"),
        ({"channel_plan": {"input_shape": [10**6, 3, 64, 32], "layers": {}}}, "input_shape of the channel plan"),
        (
            {"channel_plan": {"input_shape": [1, 3, 64, 32], "layers": {}, "residual_blocks": ["inner"]}},
            "residual_blocks of the channel plan",
        ),
    ],
    ids=shown,
)
def test_a_config_that_asks_for_what_no_file_may_ask_for_is_refused_by_name(keys, message, copy):
    with pytest.raises(ValueError, match=message) as caught:
        from_pretrained(changed(copy, **keys))
    assert "copy" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet18", "surprise": 1}, "asks for the option 'surprise'"),
        ({"backbone": "resnet18", "weights": "/etc/passwd"}, "asks for a network with weights='/etc/passwd'"),
        ({"backbone": "resnet18", "pretrained": True}, "asks for the option 'pretrained'"),
        ({"backbone": ["resnet18"]}, "backbone in .* must be a string"),
        ({"backbone": "resnet18", **DEEPER, "stem_relu": "no"}, "stem_relu must be True or False"),
        ({"backbone": "resnet18", **DEEPER, "non_local_blocks": [0, 3, 0, 0]}, "blocks, too few"),
    ],
    ids=shown,
)
def test_so_is_a_config_of_a_network_of_clips(options, message, tmp_path):
    trained(NETWORKS["nvan"]).save_pretrained(tmp_path / "clips", image_size=SIZE)
    with pytest.raises(ValueError, match=message):
        from_pretrained(changed(tmp_path / "clips", network_options=options))


def test_a_network_of_clips_is_one_of_those_that_there_are(tmp_path):
    trained(NETWORKS["nvan"]).save_pretrained(tmp_path / "clips", image_size=SIZE)
    with pytest.raises(ValueError, match=r"network in .*clips must be one of 'baseline', 'nvan', 'stenvan', 'cfaan', got 'evil'"):
        from_pretrained(changed(tmp_path / "clips", network="evil"))


def test_clips_of_a_length_that_the_network_does_not_take_are_refused(tmp_path):
    folder = tmp_path / "clips"
    trained(NETWORKS["cfaan"]).save_pretrained(folder)
    assert from_pretrained(folder).clip_length == 2
    with pytest.raises(ValueError, match=r"is told to be for clips \[3, 3, 64, 32\], which its network does not take"):
        from_pretrained(changed(folder, clip_length=3))
    with pytest.raises(ValueError, match="is a network with embedding 5, and it gives 32 numbers"):
        from_pretrained(changed(folder, clip_length=2, embedding=5))


@pytest.mark.parametrize("key", ['"image_size": [1, 1]', '"backbone_options": {"layers": [1], "layers": [2]}'])
def test_a_config_that_tells_a_key_twice_is_refused(key, copy):
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text("{" + key + "," + text.lstrip()[1:])
    with pytest.raises(ValueError, match=r'config\.json holds "(image_size|layers)" twice, it was edited or is not of this library'):
        from_pretrained(copy)


def test_a_config_larger_than_any_is_not_read(copy):
    (copy / "config.json").write_text('{"a": "' + "x" * 5_000_000 + '"}')
    with pytest.raises(ValueError, match="a config has at most 4,000,000"):
        from_pretrained(copy)


def test_pickled_weights_are_never_read(copy, tmp_path):
    (copy / "model.safetensors").unlink()
    made = tmp_path / "code ran"
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps(RunsCode(str(made))))
    with pytest.raises(FileNotFoundError, match=r"lacks model.safetensors, and pytorch_model.bin in its place could run code"):
        from_pretrained(copy)
    (copy / "model.safetensors").write_bytes(pickle.dumps(RunsCode(str(made))))
    with pytest.raises(ValueError, match="cannot be read as weights"):
        from_pretrained(copy)
    assert not made.exists()


def test_weights_of_another_network_are_refused(copy):
    tensors = load_file(copy / "model.safetensors")
    save_file({name: tensor for name, tensor in tensors.items() if "layer4" not in name}, copy / "model.safetensors")
    with pytest.raises(ValueError, match="does not fit the network"):
        from_pretrained(copy)


def announcing(folder: Path, **tensors: object) -> None:
    """Weights of which only the header is written; what it announces is a hole in the file, which takes no room on the disk."""
    file = folder / "model.safetensors"
    with file.open("rb") as opened:
        told = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    end = max(one["data_offsets"][1] for name, one in told.items() if name != "__metadata__")
    for name, (kind, shape, size) in tensors.items():
        told[name], end = {"dtype": kind, "shape": shape, "data_offsets": [end, end + size]}, end + size
    header = json.dumps(told).encode()
    with file.open("wb") as opened:
        opened.write(len(header).to_bytes(8, "little") + header)
        opened.truncate(8 + len(header) + end)


@pytest.mark.parametrize("kind", ["gem", "pruned", "nvan"])
def test_weights_that_the_network_of_the_config_has_not_are_refused_before_one_is_read(kind, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    trained(NETWORKS[kind]).save_pretrained(folder, image_size=SIZE, clip_length=4 if kind == "nvan" else None)
    monkeypatch.setattr(weights, "load_file", lambda path: pytest.fail(f"{path} was read"))
    with pytest.raises(pytest.fail.Exception, match="was read"):
        from_pretrained(folder)
    announcing(folder, huge=("F32", [750_000_000], 3_000_000_000))
    assert (folder / "model.safetensors").stat().st_size > 3e9
    with pytest.raises(ValueError, match=r"model does not fit the network: of \d+ entries 1 unexpected \(huge\)"):
        from_pretrained(folder)


def test_so_are_weights_of_another_shape_or_kind_and_a_file_longer_than_its_weights(copy, monkeypatch):
    monkeypatch.setattr(weights, "load_file", lambda path: pytest.fail(f"{path} was read"))
    whole = (copy / "model.safetensors").read_bytes()
    tensors = load_file(copy / "model.safetensors")
    for changed_one, message in (
        (torch.empty(17), r"1 of another shape \(neck\.weight \[17\] instead of \[16\]\)"),
        (torch.ones(16, dtype=torch.int64), "neck.weight holds torch.int64 there"),
        (torch.ones(16, dtype=torch.int8), "'neck.weight' in numbers of the kind I8"),
    ):
        save_file({**tensors, "neck.weight": changed_one}, copy / "model.safetensors")
        with pytest.raises(ValueError, match=message):
            from_pretrained(copy)
    for content, message in (
        (whole + bytes(1000), "cannot be read as weights, is it complete"),
        ((10**7).to_bytes(8, "little") + whole[8:], "its header is told to have 10,000,000 bytes, expected 4,000,000"),
    ):
        (copy / "model.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            from_pretrained(copy)
        assert "copy" in str(caught.value)


def test_a_network_that_looks_at_its_numbers_while_it_is_built_is_compared_too(copy, monkeypatch):
    whole = timm.create_model

    def looking(*given: object, **options: object) -> torch.nn.Module:
        assert torch.ones(1).item() == 1
        return whole(*given, **options)

    monkeypatch.setattr(timm, "create_model", looking)
    assert from_pretrained(copy).image_size == SIZE
    announcing(copy, huge=("F32", [750_000_000], 3_000_000_000))
    with pytest.raises(ValueError, match=r"1 unexpected \(huge\)"):
        from_pretrained(copy)


def test_a_folder_that_is_read_while_another_file_is_built_counts_by_itself():
    message = r"other\.ckpt does not make a network: .* more than the 10,000,000 numbers"
    with pytest.raises(ValueError, match=message), built_from("other.ckpt", {}):  # noqa: PT012
        for _ in range(3):
            assert from_pretrained().image_size == (128, 64)
        torch.zeros(20, 1_000_000)


def test_weights_in_which_a_bit_has_flipped_or_of_another_saving_are_refused(copy, tmp_path):
    file = copy / "model.safetensors"
    whole = bytearray(file.read_bytes())
    whole[-3] ^= 1
    file.write_bytes(whole)
    with pytest.raises(ValueError, match=r"copy is told to be the network 'weights \w{16}', and its weights are those of weights \w{16}"):
        from_pretrained(copy)
    trained(NETWORKS["nvan"]).save_pretrained(tmp_path / "clips", image_size=SIZE)
    with pytest.raises(ValueError, match="is told to be the network 'weights of another'"):
        from_pretrained(changed(tmp_path / "clips", model="weights of another"))


def test_a_folder_that_is_there_and_is_no_model_folder_is_not_looked_up_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("org/name").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"org/name is no model folder, it lacks config\.json"):
        from_pretrained("org/name")
    Path("org/file").touch()
    with pytest.raises(ValueError, match="there is no network 'org/file'"):
        from_pretrained("org/file")


def test_a_checkpoint_of_the_same_network_gives_the_same_embeddings(tmp_path):
    module = SupervisedReID(num_classes=3, backbone="resnet18", backbone_options=NARROW, pooling="gem")
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams), "image_size": list(SIZE)}
    torch.save(content, tmp_path / "last.ckpt")
    network = load_embedding_network(tmp_path / "last.ckpt")
    network.save_pretrained(tmp_path / "model")
    assert torch.equal(embedded(from_pretrained(tmp_path / "model")), embedded(network))
