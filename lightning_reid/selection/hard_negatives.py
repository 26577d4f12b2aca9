"""Which public images a client takes for its own people."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS_AT_A_TIME = 4096


def hard_negatives(local: Tensor, public: Tensor, threshold: float) -> Tensor:
    """Choose the public images whose cosine to any local image exceeds a threshold.

    Source: thesis, section 7.3.3.

    Args:
        local: ``[N_l, D]`` float embeddings of length 1, at least one.
        public: ``[N_g, D]`` float embeddings of length 1.
        threshold: t_HN, a cosine in [-1, 1].

    Returns:
        ``[N_g]`` bool.
    """
    return torch.cat([(rows @ local.T).amax(1) > threshold for rows in public.split(ROWS_AT_A_TIME)])
