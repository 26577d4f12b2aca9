"""Why are links of generated worlds wrong? Each wrong one of the precision of handovers, by whom its two tracks show.

    python benchmarks/tracking_links.py --threshold 0.6

Worlds, recordings and the matcher are those of ``tracking_rules.py``, row "as they are". A link is wrong by ``handover_scores`` if the
identity was shown last on another person than the track shows. Here both tracks are asked whom they show in most of their boxes: the same
person (then one of the two had ended, or begun, with somebody else), the pair in nearly the same clothes that each world has (its two last
people), or two others.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from tracking_rules import Row, Worlds

from lightning_reid.metrics import TrackedCamera
from lightning_reid.metrics.handovers import _sightings
from lightning_reid.networks.shipped import DEFAULT


def links(cameras: Sequence[TrackedCamera], pair: set[int]) -> Counter[str]:
    """How many links there are, how many wrong, and of which kind."""
    sightings = _sightings(list(cameras))
    shown: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    for one in sightings:
        shown[one.camera, one.track][one.person] += 1
    mostly = {track: people.most_common(1)[0][0] for track, people in shown.items()}
    identity_of: dict[int, int] = {}
    last: dict[int, dict[int, object]] = defaultdict(dict)
    found: Counter[str] = Counter()
    for one in sightings:
        elsewhere = [other for camera, other in last[one.identity].items() if camera != one.camera]
        if elsewhere and identity_of.get(one.track) != one.identity:
            source = max(elsewhere, key=lambda other: (other.time, -other.camera))  # type: ignore[attr-defined]
            found["links"] += 1
            if not one.person == source.person >= 0:  # type: ignore[attr-defined]
                people = {mostly[one.camera, one.track], mostly[source.camera, source.track]}  # type: ignore[attr-defined]
                kind = "one person in most boxes of both" if len(people) == 1 else "the pair" if people == pair else "two others"
                found.update(["wrong", kind])
        identity_of[one.track] = one.identity
        last[one.identity][one.camera] = one
    return found


def main(argv: Sequence[str] | None = None) -> Counter[str]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=DEFAULT, help="network that tells people apart: a shipped name or a model folder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="worlds")
    parser.add_argument("--threshold", type=float, default=0.6, help="cosine of a match")
    parser.add_argument("--output", type=Path, default=Path("runs/tracking_rules"), help="folder of the recordings of tracking_rules.py")
    parser.add_argument("--small", action="store_true", help="two cameras, eight people, 12 seconds: does it run?")
    args = parser.parse_args(argv)
    small = {"num_cameras": 2, "num_people": 8, "seconds": 12, "image_size": (144, 192), "encounters": 1, "crossings": 1}
    args.world = small if args.small else {}
    torch.set_num_threads(1)
    worlds, found = Worlds(args, overlapping=False), Counter[str]()
    for seed in args.seeds:
        people = worlds.world(seed).num_people
        one = links(worlds.matched(seed, Row(), args.threshold), {people - 1, people})
        print(f"world {seed}: {dict(one)}", flush=True)
        found += one
    right = found["links"] - found["wrong"] + found["one person in most boxes of both"]
    print(f"all: {dict(found)}; by whom each track shows in most of its boxes {100 * right / max(found['links'], 1):.1f} % are right")
    return found


if __name__ == "__main__":
    main()
