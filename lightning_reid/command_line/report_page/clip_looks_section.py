"""Where a network of clips looks: the attention that the frames of a query and of its nearest answer get, and where features are long."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from lightning_reid.command_line.report_page.findings import AskedQuery, Findings
from lightning_reid.command_line.report_page.looks_section import TITLE, looked_into
from lightning_reid.command_line.report_page.markup import Markup, tag
from lightning_reid.command_line.report_page.pictures import LIST_BYTES, LIST_HEIGHT, Pictures, address, overlaid
from lightning_reid.command_line.report_page.sections import section
from lightning_reid.networks.evaluating import evaluating
from lightning_reid.networks.video.attention_maps import AttentionMaps, attention_maps
from lightning_reid.networks.video.network import VideoNetwork
from lightning_reid.records import AnyRecord

MOST_FRAMES = 4
ClipsOf = Callable[[Sequence[AnyRecord]], Tensor]
"""Gives a clip ``[T, 3, H, W]`` uint8 of each tracklet."""


def clip_looks_section(findings: Findings, network: VideoNetwork, clips_of: ClipsOf, pictures: Pictures) -> Markup:
    """Attention, where the network has it, and lengths of features, frame by frame."""
    asked = looked_into(findings)
    records = [record for one in asked for record in (one.record, one.answers[0][0])]
    clips = clips_of(records)
    attention, lengths = attention_maps(network.cpu(), clips), _lengths(network, clips)
    told = (
        "This network has no attention: shown is where the features of its last map are long, yellow the longest of the clip, blue short."
    )
    if attention is not None:
        told = (
            f"Attention: where the network looks in the last place where it attends ({attention.looks}); yellow is what is looked at most,"
            " blue least, and a clip all yellow is looked at everywhere alike. Features: where those of its last map are long, before they"
            " are pooled into the embedding. Where frames were joined on the way, the first of them is shown."
        )
    drawn = [_pair(one, clips, attention, lengths, 2 * place, pictures) for place, one in enumerate(asked)]
    return section("looks", TITLE, tag("p", told), tag("ul", *drawn, class_="looks"))


@torch.no_grad()
def _lengths(network: VideoNetwork, clips: Tensor) -> Tensor:
    """``[B, T', h, w]`` in [0, 1]: the length of the feature at each position, over the longest of the clip."""
    with evaluating(network):
        lengths: Tensor = torch.linalg.vector_norm(network.feature_map(clips).float(), dim=2)
    return lengths / lengths.amax((1, 2, 3), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


def _pair(asked: AskedQuery, clips: Tensor, attention: AttentionMaps | None, lengths: Tensor, row: int, pictures: Pictures) -> Markup:
    answer, right = asked.answers[0]
    query, nearest = (pictures.names.person(one) for one in (asked.record, answer))
    words = f"Query {asked.number + 1:,}, {query}, and its nearest answer, {nearest}, which is {'right' if right else 'wrong'}."
    strips = []
    for place, (whose, record) in enumerate((("query", asked.record), ("answer", answer))):
        maps = {} if attention is None else {"attention": attention.received}
        for name, map_ in {**maps, "features": lengths}.items():
            strips.append(_strip(clips[row + place], map_[row + place], f"{pictures.names.person(record)}, {name}", pictures))
            strips.append(tag("p", f"{whose}: {name}", class_="who"))
    return tag("li", tag("p", words), *strips)


def _strip(clip: Tensor, maps: Tensor, said: str, pictures: Pictures) -> Markup:
    """The frames of a clip under their maps ``[T', h, w]``."""
    size, every = pictures.size(LIST_HEIGHT), len(clip) // len(maps)
    shown = []
    for number, strength in enumerate(maps[:MOST_FRAMES]):
        frame = Image.fromarray(clip[number * every].permute(1, 2, 0).numpy()).resize(size)
        alt = f"{said}, frame {number * every + 1}"
        shown.append(tag("img", src=address(overlaid(frame, strength), LIST_BYTES), alt=alt, title=alt, width=size[0], height=size[1]))
    return tag("div", *shown, class_="crops strip")
