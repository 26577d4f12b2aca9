"""Whoever looks at a network in passing leaves each of its parts in the mode it was in: what was frozen stays frozen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_reid.callbacks.crop_embedding import module_embedder, network_embedder
from lightning_reid.callbacks.embedding_pass import embed_images
from lightning_reid.federation.open_set import embed_records
from lightning_reid.modules import HSR
from lightning_reid.networks import CFAAN
from lightning_reid.networks.channels.groups import ChannelGraph, find_channel_groups
from lightning_reid.networks.dry_run import FeatureMap, dry_run
from lightning_reid.networks.evaluating import evaluating
from lightning_reid.recipes.workshop.costs import image_network_costs, network_costs
from lightning_reid.records import IN_TRIPLET_LOSSES, ImageRecord, TargetState

SIZE = (32, 16)


def half_frozen() -> HSR:
    """A module under training whose first and last normalization somebody keeps in evaluation mode."""
    torch.manual_seed(0)
    module = HSR(backbone="resnet18", backbone_options={"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}).train()
    module.network.backbone.trunk.bn1.eval()
    module.network.neck.eval()
    return module


def modes(module: nn.Module) -> dict[str, bool]:
    return {name: part.training for name, part in module.named_modules()}


class Data:
    """Four images, as datamodules serve them."""

    images = torch.randn(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))

    def embedding_loader(self, records: object = None) -> list[dict[str, Tensor]]:
        return [{"images": half, "indices": indices} for half, indices in zip(self.images.split(2), torch.arange(4).split(2))]

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        return batch


def a_trainer() -> pl.Trainer:
    trainer = pl.Trainer(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_checkpointing=False)
    trainer.datamodule = Data()
    return trainer


def by_the_embedding_pass(module: HSR) -> None:
    embed_images(a_trainer(), module, Data().embedding_loader(), 4, IN_TRIPLET_LOSSES, "target")


def by_a_pass_that_dies(module: HSR) -> None:
    with pytest.raises(KeyError, match="images"):
        embed_images(a_trainer(), module, [{"indices": torch.arange(4)}], 4, IN_TRIPLET_LOSSES, "target")


def by_embedding_records(module: HSR) -> None:
    embed_records(module, Data(), [ImageRecord("", 1, 1)] * 4)


def by_cluster_rows(module: HSR) -> None:
    embeddings = torch.randn(4, module.network.num_features)
    module.cluster_rows(TargetState(0, torch.tensor([0, 0, 1, 1]), torch.zeros(4).long(), embeddings, space=IN_TRIPLET_LOSSES))


def by_embedding_crops(module: HSR) -> None:
    crops = [torch.zeros(3, *SIZE, dtype=torch.uint8)]
    with network_embedder(module.network, SIZE, torch.device("cpu")) as embed:
        embed(crops)
    module.forward = lambda clips: module.network(clips[:, 0]).embedding  # crops come as clips of one frame
    module_embedder(a_trainer(), module, SIZE, 1)(crops)


def by_a_dry_run(module: HSR) -> None:
    dry_run(FeatureMap(module.network.backbone.trunk), SIZE)


def by_building_attention_around_it(module: HSR) -> None:
    CFAAN(module.network.backbone, heads=2, scales=1, clip_length=2, image_size=SIZE)


def by_finding_channel_groups(module: HSR) -> None:
    find_channel_groups(module.network, (1, 3, *SIZE))
    ChannelGraph(module.network, (1, 3, *SIZE))


def by_measuring_costs(module: HSR) -> None:
    network_costs(module.network, (3, *SIZE), torch.device("cpu"), repetitions=1)
    image_network_costs(module.network, SIZE, torch.device("cpu"), repetitions=1)


USERS = [
    by_the_embedding_pass,
    by_a_pass_that_dies,
    by_embedding_records,
    by_cluster_rows,
    by_embedding_crops,
    by_a_dry_run,
    by_building_attention_around_it,
    by_finding_channel_groups,
    by_measuring_costs,
]


@pytest.mark.parametrize("look", USERS)
def test_what_was_frozen_stays_frozen_and_what_trains_goes_on_training(look: Callable[[HSR], None]):
    module = half_frozen()
    before, statistics = modes(module), {name: buffer.clone() for name, buffer in module.named_buffers()}
    assert not all(before.values())
    look(module)
    assert modes(module) == before
    assert all(torch.equal(buffer, statistics[name]) for name, buffer in module.named_buffers())


def _look_and_die(module: nn.Module) -> None:
    with evaluating(module):
        assert not any(modes(module).values())
        raise RuntimeError("on the way")


def test_inside_the_block_everything_is_in_evaluation_mode_and_an_error_restores_it_too():
    module = half_frozen()
    before = modes(module)
    with pytest.raises(RuntimeError, match="on the way"):
        _look_and_die(module)
    assert modes(module) == before
    assert sum(not part.training for part in module.modules() if isinstance(part, _BatchNorm)) == 2
