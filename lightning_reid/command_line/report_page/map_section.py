"""The map of embeddings: points that show whose they are when they are pointed at or reached by keys."""

from __future__ import annotations

from lightning_reid.command_line.report_page.findings import Findings, MappedPoints
from lightning_reid.command_line.report_page.markup import Markup, details, table, tag
from lightning_reid.command_line.report_page.names import Names
from lightning_reid.command_line.report_page.pictures import MAP_BYTES, MAP_HEIGHT, Pictures
from lightning_reid.command_line.report_page.sections import Shown, file_of, section
from lightning_reid.records import AnyRecord

HUES = 10
WIDTH, HEIGHT, MARGIN = 960, 600, 16
_SHAPES = ("M-5,0a5,5 0 1 0 10,0a5,5 0 1 0 -10,0", "M-4.5,-4.5h9v9h-9z", "M0,-6l6,10.5h-12z", "M0,-6.5l6.5,6.5l-6.5,6.5l-6.5,-6.5z")
"""Colors alone tell few people apart, and some readers none: neighbors in the order of people differ in shape too."""
ROUND = 20
"""People until a color has its first shape again: the next have the next shape, so that forty look differently."""
NAMES = {"tsne": "t-SNE", "pca": "PCA, the two directions of largest variance"}
_READ = {
    "tsne": "Neighbors stay together; how far groups lie apart means nothing.",
    "pca": "Distances are what two of many directions leave of them.",
}


def map_section(findings: Findings, pictures: Pictures, seed: int, shown: Shown) -> Markup:
    """The map, and its points as a table."""
    found = findings.map
    if found is None:
        return section("map", "Map of embeddings", tag("p", "There are fewer than three pictures of people: nothing can be placed."))
    count = f"{len(found.records):,} of {found.of_records:,} pictures, of {found.num_people} of {found.of_people:,} people"
    drawn = f"{count}, drawn by seed {seed}, by {NAMES[found.method]}."
    if len(found.records) == found.of_records:
        drawn = f"All {found.of_records:,} pictures of {found.of_people:,} people, by {NAMES[found.method]}."
    keys = (
        "Point at a picture's mark, or tab to the map and go on with the arrow keys: it shows the crop, and the others of the person are"
        " ringed. Page Up and Page Down go through all pictures, one person after the other, Home and End to the first and the last,"
        " Escape puts the crop away."
    )
    marks = [_mark(*one) for one in shown(list(_placed(found, pictures)), "crops of the map")]
    svg = tag(
        "svg",
        *marks,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        class_="map",
        role="group",
        aria_label=f"map of {len(found.records)} pictures; arrow keys go from one to the next",
        aria_describedby="map-keys",
    )
    tip = tag("div", tag("img", alt=""), tag("p"), class_="tip", hidden=True, id="tip", aria_hidden="true")
    rows = [
        [f"{number + 1:,}", *_cells(record, query, pictures.names)]
        for number, (record, query) in enumerate(zip(found.records, found.is_query))
    ]
    listed = details("The pictures", table("Pictures on the map", ["", "who", "role", "file"], rows, names=4))
    looks = "Color and shape are the person's; queries have a rim."
    told = tag("p", f"{drawn} {_READ[found.method]} {looks}")
    return section("map", "Map of embeddings", told, tag("p", keys, id="map-keys"), tag("div", svg, tip, class_="map-box"), listed)


def _placed(found: MappedPoints, pictures: Pictures) -> list[tuple[AnyRecord, bool, int, float, float, Pictures]]:
    low, high = found.points.amin(0), found.points.amax(0)
    scaled = (found.points - low) / (high - low).clamp_min(1e-12)
    person_of = {pid: place for place, pid in enumerate(dict.fromkeys(record.pid for record in found.records))}
    return [
        (record, query, person_of[record.pid], MARGIN + x * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - y * (HEIGHT - 2 * MARGIN), pictures)
        for record, query, (x, y) in zip(found.records, found.is_query, scaled.tolist())
    ]


def mark_of(place: int) -> tuple[str, int]:
    """The shape, as the path of an SVG, and the number of the color of a person by their place among those of the map, from 0."""
    return _SHAPES[(place + place // ROUND) % len(_SHAPES)], place % HUES


def _mark(record: AnyRecord, query: bool, place: int, x: float, y: float, pictures: Pictures) -> Markup:
    shape, hue = mark_of(place)
    said = f"{pictures.names.person(record)}, {'query' if query else 'gallery'}"
    return tag(
        "path",
        d=shape,
        transform=f"translate({x:.1f},{y:.1f})",
        class_=f"point hue-{hue}{' asked' if query else ''}",
        role="img",
        aria_label=f"{said}, {file_of(record)}",
        data_person=place,
        data_said=said,
        data_file=file_of(record),
        data_crop=pictures.crop(record.thumbnail, MAP_HEIGHT, MAP_BYTES),
    )


def _cells(record: AnyRecord, query: bool, names: Names) -> list[str]:
    return [names.person(record), "query" if query else "gallery", file_of(record)]
