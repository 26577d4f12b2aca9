from __future__ import annotations

import onnxruntime
import pytest
import torch

from lightning_reid.inference import export_onnx
from lightning_reid.inference.onnx_export import onnx_milliseconds
from lightning_reid.inference.parity import ParityError
from lightning_reid.networks import EmbeddingNetwork, build_backbone


@pytest.fixture(scope="module")
def network() -> EmbeddingNetwork:
    torch.manual_seed(0)
    return EmbeddingNetwork(build_backbone("resnet18", channels=[8, 8, 16, 16], layers=[1, 1, 1, 1]), pooling="gem").eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 64, 32, generator=torch.Generator().manual_seed(1))


def test_the_file_gives_the_networks_embeddings_for_any_number_of_images_and_is_only_replaced_by_one_that_does(network, images, tmp_path):
    path = tmp_path / "network.onnx"
    network.train().neck.eval()
    assert export_onnx(network, path, images) <= 1e-4
    assert (network.training, network.backbone.training, network.neck.training) == (True, True, False)
    network.eval()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch in (images[:1], images, torch.cat([images, images])):
        with torch.no_grad():
            expected = network(batch).embedding
        torch.testing.assert_close(torch.from_numpy(session.run(["embedding"], {"input": batch.numpy()})[0]), expected, rtol=0, atol=1e-4)
    assert onnx_milliseconds(path, (1, 3, 64, 32), repetitions=1) > 0
    content = path.read_bytes()
    with pytest.raises(ParityError, match=r"network\.onnx is not written: .* differ from PyTorch's by up to .*, 0 is allowed"):
        export_onnx(network, path, images, tolerance=0)
    broken = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 32, 2))
    torch.nn.init.constant_(broken[1].bias, torch.nan)
    with pytest.raises(ParityError, match="by up to nan"):
        export_onnx(broken, path, images)
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["network.onnx"]


def test_one_input_is_too_few_to_compare(network, images, tmp_path):
    with pytest.raises(ValueError, match="give at least 2 inputs, got 1"):
        export_onnx(network, tmp_path / "network.onnx", images[:1])
