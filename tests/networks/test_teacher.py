from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lightning_reid.networks import EmbeddingNetwork, build_backbone, load_teacher
from lightning_reid.networks.teacher import RememberedTeacher, Teacher
from lightning_reid.networks.weights import read_state_dict

TINY = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}


def tiny_network() -> EmbeddingNetwork:
    torch.manual_seed(0)
    return EmbeddingNetwork(build_backbone("resnet18", **TINY))


@pytest.fixture
def teacher() -> Teacher:
    return Teacher(tiny_network(), nn.Linear(16, 5, bias=False))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 16, generator=torch.Generator().manual_seed(1))


def test_a_teacher_is_frozen_keeps_no_graph_and_stays_in_evaluation_mode_whatever_its_owner_does(teacher, images):
    owner = nn.Sequential(teacher)
    owner.train()
    embedding, logits = teacher(images.requires_grad_())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(module.training for module in teacher.modules())
    assert embedding.grad_fn is None
    assert logits.grad_fn is None
    assert (embedding.shape, logits.shape) == ((4, 16), (4, 5))
    torch.testing.assert_close(teacher.network.neck.running_mean, torch.zeros(16))


def test_images_of_another_size_are_seen_in_the_size_that_the_teacher_was_trained_on(images):
    teacher = Teacher(tiny_network(), image_size=(64, 32))
    resized = nn.functional.interpolate(images, (64, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(teacher(images).embedding, teacher(resized).embedding)
    assert not torch.allclose(teacher(images).embedding, Teacher(tiny_network())(images).embedding)


def test_a_remembered_teacher_sees_each_image_once_and_repeats_what_it_said(teacher, images):
    asked = []
    teacher.register_forward_hook(lambda module, arguments, output: asked.append(len(arguments[0])))
    remembered, indices = RememberedTeacher(teacher), torch.tensor([7, 3, 7, 9])
    images[2] = images[0]
    with torch.no_grad():
        first, second = remembered(images, indices), remembered(torch.zeros_like(images), indices)
        one_by_one = teacher(images)
    assert asked == [3, 4]
    for name in ("embedding", "logits"):
        torch.testing.assert_close(getattr(first, name), getattr(one_by_one, name))
        assert torch.equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("name", ["A.SAFETENSORS", "A.PTH", "A.Ckpt"])
def test_the_ending_of_a_file_of_weights_may_be_in_capitals(tmp_path, name):
    state = tiny_network().state_dict()
    save_file(state, tmp_path / name) if "SAFE" in name else torch.save(state, tmp_path / name)
    assert {key: tensor.tolist() for key, tensor in read_state_dict(tmp_path / name).items()} == {
        key: tensor.tolist() for key, tensor in state.items()
    }
    with pytest.raises(FileNotFoundError, match=f"no weights at .*GONE{name}"):  # a file, and no name of timm's
        load_teacher(tmp_path / f"GONE{name}")


def test_a_network_of_timm_brings_embeddings_from_a_file_of_weights_and_no_classifier(tmp_path, images):
    trunk = build_backbone("resnet18", **TINY).trunk
    save_file(trunk.state_dict(), tmp_path / "weights.safetensors")
    teacher = load_teacher("resnet18", weights=str(tmp_path / "weights.safetensors"), **TINY)
    embedding, logits = teacher(images)
    assert logits is None
    assert teacher.num_classes is None
    assert embedding.shape == (4, teacher.num_features)
    for name, weight in trunk.state_dict().items():
        assert torch.equal(teacher.network.backbone.trunk.state_dict()[name], weight)


def test_what_is_no_teacher_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="the teacher 'resnet5o' is neither a file nor a network that timm knows"):
        load_teacher("resnet5o")
    with pytest.raises(FileNotFoundError, match=r"no weights at .*missing\.ckpt"):
        load_teacher(tmp_path / "missing.ckpt")
    with pytest.raises(ValueError, match="says how its network is built: options are for a network named by timm's name"):
        load_teacher(tmp_path / "missing.ckpt", pretrained=True)
    with pytest.raises(ValueError, match="the classifier takes 8 numbers, the network gives 16"):
        Teacher(tiny_network(), nn.Linear(8, 5, bias=False))
