import pytest
import timm
import torch

from lightning_reid.networks import build_backbone
from lightning_reid.networks.stages import stages_of

FAMILY = ["resnet18", "resnet26d", "resnest14d", "seresnet18", "skresnet18", "convnext_atto"]


def trunk_of(name: str, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_backbone(name, **options).trunk.eval()


@pytest.mark.parametrize(("name", "last_stride"), [*((name, 1) for name in FAMILY), ("resnet18", 2)])
def test_calling_the_modules_of_all_stages_in_order_is_calling_the_network(name, last_stride):
    trunk = trunk_of(name, last_stride=last_stride)
    stages = stages_of(trunk)
    images = torch.randn(1, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    frames = images
    with torch.no_grad():
        for part in (*stages.stem, *(part for stage in stages.stages for part in (*stage.entry, *stage.blocks)), *stages.end):
            frames = trunk.get_submodule(part)(frames)
        torch.testing.assert_close(frames, trunk.forward_features(images), rtol=0, atol=0)


def test_the_stages_of_a_resnet50_are_those_of_the_paper():
    with torch.device("meta"):
        stages = stages_of(timm.create_model("resnet50")).stages
    assert [len(stage.blocks) for stage in stages] == [3, 4, 6, 3]
    assert [stage.channels for stage in stages] == [256, 512, 1024, 2048]
    assert [stage.stride for stage in stages] == [4, 8, 16, 32]
    assert stages[1].blocks[-1] == "layer2.3"


def test_a_narrow_network_tells_its_own_channels():
    assert [stage.channels for stage in stages_of(timm.create_model("resnet50", channels=[4, 8, 16, 32])).stages] == [16, 32, 64, 128]


def test_a_network_without_such_stages_is_refused():
    with pytest.raises(ValueError, match="cannot tell the stages of a EfficientNet"):
        stages_of(timm.create_model("mobilenetv2_050"))
