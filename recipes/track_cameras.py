"""Online multi-target multi-camera tracking (thesis, chapter 8): cameras in, identities across cameras out.

python recipes/track_cameras.py run                                  # three generated cameras, and a page to watch them
python recipes/track_cameras.py run --cameras door=door.mp4 hall=rtsp://192.168.0.7/stream 0
python recipes/track_cameras.py gateway                              # and, on other machines:
python recipes/track_cameras.py token --cameras "camera 1" > one.token
python recipes/track_cameras.py node --token one.token
python recipes/track_cameras.py evaluate
"""

from __future__ import annotations

from typing import Any

from jsonargparse import ArgumentParser, Namespace

from lightning_reid.recipes.workshop import live_gateway, live_node, live_run, live_token, tracking_scores

COMMANDS = {"run": live_run, "node": live_node, "gateway": live_gateway, "token": live_token, "evaluate": tracking_scores}


def parse(argv: list[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, prog="track_cameras.py")
    commands = parser.add_subcommands(required=True, dest="command")
    for name, part in COMMANDS.items():
        commands.add_subcommand(name, part.build_parser(), help=part.DESCRIPTION.splitlines()[0])
    cfg = parser.parse_args(argv)
    try:
        COMMANDS[cfg.command].check(cfg[cfg.command])
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return cfg


def main(argv: list[str] | None = None) -> Any:
    cfg = parse(argv)
    return COMMANDS[cfg.command].run(cfg[cfg.command])


if __name__ == "__main__":
    main()
