"""The page as a whole: what a run, or a network, has come to."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_reid.command_line.finished_run import FinishedRun, Method
from lightning_reid.command_line.report_page.findings import Findings
from lightning_reid.command_line.report_page.map_section import map_section
from lightning_reid.command_line.report_page.markup import Markup, details, joined, table, tag
from lightning_reid.command_line.report_page.names import option_without_places
from lightning_reid.command_line.report_page.pictures import Pictures
from lightning_reid.command_line.report_page.sections import Shown, cameras_section, distances_section, rank_lists_section, section
from lightning_reid.command_line.report_page.training_section import training_sections
from lightning_reid.recipes.workshop.report import ResultRow, unmatched_sentences

GENERATOR = "lightning-reid report"
MOST_BYTES = 10_000_000
STATIC = Path(__file__).with_name("static")
LOUD = "WARNING"
"""How a note begins that must not be missed."""
AGREES = 5e-4
"""Two mAP that are no further apart are the same but for rounding."""
PARTS_OF_THE_PAGE = {
    **{"scores": "Scores", "lists": "Rank lists", "cameras": "Camera pairs", "distances": "Distances", "map": "Map"},
    **{"looks": "Parts and attention", "clusters": "Clusters", "learning": "Learning", "about": "About"},
}


@dataclass(frozen=True, eq=False)
class Subject:
    """What the page is about.

    Attributes:
        run: The run; ``None`` of a network alone.
        method: Of the run, that is looked into.
        model: Name or file of the network.
        network_name: Of its weights, with the image size.
        data: Name of the test part.
        same_data: Whether the run was scored on it.
        notes: What must be read with the scores.
    """

    run: FinishedRun | None
    method: Method | None
    model: str
    network_name: str
    data: str
    same_data: bool
    notes: Sequence[str]


def build_page(
    subject: Subject, findings: Findings, pictures: Pictures, looks: Markup, *, seed: int, versions: Mapping[str, str], shown: Shown
) -> str:
    """Build the page as one file.

    Args:
        subject: What it is about.
        findings: What was found of it.
        pictures: Of the test part.
        looks: The part that shows where the network looks.
        seed: Of what was drawn.
        versions: Of what made the page.
        shown: Shows how far the making of small pictures is.

    Raises:
        ValueError: It would be 10 MB or more.
    """
    parts = [
        _scores(subject, findings),
        rank_lists_section(findings, pictures, seed, shown),
        cameras_section(findings, pictures.names),
        distances_section(findings),
        map_section(findings, pictures, seed, shown),
        looks,
        *training_sections(subject.run),
        _about(subject, findings, versions),
    ]
    whole = _document(_title(subject), tag("main", *parts, id="content"), subject)
    size = len(whole.encode("utf-8", "backslashreplace"))
    if size >= MOST_BYTES:
        raise ValueError(
            f"the page would have {size / 1e6:.1f} MB, and is to have less than {MOST_BYTES / 1e6:.0f}: give fewer --queries or --points"
        )
    return whole


def _title(subject: Subject) -> str:
    if subject.run is None:
        return f"{Path(subject.model).name} on {subject.data}"
    return subject.run.title


def _document(title: str, main: Markup, subject: Subject) -> str:
    style, script = (STATIC.joinpath(name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    nobody = ("default-src 'none'", "base-uri 'none'", "form-action 'none'")
    allowed = "; ".join((*nobody, "img-src data:", f"style-src '{_digest(style)}'", f"script-src '{_digest(script)}'"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=allowed),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content=GENERATOR),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} – lightning-reid"),
        tag("style", Markup(style)),
    )
    links = [tag("li", tag("a", words, href=f"#{name}")) for name, words in PARTS_OF_THE_PAGE.items()]
    about = f"method {subject.method.name}, " if subject.method is not None else ""
    header = tag(
        "header",
        tag("h1", title),
        tag("p", f"{about}looked into on {subject.data}"),
        tag("nav", tag("ul", *links), aria_label="parts of the page"),
    )
    skip = tag("a", "to the content", href="#content", class_="skip")
    body = tag("body", skip, header, main, tag("script", Markup(script)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode('utf-8')).digest()).decode('ascii')}"


def _scores(subject: Subject, findings: Findings) -> Markup:
    """The table of the run as it stands in its folder, and what was measured for this page."""
    found = findings.found
    interval = "one person" if found.interval is None else " – ".join(f"{100 * end:.1f}" for end in found.interval)
    per_cent = [f"{100 * score:.1f}" for score in (found.scores.mAP, *(float(found.scores.cmc[rank - 1]) for rank in (1, 5, 10)))]
    here = [
        subject.method.name if subject.method else Path(subject.model).name,
        per_cent[0],
        interval,
        *per_cent[1:],
        f"{100 * found.scores.mINP:.1f}",
    ]
    headings = ["method", "mAP %", "95 % interval", "R1 %", "R5 %", "R10 %", "mINP %"]
    stamp = f"{subject.network_name} | {found.stamp}"  # below the table: a caption is as wide as its table, and is cut off on a telephone
    measured = [table("Measured for this page", headings, [here]), tag("p", stamp, class_="stamp")]
    if found.scores.num_unmatched_queries:
        told = f"{found.scores.num_unmatched_queries:,} of {found.scores.num_queries:,} queries have no match and are not scored."
        measured.append(tag("p", told))
    measured += [tag("p", one, class_="note" if one.startswith(LOUD) else None) for one in subject.notes]
    run = subject.run
    if run is None:
        return section("scores", "Scores", *measured)
    rows = list(run.results.rows)
    if not rows:
        return section("scores", "Scores", tag("p", f"The run: {run.results.told}."), *measured)
    left: list[Markup] = [_table_of_run(rows), tag("p", run.results.told, class_="stamp")]
    if run.results.stamp is not None:
        left += [tag("p", f"{one}.") for one in unmatched_sentences(rows, run.results.stamp)]
    agreement = _agreement(subject, found.scores.mAP)
    return section("scores", "Scores", *left, *measured, agreement)


def _table_of_run(rows: Sequence[ResultRow]) -> Markup:
    headings = list(dict.fromkeys(heading for row in rows for heading in row.headings()))
    cells = [dict(zip(row.headings(), row.cells())) for row in rows]
    return table("The run's own table", headings, [[row.get(heading, "–") for heading in headings] for row in cells])


def _agreement(subject: Subject, here: float) -> Markup | None:
    """Whether this page's mAP is the table's."""
    if subject.method is None or subject.method.row is None or not subject.same_data:
        return None
    there = subject.method.row.scores["mAP"]
    if abs(there - here) <= AGREES:
        return tag("p", f"This page's mAP is that of the table, {100 * here:.1f} %.")
    told = (
        f"This page's mAP is {100 * here:.1f} %, the table's {100 * there:.1f} %: the page compares by cosine, computes in single precision"
        " and takes the mean of the precisions; a run that was scored by another distance, rule, precision or protocol has another number."
    )
    return tag("p", told, class_="note")


def _about(subject: Subject, findings: Findings, versions: Mapping[str, str]) -> Markup:
    """Stamps of everything, versions, and the options of the run."""
    run = subject.run
    facts = {
        "network": "/".join(Path(subject.model).parts[-1 if run is None else -2 :]),
        "weights": subject.network_name,
        "data": subject.data,
    }
    facts |= {"page made by": ", ".join(f"{name} {version}" for name, version in versions.items())}
    if run is not None:
        facts |= {
            "run": run.folder.resolve().name,
            "run made by": f"lightning-reid {run.options.get('lightning-reid', 'of a version it does not tell')}",
        }
        facts |= {"seconds of the run's last sitting": f"{run.results.seconds:,.1f}"}
    stamps = {"this page": findings.found.stamp.as_dict()}
    if run is not None and run.results.stamp is not None:
        stamps |= {"the run's table": run.results.stamp.as_dict()}
    names = list(dict.fromkeys(name for one in stamps.values() for name in one))
    listed = table("Stamps", ["", *stamps], [[name, *(_told(one.get(name)) for one in stamps.values())] for name in names], names=3)
    options = None
    if run is not None and run.options:
        rows = [[name, json.dumps(option_without_places(value))] for name, value in run.options.items()]
        options = details("Options of the run", table("Options of the run", ["option", "value"], rows, names=2))
    described = joined(*(joined(tag("dt", name), tag("dd", value)) for name, value in facts.items()))
    return section("about", "About this page", tag("dl", described), listed, options)


def _told(value: str | int | bool | None) -> str:
    return "–" if value in (None, "") else {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
