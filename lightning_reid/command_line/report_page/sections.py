"""The parts of the page that show what a network comes to on a test part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from lightning_reid.command_line.report_page.charts import histogram
from lightning_reid.command_line.report_page.findings import TOP, AskedQuery, Findings
from lightning_reid.command_line.report_page.markup import Markup, joined, table, tag
from lightning_reid.command_line.report_page.names import Names
from lightning_reid.command_line.report_page.pictures import LIST_BYTES, LIST_HEIGHT, Pictures
from lightning_reid.metrics import CameraPairs, PairDistances
from lightning_reid.records import AnyRecord

Shown = Callable[[Sequence[Any], str], Iterable[Any]]
"""Passes things on, and shows how far they are."""
MOST_CAMERAS = 20
"""Rows and columns of a table of camera pairs."""
SHADES = 9


def section(name: str, title: str, *children: str | None) -> Markup:
    """A part of the page that can be jumped to."""
    return tag("section", tag("h2", title, id=name), *children, aria_labelledby=name)


def file_of(record: AnyRecord) -> str:
    """The file of a record's picture, by its name and that of the folder it lies in."""
    return "/".join(record.thumbnail.replace("\\", "/").split("/")[-2:])


def rank_lists_section(findings: Findings, pictures: Pictures, seed: int, shown: Shown) -> Markup:
    """The worst queries, and some that were drawn, with their nearest answers."""
    scored = len(findings.found.scores.valid_queries)
    worst = list(shown(findings.worst, "crops of the worst queries"))
    drawn = list(shown(findings.random, "crops of the drawn queries"))
    return section(
        "lists",
        "Rank lists",
        tag(
            "p",
            f"Each row is a query and its {TOP} nearest gallery images, nearest first. A full green frame and ✓ is a right answer, a broken"
            f" red one and ✗ a wrong one. What protocol {findings.found.stamp.protocol} takes out for the query is not shown. Where none of"
            f" the {TOP} is right, the nearest right one stands apart, with its rank.",
        ),
        tag("h3", f"The {len(worst)} worst of {scored:,} scored queries, by average precision"),
        tag("ol", *(_asked(one, pictures) for one in worst), class_="queries"),
        tag("h3", f"{len(drawn)} of {scored:,} scored queries, drawn by seed {seed}"),
        tag("ol", *(_asked(one, pictures) for one in drawn), class_="queries"),
    )


def _asked(asked: AskedQuery, pictures: Pictures) -> Markup:
    heading = tag(
        "p",
        tag("b", f"Query {asked.number + 1:,}: {pictures.names.person(asked.record)}"),
        f" · average precision {100 * asked.average_precision:.1f} % · first right answer at rank {asked.first_right_rank:,}",
    )
    crops = [_crop(asked.record, pictures, "query", None)]
    crops += [_crop(record, pictures, f"{rank}", right) for rank, (record, right) in enumerate(asked.answers, start=1)]
    if asked.first_right is not None:
        crops.append(_crop(asked.first_right, pictures, f"{asked.first_right_rank:,}", True, class_="apart"))
    return tag("li", heading, tag("ol", *crops, class_="crops"))


def _crop(record: AnyRecord, pictures: Pictures, place: str, right: bool | None, class_: str = "") -> Markup:
    width, height = pictures.size(LIST_HEIGHT)
    kind = {None: "query", True: "right", False: "wrong"}[right]
    said = "query" if right is None else f"rank {place}, {kind}"
    picture = tag(
        "img",
        src=pictures.crop(record.thumbnail, LIST_HEIGHT, LIST_BYTES),
        alt=f"{said}: {pictures.names.person(record)}",
        title=f"{pictures.names.person(record)}, {file_of(record)}",
        width=width,
        height=height,
    )
    mark = {None: "query", True: f"{place} ✓", False: f"{place} ✗"}[right]
    words = tag("span", pictures.names.short(record), class_="who")
    return tag("li", picture, tag("span", mark, class_="mark"), words, class_=f"{kind} {class_}".strip())


def cameras_section(findings: Findings, names: Names) -> Markup:
    """Where people are lost between cameras."""
    protocol, pairs = findings.found.stamp.protocol, findings.cameras
    if pairs is None:
        return section("cameras", "Failures by camera pair", tag("p", "All images are of one camera: there are no pairs."))
    told = (
        f"Judged under protocol {protocol}. First: of the queries of one camera that have a match in another, how many meet somebody else"
        " when that camera alone is searched. Second: from which camera the wrong answer comes that is nearest of all. Redder is a larger"
        " share."
    )
    note, pairs = _note_of_left_out(pairs), _of_most_queries(pairs)
    asked, scored = _rows(pairs.asked), pairs.scored.tolist()
    missed = [[_share(count, of) for count, of in zip(*row)] for row in zip(_rows(pairs.missed), asked)]
    misled = [[_share(count, of) for count in row] for row, of in zip(_rows(pairs.misled), scored)]
    grids = tag(
        "div", _grid("Not found in the camera", pairs, names, missed), _grid("Led to the camera", pairs, names, misled), class_="pair"
    )
    return section("cameras", "Failures by camera pair", tag("p", told), note, grids)


def _rows(counts: torch.Tensor) -> list[list[int]]:
    rows: list[list[int]] = counts.tolist()
    return rows


def _of_most_queries(pairs: CameraPairs) -> CameraPairs:
    """The cameras that a table has place for: those of most queries, and those that most queries have a match in."""
    rows = pairs.scored.argsort(descending=True, stable=True)[:MOST_CAMERAS].sort().values
    columns = pairs.asked.sum(0).argsort(descending=True, stable=True)[:MOST_CAMERAS].sort().values
    asked, missed, misled = (one[rows][:, columns] for one in (pairs.asked, pairs.missed, pairs.misled))
    return CameraPairs(pairs.query_cameras[rows], pairs.gallery_cameras[columns], asked, missed, misled, pairs.scored[rows])


def _note_of_left_out(pairs: CameraPairs) -> Markup | None:
    left_out = [f"{count - MOST_CAMERAS} of {count} cameras" for count in pairs.asked.shape if count > MOST_CAMERAS]
    return tag("p", f"Left out are {' and '.join(left_out)}, those of fewest queries.", class_="note") if left_out else None


def _share(count: int, of: int) -> Markup:
    if not of:
        return tag("span", "–", class_="none")
    shade = round(SHADES * count / of)
    return tag("span", f"{count:,}", tag("small", f" of {of:,}"), class_=f"shade shade-{shade}" if count else "none")


def _grid(caption: str, pairs: CameraPairs, names: Names, cells: list[list[Markup]]) -> Markup:
    headings = ["query \\ gallery", *(names.camera(camera) for camera in pairs.gallery_cameras.tolist())]
    rows: list[list[str]] = [[names.camera(camera), *row] for camera, row in zip(pairs.query_cameras.tolist(), cells)]
    return table(caption, headings, rows)


def distances_section(findings: Findings) -> Markup:
    """How far apart pictures of one person and of two lie, and what a threshold makes of it."""
    title, distances = "Distances of same and different people", findings.distances
    if distances is None:
        return section("distances", title, tag("p", "The gallery shows the one who is asked for alone: there are no two people."))
    counts = {"same person": distances.same.tolist(), "different people": distances.different.tolist()}
    chart = histogram("Pairs of a query and a gallery image", distances.edges.tolist(), counts, distances.threshold)
    same, different = sum(counts["same person"]), sum(counts["different people"])
    told = (
        f"{same:,} pairs of one person and {different:,} of two, those that count under protocol {findings.found.stamp.protocol};"
        " cosine distance is 1 less the cosine of two embeddings, 0 where they point the same way. Each outline is the share of its own"
        " kind."
    )
    return section("distances", title, tag("p", told), tag("p", _threshold(distances, different)), chart)


def _threshold(distances: PairDistances, different: int) -> Markup:
    rate = f"{100 * distances.false_match_rate:g} %"
    if distances.threshold is None or distances.true_match_rate is None:
        return joined(f"No threshold is told: a false match rate of {rate} cannot be told from 0 with {different:,} pairs of two people.")
    return joined(
        "At a false match rate of ",
        tag("b", rate),
        " the threshold is ",
        tag("b", f"{distances.threshold:.3f}"),
        ": of pairs of two people that share lies nearer, and of pairs of one person ",
        tag("b", f"{100 * distances.true_match_rate:.1f} %"),
        " do. It was found on these pairs and judged on them: on other people it will be off.",
    )
