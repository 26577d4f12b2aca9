"""Model folders on the Hugging Face hub: of its local cache, of a server that stands in for it; refused quickly where nobody answers."""

from __future__ import annotations

import hashlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from lightning_reid import from_pretrained
from lightning_reid.networks import EmbeddingNetwork, ModelFacts
from lightning_reid.networks.hub_folders import is_hub_name
from lightning_reid.networks.shipped import DEFAULT, FOLDERS

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "org/people"


@pytest.fixture
def cache(tmp_path) -> Path:
    """The hub's local cache, in its published layout, with one repository in it."""
    repository = tmp_path / "cache" / f"models--{NAME.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "blobs").mkdir()
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for file in (FOLDERS / DEFAULT).iterdir():
        content = file.read_bytes()
        blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / file.name).symlink_to(blob)
    return tmp_path / "cache"


class Repositories(BaseHTTPRequestHandler):
    """Answers as the hub does where files of a repository are asked for by name."""

    folder: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        self.asked.append(f"{self.command} {self.path}")
        _, *repository, _, revision, name = self.path.split("/")
        file = self.folder / name
        wrong = (
            "RepoNotFound" if "/".join(repository) != NAME else "RevisionNotFound" if revision not in ("main", COMMIT) else "EntryNotFound"
        )
        if wrong != "EntryNotFound" or not file.is_file():
            self.send_response(401 if wrong == "RepoNotFound" else 404)
            self.send_header("X-Error-Code", wrong)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = file.read_bytes()
        self.send_response(200)
        for header, value in {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Content-Length": str(len(content)),
        }.items():
            self.send_header(header, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[type[Repositories]]:
    handler = type("Answers", (Repositories,), {"folder": shutil.copytree(FOLDERS / DEFAULT, tmp_path / "hub"), "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    ask(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def ask(monkeypatch, address: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    for module in ("constants", "file_download"):  # before 1.0 the latter has a name of its own for it
        template = f"huggingface_hub.{module}.HUGGINGFACE_CO_URL_TEMPLATE"
        monkeypatch.setattr(template, address + "/{repo_id}/resolve/{revision}/{filename}", raising=False)


def same(network: EmbeddingNetwork) -> bool:
    return all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in from_pretrained().state_dict().items())


def test_a_name_is_one_of_an_organization_and_a_repository():
    assert all(map(is_hub_name, ["org/name", "o/n.2_x-y"]))
    assert not any(
        map(is_hub_name, ["name", "./name", "../name", "/org/name", "a/b/c", "org/", "/name", "org/name\n", "~/name", "", "s3://a/b"])
    )


def test_what_is_cached_is_taken_without_asking_anybody(cache, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert same(from_pretrained(NAME, cache_dir=cache))
    assert same(EmbeddingNetwork.from_pretrained(NAME, cache_dir=cache, revision=COMMIT))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert same(from_pretrained(NAME, cache_dir=str(cache), local_files_only=True))


def test_a_folder_of_the_name_comes_before_the_hub(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = from_pretrained()
    torch.nn.init.zeros_(network.neck.weight)
    network.save_pretrained(tmp_path / "org" / "people", facts=ModelFacts("mine"))
    assert not same(from_pretrained(NAME, cache_dir=cache, local_files_only=True))
    shutil.rmtree(tmp_path / "org")
    assert same(from_pretrained(NAME, cache_dir=cache, local_files_only=True))


def test_what_is_not_cached_is_refused_where_nobody_may_be_asked(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for options in ({}, {"local_files_only": True}):
        with pytest.raises(RuntimeError, match=r"there is no folder org/people, .* nobody is asked: give .* hf download org/people"):
            from_pretrained(NAME, cache_dir=tmp_path, **options)


def test_a_hub_that_does_not_answer_is_refused_in_seconds_and_by_name(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        ask(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr("lightning_reid.networks.hub_folders.SECONDS", 0.2)
        began = time.monotonic()
        with pytest.raises(
            RuntimeError, match=r"there is no folder org/people, and no answer from http://127.*timed out.*download org/people"
        ):
            from_pretrained(NAME, cache_dir=tmp_path)
        assert time.monotonic() - began < 3


def test_what_was_fetched_before_is_taken_from_the_cache_aloud_where_nobody_answers(cache, monkeypatch, caplog):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    ask(monkeypatch, f"http://127.0.0.1:{port}")
    assert same(from_pretrained(NAME, cache_dir=cache))
    assert "org/people is taken from the local cache, as it was when it was fetched" in caplog.text


def test_a_repository_is_fetched_once_and_nothing_of_it_that_could_run_code(hub, tmp_path):
    (hub.folder / "pytorch_model.bin").write_bytes(b"code")
    (hub.folder / "modeling.py").write_text("raise SystemExit")
    assert same(from_pretrained(NAME, cache_dir=tmp_path / "cache"))
    fetched = {file.name for file in (tmp_path / "cache").rglob("snapshots/*/*")}
    assert fetched == {"config.json", "model.safetensors", "README.md", "calibration.json"}
    bodies = [line for line in hub.asked if line.startswith("GET")]
    assert same(from_pretrained(NAME, cache_dir=tmp_path / "cache"))
    assert [line for line in hub.asked if line.startswith("GET")] == bodies


def test_a_repository_needs_no_calibration(hub, tmp_path):
    (hub.folder / "calibration.json").unlink()
    assert same(from_pretrained(NAME, cache_dir=tmp_path / "cache"))


def test_what_is_not_there_is_named(hub, tmp_path):
    with pytest.raises(ValueError, match="there is no folder org/other, and no repository org/other on the hub"):
        from_pretrained("org/other", cache_dir=tmp_path)
    with pytest.raises(ValueError, match="org/people has no revision 'v9' on the hub"):
        from_pretrained(NAME, cache_dir=tmp_path, revision="v9")
    (hub.folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"holds no model folder of this library: it lacks config\.json or model\.safetensors"):
        from_pretrained(NAME, cache_dir=tmp_path)


def test_arguments_that_cannot_be_are_refused_by_name():
    for options, message in (
        ({"revision": 3}, "revision must be a string"),
        ({"token": 3}, "token must be a string"),
        ({"force_download": 1}, "force_download must be True or False"),
        ({"local_files_only": "no"}, "local_files_only must be True or False"),
        ({"cache_dir": 3}, "cache_dir must be a string or a path"),
        ({"force_download": True, "local_files_only": True}, "give one of them"),
    ):
        with pytest.raises(ValueError, match=message):
            from_pretrained(NAME, **options)


def test_a_network_is_pushed_with_its_card(tmp_path, monkeypatch):
    pushed = {}

    class Api:
        def __init__(self, token: str | None = None) -> None:
            pushed["token"] = token

        def create_repo(self, repo_id: str, **_: object) -> object:
            return type("Address", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id: str, folder_path: Path, **_: object) -> str:
            pushed[repo_id] = {file.name: file.read_bytes() for file in Path(folder_path).iterdir()}
            return "address of the commit"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    network, facts = from_pretrained(), ModelFacts("doors", license="apache-2.0")
    assert network.push_to_hub(NAME, token="mine", model_card_kwargs={"facts": facts, "half": True}) == "address of the commit"
    assert b"# doors" in pushed[NAME]["README.md"]
    assert (
        network.save_pretrained(tmp_path / "doors", facts=facts, half=True, push_to_hub=True, repo_id="org/doors")
        == "address of the commit"
    )
    assert pushed["org/doors"] == pushed[NAME] == {file.name: file.read_bytes() for file in (tmp_path / "doors").iterdir()}
