"""The people of a labeled data set that a network has not been trained on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from lightning_reid.datamodules.catalog import prepare_dataset, read_prepared
from lightning_reid.datamodules.generated.people_data import PeopleData
from lightning_reid.files import read_json
from lightning_reid.networks.shipped import located
from lightning_reid.networks.weights import MODEL_CONFIG, read_checkpoint
from lightning_reid.records import ImageRecord, TrainedPeople

Part = Literal["all", "train", "test"]


@dataclass(frozen=True)
class LabeledPeople:
    """Images of people who are somebody, and what should be known of them.

    Attributes:
        name: Of the data set.
        records: Of the images.
        notes: Sentences for the user.
    """

    name: str
    records: tuple[ImageRecord, ...]
    notes: tuple[str, ...]


def read_strangers(data: str, root: str | None, part: Part, model: str, *, allow_paths_outside: bool = False) -> LabeledPeople:
    """Read a data set, and leave out whom a network was trained on, as far as its file tells.

    Args:
        data: Name of a data set, folder in the Market naming, or table.
        root: Folder of named sets.
        part: Whose images: of the people to train on, of those to test on (query and gallery), or of all.
        model: As ``load_network`` takes it.
        allow_paths_outside: Whether a table may list files that do not lie below its folder.

    Raises:
        OSError: The data are not there.
        ValueError: They cannot be read, there is nobody in that part, or nobody but whom the network was trained on; or the two parts have
            people of the same numbers, who may be the same or not.
    """
    prepare_dataset(data, root)
    found = read_prepared(data, root, needs_train=False, needs_test=False, allow_paths_outside=allow_paths_outside)
    train, test = (tuple(one for one in split if one.pid > 0) for split in (found.train, (*found.query, *found.gallery)))
    both = {one.pid for one in train} & {one.pid for one in test}
    if part == "all" and both:
        raise ValueError(
            f"{data}: {len(both)} people of the training part have the numbers of people of the test part, such as {min(both)}: whether"
            " they are the same nobody says. Give --part test, or --part train"
        )
    told = trained_people(model)
    known = told is not None and same_data(told.data, found.name)
    left_out = {one.pid for one in train} & set(told.pids) if told is not None and known else set[int]()
    parts = {"train": tuple(one for one in train if one.pid not in left_out), "test": test}
    records = tuple(dict.fromkeys(one for name, some in parts.items() if part in (name, "all") for one in some))
    notes = list(found.notes)
    if told is None:
        notes.append(f"{model} does not tell whom it was trained on: were they among these people, it would look better than it is")
    elif known is None:
        notes.append(f"{model} was trained on {told.data}: were these the same people under another name, it would look better than it is")
    if left_out and part != "test":
        notes.append(f"left out {len(left_out)} people whom {model} was trained on")
    if not records:
        raise ValueError(f"{data} has nobody with a number to calibrate on in --part {part}{_why(left_out, model)}")
    return LabeledPeople(found.name, records, tuple(notes))


def trained_people(model: str) -> TrainedPeople | None:
    """Whom a network was trained on, where its checkpoint or model folder tells."""
    path = located(model)
    if path.suffix.lower() == ".onnx":
        return None
    if not (path / MODEL_CONFIG).is_file():
        return TrainedPeople.of_checkpoint(read_checkpoint(path))
    name = read_json(path / MODEL_CONFIG, way_on="fetch it again").get("trained_on")
    if not isinstance(name, str):
        return None
    people = PeopleData.named(name)
    return TrainedPeople(name, () if people is None else tuple(range(1, people.people + 1)))


def same_data(one: str, other: str) -> bool | None:
    """Whether two data sets show the same people: generated ones do if they are of one seed; ``None`` where names do not tell."""
    if one == other:
        return True
    people, others = PeopleData.named(one), PeopleData.named(other)
    if people is None and others is None:
        return None
    return people is not None and others is not None and people.seed == others.seed


def _why(left_out: Collection[int], model: str) -> str:
    return f" but {len(left_out)} people whom {model} was trained on: give other data, or --part test" if left_out else ""
