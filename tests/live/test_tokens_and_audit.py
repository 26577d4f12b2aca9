"""Who may come in and ask, and what is written down of it."""

from __future__ import annotations

import json
import re
import stat
import time
import urllib.error
import urllib.request

import pytest
from links import SECRET, link, now_ended, now_frame, now_looks, running, token, until
from tracked import direction, key

from lightning_reid.live import AuditLog
from lightning_reid.live.tokens import check_token, issue_token, read_secret, read_token
from lightning_reid.tracking import ForgetIdentity, TrackEnded, UndoMatch, write_message


def test_a_token_says_for_whom_it_is_and_until_when():
    said = check_token(SECRET, issue_token(SECRET, ["door", "hall"], expires=2e9, asks=True), now=1e9)
    assert (said.cameras, said.expires, said.asks) == (("door", "hall"), 2e9, True)
    assert re.fullmatch("[0-9a-f]{8}", said.id)
    assert read_token(issue_token(SECRET, ["door"], expires=2e9)).cameras == ("door",)
    assert issue_token(SECRET, [], expires=2e9) != issue_token(SECRET, [], expires=2e9)


def test_a_secret_is_made_once_and_is_its_owners_alone(tmp_path):
    path = tmp_path / "new" / "secret"
    secret = read_secret(path)
    assert read_secret(path) == secret
    assert read_secret(tmp_path / "other") != secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match=r"secret holds 5 bytes, a gateway's secret has 32"):
        read_secret(path)


def asked(gateway, request, bearer: str) -> tuple[int, str | None]:
    """Status and reason of what is asked over HTTP."""
    content = request if isinstance(request, bytes) else write_message(request)
    headers = {"Authorization": f"Bearer {bearer}"}
    call = urllib.request.Request(f"http://{gateway.server.address}/requests", content, headers, method="POST")
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(call, timeout=20) as answer:
            return answer.status, json.loads(answer.read())["refused"]
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["refused"]


def test_whoever_asks_is_written_down_before_it_is_done(tmp_path):
    watcher = token(asks=True)
    with running(tmp_path) as gateway, link(gateway.address, "door") as door:
        door.put(now_frame("door", 0, 7))
        door.put(now_looks("door", 7, direction(1, 2, 3, 4)))
        door.put(now_ended("door", 7))
        until(lambda: gateway.of(TrackEnded))
        assert len(gateway.matcher.memory) == 1
        assert asked(gateway, ForgetIdentity(0), watcher) == (200, None)
        assert len(gateway.matcher.memory) == 0
        status, reason = asked(gateway, ForgetIdentity(0), watcher)
        assert (status, reason) == (409, "nobody bears the number 0: it was corrected, or forgotten")
        status, reason = asked(gateway, UndoMatch(key("door", 1), key("hall", 2)), watcher)
        assert status == 409
    lines = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [(line["action"], line["by"]) for line in lines] == [(action, read_token(watcher).id) for action in ("forget", "forget", "undo")]
    assert lines[0]["identity"] == 0
    assert lines[2]["track"] == ["door", 0, 1]
    assert lines[0]["at"].startswith(time.strftime("%Y-%m", time.gmtime()))


def test_who_may_not_ask_or_asks_nonsense_is_refused_and_nothing_is_done(tmp_path):
    with running(tmp_path) as gateway:
        status, reason = asked(gateway, ForgetIdentity(0), token("door"))
        assert status == 403
        assert "lets nobody ask" in reason
        assert asked(gateway, ForgetIdentity(0), "")[0] == 403
        assert asked(gateway, b"nonsense", token(asks=True))[0] == 400
        assert asked(gateway, now_frame("door", 0, 7), token(asks=True)) == (
            400,
            "UndoMatch or ForgetIdentity can be asked, got CameraTracks",
        )
        assert asked(gateway, bytes(5000), token(asks=True))[0] == 413
        assert gateway.told == []
    assert (tmp_path / "audit.log").read_text() == ""


def test_what_cannot_be_written_down_is_not_done(tmp_path):
    with running(tmp_path) as gateway:
        (tmp_path / "audit.log").unlink()
        (tmp_path / "audit.log").mkdir()
        with pytest.raises(OSError, match=r"audit\.log"):
            gateway.gateway.ask(ForgetIdentity(0), by="me")
        assert gateway.told == []


def test_an_audit_log_is_appended_to_and_its_owners_alone(tmp_path):
    for number in range(2):
        AuditLog(tmp_path / "logs" / "audit.log").write("search", by="me", identity=number)
    path = tmp_path / "logs" / "audit.log"
    assert [json.loads(line)["identity"] for line in path.read_text().splitlines()] == [0, 1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(ValueError, match="action must be one of"):
        AuditLog(path).write("look", by="me")
