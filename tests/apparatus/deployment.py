"""A real deployment of Flower on 127.0.0.1: a SuperLink, SuperNodes and an app, each in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Deployment:
    """Processes of Flower, with a home of their own, that talk on loopback only and report to nobody."""

    def __init__(self, folder: Path, app: Path) -> None:
        self.folder, self.app = folder, app
        self.processes: dict[str, subprocess.Popen] = {}
        silent = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "OMP_NUM_THREADS": "1"}
        self.environment = os.environ | silent | {"FLWR_HOME": str(folder / "home")}
        (folder / "home").mkdir(parents=True)
        self.port = free_port()
        connection = f'[superlink]\ndefault = "local"\n[superlink.local]\naddress = "127.0.0.1:{self.port}"\ninsecure = true\n'
        (folder / "home" / "config.toml").write_text(connection, encoding="utf-8")

    def start(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("a", encoding="utf-8") as log:
            tool = [str(Path(sys.executable).parent / command[0]), *command[1:]]
            self.processes[name] = subprocess.Popen(tool, env=self.environment, stdout=log, stderr=log, start_new_session=True)

    def superlink(self) -> None:
        self.start(
            "superlink",
            ["flower-superlink", "--insecure", "--host=127.0.0.1", f"--port={self.port}", "--disable-runtime-dependency-installation"],
        )
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.2)
        raise AssertionError((self.folder / "superlink.log").read_text())

    def supernode(self, name: str, data: object, more: str = "") -> None:
        node = f'client="{name}" dataset="{data}" state="{self.folder / "states" / name}" {more}'
        address = [f"--superlink=127.0.0.1:{self.port}", "--host=127.0.0.1", f"--port={free_port()}"]
        self.start(name, ["flower-supernode", "--insecure", *address, "--node-config", node])

    def run(self, **config: object) -> None:
        """With this configuration, in which a table is told as JSON."""
        file = self.folder / "run.toml"
        options = {"output": str(self.folder / "server"), "accelerator": "cpu"} | config
        file.write_text("".join(f"{name} = {toml(value)}\n" for name, value in options.items()), encoding="utf-8")
        self.start("run", ["flwr", "run", str(self.app), "local", "--stream", "--run-config", str(file)])

    def kill(self, name: str) -> None:
        """Without a word, with all that it started."""
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def wait_for(self, what: str, file: Path, enough: Callable[[Path], bool] = lambda file: True, seconds: float = 240.0) -> None:
        until = time.monotonic() + seconds
        while not (file.is_file() and enough(file)):
            logs = "\n".join(f"== {log.name}\n{log.read_text()[-1500:]}" for log in self.folder.glob("*.log"))
            assert time.monotonic() < until, f"{what} did not happen in {seconds} s\n{logs}"
            time.sleep(0.5)


@contextmanager
def deployed(folder: Path, recipe: Path, more: str = "") -> Iterator[Deployment]:
    """Of a copy of a recipe's app, to the end of whose file ``more`` is added; nothing of it is left running."""
    app = folder / "app"
    shutil.copytree(recipe, app)
    (file,) = app.glob("*_app.py")
    file.write_text(file.read_text(encoding="utf-8") + more, encoding="utf-8")
    running = Deployment(folder, app)
    try:
        yield running
    finally:
        for name in list(running.processes):
            running.kill(name)


def toml(value: object) -> str:
    """A value of a run's configuration; JSON where it is a table."""
    return f"'{value}'" if isinstance(value, str) else f"'{json.dumps(value)}'" if isinstance(value, dict) else json.dumps(value)


def free_port() -> int:
    """Of those that the system deals out."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
