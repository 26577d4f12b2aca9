"""What callbacks need to look at whole sets of images: a sharded embedding pass."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_reid.networks.embedding_pass import embedding_pass
from lightning_reid.protocols import EmbeddingModel, PartlyLabeledData, TargetData
from lightning_reid.records import EmbeddingSpace, LabeledEmbeddings


def target_data(trainer: pl.Trainer, asker: object) -> TargetData:
    """The Trainer's datamodule, if it holds a target set.

    Raises:
        ValueError: It does not.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, TargetData):
        raise ValueError(
            f"{type(asker).__name__} wants a datamodule with target images, such as CrossDomainDataModule, got {type(data).__name__}"
        )
    return data


def require_before(
    trainer: pl.Trainer, callback: pl.Callback, *earlier: type[pl.Callback], optional: tuple[type[pl.Callback], ...] = ()
) -> None:
    """Check the order of the callback list, in which states are made and refined.

    Raises:
        ValueError: One of ``earlier`` is missing, or it or one of ``optional`` comes after ``callback``.
    """
    order: list[pl.Callback] = list(getattr(trainer, "callbacks"))  # noqa: B009  (the attribute is set dynamically)
    mine = order.index(callback)
    for kind in (*earlier, *optional):
        places = [place for place, other in enumerate(order) if isinstance(other, kind)]
        if (kind in earlier and not places) or any(place > mine for place in places):
            raise ValueError(
                f"{type(callback).__name__} works on what {kind.__name__} publishes: put {kind.__name__} before it in the callback list"
            )


def embed_target(
    trainer: pl.Trainer, module: pl.LightningModule, space: EmbeddingSpace, *, with_parts: bool
) -> tuple[Tensor, Tensor | None]:
    """Embed all target images, see ``embed_images``."""
    data = target_data(trainer, module)
    return embed_images(trainer, module, data.target_dataloader(), len(data.target_records), space, "target", with_parts=with_parts)


def embed_labeled(trainer: pl.Trainer, module: pl.LightningModule, data: PartlyLabeledData, space: EmbeddingSpace) -> LabeledEmbeddings:
    """``embed_images`` of all labeled images, with their identities."""
    embeddings, _ = embed_images(trainer, module, data.labeled_dataloader(), len(data.labeled_records), space, "labeled")
    return LabeledEmbeddings(embeddings, data.labeled_pids)


def guiding_embeddings(
    trainer: pl.Trainer, module: pl.LightningModule, data: PartlyLabeledData, space: EmbeddingSpace, target: Tensor
) -> LabeledEmbeddings:
    """Embeddings of the images whose names guide: with guides the first of ``target [N, D]``, else those of the labeled images."""
    pids = data.guide_pids
    if not len(pids):
        return embed_labeled(trainer, module, data, space)
    return LabeledEmbeddings(target[: len(pids)], pids, among_target=True)


def embed_images(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    loader: DataLoader,
    num_images: int,
    space: EmbeddingSpace,
    what: str,
    *,
    with_parts: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Embed images in the test-time transform, each rank its share; every rank gets all of them, on the CPU.

    Args:
        trainer: Whose datamodule the images are of.
        module: Has ``embed``; each part of it is left in the mode it was in.
        loader: This rank's share; batches hold ``images`` and ``indices``, rows of the result.
        num_images: N of all ranks.
        space: Which embeddings.
        what: Of the images, for the progress bar.
        with_parts: Also the upper and lower half, which are always of the length they have.

    Returns:
        ``embeddings [N, D]`` float32 and ``parts [N, 2, D]`` float32 or ``None``.

    Raises:
        ValueError: ``module`` embeds no images.
    """
    if not isinstance(module, EmbeddingModel):
        raise ValueError(f"clustering wants a module with embed(images, with_parts), got {type(module).__name__}")
    hidden = not trainer.is_global_zero or trainer.progress_bar_callback is None
    shown = track(loader, description=f"embedding the {what} images", total=len(loader), disable=hidden, transient=True)
    indices, embeddings, parts = [], [], []
    for batch, output in embedding_pass(
        module,
        (_on_device(trainer, module, batch) for batch in shown),
        lambda batch: module.embed(batch["images"], with_parts=with_parts),
        precision=trainer.precision_plugin.forward_context,
    ):
        indices.append(batch["indices"])
        embeddings.append(output.on("before" if space.before_neck else "after"))
        if output.parts is not None:
            parts.append(output.parts)
    rows = gather_rows(trainer, torch.cat(indices))
    everything = _in_order(gather_rows(trainer, torch.cat(embeddings)), rows, num_images)
    halves = _in_order(gather_rows(trainer, torch.cat(parts)), rows, num_images) if parts else None
    return F.normalize(everything, dim=1) if space.normalized else everything, halves


def _on_device(trainer: pl.Trainer, module: pl.LightningModule, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the Trainer hands it to a step."""
    moved = trainer.strategy.batch_to_device(module.on_before_batch_transfer(batch, 0), module.device)
    ready: dict[str, Tensor] = getattr(trainer, "datamodule").on_after_batch_transfer(moved, 0)  # noqa: B009
    return ready


def gather_rows(trainer: pl.Trainer, rows: Tensor) -> Tensor:
    """The rows ``[n, ...]`` of all ranks one after another, on the CPU; every rank must hold equally many."""
    gathered = trainer.strategy.all_gather(rows.to(trainer.strategy.root_device))
    assert isinstance(gathered, Tensor)  # of a tensor all_gather makes one
    return gathered.reshape(-1, *rows.shape[1:]).cpu()


def _in_order(values: Tensor, rows: Tensor, num_images: int) -> Tensor:
    ordered = torch.empty(num_images, *values.shape[1:], dtype=values.dtype)
    ordered[rows] = values  # a row that padding repeated is written twice with the same values
    return ordered
