"""What a teacher's answer costs in a training step: against its own bare inference, and against a forward pass that keeps a graph.

    python benchmarks/teacher_cost.py

``Teacher`` of a ResNet-50, 64 images of 256x128, random weights. The three take turns; the ratio is the median over the rounds. The
distilled step is that of a MobileNetV2 that learns from it, the student's alone beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from lightning_reid.modules import DistilledReID
from lightning_reid.networks import EmbeddingNetwork, build_backbone
from lightning_reid.networks.memory_layout import in_fast_layout
from lightning_reid.networks.teacher import Teacher


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def step(module: DistilledReID, batch: dict[str, Tensor]) -> None:
    """Forward and backward of a training step."""
    module.training_step(batch, 0).backward()


def measure(backbone: str, student: str, batch_size: int, image_size: tuple[int, int], rounds: int) -> dict[str, float]:
    """Median seconds of each, and median ratios."""
    torch.manual_seed(0)
    network = in_fast_layout(EmbeddingNetwork(build_backbone(backbone)))
    classifier = nn.Linear(network.num_features, 100, bias=False)
    images = torch.randn(batch_size, 3, *image_size)
    batch = {"images": images, "pids": torch.arange(batch_size) % 100}
    teacher = Teacher(network, classifier)
    learning = in_fast_layout(EmbeddingNetwork(build_backbone(backbone))).eval()
    alone, distilled = (DistilledReID(student, source, alpha=alpha, num_classes=100) for source, alpha in ((None, 0.0), (teacher, 0.1)))

    def bare() -> None:
        with torch.inference_mode():
            classifier(network(images).embedding)

    work: dict[str, Callable[[], object]] = {
        "bare inference": bare,
        "teacher": lambda: teacher(images),
        "with a graph": lambda: learning(images),
        "student alone, a step": lambda: step(alone, batch),
        "distilled student, a step": lambda: step(distilled, batch),
    }
    for one in work.values():
        one()
    taken = [{name: seconds(one) for name, one in work.items()} for _ in range(rounds)]
    found = {name: median(row[name] for row in taken) for name in work}
    found["teacher / bare inference"] = median(row["teacher"] / row["bare inference"] for row in taken)
    found["distilled / alone"] = median(row["distilled student, a step"] / row["student alone, a step"] for row in taken)
    assert not teacher(images).embedding.requires_grad
    return found


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50", help="the teacher's (default: %(default)s)")
    parser.add_argument("--student", default="mobilenetv2_100", help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=64, help="images (default: %(default)s)")
    parser.add_argument("--image_size", type=int, nargs=2, default=[256, 128], metavar=("HEIGHT", "WIDTH"), help="pixels")
    parser.add_argument("--rounds", type=int, default=5, help="of all in turn (default: %(default)s)")
    arguments = parser.parse_args(argv)
    height, width = arguments.image_size
    found = measure(arguments.backbone, arguments.student, arguments.batch, (height, width), arguments.rounds)
    for name, value in found.items():
        print(f"{name}: {value:.2f}" + ("" if "/" in name else " s"))
    return found


if __name__ == "__main__":
    main()
