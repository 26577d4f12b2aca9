"""What a file may say of the network that is built for it."""

from __future__ import annotations

import math
import os
import pickle

import pytest
import torch

from lightning_reid.arguments import shown
from lightning_reid.modules import HSR, BottomUpReID, SupervisedReID, VideoReID
from lightning_reid.networks import build_backbone, load_embedding_network
from lightning_reid.networks.archives import DamagedArchiveError
from lightning_reid.networks.foreign import trained_image_size
from lightning_reid.networks.teacher import load_teacher
from lightning_reid.networks.told_architecture import check_told_options

NARROW = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}


class RunsCode:
    """Unpickled, it makes a file."""

    def __init__(self, made: str) -> None:
        self.made = made

    def __reduce__(self):
        return os.mknod, (self.made,)


@pytest.fixture(scope="module")
def trained() -> SupervisedReID:
    return SupervisedReID(num_classes=3, backbone="resnet18", backbone_options=NARROW)


@pytest.fixture
def content(trained) -> dict:
    return {
        "state_dict": trained.state_dict(),
        "hyper_parameters": dict(trained.hparams),
        "pytorch-lightning_version": "2.6.0",
        "image_size": [64, 32],
    }


def saved(content: dict, path) -> str:
    torch.save(content, path)
    return str(path)


def test_what_this_library_saves_loads(content, tmp_path):
    path = saved(content, tmp_path / "last.ckpt")
    assert SupervisedReID.load_from_checkpoint(path).classifier.out_features == 3
    assert load_embedding_network(path).num_features == 16
    assert trained_image_size(path) == (64, 32)


@pytest.mark.parametrize("load", [SupervisedReID.load_from_checkpoint, load_embedding_network], ids=["module", "network"])
@pytest.mark.parametrize(
    "options",
    [
        {"checkpoint_path": "evil.pth"},
        {"pretrained_cfg": {"file": "evil.pth"}},
        {"pretrained_cfg_overlay": {"hf_hub_id": "stranger/network"}},
        {"cache_dir": "/tmp"},
        {"surprise": 1},
        {"channels": [200_000] * 4},
        {"channels": [8] * 65},
        {"layers": [10**9, 1, 1, 1]},
        {"drop_rate": math.nan},
        {"stem_type": "../../../etc/passwd"},
    ],
    ids=shown,
)
def test_an_option_that_no_file_may_give_is_refused_before_anything_is_built_or_read(content, tmp_path, options, load):
    evil, made = tmp_path / "evil.pth", tmp_path / "code ran"
    evil.write_bytes(pickle.dumps(RunsCode(str(made))))
    options = {name: str(evil) if value == "evil.pth" else value for name, value in options.items()}
    content["hyper_parameters"]["backbone_options"] = NARROW | options
    path = saved(content, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=rf"last.ckpt asks for .*{next(iter(options))}"):
        load(path)
    assert not made.exists()


@pytest.mark.parametrize("option", [{"weights": "/etc/passwd"}, {"pretrained": True}], ids=shown)
def test_a_module_that_asks_for_other_weights_is_refused(content, tmp_path, option):
    content["hyper_parameters"] |= option
    with pytest.raises(ValueError, match=rf"last.ckpt asks for {next(iter(option))}=.*brings its own weights"):
        SupervisedReID.load_from_checkpoint(saved(content, tmp_path / "last.ckpt"))


def test_a_network_of_clips_is_checked_too(tmp_path):
    narrow = {"backbone": "resnet18", **NARROW}
    module = VideoReID("baseline", network_options=narrow, num_classes=2)
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams), "pytorch-lightning_version": "2.6.0"}
    assert VideoReID.load_from_checkpoint(saved(content, tmp_path / "last.ckpt")).network.num_features == 16
    content["hyper_parameters"]["network_options"] = narrow | {"checkpoint_path": "evil.pth"}
    with pytest.raises(ValueError, match="asks for a network with checkpoint_path"):
        VideoReID.load_from_checkpoint(saved(content, tmp_path / "last.ckpt"))


@pytest.mark.parametrize("size", [[10**9, 32], [0, 32], [64], "64x32", [64.5, 32], [True, True], None, [64, 32, 1]], ids=shown)
def test_an_image_size_that_cannot_be_is_refused(content, tmp_path, size):
    content["image_size"] = size
    path = saved(content, tmp_path / "last.ckpt")
    if size is None:
        assert trained_image_size(path) is None
    else:
        with pytest.raises(ValueError, match=r"last.ckpt was trained with images of"):
            trained_image_size(path)


def test_timm_is_given_no_file_to_unpickle():
    with pytest.raises(ValueError, match=r"checkpoint_path is no option here: weights come from weights=FILE"):
        build_backbone("resnet18", checkpoint_path="some.pth")
    with pytest.raises(ValueError, match="timm knows no network"):
        build_backbone("local-dir:network")


@pytest.mark.parametrize("left", [0, 1000, 0.5, 0.99])
def test_a_checkpoint_cut_short_is_named_and_nobody_is_told_to_run_its_code(content, tmp_path, left):
    path = tmp_path / "last.ckpt"
    saved(content, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: left if isinstance(left, int) else int(left * len(whole))])
    with pytest.raises(DamagedArchiveError, match=r"last.ckpt is damaged") as caught:
        SupervisedReID.load_from_checkpoint(path)
    assert "weights_only=False" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a pointer of git-lfs"),
        (b"<!DOCTYPE html>\n<html>", "a web page"),
        (b"\x08\x08\x12\x07pytorch\x1a\x05", "an ONNX network"),
    ],
)
def test_what_was_given_as_a_checkpoint_is_named_as_what_it_is(tmp_path, text, told):
    (tmp_path / "last.ckpt").write_bytes(text)
    with pytest.raises(DamagedArchiveError, match=told):
        SupervisedReID.load_from_checkpoint(tmp_path / "last.ckpt")


def test_plain_options_of_timm_pass():
    check_told_options(
        {**NARROW, "drop_rate": 0.1, "img_size": [256, 128], "stem_type": "deep", "avg_down": True, "depths": ((1, 2), (3, 4))}, "file"
    )


@pytest.mark.parametrize("name", ["hparams", "module_arguments"])
@pytest.mark.parametrize(
    "told", [{"weights": "/etc/passwd"}, {"pretrained": True}, {"backbone_options": {"checkpoint_path": "x"}}, [1, 2]], ids=str
)
def test_arguments_under_a_name_that_lightning_adds_to_the_checked_ones_are_refused(content, tmp_path, name, told):
    with pytest.raises(ValueError, match=rf"last.ckpt tells its arguments under '{name}'"):
        SupervisedReID.load_from_checkpoint(saved(content | {name: told}, tmp_path / "last.ckpt"))


@pytest.mark.parametrize("load", [SupervisedReID.load_from_checkpoint, load_embedding_network], ids=["module", "network"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"backbone": 5}, "names its backbone 5"),
        ({"backbone_options": [1, 2]}, "expected options by name"),
        ({"backbone_options": {"channels": [10**400]}}, "asks for a network with channels"),
        ({"backbone_options": {"channels": 10**600}}, "asks for a network with channels=a whole number of 1,994 bits"),
        ({"backbone_options": {"layers": [300, 1, 1, 1]}}, "asks for a network with layers=.* up to 256"),
        ({"backbone_options": {"channels": [[[[8]]]]}}, "asks for a network with channels"),
        ({"backbone_options": {"drop_rate": math.nan}}, "asks for a network with drop_rate=nan"),
        ({"backbone_options": NARROW | {"act_layer": "nope"}}, "timm cannot build resnet18 with .*act_layer='nope'"),
        ({"backbone_options": {"channels": 5}}, "timm cannot build resnet18 with channels=5"),
        ({"backbone_options": {"channels": [-8, 8, 16, 16]}}, r"timm cannot build resnet18 with channels=.-8"),
        ({"backbone_options": {"channels": ["a", "b", "c", "d"]}}, "timm cannot build resnet18 with channels="),
        ({"backbone_options": {"patch_size": 16}}, "timm cannot build resnet18 with patch_size=16"),
        ({"backbone_options": {"channels": [16384] * 4}}, r"has more than the [\d,]+ numbers that its weights have use for"),
        ({"backbone_options": {"channels": [4096] * 4, "layers": [256] * 4}}, r"has more than the [\d,]+ numbers"),
        ({"backbone_options": NARROW | {"layers": [256] * 4}}, r"has more than 1,\d\d\d tensors, and the file weights for far fewer"),
    ],
    ids=shown,
)
def test_arguments_of_another_kind_are_named(content, tmp_path, changed, message, load):
    content["hyper_parameters"] |= changed
    with pytest.raises(ValueError, match=rf"last.ckpt .*{message}|last.ckpt {message}"):
        load(saved(content, tmp_path / "last.ckpt"))


@pytest.mark.parametrize("load", [SupervisedReID.load_from_checkpoint, load_embedding_network], ids=["module", "network"])
def test_many_names_of_the_same_numbers_leave_no_room_for_a_larger_network(content, tmp_path, load):
    shared = torch.zeros(1_000_000)
    content["state_dict"] |= {f"spare{number}": shared for number in range(100)}
    content["hyper_parameters"]["backbone_options"] = {"channels": [1024, 1024, 8, 8], "layers": [1, 1, 1, 1]}
    with pytest.raises(ValueError, match=r"last\.ckpt .*has more than the 12,[\d,]+ numbers that its weights have use for"):
        load(saved(content, tmp_path / "last.ckpt"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_classes": "x"}, "num_classes must be a whole number of at least 1, or None, got 'x'"),
        ({"num_classes": 2**31 - 1}, r"has more than the [\d,]+ numbers that its weights have use for"),
        ({"margin": math.nan}, "margin must be a number in .* or None, got nan"),
        ({"optimizer": "zz"}, "optimizer must be one of 'sgd', 'adam', got 'zz'"),
        ({"milestones": ["x"]}, "milestones must be a whole number"),
        ({"milestones": [1] * 1001}, r"the number of milestones must be a whole number in 0\.\.1,000, got 1001"),
        ({"bn_group": -3}, "bn_group must be a whole number"),
        ({"surprise": 1}, "unexpected keyword argument 'surprise'"),
    ],
    ids=shown,
)
def test_arguments_that_the_module_does_not_take_are_named_with_the_file(content, tmp_path, changed, message):
    content["hyper_parameters"] |= changed
    with pytest.raises(ValueError, match=rf"last\.ckpt does not make a network: .*{message}.*build the network yourself"):
        SupervisedReID.load_from_checkpoint(saved(content, tmp_path / "last.ckpt"))


ODD_TENSORS = {
    "sparse": lambda weight: weight.to_sparse(),
    "complex": lambda weight: weight.to(torch.complex64),
    "quantized": lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
    "int8": lambda weight: weight.to(torch.int8),
    "int32": lambda weight: weight.to(torch.int32),
    "float8": lambda weight: weight.to(torch.float8_e4m3fn),
    "meta": lambda weight: weight.to("meta"),
    "empty": lambda weight: weight[:0],
    "expanded": lambda weight: torch.zeros(1).expand(10**12),
    "another shape": lambda weight: weight[:1].clone(),
    "a scalar": lambda weight: torch.tensor(1.0),
    "NaN": lambda weight: torch.full_like(weight, math.nan),
    "no tensor": lambda weight: [1.0],
}


LOADERS = {"module": SupervisedReID.load_from_checkpoint, "network": load_embedding_network, "teacher": load_teacher}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", ODD_TENSORS)
def test_a_tensor_that_is_no_weight_of_the_network_is_named_with_the_file(content, tmp_path, kind, loader):
    name = "network.backbone.trunk.conv1.weight"
    content["state_dict"][name] = ODD_TENSORS[kind](content["state_dict"][name])
    with pytest.raises(ValueError, match=r"last\.ckpt.*backbone\.trunk\.conv1\.weight"):
        LOADERS[loader](saved(content, tmp_path / "last.ckpt"))


@pytest.mark.parametrize("loader", ["module", "teacher"])  # an embedding has no use for a classifier
@pytest.mark.parametrize("kind", sorted(ODD_TENSORS.keys() - {"another shape", "no tensor"}))  # of fewer people, or of none
def test_a_tensor_that_is_no_classifier_is_named_with_the_file(content, tmp_path, kind, loader):
    content["state_dict"]["classifier.weight"] = ODD_TENSORS[kind](content["state_dict"]["classifier.weight"])
    with pytest.raises(ValueError, match=r"last\.ckpt.*classifier\.weight"):
        LOADERS[loader](saved(content, tmp_path / "last.ckpt"))


@pytest.mark.parametrize("load", [SupervisedReID.load_from_checkpoint, load_embedding_network], ids=["module", "network"])
@pytest.mark.parametrize("state", [[1, 2], "weights", None, {}, {5: torch.zeros(1)}, {("a", "b"): torch.zeros(1)}], ids=shown)
def test_a_state_dict_that_is_none_is_refused_by_name(content, tmp_path, state, load):
    with pytest.raises(ValueError, match=r"last\.ckpt"):
        load(saved(content | {"state_dict": state}, tmp_path / "last.ckpt"))


@pytest.mark.parametrize("load", [SupervisedReID.load_from_checkpoint, load_embedding_network], ids=["module", "network"])
@pytest.mark.parametrize(
    "plan",
    [
        None,
        [1],
        {"input_shape": [1, 3, 64, 32]},
        {"input_shape": [1, 3, 10**9, 32], "keep": {}},
        {"input_shape": [4096, 3, 4096, 4096], "keep": {}},
        {"input_shape": [1, 3, -64, 32], "keep": {}},
        {"input_shape": ["1", 3, 64, 32], "keep": {}},
        {"input_shape": [1, 3, 64, 32], "keep": {"backbone.trunk.conv1": [True]}},
        {"input_shape": [1, 3, 64, 32], "keep": {"backbone.trunk.conv1": torch.ones(8)}},
        {"input_shape": [1, 3, 64, 32], "keep": {"backbone.trunk.conv1": torch.zeros(64, dtype=torch.bool)}},
        {"input_shape": [1, 3, 64, 32], "keep": {"backbone.trunk.conv1": torch.tensor(True)}},
        {"input_shape": [1, 3, 64, 32], "keep": {"nowhere": torch.tensor([True, False])}},
        {"input_shape": [1, 3, 64, 32], "keep": {5: torch.tensor([True, False])}},
    ],
    ids=shown,
)
def test_a_channel_plan_that_is_none_is_refused_by_name(content, tmp_path, plan, load):
    with pytest.raises(ValueError, match=r"last\.ckpt does not make a network: .*channel plan"):
        load(saved(content | {"channel_plan": plan}, tmp_path / "last.ckpt"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"step_seed": "x"}, "step_seed of the checkpoint must be a whole number"),
        ({"people": [1]}, "tells its people as"),
        ({"people": {"data": "market", "pids": ["x"], "held_out": []}}, "tells pids of its people as"),
        ({"optimizer_states": 5}, "optimizer_states that are none"),
    ],
    ids=shown,
)
def test_what_a_module_keeps_beside_its_weights_is_checked_too(content, tmp_path, changed, message):
    with pytest.raises(ValueError, match=rf"last\.ckpt does not make a network: .*{message}"):
        SupervisedReID.load_from_checkpoint(saved(content | changed, tmp_path / "last.ckpt"))


@pytest.mark.parametrize(
    ("module", "kept", "broken"),
    [
        (HSR, "pseudo_classifier", {"num_fixed": 0, "num_clusters": 0, "filled_iteration": -1, "forward": "x"}),
        (HSR, "pseudo_classifier", {"num_fixed": 0.5, "num_clusters": 0, "filled_iteration": -1}),
        (HSR, "pseudo_classifier", None),
        (BottomUpReID, "cluster_table", {"rows": [1], "iteration": 0}),
        (BottomUpReID, "cluster_table", None),
    ],
    ids=shown,
)
def test_no_attribute_of_a_module_is_set_but_those_it_keeps(tmp_path, module, kept, broken):
    made = module(backbone="resnet18", backbone_options=NARROW)
    content = {"state_dict": made.state_dict(), "hyper_parameters": dict(made.hparams), "pytorch-lightning_version": "2.6.0"}
    with pytest.raises(ValueError, match=rf"last\.ckpt does not make a network: the checkpoint holds .*{kept}"):
        module.load_from_checkpoint(saved(content | ({} if broken is None else {kept: broken}), tmp_path / "last.ckpt"))


def test_a_user_who_says_more_than_the_file_may_build_a_larger_network(content, tmp_path):
    del content["hyper_parameters"]["num_classes"]
    content["state_dict"] = {name: tensor for name, tensor in content["state_dict"].items() if name != "classifier.weight"}
    path = saved(content, tmp_path / "last.ckpt")
    loaded = SupervisedReID.load_from_checkpoint(path, num_classes=1_000_000, strict=False)
    assert loaded.classifier.out_features == 1_000_000


@pytest.mark.parametrize("missing", ["state_dict", "pytorch-lightning_version"])
def test_a_checkpoint_that_lacks_a_part_is_named(content, tmp_path, missing):
    del content[missing]
    with pytest.raises(ValueError, match=rf"last.ckpt has no '{missing}'"):
        SupervisedReID.load_from_checkpoint(saved(content, tmp_path / "last.ckpt"))


def test_an_archive_with_a_hole_in_it_is_damaged(content, tmp_path):
    content["state_dict"]["padding"] = torch.zeros(100_000)
    saved(content, tmp_path / "last.ckpt")
    whole = (tmp_path / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(whole[:1000] + whole[200_000:])
    with pytest.raises(DamagedArchiveError, match=r"last.ckpt is damaged"):
        SupervisedReID.load_from_checkpoint(tmp_path / "last.ckpt")
