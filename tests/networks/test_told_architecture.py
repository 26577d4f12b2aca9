"""What a file may say of the network that is built for it."""

from __future__ import annotations

import math
import os
import pickle

import pytest
import torch

from lightning_reid.modules import SupervisedReID, VideoReID
from lightning_reid.networks import build_backbone, load_embedding_network
from lightning_reid.networks.archives import DamagedArchiveError
from lightning_reid.networks.foreign import trained_image_size
from lightning_reid.networks.told_architecture import check_told_options

NARROW = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}


class RunsCode:
    """Unpickled, it makes a file."""

    def __init__(self, made: str) -> None:
        self.made = made

    def __reduce__(self):
        return os.mknod, (self.made,)


@pytest.fixture
def content() -> dict:
    module = SupervisedReID(num_classes=3, backbone="resnet18", backbone_options=NARROW)
    hyperparameters = dict(module.hparams)
    return {
        "state_dict": module.state_dict(),
        "hyper_parameters": hyperparameters,
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
    ids=str,
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


@pytest.mark.parametrize("option", [{"weights": "/etc/passwd"}, {"pretrained": True}], ids=str)
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


@pytest.mark.parametrize("size", [[10**9, 32], [0, 32], [64], "64x32", [64.5, 32], [True, True], None, [64, 32, 1]], ids=str)
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
    ],
    ids=str,
)
def test_arguments_of_another_kind_are_named(content, tmp_path, changed, message, load):
    content["hyper_parameters"] |= changed
    with pytest.raises(ValueError, match=rf"last.ckpt .*{message}|last.ckpt {message}"):
        load(saved(content, tmp_path / "last.ckpt"))


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
