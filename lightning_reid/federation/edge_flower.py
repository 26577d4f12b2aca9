"""What the device of a camera does when it is asked over Flower (extra ``federated``)."""

from __future__ import annotations

from collections.abc import Callable

from filelock import FileLock
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from lightning_reid.federated import FedPav
from lightning_reid.federated.sharing import AllowList
from lightning_reid.federation import edge_messages
from lightning_reid.federation.edge_device import CLASSIFIER, WALK, EdgeDevice, digest
from lightning_reid.federation.edge_messages import BANK, INSTALL, STATISTICS, TELL
from lightning_reid.federation.flower import fitted
from lightning_reid.federation.local_training import LocalTraining
from lightning_reid.federation.messages import read_asked, who_reply


def edge_client_app(build: Callable[[Context], EdgeDevice]) -> ClientApp:
    """A device's part: it says who it is, takes the visit of a walk, and keeps and tells what the hub asks for.

    Flower may start a process for each message, so that a device lives in its folder. A file lock lets one message after another touch it;
    who it is may be asked meanwhile.

    Args:
        build: From Flower's context, whose ``node_config`` tells which device this is and ``run_config`` what is run, to the device.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        device = build(context)
        with _alone(device):
            return fitted(visit(device, edge_messages.walk_of(read_asked(message).walk)), message)

    @app.query("who")
    def who(message: Message, context: Context) -> Message:
        device = build(context)  # which says who it is while it trains, too: without the lock
        return Message(edge_messages.who_reply(device.id, device.facts), reply_to=message)

    def answer(query: str, reply: Callable[[EdgeDevice, Message], RecordDict]) -> None:
        @app.query(query.partition(".")[2])
        def answered(message: Message, context: Context) -> Message:
            device = build(context)
            with _alone(device):
                return Message(reply(device, message), reply_to=message)

    answer(INSTALL, _install)
    answer(BANK, _bank)
    answer(STATISTICS, _statistics)
    answer(TELL, _take_task)
    return app


def visit(device: EdgeDevice, walk: str) -> LocalTraining:
    """A device's part in a walk, whose state is in the walk's folder among the device's.

    Raises:
        FileNotFoundError: It was told no labels for that walk.
    """
    client = device.client(walk)
    walks_along = walk != WALK and device.task(walk).rows is None
    prefixes = (*device.middle, CLASSIFIER) if walks_along else device.middle
    folder = device.folder / walk
    folder.mkdir(parents=True, exist_ok=True)
    return LocalTraining(client, FedPav(prefixes), folder / f"{device.id}.ckpt", device.accelerator)


def _install(device: EdgeDevice, message: Message) -> RecordDict:
    return edge_messages.install_reply(device.id, device.install(edge_messages.read_install_request(message, _middle_of(device))))


def _bank(device: EdgeDevice, message: Message) -> RecordDict:
    return edge_messages.bank_reply(device.id, digest(device.model()), device.bank(), device.facts, device.width, half=device.options.half)


def _statistics(device: EdgeDevice, message: Message) -> RecordDict:
    allowed = edge_messages.statistics_list(_middle_of(device))
    return edge_messages.statistics_reply(device.id, digest(device.model()), device.statistics(), allowed)


def _take_task(device: EdgeDevice, message: Message) -> RecordDict:
    device.take_task(*edge_messages.read_task_request(message, device.data.num_tracklets, device.width))
    return who_reply(device.id)


def _middle_of(device: EdgeDevice) -> AllowList:
    return AllowList.of(device.start, device.middle)


def _alone(device: EdgeDevice) -> FileLock:
    device.folder.mkdir(parents=True, exist_ok=True)
    return FileLock(device.folder / "device.lock")
