"""The data of a federation: a DataModule for each client, each with images that no other has."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from lightning_reid.arguments import require_choice, require_count, require_number, require_path, require_seed, require_switch, shown
from lightning_reid.datamodules.blocks.pictures import of_several
from lightning_reid.datamodules.catalog import prepare_dataset
from lightning_reid.datamodules.client_splits import ClientSplit, hold_out, split_clients, split_table
from lightning_reid.datamodules.image_reid import ImageReIDDataModule
from lightning_reid.datamodules.unlabeled import UnlabeledDataModule
from lightning_reid.files import write_json
from lightning_reid.records import ImageRecord, PictureSource, ReIDDataset

_OF_READING = ("unreadable", "allow_paths_outside", "storage_options", "block_cache", "block_cache_gb")
logger = logging.getLogger(__name__)

ClientData = ImageReIDDataModule | UnlabeledDataModule


class FederatedData:
    """Deals training images to clients and gives each a DataModule of its own, which an ordinary Trainer fits on.

    A client is tested on the queries and gallery of its data set, or, with ``held_out``, on its own people: of every person and camera
    some images are held out, and those of each person in one camera are the queries.

    Args:
        datasets: One data set or more, as in :class:`ImageReIDDataModule`.
        split: ``"dataset"``, ``"camera"``, ``"identity"`` or ``"dirichlet"``, see ``split_clients``.
        num_clients: Of each data set, for ``"identity"`` and ``"dirichlet"``.
        concentration: alpha of the Dirichlet distribution, above 0.
        min_identities: Identities that every client of ``"identity"`` and ``"dirichlet"`` gets at least, 2 or more.
        held_out: Share of images that is held out for the personal test, in (0, 1); ``None`` for the data set's own test part.
        unlabeled: Whether clients know no identities (``UnlabeledDataModule``).
        root: Folder that holds the named data sets; ``None`` is ``./data``.
        seed: Of the split, and of the clients' draws.
        options: Of the clients' DataModules; those with fewer people than P get batches of all their people, which is said.

    Attributes:
        clients: Name to DataModule; empty before ``setup``.

    Raises:
        ValueError: No data set (here); a split that cannot be made (``setup``).

    Example:
        >>> from lightning_reid.datamodules import FederatedData
        >>> data = FederatedData([market], split="identity", num_clients=2, p=4)  # market: a folder in the Market naming
        >>> data.setup()
        >>> {name: client.num_classes for name, client in data.clients.items()}
        {'client0': 5, 'client1': 5}
    """

    def __init__(
        self,
        datasets: Sequence[str] = ("market1501", "dukemtmc-reid", "cuhk03-np-detected", "msmt17-v1"),
        split: ClientSplit = "dataset",
        num_clients: int | None = None,
        concentration: float = 0.5,
        min_identities: int = 2,
        held_out: float | None = None,
        unlabeled: bool = False,
        root: str | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        if isinstance(datasets, str) or not isinstance(datasets, Sequence) or not datasets:
            raise ValueError(f"a federation needs a data set or more: datasets must be a list of them, got {shown(datasets)}")
        require_choice("split", split, get_args(ClientSplit))
        require_count("num_clients", num_clients, low=2, optional=True)
        require_number("concentration", concentration, above=0)
        require_count("min_identities", min_identities, low=2)
        require_number("held_out", held_out, above=0, below=1, optional=True)
        require_seed("seed", seed)
        require_switch("unlabeled", unlabeled)
        require_path("root", root, optional=True)
        self.datasets, self.split, self.num_clients, self.concentration = tuple(datasets), split, num_clients, concentration
        self.min_identities = min_identities
        self.held_out, self.unlabeled, self.root, self.seed, self.options = held_out, unlabeled, root, seed, options
        self.clients: dict[str, ClientData] = {}
        self._rows: list[tuple[str, int, int, int]] = []
        self._files: dict[str, list[str]] = {}
        self._pictures: PictureSource | None = None

    def prepare_data(self) -> None:
        """Generate presets that are not there yet; anything else must be there."""
        for dataset in self.datasets:
            prepare_dataset(dataset, self.root)

    def setup(self) -> None:
        """Read, split, and make the clients' DataModules."""
        asked: dict[str, Any] = {name: self.options[name] for name in _OF_READING if name in self.options}
        asked |= {"root": self.root, "needs_test": self.held_out is None, "val_identities": 0}
        read = [ImageReIDDataModule(dataset, **asked).read() for dataset in self.datasets]
        records = [record for dataset in read for record in dataset.train]
        dealing = {name: getattr(self, name) for name in ("num_clients", "concentration", "min_identities", "seed")}
        members = split_clients(records, self.split, **dealing)
        self._rows = split_table(records, members)
        self._files = {name: [records[row].path for row in rows] for name, rows in members.items()}
        self._pictures = of_several(read)
        tests = {record.domain: dataset for dataset in read for record in dataset.train[:1]}
        self.clients = {name: self._client(name, [records[row] for row in rows], tests) for name, rows in members.items()}

    def _client(self, name: str, records: list[ImageRecord], tests: dict[str, ReIDDataset]) -> ClientData:
        if self.held_out is None:
            domains = sorted({record.domain for record in records})
            query = tuple(record for domain in domains for record in tests[domain].query)
            gallery = tuple(record for domain in domains for record in tests[domain].gallery)
            dataset = ReIDDataset(name, tuple(records), query, gallery, pictures=self._pictures)
        else:
            train, held = hold_out(records, self.held_out)
            dataset = personal_test(name, [records[row] for row in train], [records[row] for row in held])
            dataset = replace(dataset, pictures=self._pictures)
            if not dataset.query or not dataset.gallery:
                raise ValueError(
                    f"held_out={self.held_out:g} of the images of client {name} leaves {len(dataset.query)} queries and"
                    f" {len(dataset.gallery)} gallery images to test it on: hold out more, or give it people with more images a camera"
                )
        options: dict[str, Any] = {"dataset": name, "seed": self.seed, "val_identities": 0} | self.options
        if self.unlabeled:
            data: ClientData = UnlabeledDataModule(**options)
        else:
            data = ImageReIDDataModule(**options)
            people = len({record.pid for record in dataset.train})
            if people < data.p:
                logger.warning("%s has %d people: its batches hold P=%d instead of %d", name, people, people, data.p)
                data.p = people
        data.serve(dataset)
        return data

    def as_json(self) -> dict[str, Any]:
        """The split, with every file's client."""
        settings: dict[str, Any] = {"datasets": list(self.datasets), "split": self.split, "num_clients": self.num_clients}
        settings |= {
            "concentration": self.concentration,
            "min_identities": self.min_identities,
            "held_out": self.held_out,
            "seed": self.seed,
        }
        counts = {name: {"images": n, "identities": people, "cameras": cams} for name, n, people, cams in self._rows}
        return settings | {"clients": {name: counts[name] | {"files": self._files[name]} for name in counts}}

    def save(self, path: Path) -> None:
        """Write the split as a JSON file, every image's client included."""
        write_json(path, self.as_json())

    def print(self) -> None:
        """Print a table of who has how many images, people and cameras."""
        table = Table(title=f"{len(self._rows)} clients by {self.split}, seed {self.seed}")
        for heading in ("client", "images", "identities", "cameras"):
            table.add_column(heading, justify="left" if heading == "client" else "right")
        for row in self._rows:
            table.add_row(*(f"{value:,}" if isinstance(value, int) else value for value in row))
        Console().print(table)


def personal_test(name: str, train: Sequence[ImageRecord], held_out: Sequence[ImageRecord]) -> ReIDDataset:
    """A client's own people, with the held-out images of each person's first camera as queries and the others as gallery."""
    first: dict[int, int] = {}
    for record in held_out:
        first[record.pid] = min(record.camid, first.get(record.pid, record.camid))
    query = tuple(record for record in held_out if record.camid == first[record.pid])
    gallery = tuple(record for record in held_out if record.camid != first[record.pid])
    return ReIDDataset(name, tuple(train), query, gallery)
