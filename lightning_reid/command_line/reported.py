"""The test part of a report, embedded by its network: of images, or of clips as a run of video has scored them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from jsonargparse import Namespace

from lightning_reid.command_line.finished_run import SCORES, Method
from lightning_reid.command_line.labeled_people import same_data, trained_people
from lightning_reid.command_line.report_page.clip_looks_section import clip_looks_section
from lightning_reid.command_line.report_page.embedded_clips import embed_clips, first_clips
from lightning_reid.command_line.report_page.findings import Findings
from lightning_reid.command_line.report_page.looks_section import PARTS, looks_section
from lightning_reid.command_line.report_page.markup import Markup
from lightning_reid.command_line.report_page.page import LOUD
from lightning_reid.command_line.report_page.pictures import Pictures
from lightning_reid.command_line.told_data import require_readable_as_told
from lightning_reid.datamodules.late_progress import late_progress
from lightning_reid.datamodules.tested import read_test_part
from lightning_reid.evaluation import EmbeddedTest, embed_test
from lightning_reid.inference import EmbeddedImages, EmbeddingPass, load_network, name_with_size
from lightning_reid.networks.network_name import network_name
from lightning_reid.recipes.workshop.tested_part import TestedPart, fingerprint_of_test
from lightning_reid.records import ReIDDataset, Splits, TrackletDataset


@dataclass(frozen=True, eq=False)
class Reported:
    """What a page is made of.

    Attributes:
        model: Name or file of the network.
        network_name: Of its weights, with the image size.
        test: Queries and gallery with their embeddings.
        pictures: Of them.
        same_data: Whether they are what the run was scored on.
        notes: What must be read with the scores.
        looks: Makes the part of the page that shows where the network looks.
    """

    model: str
    network_name: str
    test: EmbeddedTest
    pictures: Pictures
    same_data: bool
    notes: tuple[str, ...]
    looks: Callable[[Findings], Markup]


def reported_images(cfg: Namespace, method: Method | None, *, quiet: bool) -> Reported:
    """Embed images, or tracklets by their frames, with a network of images.

    Args:
        cfg: Options of the verb.
        method: Of a run; ``None`` of a network alone, which ``cfg`` names with its data.
        quiet: Show no progress bar.

    Raises:
        OSError: The network or the data are gone.
        ValueError: The data are not what they were, the network is none of images, or an embedding is not finite.
    """
    dataset: ReIDDataset | TrackletDataset = _read(cfg, method)
    model = cfg.model if method is None else str(method.checkpoint)
    network = load_network(model, cfg.image_size)
    names = {field.name for field in fields(EmbeddingPass)} - {"quiet", "flip"}
    embedding = EmbeddingPass(**{name: cfg[name] for name in names}, quiet=True)

    def shown(batches: Iterable[EmbeddedImages], total: int) -> Iterable[EmbeddedImages]:
        return late_progress(batches, f"embedding {total:,} images", total=-(-total // cfg.batch_size), disable=quiet)

    test: EmbeddedTest = embed_test(network, dataset, embedding, progress=shown)
    size = embedding.size_for(network)
    pictures, same = Pictures(dataset.pictures, size, dataset.names), cfg.data is None or _is_what_was_scored(method, dataset)
    notes = [*dataset.notes, *_known(model, dataset)]
    if test.num_unreadable:
        notes.append(f"{test.num_unreadable} of the queries and the gallery cannot be read and are left out.")
    if method is not None and not same:
        notes.append(f"{LOUD}: the run's table was not scored on {dataset.name}, which this page looks into, but on what its stamp says.")
    halves = method is not None and bool(method.told.get(PARTS))

    def looks(found: Findings) -> Markup:
        return looks_section(found, network, pictures, trained_on_halves=halves)

    return Reported(model, name_with_size(network, size), test, pictures, same, tuple(notes), looks)


def reported_clips(cfg: Namespace, method: Method, *, quiet: bool) -> Reported:
    """Embed tracklets with a network of clips, as the run scored them; arguments and errors as ``reported_images``."""
    tested, checkpoint = _tested(cfg, method), method.checkpoint
    assert checkpoint is not None  # who has none is not chosen
    with _told_as_gone(method):
        data = tested.read_clips()
    network, test = embed_clips(checkpoint, data, device=cfg.device, quiet=quiet)
    pictures = Pictures(data.dataset.pictures, data.image_size, data.dataset.names)

    def looks(found: Findings) -> Markup:
        return clip_looks_section(found, network, lambda records: first_clips(data, records), pictures)

    notes = (*data.dataset.notes, *_known(str(checkpoint), data.dataset))
    height, width = data.image_size
    return Reported(str(checkpoint), f"{network_name(network)} at {height}x{width}", test, pictures, True, notes, looks)


def _read(cfg: Namespace, method: Method | None) -> ReIDDataset | TrackletDataset:
    if cfg.data is not None:
        return read_test_part(cfg.data, cfg.root, split=cfg.split, allow_paths_outside=cfg.allow_paths_outside)
    assert method is not None  # without a run there are --data
    tested = _tested(cfg, method)
    with _told_as_gone(method):
        return tested.read()


def _tested(cfg: Namespace, method: Method) -> TestedPart:
    if method.tested is None:
        raise ValueError(f"{method.folder} does not tell what {method.name!r} was scored on: give --data, and --root for a named set")
    require_readable_as_told(method.tested, method.folder / SCORES, named=cfg.data)
    return method.tested


@contextmanager
def _told_as_gone(method: Method) -> Iterator[None]:
    """Have an error of the block say what was to be read, and the way on."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ValueError(f"what {method.name!r} was scored on cannot be read again: {error}. Restore it, or give --data") from error


def _known(model: str, dataset: Splits) -> list[str]:
    """Whether people are looked at whom the network was trained on."""
    people = trained_people(model)
    if people is None:
        return ["The network does not tell whom it was trained on: that nobody of the test is among them cannot be checked."]
    same = same_data(people.data, dataset.name)
    if same is None:
        return [f"The network was trained on {people.data}: whether {dataset.name} shows the same people under another name is not known."]
    known = {*people.pids, *people.held_out} & {record.pid for record in dataset.query} if same else set()
    told = f"{LOUD}: {len(known)} people of the test were trained or selected on: their scores say nothing about strangers."
    return [told] if known else []


def _is_what_was_scored(method: Method | None, dataset: Splits) -> bool:
    """Whether given data hold what the run was scored on, wherever they lie now."""
    if method is None or method.tested is None:
        return False
    return sorted(method.tested.holds.values()) == sorted(fingerprint_of_test(dataset).values())
