"""The line that says what a score was measured on."""

import json
from dataclasses import replace

from lightning_reid.metrics import ProtocolStamp

STAMP = ProtocolStamp("Market-1501", 3368, 15913, 750, transform="resize 256x128", seed=0)


def test_stamp_reads_as_one_line():
    assert str(STAMP) == (
        "Market-1501: 3,368 queries of 750 ids, 15,913 gallery images | protocol market, AP by step, cosine, not re-ranked | "
        "resize 256x128 | seed 0"
    )


def test_stamp_says_what_was_not_stated():
    line = str(ProtocolStamp("mine", 1, 2, 1, reranked=True))
    assert "re-ranked | transform not stated | no seed" in line
    assert "\n" not in line


def test_stamp_says_what_an_interval_was_drawn_over():
    told = "95 % intervals of mAP by bootstrap over 750 people"
    assert str(replace(STAMP, interval=told)) == f"{STAMP} | {told}"


def test_stamp_survives_json():
    assert ProtocolStamp(**json.loads(json.dumps(STAMP.as_dict()))) == STAMP
