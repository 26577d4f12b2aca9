"""OpenStack Swift, brought up on 127.0.0.1 for a test: four zones, three copies of each object, S3 API, near copies read first."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path

from filelock import FileLock

REQUIREMENTS = Path(__file__).parents[1] / "swift-requirements.txt"
ZONES = 4
KEY, SECRET = "test:tester", "testing"
_SERVERS = {"account": "swift.account.server", "container": "swift.container.server", "object": "swift.obj.server"}
_SWIFT_CONF = """[swift-hash]
swift_hash_path_suffix = a_test
[storage-policy:0]
name = copies
default = yes
"""
_SERVER_CONF = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {home}
devices = {devices}
mount_check = false
disable_fallocate = true
log_name = {kind}{zone}
log_level = WARNING
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
[{kind}-replicator]
concurrency = 2
sync_method = ssync
[{kind}-auditor]
[{kind}-updater]
"""
_PROXY_CONF = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {home}
log_level = WARNING
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck listing_formats s3api tempauth copy proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
sorting_method = affinity
read_affinity = r1z1=100
conn_timeout = 0.5
node_timeout = 5
recoverable_node_timeout = 2
error_suppression_interval = 5
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:copy]
use = egg:swift#copy
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
check_bucket_owner = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
"""


def environment_of_swift() -> Path:
    """The Python of an environment that has Swift; it is made once, beside pip's own cache.

    The environment variable ``REID_SWIFT_PYTHON`` names one that is there.
    """
    named = os.environ.get("REID_SWIFT_PYTHON")
    if named:
        return Path(named)
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lightning-reid" / "swift"
    python, ready = home / "bin" / "python", home.with_suffix(".ready")
    home.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(home.with_suffix(".lock")):  # tests run in several processes
        if not ready.is_file():
            venv.create(home, with_pip=True, clear=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS], check=True)
            ready.touch()
    return python


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at the moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class SwiftStore:
    """Servers of four zones and a proxy, with all their files below one folder; ended by process id.

    Args:
        folder: New, on a file system with extended attributes.
    """

    def __init__(self, folder: Path) -> None:
        self.home, self.python = folder, environment_of_swift()
        self.processes: dict[str, int] = {}
        self.ports = {(kind, zone): free_port() for kind in _SERVERS for zone in range(1, ZONES + 1)}
        self.port = free_port()
        folder.mkdir(parents=True)
        (folder / "swift.conf").write_text(_SWIFT_CONF)
        command = [str(self.python), str(Path(__file__).with_name("warm_swift.py")), str(folder)]
        self._commands = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._make_rings()
        told = {"home": folder, "user": _user()}
        for (kind, zone), port in self.ports.items():
            devices = folder / f"zone{zone}"
            (devices / "disk").mkdir(parents=True, exist_ok=True)
            content = _SERVER_CONF.format(kind=kind, zone=zone, port=port, devices=devices, **told)
            (folder / f"{kind}{zone}.conf").write_text(content)
        (folder / "proxy.conf").write_text(_PROXY_CONF.format(port=self.port, **told))

    @property
    def endpoint(self) -> str:
        """Address of the S3 API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage_options(self) -> dict[str, object]:
        """For fsspec's ``s3``."""
        return {"key": KEY, "secret": SECRET, "endpoint_url": self.endpoint, "client_kwargs": {"region_name": "us-east-1"}}

    def start(self) -> None:
        """Start everything, and wait for the proxy."""
        for kind, zone in self.ports:
            self._launch(f"{kind}{zone}", _SERVERS[kind])
        self._launch("proxy", "swift.proxy.server")
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.endpoint}/healthcheck", timeout=2).read()
                return
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"Swift does not come up:\n{self.log()}") from None
                time.sleep(0.2)

    def stop_zone(self, zone: int) -> None:
        """Kill the servers of a zone, as a machine that dies."""
        for kind in _SERVERS:
            self._end(f"{kind}{zone}")

    def start_zone(self, zone: int) -> None:
        """Start the servers of a zone again."""
        for kind in _SERVERS:
            self._launch(f"{kind}{zone}", _SERVERS[kind])

    def copies(self, digest: str) -> list[Path]:
        """Files of the objects with this MD5."""
        from hashlib import md5

        found = []
        for file in sorted(self.home.glob("zone*/disk/objects/*/*/*/*.data")):
            if md5(file.read_bytes(), usedforsecurity=False).hexdigest() == digest:
                found.append(file)
        return found

    def replicate(self) -> None:
        """One pass of every zone's replicator."""
        confs = [str(self.home / f"object{zone}.conf") for zone in range(1, ZONES + 1)]
        passes = [self._ask("start", os.devnull, "swift.obj.replicator", conf, "--once") for conf in confs]
        ended = [self._ask("wait", one) for one in passes]
        if any(ended):
            raise RuntimeError(f"a replicator failed:\n{self.log()}")

    def log(self) -> str:
        """What the servers said."""
        return "\n".join(f"== {file.name}\n{file.read_text()[-2000:]}" for file in sorted(self.home.glob("*.log")) if file.stat().st_size)

    def stop(self) -> None:
        """End all servers."""
        self._commands.stdin.close()
        self._commands.wait()

    def _launch(self, name: str, module: str) -> None:
        self.processes[name] = self._ask("start", str(self.home / f"{name}.log"), module, str(self.home / f"{name}.conf"), "-v")

    def _end(self, name: str) -> None:
        process = self.processes.pop(name, None)
        if process is not None:
            self._ask("kill", process)

    def _ask(self, *words: object) -> int:
        """Of the process that starts and ends all others."""
        self._commands.stdin.write(json.dumps(words) + "\n")
        self._commands.stdin.flush()
        return int(self._commands.stdout.readline())

    def _make_rings(self) -> None:
        for kind in _SERVERS:
            builder = str(self.home / f"{kind}.builder")
            devices = (f"r1z{zone}-127.0.0.1:{self.ports[kind, zone]}/disk" for zone in range(1, ZONES + 1))
            for words in (["create", "6", "3", "0"], *(["add", device, "100"] for device in devices), ["rebalance"]):
                made = self._ask("start", str(self.home / "rings.log"), "swift.cli.ringbuilder", builder, *words)
                if self._ask("wait", made) not in (0, 1):  # 1 is a warning
                    raise RuntimeError(f"the ring of {kind} was not made:\n{self.log()}")


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name
