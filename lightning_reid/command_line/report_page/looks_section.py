"""Where the network's last map is strong in a query and its nearest answer, and how alike their halves are."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lightning_reid.command_line.report_page.findings import AskedQuery, Findings
from lightning_reid.command_line.report_page.markup import Markup, tag
from lightning_reid.command_line.report_page.pictures import LIST_BYTES, LIST_HEIGHT, Pictures, address, network_input, overlaid
from lightning_reid.command_line.report_page.sections import section
from lightning_reid.inference import OnnxEmbedder
from lightning_reid.networks import EmbeddingNetwork
from lightning_reid.networks.activation_maps import ActivationMaps, activation_maps
from lightning_reid.records import AnyRecord

TITLE = "Parts and attention"
PAIRS = 6
"""Queries that are looked into."""
PARTS = "part-based homogeneity"
"""Of what ``stage.json`` tells of a stage that was trained on upper and lower halves."""


def looks_section(findings: Findings, network: EmbeddingNetwork | OnnxEmbedder, pictures: Pictures, *, trained_on_halves: bool) -> Markup:
    """Activation maps of some queries and their nearest answers; why there are none where there are none."""
    if isinstance(network, OnnxEmbedder):
        return section("looks", TITLE, tag("p", "An exported network gives embeddings alone: it has no maps that could be shown."))
    asked = looked_into(findings)
    records = [record for one in asked for record in (one.record, one.answers[0][0])]
    images = torch.stack([network_input(pictures.load(record.thumbnail), pictures.image_size) for record in records])
    maps = activation_maps(network.cpu(), images)
    drawn = [_pair(one, maps, 2 * place, pictures) for place, one in enumerate(asked)]
    halves = (
        "This method was trained with part-based homogeneity, by the upper and the lower half: the line is where they meet, and their"
        " cosines tell which half two people share."
        if trained_on_halves
        else "The line parts upper and lower half. This method was not trained on them; their cosines tell which half two people share."
    )
    told = (
        "This network has no attention of its own. What is shown is where the features of its last map are long, before they are pooled"
        " into the embedding: yellow is the longest of the picture, blue short. Long features count most; why they are long is not told."
    )
    return section("looks", TITLE, tag("p", told), tag("p", halves), tag("ul", *drawn, class_="looks"))


def looked_into(findings: Findings) -> list[AskedQuery]:
    """The queries that are looked into, each once: the worst, and then those that were drawn."""
    answered = {one.number: one for one in (*findings.worst, *findings.random) if one.answers}
    return list(answered.values())[:PAIRS]


def _pair(asked: AskedQuery, maps: ActivationMaps, row: int, pictures: Pictures) -> Markup:
    answer, right = asked.answers[0]
    upper, lower = (maps.halves[row] * maps.halves[row + 1]).sum(1).tolist()
    query, nearest = (pictures.names.person(one) for one in (asked.record, answer))
    words = (
        f"Query {asked.number + 1:,}, {query}, and its nearest answer, {nearest}, which is"
        f" {'right' if right else 'wrong'}. Cosine of the upper halves {upper:.2f}, of the lower halves {lower:.2f}."
    )
    shown = [_shown(record, maps, row + place, pictures) for place, record in enumerate((asked.record, answer))]
    return tag("li", tag("div", *(one for pair in shown for one in pair), class_="crops"), tag("p", words))


def _shown(record: AnyRecord, maps: ActivationMaps, row: int, pictures: Pictures) -> Sequence[Markup]:
    """A crop, and the crop under its map."""
    plain = pictures.picture(record.thumbnail, LIST_HEIGHT)
    width, height = plain.size
    under = overlaid(plain, maps.strength[row])
    sized = {"width": width, "height": height}
    crop = tag("img", src=address(plain, LIST_BYTES), alt=pictures.names.person(record), **sized)
    heat = tag("img", src=address(under, LIST_BYTES), alt=f"{pictures.names.person(record)}, under the map", **sized)
    return crop, tag("span", heat, class_="halved")
