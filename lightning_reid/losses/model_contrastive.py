"""Keeping a local model near the global one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_reid.arguments import require_number


def model_contrastive_loss(embeddings: Tensor, of_global: Tensor, of_previous: Tensor, temperature: float = 0.5) -> Tensor:
    """``-mean_i log(e^{cos(f, f_glob) / tau} / (e^{cos(f, f_glob) / tau} + e^{cos(f, f_prev) / tau}))``, in nats.

    Source: thesis, eq. 7.5, after Li et al. 2021 (MOON, arXiv:2103.16257).

    Args:
        embeddings: f ``[B, D]`` float of the local model, with gradient; half precision is computed in float32.
        of_global: ``[B, D]`` of the global model of this round; no gradient flows into it.
        of_previous: ``[B, D]`` of this client's model at the end of its previous round; no gradient flows into it.
        temperature: tau, above 0.

    Returns:
        Scalar; 0 for a batch of 0 images.

    Raises:
        ValueError: The shapes differ, or the temperature is not positive.

    Example:
        >>> import torch
        >>> from lightning_reid.losses import model_contrastive_loss
        >>> embeddings, of_previous = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> model_contrastive_loss(embeddings, of_global=embeddings, of_previous=of_previous, temperature=1.0)  # log(1 + exp(-1))
        tensor(0.3133)
    """
    require_number("temperature", temperature, above=0)
    if embeddings.ndim != 2 or not embeddings.shape == of_global.shape == of_previous.shape:
        shapes = [tuple(tensor.shape) for tensor in (embeddings, of_global, of_previous)]
        raise ValueError(f"the three models must embed the same images to one width, got {shapes}")
    with torch.autocast(embeddings.device.type, enabled=False):
        mine = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        near, far = (F.cosine_similarity(mine, other.detach().to(mine.dtype), dim=1) for other in (of_global, of_previous))
        return -F.logsigmoid((near - far) / temperature).sum() / max(1, len(mine))
