"""Flower's commands as forks of one process that has imported them and an app: each a process of its own, and none imports for seconds.

``python warm_flower.py SOCKET APP`` imports the commands and runs the app's file, as the first process of any node does, and then waits.
In a folder at the head of ``PATH`` each command is a few lines that hand what they were started with over the socket, live as long as the
fork does, and end as it ends. The fork is in their process group, and is killed with it.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

from flwr.common import constant  # the others take from it what they need when they are imported

COMMANDS = ("flower-superlink", "flower-supernode", "flower-superexec", "flwr-serverapp", "flwr-clientapp", "flwr")
COMMAND = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({socket!r})
    socket.send_fds(server, [b"3"], [0, 1, 2])
    server.sendall(json.dumps([sys.argv, os.getcwd(), dict(os.environ), os.getpgid(0)]).encode() + b"\\n")
    os._exit(int(server.recv(8) or 1))
"""


def write_commands(folder: Path, socket_file: Path) -> None:
    """A folder of commands that ask for a fork at this socket."""
    folder.mkdir()
    for name in COMMANDS:
        (folder / name).write_text(COMMAND.format(python=sys.executable, socket=str(socket_file)), encoding="utf-8")
        (folder / name).chmod(0o700)


class Asked(NamedTuple):
    """What a command was started with."""

    files: list[int]
    command: list[str]
    folder: str
    environment: dict[str, str]
    group: int

    @classmethod
    def read(cls, connection: socket.socket) -> Asked | None:
        """Read it; nothing of whoever only looks whether somebody listens, or is killed before all is said."""
        files: list[int] = []
        with suppress(ConnectionError):
            _, files, _, _ = socket.recv_fds(connection, 1, 3)
            with connection.makefile("rb") as told:
                line = told.readline()
            if line.endswith(b"\n"):
                return cls(files, *json.loads(line))
        for file in files:
            os.close(file)
        return None

    def become(self) -> None:
        """Make this process the one that was asked for."""
        for number, file in enumerate(self.files):
            os.dup2(file, number)
            os.close(file)
        try:
            os.setpgid(0, self.group)
        except PermissionError:  # a group of another session: the connection's end is this process's, too
            os.setpgid(0, 0)
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.folder)
        sys.argv = self.command


class Forks:
    """Processes that were asked for, and who waits for the end of each."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener, self._waiting = listener, dict[int, socket.socket]()
        self._selector = selectors.DefaultSelector()
        self._ended, self._wake = socket.socketpair()
        for one in (self._ended, self._wake):
            one.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno())
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._ended, selectors.EVENT_READ)

    def serve(self) -> Asked:
        """Fork for each that asks; only the forks return, each with what was asked of it."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    connection, _ = self._listener.accept()
                    asked = Asked.read(connection)
                    if asked is None:
                        connection.close()
                        continue
                    pid = os.fork()
                    if not pid:
                        self._forget(connection)
                        return asked
                    for file in asked.files:
                        os.close(file)
                    self._waiting[pid] = connection
                    self._selector.register(connection, selectors.EVENT_READ, pid)
                elif key.fileobj is self._ended:
                    self._ended.recv(1 << 16)
                    self._tell_of_ends()
                elif key.data in self._waiting:  # who asked was killed: it never says more
                    os.kill(key.data, signal.SIGKILL)
                    self._selector.unregister(key.fileobj)

    def _tell_of_ends(self) -> None:
        while self._waiting:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with self._waiting.pop(pid) as connection:
                if connection in self._selector.get_map():
                    self._selector.unregister(connection)
                    with suppress(ConnectionError):  # both were killed at once
                        connection.sendall(str(os.waitstatus_to_exitcode(status) & 0xFF).encode())

    def _forget(self, connection: socket.socket) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for one in (self._listener, self._ended, self._wake, connection, *self._waiting.values()):
            one.close()


def main(socket_file: str, app: str) -> None:
    """Import, wait, and run in each fork what it was asked for."""
    constant.HEARTBEAT_DEFAULT_INTERVAL = 10  # the least that a SuperLink takes: it gives a killed node up after twice that, not after 60 s
    commands: dict[str, Callable[[], Any]] = {one.name: one.load() for one in entry_points(group="console_scripts") if one.name in COMMANDS}
    runpy.run_path(app)
    gc.freeze()  # what forks share stays shared
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(socket_file)
        listener.listen()
        Forks(listener).serve().become()
    try:
        status = commands[Path(sys.argv[0]).name]()
    except SystemExit as end:
        status = end.code
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status if isinstance(status, int) else int(bool(status)))  # to take all modules down takes longer than most of the work


if __name__ == "__main__":
    main(*sys.argv[1:])
