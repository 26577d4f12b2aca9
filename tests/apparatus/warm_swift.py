"""Swift's commands as forks of one process that has imported them; run by the Python of Swift's environment, and asked over its pipes.

A line in is a JSON list, a line out a number: ``["start", log, module, argument...]`` gives the id of a process that is in the module's
``main``, ``["wait", id]`` its exit status, and so does ``["kill", id]``. What still runs when nobody asks any more is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from importlib import import_module

from swift.common import utils

SERVERS = ("swift.account.server", "swift.container.server", "swift.obj.server", "swift.proxy.server")
COMMANDS = (*SERVERS, "swift.obj.replicator", "swift.cli.ringbuilder")
RUNNING: set[int] = set()
LONGEST = 120.0
"""Seconds that a command may take that is waited for."""


def start(log: str, module: str, *arguments: str) -> int:
    """Fork into a command, with a log and a group of its own."""
    pid = os.fork()
    if pid:
        RUNNING.add(pid)
        return pid
    os.setsid()
    file, nothing = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), os.open(os.devnull, os.O_RDONLY)
    for number, source in enumerate((nothing, file, file)):
        os.dup2(source, number)
    sys.argv[:] = [module, *arguments]  # in place: some modules have taken the list itself
    status: object = 1
    try:
        status = import_module(module).main()
    except SystemExit as end:
        status = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else int(bool(status)))


def wait(pid: int) -> int:
    """The exit status of a command, negative if a signal ended it; one that takes longer than it may is ended."""
    until = time.monotonic() + LONGEST
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            RUNNING.remove(pid)
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def kill(pid: int) -> int:
    """End a command, with all that it started, as a machine that dies does."""
    with suppress(ProcessLookupError):  # it may not be that far that it has a group
        os.killpg(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    return wait(pid)


def main() -> None:
    """Import everything, and do what is asked."""
    utils.set_swift_dir(sys.argv[1])
    for module in COMMANDS:
        import_module(module)
    asked = {"start": start, "wait": wait, "kill": kill}
    try:
        for line in sys.stdin:
            what, *words = json.loads(line)
            sys.stdout.write(f"{asked[what](*words)}\n")
            sys.stdout.flush()
    finally:
        for pid in [*RUNNING]:
            kill(pid)


if __name__ == "__main__":
    main()
