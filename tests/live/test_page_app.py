"""The page as it is served: who may see it, what a browser is sent, and what it may ask for."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import time
import urllib.request
from http.cookiejar import CookieJar

import anyio
import pytest
import torch
from links import certificate_of
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from tracked import MODEL, direction, ended, frame, key, looks
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from lightning_reid.live import MatchingThread
from lightning_reid.live.addresses import trusting
from lightning_reid.live.page import LiveView, serve
from lightning_reid.live.page.app import build_app, static_files
from lightning_reid.live.page.metrics import metrics_text
from lightning_reid.live.page.watcher import WINDOW, Watcher
from lightning_reid.live.serving import unless_ended
from lightning_reid.tracking import MatchingRules, OnlineMatcher, StageHealth

RED = direction(1, 0, 0, 0)
SHOW = json.dumps({"kind": "show", "pictures": True, "cameras": None})
BOXES_ONLY = json.dumps({"kind": "show", "pictures": False, "cameras": None})
NASTY = '<img src=x onerror="alert(1)">\\'
TOKEN = "a-token-of-enough-letters"
LIVE = "ws://localhost:8080/live"


class Street:
    """A view of two cameras, fed as fast as a test likes."""

    def __init__(self, **options) -> None:
        self.view = LiveView(**{"clock": None, "fps": 1000.0, **options})
        self.matcher = OnlineMatcher(MatchingRules(threshold=0.7, every_n_frames=1), feature_size=4, model=MODEL)
        self.view.send_requests(self.feed)

    def feed(self, *messages) -> None:
        with MatchingThread(self.matcher, [self.view], clock=None) as matching:
            for message in messages:
                matching.put(message)

    def picture(self, camera: str, number: int, *ids: int) -> None:
        tracks = frame(camera, number, *ids)
        noise = torch.randint(0, 256, (3, 100, 400), dtype=torch.uint8, generator=torch.Generator().manual_seed(number))
        self.view.on_picture(tracks.stamp, noise, tracks)

    def hand_over(self) -> None:
        self.feed(frame("door", 0, 7), looks("door", 7, RED, 0), ended("door", 7, 0))
        self.feed(frame("hall", 50, 3), looks("hall", 3, RED, 50), frame("hall", 51, 3))
        self.picture("hall", 51, 3)


@pytest.fixture
def street() -> Street:
    made = Street()
    made.hand_over()
    return made


def client(street: Street, host: str = "localhost", **options) -> TestClient:
    return TestClient(build_app(street.view, **options), base_url=f"http://{host}:8080")


def heads(batch: list[str | bytes]) -> list[dict]:
    """What each message of a batch tells, without its pixels."""
    return [json.loads(one) if isinstance(one, str) else json.loads(one[4 : 4 + struct.unpack("<I", one[:4])[0]]) for one in batch]


def test_a_browser_that_asked_is_sent_pictures_with_their_boxes_then_the_tick(street):
    watcher = Watcher(street.view, "me")
    watcher.hear(SHOW)
    batch = watcher.batch()
    assert [one["kind"] for one in heads(batch)] == ["picture", "crop", "tick"]
    picture, _, tick = heads(batch)
    assert (picture["camera"], picture["size"], picture["boxes"]) == ("hall", [400, 100], [[3, 0, 0, 0, 40, 90]])
    assert b"\xff\xd8\xff" in batch[0]
    assert [one["name"] for one in tick["cameras"]] == ["door", "hall"]
    assert [one["id"] for one in tick["cards"]] == tick["known"] == [0]
    assert [one["kind"] for one in heads(watcher.batch())] == ["tick"]


def test_no_picture_goes_before_a_browser_asks_nor_while_it_wants_boxes_only(street):
    watcher = Watcher(street.view, "me")
    assert [one["kind"] for one in heads(watcher.batch())] == ["tick"]
    watcher.hear(BOXES_ONLY)
    (tick,) = heads(watcher.batch())
    assert {one["name"]: one["boxes"] for one in tick["cameras"]} == {"door": [[7, 0, 0, 0, 40, 90]], "hall": [[3, 0, 0, 0, 40, 90]]}
    watcher.hear(SHOW)
    assert [one["kind"] for one in heads(watcher.batch())] == ["picture", "crop", "tick"]


def test_a_browser_cannot_ask_for_pictures_that_the_view_does_not_give():
    street = Street(pictures=False)
    street.hand_over()
    watcher = Watcher(street.view, "me")
    watcher.hear(SHOW)
    assert [one["kind"] for one in heads(watcher.batch())] == ["tick"]


def test_only_cameras_in_sight_are_encoded(street):
    street.picture("door", 52)
    watcher = Watcher(street.view, "me")
    watcher.hear(json.dumps({"kind": "show", "pictures": True, "cameras": ["door"]}))
    assert [one.get("camera") for one in heads(watcher.batch())] == ["door", None, None]


def test_a_slow_browser_misses_pictures_and_is_sent_the_latest(street):
    watcher = Watcher(street.view, "me")
    watcher.hear(SHOW)
    for number in range(52, 60):
        street.picture("hall", number, 3)
        if not watcher.behind:
            watcher.batch()
    assert watcher.behind
    assert len(watcher._under_way) == WINDOW
    watcher.hear(json.dumps({"kind": "drawn", "tick": 1}))
    assert not watcher.behind
    assert heads(watcher.batch())[0]["kind"] == "picture"
    assert watcher._shots["hall"] == (0, 59)


def test_latency_is_measured_from_capture_to_what_the_browser_has_drawn():
    street = Street(clock=lambda: 5.1 + 0.25)
    street.hand_over()
    watcher = Watcher(street.view, "me")
    watcher.hear(SHOW)
    watcher.batch()
    assert street.view.counters()["latency"] is None
    watcher.hear(json.dumps({"kind": "drawn", "tick": 1}))
    assert street.view.counters()["latency"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "null",
        '{"kind":"show"}',
        '{"kind":"show","pictures":1,"cameras":null}',
        '{"kind":"show","pictures":true,"cameras":[1]}',
        json.dumps({"kind": "show", "pictures": True, "cameras": ["a"] * 1000}),
        '{"kind":"forget","identity":true}',
        '{"kind":"forget","identity":"0"}',
        '{"kind":"undo","track":"0/7/door","other":7}',
        '{"kind":"undo","track":"0/7/door","other":"0/-3/hall"}',
        json.dumps({"kind": "undo", "track": "0/7/door", "other": f"0/{'9' * 5000}/hall"}),
        '{"kind":"forget","identity":99}',
        '{"kind":"undo","track":"0/7/door","other":"0/99/hall"}',
    ],
)
def test_what_no_page_sends_is_refused_and_changes_nothing(street, text):
    with pytest.raises(ValueError, match=r"a browser|cameras must be|key of a track|no person 99|no match of"):
        Watcher(street.view, "me").hear(text)
    assert street.view.counters()["identities"] == 1


def all_that_comes(live: ClientConnection) -> list[str | bytes]:
    """What is sent until nothing comes for a third of a second."""
    got = []
    with contextlib.suppress(TimeoutError):
        while True:
            got.append(live.recv(timeout=0.3))
    return got


def test_a_browser_undoes_a_match_and_another_sees_it(street):
    one, other = (Watcher(street.view, name) for name in ("one", "other"))
    (match,) = heads(other.batch())[-1]["cards"][0]["matches"]
    assert (match["from"], match["to"], match["similarity"]) == ("door", "hall", 1.0)
    one.hear(json.dumps({"kind": "undo", "track": match["track"], "other": match["other"]}))
    tick = heads(other.batch())[-1]
    assert tick["known"] == [0, 1]
    assert [card["matches"] for card in tick["cards"]] == [[], []]
    assert "by hand" in tick["notes"][-1][2]


def test_over_the_socket_requests_are_answered_and_refusals_told(street):
    with client(street) as browser, browser.websocket_connect(LIVE, headers={"origin": "http://localhost:8080"}) as live:
        assert json.loads(live.receive_text())["counters"]["browsers"] == 1
        live.send_text('{"kind":"forget","identity":99}')
        while (told := json.loads(live.receive_text()))["kind"] == "tick":
            live.send_text(json.dumps({"kind": "drawn", "tick": told["tick"]}))
        assert "no person 99" in told["text"]
        live.send_bytes(b"\x00")
        while (told := json.loads(live.receive_text()))["kind"] == "tick":
            live.send_text(json.dumps({"kind": "drawn", "tick": told["tick"]}))
        assert told["text"] == "a page tells what it wants to see as text, and bytes came"
        live.send_text('{"kind":"forget","identity":0}')
        while (told := json.loads(live.receive_text())).get("known") in (None, [0]):
            live.send_text(json.dumps({"kind": "drawn", "tick": told["tick"]}))
    assert key("door", 7) not in street.view.people.tracks
    assert street.view.counts["browsers"] == 0


def test_a_request_that_cannot_be_written_down_is_refused_over_the_socket(street):
    def full(request: object) -> None:
        raise OSError("the disk is full")

    street.view.send_requests(full)
    with client(street) as browser, browser.websocket_connect(LIVE) as live:
        live.send_text('{"kind":"forget","identity":0}')
        while (told := json.loads(live.receive_text()))["kind"] == "tick":
            live.send_text(json.dumps({"kind": "drawn", "tick": told["tick"]}))
    assert told["text"] == "the disk is full"


def test_a_browser_that_never_reads_costs_nothing():
    street = Street(fps=200.0)
    street.hand_over()
    with serve(street.view, port=0) as page, connect(page.url.replace("http", "ws") + "/live", compression=None) as live:
        live.send(SHOW)
        for number in range(52, 112):
            street.picture("hall", number, 3)
            time.sleep(0.01)
        got = all_that_comes(live)
    assert sum(isinstance(one, str) for one in got) == WINDOW
    assert len(got) < 4 * WINDOW


def test_a_browser_that_draws_nothing_for_long_is_let_go(street, monkeypatch):
    monkeypatch.setattr("lightning_reid.live.page.app.PATIENCE", 0.05)
    with client(street) as browser, browser.websocket_connect(LIVE) as live, pytest.raises(WebSocketDisconnect) as gone:
        [live.receive_text() for _ in range(WINDOW + 1)]
    assert gone.value.code == 1013


@pytest.mark.parametrize("all_at_once", [True, False])
def test_a_message_too_long_for_any_page_ends_its_connection_alone(street, caplog, all_at_once):
    with serve(street.view, port=0) as page:
        address = page.url.replace("http", "ws") + "/live"
        with connect(address) as loud, connect(address) as other:
            if not all_at_once:
                loud.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            with contextlib.suppress(ConnectionClosed):  # the end may come while it is still being sent
                loud.send("x" * 2**20)
            with pytest.raises(ConnectionClosed):
                [loud.recv(timeout=5) for _ in range(2 * WINDOW)]
            assert json.loads(other.recv(timeout=5))["kind"] == "tick"
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


@pytest.mark.parametrize("refused", ["websocket.send", "websocket.close"])
def test_a_connection_that_the_server_has_ended_by_itself_is_let_go_in_silence(street, monkeypatch, refused):
    """As of a page that answers no ping; here by an ASGI server that tells it as uvicorn does."""
    monkeypatch.setattr("lightning_reid.live.page.app.PATIENCE", 0.05)
    app, sent = build_app(street.view), []

    async def receive() -> dict:
        if not sent:
            return {"type": "websocket.connect"}
        await anyio.sleep_forever()

    async def send(message: dict) -> None:
        sent.append(message["type"])
        if message["type"] == refused:
            raise RuntimeError(f"Unexpected ASGI message '{refused}', after sending 'websocket.close'.")

    headers = [(b"host", b"localhost:8080")]
    scope = {"type": "websocket", "path": "/live", "headers": headers, "client": ("127.0.0.1", 1), "subprotocols": [], "scheme": "ws"}
    anyio.run(app, {**scope, "query_string": b"", "root_path": "", "raw_path": b"/live"}, receive, send)
    assert sent.index(refused) == len(sent) - 1
    assert street.view.counts["browsers"] == 0


@pytest.mark.parametrize("error", [RuntimeError("no loop"), RecursionError("too deep")])
def test_what_goes_wrong_while_a_message_is_sent_is_no_end_of_a_connection(error):
    async def send() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        anyio.run(lambda: unless_ended(send()))


@pytest.mark.parametrize("origin", ["http://evil.example", "https://localhost:8080", "http://localhost:9090", "null"])
def test_another_site_may_not_watch(street, origin):
    with client(street) as browser:
        with pytest.raises(WebSocketDisconnect), browser.websocket_connect(LIVE, headers={"origin": origin}):
            pass
        assert browser.get("/", headers={"origin": origin}).status_code == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8080", 200), ("127.0.0.1:8080", 200), ("[::1]:8080", 200), ("evil.example:8080", 421), ("[::", 421), ("", 421)],
)
def test_a_name_that_somebody_made_point_here_is_refused(street, host, status):
    with client(street) as browser:
        assert browser.get("/", headers={"host": host}).status_code == status


def test_a_host_name_that_was_named_is_right(street):
    with client(street, host="cameras.example", names=("cameras.example",)) as browser:
        assert browser.get("/").status_code == 200


def test_the_token_opens_the_page_and_a_cookie_keeps_it_open(street):
    with client(street, token=TOKEN) as browser:
        assert [browser.get(path).status_code for path in ("/", "/static/main.js", "/metrics", "/?token=wrong")] == [401] * 4
        with pytest.raises(WebSocketDisconnect), browser.websocket_connect(LIVE):
            pass
        assert browser.get("/healthz").json() == {"status": "ok"}
        assert browser.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        opened = browser.get(f"/?token={TOKEN}", follow_redirects=False)
        assert (opened.status_code, opened.headers["location"]) == (303, "/")
        assert TOKEN not in opened.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict"} <= set(opened.headers["set-cookie"].split("; "))
        assert browser.get("/").status_code == 200
        with browser.websocket_connect(LIVE) as live:
            assert json.loads(live.receive_text())["kind"] == "tick"


def test_a_page_says_what_it_may_load_and_is_never_stored(street):
    with client(street) as browser:
        headers = browser.get("/").headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")
        assert browser.get("/static/main.js").headers["content-type"].startswith("text/javascript")
        assert [browser.get(path).status_code for path in ("/static/..%2fapp.py", "/static/none.js")] == [404, 404]


def test_no_file_of_the_page_asks_another_host_or_writes_markup():
    files = static_files()
    assert {"index.html", "main.js", "base.css"} <= files.keys()
    for name, (content, _) in files.items():
        text = content.decode()
        assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text.replace("http://www.w3.org/2000/svg", "")) == [], name
        assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|style=|onclick=|<script>", text) == [], name
    imported = {one for content, _ in files.values() for one in re.findall(r'(?:from "\./|/static/)([\w.]+)"', content.decode())}
    assert imported == files.keys() - {"index.html"}


def test_metrics_are_what_prometheus_reads_whatever_a_camera_is_called():
    street = Street()
    street.feed(frame(NASTY, 0, 7), frame(NASTY, 1, 7), frame(NASTY, 3, 7))
    street.feed(StageHealth(NASTY, "decode", at=9.5, state="live", processed=95, dropped=2, queued=1, latency=0.02))
    lines = metrics_text(street.view).splitlines()
    sample = re.compile(r'(\w+)(?:\{(?:\w+="(?:[^"\\\n]|\\["\\n])*",?)*\})? (-?[\d.e+-]+)')
    samples = [sample.fullmatch(line) for line in lines if not line.startswith("#")]
    assert all(samples)
    values = {line.partition("{")[0].partition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
    assert values["lightning_reid_camera_captured_fps"] == 10
    assert values["lightning_reid_camera_processed_frames_total"] == 3
    assert values["lightning_reid_camera_skipped_frames_total"] == 1
    assert values["lightning_reid_stage_dropped_total"] == 2
    assert values["lightning_reid_people"] == 1
    told = [re.match(r"# TYPE (\w+) (?:gauge|counter)$", line).group(1) for line in lines if line.startswith("# TYPE")]
    assert sorted(told) == sorted({one.group(1) for one in samples})
    assert '{camera="<img src=x onerror=\\"alert(1)\\">\\\\",stage="decode"}' in "\n".join(lines)


def test_a_served_page_answers_and_its_port_is_free_again():
    street = Street()
    with serve(street.view, port=0) as page:
        port = int(page.url.rpartition(":")[2])
        with urllib.request.urlopen(page.url + "/healthz", timeout=5) as answer:
            assert json.load(answer) == {"status": "ok"}
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            serve(street.view, port=port)
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"host": "0.0.0.0"}, "is another host than this one"),
        ({"host": "192.0.2.1", "token": TOKEN}, "is another host than this one"),
        ({"token": "short"}, "at least 16"),
        ({"token": "with a space in between"}, "at least 16"),
        ({"key": "key.pem"}, "a --key needs its --certificate"),
        ({"certificate": "cert.pem", "key": "key.pem"}, "cert.pem and key.pem are no certificate and its key"),
        ({"port": 70_000}, "port must be"),
    ],
)
def test_a_page_that_all_could_watch_or_that_cannot_be_served_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        serve(LiveView(), **{"port": 0, **options})


def test_a_certificate_that_is_none_is_told(tmp_path):
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match="are no certificate and its key, in PEM"):
        serve(LiveView(), port=0, certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem")


def test_another_host_draws_a_token_where_none_is_given():
    with serve(LiveView(), host="0.0.0.0", port=0, insecure=True) as page:
        assert re.fullmatch(r"http://.+:\d+/\?token=[\w-]{32}", page.url)


def test_over_tls_the_cookie_is_for_tls_alone(street, tmp_path):
    certificate, key_file = certificate_of(tmp_path)
    with serve(street.view, host="0.0.0.0", port=0, certificate=certificate, key=key_file) as page:
        address = re.sub(r"//[^:]+:", "//localhost:", page.url)
        jar = CookieJar()
        tls = urllib.request.HTTPSHandler(context=trusting(certificate))
        with urllib.request.build_opener(tls, urllib.request.HTTPCookieProcessor(jar)).open(address, timeout=5) as answer:
            assert answer.url == address.partition("?")[0]
        (cookie,) = jar
        assert cookie.secure
        headers = {"cookie": f"{cookie.name}={cookie.value}", "origin": address.partition("/?")[0]}
        with connect(f"wss{headers['origin'][5:]}/live", ssl=trusting(certificate), additional_headers=headers) as live:
            assert json.loads(live.recv(timeout=5))["kind"] == "tick"
