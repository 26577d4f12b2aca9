"""Lightning's ``ModelParallelStrategy``, two gloo processes: a fit whose network is divided over them is the fit of DDP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_reid.callbacks import CAIEPruning
from lightning_reid.modules import BottomUpReID, DistilledReID, FedFRClient, SupervisedReID, VideoReID
from lightning_reid.modules.classifier import new_classifier
from lightning_reid.networks import checkpoint_activations, load_teacher
from lightning_reid.networks.sharding import LOWEST_TORCH

pytestmark = pytest.mark.skipif(torch.__version__ < LOWEST_TORCH, reason=f"networks are divided by torch {LOWEST_TORCH} or later")
TINY = {"channels": [8, 8, 16, 16], "layers": [1, 2, 1, 1]}
CLIPS = (4, 2, 3, 32, 16)


def rank() -> int:
    return int(os.environ.get("LOCAL_RANK", 0))


class Clips(pl.LightningDataModule):
    """Three batches for each process, and tracklets to score: of three clips in the first process, of one in the second."""

    num_classes, image_size, clip_length = 5, (32, 16), 2

    def train_dataloader(self) -> DataLoader:
        draws = torch.Generator().manual_seed(rank())
        batches = [torch.randn(CLIPS, generator=draws, dtype=torch.float64) for _ in range(3)]
        return DataLoader([{"clips": clips, "pids": torch.tensor([0, 0, 1, 1])} for clips in batches], batch_size=None)

    def val_dataloader(self) -> DataLoader:
        draws, num_clips, sides = torch.Generator().manual_seed(10 + rank()), torch.full((4,), 3 - 2 * rank()), []
        for is_query in (True, False):
            rows = {"pids": torch.arange(4), "camids": torch.full((4,), int(is_query)), "indices": torch.arange(4) + 4 * rank()}
            clips = torch.randn(int(num_clips.sum()), *CLIPS[1:], generator=draws, dtype=torch.float64)
            sides.append(rows | {"clips": clips, "num_clips": num_clips, "is_query": torch.full((4,), is_query)})
        return DataLoader(sides, batch_size=None)

    def predict_dataloader(self) -> DataLoader:
        return DataLoader(self.val_dataloader().dataset[: 2 - rank()], batch_size=None)


class Images(pl.LightningDataModule):
    num_classes = 5

    def train_dataloader(self) -> DataLoader:
        draws = torch.Generator().manual_seed(rank())
        batches = [torch.randn(4, 3, 32, 16, generator=draws) for _ in range(4)]
        return DataLoader([{"images": images, "pids": torch.tensor([0, 0, 1, 1])} for images in batches], batch_size=None)


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    @override
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.losses.append(float(outputs["loss"]))


def divided(**options: Any) -> ModelParallelStrategy:
    return ModelParallelStrategy(**{"data_parallel_size": 2, "tensor_parallel_size": 1, "save_distributed_checkpoint": False} | options)


def trainer_of(strategy: Any, folder: Path, **options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    settings = {"devices": 2, "num_sanity_val_steps": 0, "use_distributed_sampler": False, "max_epochs": 1, "default_root_dir": folder}
    return pl.Trainer(accelerator="cpu", strategy=divided() if strategy == "divided" else strategy, **quiet | settings | options)


def video_module(num_classes: int | None = 5, optimizer: Any = "sgd") -> VideoReID:
    """In float64, with attention that does something; other first weights in each process."""
    torch.manual_seed(rank())
    model = VideoReID("nvan", {"backbone": "resnet18", **TINY}, num_classes, clips_per_pass=4, optimizer=optimizer, lr=1e-2)
    for block in (*model.network.attention_after(2), *model.network.attention_after(3)):
        torch.nn.init.ones_(block.bn.weight)
    return model.double()


def fit_video(strategy: str, file: Path, thrifty: bool, resumed: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    """A fit that leaves its checkpoint as ``file``, and what one process saw of it."""
    model, recorder = video_module(), Losses()
    if thrifty:
        checkpoint_activations(model.network)
    trainer = trainer_of(strategy, file.parent, callbacks=[recorder], **options)
    trainer.fit(model, Clips(), ckpt_path=resumed)
    trainer.save_checkpoint(file)
    scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    embeddings = [batch["embeddings"] for batch in trainer.predict(model, Clips())]
    held = {name: (type(one), (one.to_local() if isinstance(one, DTensor) else one).numel()) for name, one in model.named_parameters()}
    means = {name: buffer.clone() for name, buffer in model.named_buffers() if "running" in name}
    return {"losses": recorder.losses, "scores": scores, "embeddings": embeddings, "held": held, "means": means}


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def assert_same_numbers(got: dict[str, Tensor], expected: dict[str, Tensor], atol: float) -> None:
    assert list(got) == list(expected)
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=0, atol=atol, msg=lambda said, name=name: f"{name}: {said}")


def memory(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """What an optimizer remembers, by the place of the parameter among its own: numbers differ between strategies, the order does not."""
    (state,) = checkpoint["optimizer_states"]
    places = [number for group in state["param_groups"] for number in group["params"]]
    return {f"{place} {name}": value for place, number in enumerate(places) for name, value in state["state"][number].items()}


@pytest.fixture(scope="module")
def fits(tmp_path_factory, two_processes):
    """Three steps by DDP, divided, and divided with activations computed anew: the checkpoints, and what both processes saw."""
    folder = tmp_path_factory.mktemp("fits")
    kinds = {"ddp": ("ddp", False), "divided": ("divided", False), "thrifty": ("divided", True)}
    return folder, {
        name: two_processes(fit_video, strategy, folder / f"{name}.ckpt", thrifty, None, {}) for name, (strategy, thrifty) in kinds.items()
    }


@pytest.mark.parametrize("kind", ["divided", "thrifty"])
def test_three_steps_are_those_of_ddp(fits, kind):
    folder, seen = fits
    for ours, theirs in zip(seen[kind], seen["ddp"], strict=True):
        assert ours["losses"] == pytest.approx(theirs["losses"], abs=1e-11)
        assert abs(theirs["losses"][0] - theirs["losses"][2]) > 1e-3
    ours, theirs = load(folder / f"{kind}.ckpt"), load(folder / "ddp.ckpt")
    assert_same_numbers(ours["state_dict"], theirs["state_dict"], atol=1e-11)
    assert_same_numbers(memory(ours), memory(theirs), atol=1e-11)


def test_scores_are_those_of_ddp_in_both_processes(fits):
    scores = [process["scores"] for kind in fits[1].values() for process in kind]
    assert all(one == scores[0] for one in scores)
    assert 0 < scores[0]["val/mAP"] < 1


def test_each_process_embeds_by_itself_as_often_as_it_has_batches(fits):
    for ours, theirs in zip(fits[1]["divided"], fits[1]["ddp"], strict=True):
        torch.testing.assert_close(ours["embeddings"], theirs["embeddings"], rtol=0, atol=1e-10)
    assert [len(process["embeddings"]) for process in fits[1]["divided"]] == [2, 1]


def test_each_process_holds_half_of_the_weights(fits):
    (one, other), whole = (process["held"] for process in fits[1]["divided"]), fits[1]["ddp"][0]["held"]
    assert {kind for kind, _ in one.values()} == {DTensor}
    assert {name: one[name][1] + other[name][1] for name in one} == {name: number for name, (_, number) in whole.items()}
    assert sum(number for _, number in one.values()) < 0.52 * sum(number for _, number in whole.values())


@pytest.mark.parametrize("kind", ["ddp", "divided"])
def test_running_statistics_are_those_of_the_first_process(fits, kind):
    folder, seen = fits
    saved = load(folder / f"{kind}.ckpt")["state_dict"]
    for process in seen[kind]:  # in the second one since it last embedded
        assert_same_numbers(process["means"], {name: saved[name] for name in process["means"]}, atol=0)


def test_the_checkpoint_is_one_file_that_loads_in_one_process(fits):
    folder, _ = fits
    clips = torch.randn(CLIPS, dtype=torch.float64)
    expected = VideoReID.load_from_checkpoint(folder / "ddp.ckpt").double().eval()(clips)
    model = VideoReID.load_from_checkpoint(folder / "divided.ckpt").double().eval()
    torch.testing.assert_close(model(clips), expected, rtol=0, atol=1e-10)
    trainer = trainer_of("auto", folder, devices=1, max_epochs=2)
    trainer.fit(video_module(), Clips(), ckpt_path=folder / "divided.ckpt")
    assert trainer.global_step == 6


def test_a_fit_goes_on_divided_or_whole_as_if_unbroken(fits, two_processes):
    folder, _ = fits
    two_processes(fit_video, "ddp", folder / "unbroken.ckpt", False, None, {"max_epochs": 2})
    expected = load(folder / "unbroken.ckpt")
    for strategy in ("divided", "ddp"):
        two_processes(fit_video, strategy, folder / "resumed.ckpt", False, folder / "divided.ckpt", {"max_epochs": 2})
        resumed = load(folder / "resumed.ckpt")
        assert resumed["global_step"] == expected["global_step"] == 6
        assert_same_numbers(resumed["state_dict"], expected["state_dict"], atol=1e-9)
        assert_same_numbers(memory(resumed), memory(expected), atol=1e-9)


def fit_images(folder: Path) -> dict[str, list[float]]:
    """Losses by what was fitted, each by DDP and divided."""
    narrow = {"backbone": "resnet18", "backbone_options": TINY, "num_classes": 5, "optimizer": "sgd", "lr": 0.1}
    teacher = load_teacher("resnet18", pretrained=False, **TINY)
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "mixed": (lambda: SupervisedReID(bn_group=2, **narrow), {"precision": "bf16-mixed"}),
        "clipped": (
            lambda: DistilledReID("resnet18", teacher, alpha=0.0, embeddings="cosine", pooling="gem", **narrow),
            {"gradient_clip_val": 0.05, "accumulate_grad_batches": 2},
        ),
    }
    losses = {}
    for kind, (build, options) in kinds.items():
        for strategy in ("ddp", "divided"):
            torch.manual_seed(0)
            recorder = Losses()
            trainer_of(strategy, folder, callbacks=[recorder], limit_val_batches=0, **options).fit(build(), Images())
            losses[f"{kind} {strategy}"] = recorder.losses
    return losses


def test_mixed_precision_clipping_accumulation_and_a_teacher_go_as_by_ddp(tmp_path, two_processes):
    for losses in two_processes(fit_images, tmp_path):
        assert losses["mixed divided"] == pytest.approx(losses["mixed ddp"], abs=1e-4)
        assert losses["clipped divided"] == pytest.approx(losses["clipped ddp"], abs=1e-6)


def said(call: Any) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def refusals(folder: Path) -> dict[str, str]:
    narrow = {"backbone": "resnet18", "backbone_options": TINY}
    supervised = SupervisedReID(5, **narrow)

    def fit(model: Any, strategy: Any = "divided", **options: Any) -> str:
        trainer = trainer_of(strategy, folder, **{"limit_val_batches": 0} | options)
        return said(lambda: trainer.fit(model, Clips() if isinstance(model, VideoReID) else Images()))

    told = {
        "clusters": fit(BottomUpReID(**narrow)),
        "proxies": fit(FedFRClient(3, 4, **narrow)),
        "trunk": fit(SupervisedReID(5, backbone="densenet121", backbone_options={"growth_rate": 4, "block_config": [1, 1, 1, 1]})),
        "layers": fit(supervised, divided(data_parallel_size=1, tensor_parallel_size=2)),
        "folders": fit(supervised, divided(save_distributed_checkpoint=True)),
        "EMA": fit(supervised, callbacks=[EMAWeightAveraging()]),
        "SWA": fit(supervised, callbacks=[StochasticWeightAveraging(1e-3)]),
        "pruning": fit(supervised, callbacks=[CAIEPruning({"flops": 0.5})]),
    }
    told["whole again"] = fit(supervised, "ddp")  # the fit that was to prune has divided it

    def resume(model: VideoReID, ckpt: str) -> str:
        return said(lambda: trainer_of("divided", folder, max_epochs=2).fit(model, Clips(), ckpt_path=folder / ckpt))

    told["numbered otherwise"] = resume(video_module(), "ddp.ckpt")
    told["another optimizer"] = resume(video_module(optimizer="adam"), "divided.ckpt")
    unknown = video_module(num_classes=None)
    told["no classifier"] = said(lambda: trainer_of("divided", folder).validate(unknown, Clips(), folder / "divided.ckpt", verbose=False))
    supervised.classifier = new_classifier(supervised.network.num_features, 5)
    told["another classifier"] = fit(supervised)
    assert isinstance(supervised.classifier.weight, DTensor)
    return told


def test_what_does_not_go_with_a_divided_network_is_refused_by_name(fits, two_processes):
    for told in two_processes(refusals, fits[0]):
        assert "BottomUpReID uses weights by other ways than calling its networks" in told["clusters"]
        assert "FedFRClient uses weights by other ways" in told["proxies"]
        assert "cannot tell the stages of a DenseNet" in told["trunk"]
        assert "tensor_parallel_size=2 and save_distributed_checkpoint=False" in told["layers"]
        assert "tensor_parallel_size=1 and save_distributed_checkpoint=True" in told["folders"]
        assert "EMAWeightAveraging copies a module" in told["EMA"]
        assert "StochasticWeightAveraging copies a module" in told["SWA"]
        assert "CAIEPruning looks at whole filters" in told["pruning"]
        assert "go on with SupervisedReID.load_from_checkpoint" in told["whole again"]
        assert "Error: " in told["numbered otherwise"]  # torch's own: Lightning counts the neck's frozen bias here, and not elsewhere
        assert "classifier.weight" in told["numbered otherwise"]
        assert "the checkpoint was trained with SGD" in told["another optimizer"]
        assert "give the module num_classes" in told["no classifier"]
        assert told["another classifier"] == "nothing"
