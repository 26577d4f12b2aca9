"""Scores of people nobody trained on."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from lightning_reid.federation.open_set import generic_scores
from lightning_reid.networks.embedding_network import EmbeddingOutput
from lightning_reid.records import ImageRecord

GALLERY = tuple(ImageRecord(f"{pid}", pid, 2) for pid in (1, 2, 3, 4))


class Embedder(nn.Module):
    device = torch.device("cpu")

    def embed_batch(self, batch):
        return EmbeddingOutput(batch["images"], batch["images"])


class People:
    """Every person looks like their number."""

    def __init__(self, query_pids: list[int]) -> None:
        self.query = tuple(ImageRecord(f"q{pid}", pid, 1) for pid in query_pids)

    def evaluation_records(self):
        return self.query, GALLERY

    def embedding_loader(self, records):
        return [{"images": torch.eye(6)[[record.pid for record in records]] + 0.01}]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch


@pytest.mark.parametrize(
    ("pids", "told"), [([1, 2, 3, 4], []), ([1, 2, 3, 5, 5], ["2 of 5 queries have no match in another camera and are not scored"])]
)
def test_queries_without_a_match_are_told_where_there_are_any(pids, told, caplog):
    with caplog.at_level(logging.WARNING):
        scores = generic_scores(Embedder(), People(pids), far=[0.5], fpir=[0.5])
    assert (scores["mAP"], scores["R1"]) == (1.0, 1.0)
    assert [record.getMessage() for record in caplog.records] == told
