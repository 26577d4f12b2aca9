"""A real deployment of Flower on 127.0.0.1: a SuperLink, SuperNodes and an app, each in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import warm_flower


class Deployment:
    """Processes of Flower, with a home of their own, that talk on loopback only and report to nobody."""

    def __init__(self, folder: Path, app: Path) -> None:
        self.folder, self.app = folder, app
        self.processes: dict[str, subprocess.Popen] = {}
        silent = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "OMP_NUM_THREADS": "1"}
        path = os.pathsep.join([str(folder / "commands"), os.environ["PATH"]])
        self.environment = os.environ | silent | {"FLWR_HOME": str(folder / "home"), "PATH": path}
        self.environment["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] = "0.1"
        (folder / "home").mkdir(parents=True)
        self.port = free_port()
        connection = f'[superlink]\ndefault = "local"\n[superlink.local]\naddress = "127.0.0.1:{self.port}"\ninsecure = true\n'
        (folder / "home" / "config.toml").write_text(connection, encoding="utf-8")

    def warm_up(self, place: Path) -> None:
        """Have Flower's commands where one process has imported all that they do, and the app; ``place`` is a short path."""
        warm_flower.write_commands(self.folder / "commands", place / "socket")
        (file,) = self.app.glob("*_app.py")
        self.start("warm", [sys.executable, warm_flower.__file__, str(place / "socket"), str(file)])
        self._until_it_listens("warm", socket.AF_UNIX, str(place / "socket"))

    def start(self, name: str, command: list[str]) -> None:
        """A process, and its group for what it starts; all of one session, in which forks join a group."""
        with (self.folder / f"{name}.log").open("a", encoding="utf-8") as log:
            files = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self.processes[name] = subprocess.Popen(command, env=self.environment, process_group=0, **files)

    def superlink(self) -> None:
        listen = ["--host=127.0.0.1", f"--port={self.port}"]
        self._flower("superlink", "flower-superlink", "--insecure", *listen, "--disable-runtime-dependency-installation")
        self._until_it_listens("superlink", socket.AF_INET, ("127.0.0.1", self.port))

    def _until_it_listens(self, name: str, family: socket.AddressFamily, address: object) -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until and self.processes[name].poll() is None:
            with socket.socket(family) as probe:
                if probe.connect_ex(address) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError((self.folder / f"{name}.log").read_text())

    def _flower(self, name: str, command: str, *arguments: str) -> None:
        self.start(name, [str(self.folder / "commands" / command), *arguments])

    def supernode(self, name: str, data: object, more: str = "") -> None:
        node = f'client="{name}" dataset="{data}" state="{self.folder / "states" / name}" {more}'
        address = [f"--superlink=127.0.0.1:{self.port}", "--host=127.0.0.1", f"--port={free_port()}"]
        self._flower(name, "flower-supernode", "--insecure", *address, "--node-config", node)

    def run(self, **config: object) -> None:
        """With this configuration, in which a table is told as JSON."""
        file = self.folder / "run.toml"
        options = {"output": str(self.folder / "server"), "accelerator": "cpu"} | config
        file.write_text("".join(f"{name} = {toml(value)}\n" for name, value in options.items()), encoding="utf-8")
        self._flower("run", "flwr", "run", str(self.app), "local", "--stream", "--run-config", str(file))

    def kill(self, name: str) -> None:
        """Without a word, with all that it started."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):  # it has ended, and all that it started
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        while any(True for _ in living(process.pid)):  # its ports are free then
            time.sleep(0.01)

    def wait_for(self, what: str, file: Path, enough: Callable[[Path], bool] = lambda file: True, seconds: float = 240.0) -> None:
        until = time.monotonic() + seconds
        while not (file.is_file() and enough(file)):
            if time.monotonic() > until:
                logs = "\n".join(f"== {log.name}\n{log.read_text()[-1500:]}" for log in self.folder.glob("*.log"))
                raise AssertionError(f"{what} did not happen in {seconds} s\n{logs}")
            time.sleep(0.1)


@contextmanager
def deployed(folder: Path, recipe: Path, more: str = "") -> Iterator[Deployment]:
    """Of a copy of a recipe's app, to the end of whose file ``more`` is added; nothing of it is left running."""
    app = folder / "app"
    shutil.copytree(recipe, app)
    (file,) = app.glob("*_app.py")
    file.write_text(file.read_text(encoding="utf-8") + more, encoding="utf-8")
    running = Deployment(folder, app)
    with tempfile.TemporaryDirectory(prefix="flower-") as place:  # a socket's path has little room
        try:
            running.warm_up(Path(place))
            yield running
        finally:
            for name in reversed([*running.processes]):  # the first has forked the others
                running.kill(name)


def living(group: int) -> Iterator[psutil.Process]:
    """The processes of a group that have not ended."""
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def toml(value: object) -> str:
    """A value of a run's configuration; JSON where it is a table."""
    return f"'{value}'" if isinstance(value, str) else f"'{json.dumps(value)}'" if isinstance(value, dict) else json.dumps(value)


def free_port() -> int:
    """Of those that the system deals out."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
