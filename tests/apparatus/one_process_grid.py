"""Flower's messages without a network, and clients that answer without training."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from flwr.app import Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity
from torch import Tensor
from typing_extensions import override

from lightning_reid.federated import FedPav
from lightning_reid.federated.strategies import Reply
from lightning_reid.federation import messages
from lightning_reid.federation.client import LocalFit

CLIENTS = ["a", "b", "c"]
IMAGES = {"a": 30, "b": 10, "c": 20}
SCORES = {"mAP": 0.5, "R1": 0.75, "unmatched_queries": 2.0}
START: dict[str, Tensor] = {
    "network.conv.weight": torch.zeros(4, 3),
    "network.bn.running_mean": torch.zeros(4),
    "network.bn.running_var": torch.ones(4),
    "network.bn.num_batches_tracked": torch.tensor(0),
    "network.frozen": torch.zeros(4, dtype=torch.bool),
}


def as_a_run(monkeypatch) -> None:
    """What the processes that Flower starts are told."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def trained(client: str, number: int) -> dict[str, Tensor]:
    """What an honest client sends back in a round."""
    generator = torch.Generator().manual_seed(10 * number + CLIENTS.index(client))
    drawn = {name: torch.rand(tensor.shape, generator=generator) for name, tensor in START.items() if tensor.is_floating_point()}
    return START | drawn | {"network.bn.num_batches_tracked": torch.tensor(number + 5)}


def honest_client(asked: Message, context: Context) -> Message:
    """A client that answers at once, as Flower calls it."""
    client = str(context.node_config["client"])
    if asked.metadata.message_type == MessageType.EVALUATE:
        _, number = messages.read_scores_request(asked)
        return Message(messages.scores_reply(client, number, SCORES), reply_to=asked)
    wish, tensors = messages.read_fit_request(asked, FedPav().allow_list(START))
    fit = LocalFit(wish.round, wish.attempt, "", sum(tensor.nbytes for tensor in tensors.values()), 1.0, 3)
    return Message(messages.fit_reply(fit, Reply(client, trained(client, wish.round), IMAGES[client])), reply_to=asked)


class OneProcessGrid(Grid):
    """A node answers when it is asked; ``tamper`` changes what a node sends, or loses it."""

    def __init__(
        self,
        app: Callable[[Message, Context], Message],
        names: list[str],
        tamper: Callable[[int, Message, Message], Message | None] | None = None,
    ) -> None:
        self.app, self.nodes, self.tamper = app, dict(enumerate(names, start=1)), tamper or (lambda node, asked, reply: reply)
        self.answers: dict[str, Message | None] = {}

    @override
    def set_run(self, run) -> None:
        raise NotImplementedError

    @property
    @override
    def run(self):
        raise NotImplementedError

    @override
    def create_message(self, *args, **kwargs):
        raise NotImplementedError

    @override
    def send_and_receive(self, messages, *, timeout=None):
        raise NotImplementedError

    @override
    def get_node_ids(self):
        return list(self.nodes)

    @override
    def push_messages(self, messages):
        ids = []
        for message in messages:
            node = message.metadata.dst_node_id
            context = Context(1, node, {"client": self.nodes[node]}, RecordDict(), {})
            asked = Message(copy.deepcopy(message.content), node, message.metadata.message_type)
            reply = self.tamper(node, asked, self.app(asked, context))
            ids.append(f"{node}-{len(self.answers)}")
            self.answers[ids[-1]] = reply
        return ids

    @override
    def pull_messages(self, message_ids):
        return [self.answers[one] for one in message_ids if self.answers[one] is not None]
