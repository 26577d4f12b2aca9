"""The page in a real browser: Debian's Chromium, driven by playwright."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch
from headless import headless_chromium
from tracked import MODEL, direction

from lightning_reid.live import MatchingThread
from lightning_reid.live.page import LiveView, serve
from lightning_reid.tracking import CameraTracks, FrameStamp, MatchingRules, OnlineMatcher, TrackEnded, TrackFeature

pytestmark = pytest.mark.slow
NASTY = "<img src=x onerror=alert(1)>"
NAMES = (NASTY, *(f"camera {number}" for number in range(1, 9)))
SECONDS = 1000
"""In milliseconds, as playwright counts them."""


class Cameras:
    """Nine cameras at five frames a second; one person has walked from camera 1 to camera 2, somebody is in each other one."""

    def __init__(self) -> None:
        self.view = LiveView(stall_after=1.0)
        matcher = OnlineMatcher(MatchingRules(threshold=0.7, every_n_frames=1), feature_size=4, model=MODEL)
        self.matching = MatchingThread(matcher, [self.view])
        self.view.send_requests(self.matching.put)
        self.frozen: set[str] = set()
        self.now, self._number, self._ended = time.time(), 0, threading.Event()
        self._hand_over()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.matching.close()

    def _hand_over(self) -> None:
        before = self.now - 20
        self._tell("camera 1", 0, 7, at=before)
        self._look("camera 1", 7, before)
        self.matching.put(TrackEnded("camera 1", 0, 7, before))
        self._tell("camera 2", 0, 3, at=before + 5)
        self._look("camera 2", 3, before + 5)
        self._number = 1

    def _run(self) -> None:
        while not self._ended.wait(0.2):
            for name in NAMES:
                if name not in self.frozen:
                    self._tell(name, self._number, 3, at=time.time())
            self._number += 1

    def _tell(self, name: str, number: int, track: int, *, at: float) -> None:
        left = 40 + 10 * (number % 20)
        tracks = CameraTracks(FrameStamp(name, number, at, at), 0, (track,), torch.tensor([[left, 20.0, left + 30, 110]]), torch.ones(1))
        picture = torch.full((3, 144, 192), 60 + number % 20, dtype=torch.uint8)
        picture[:, 20:110, left : left + 30] = 200
        self.matching.put(tracks)
        self.view.on_picture(tracks.stamp, picture, tracks)

    def _look(self, name: str, track: int, at: float) -> None:
        self.matching.put(TrackFeature(name, 0, track, direction(1, 0, 0, 0), 1, at, at, MODEL))


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    with headless_chromium() as browser:
        yield browser


@pytest.fixture
def cameras() -> Iterator[Cameras]:
    made = Cameras()
    yield made
    made.close()


class Opened:
    """A page in the browser, and all that it did."""

    def __init__(self, browser, url: str, **options) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.asked: list[str] = []
        self.received: list[str | bytes] = []
        self.page.on("console", lambda told: self.faults.append(told.text) if told.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self.faults.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", self._watch)
        self.page.goto(url)

    def _watch(self, socket) -> None:
        self.asked.append(socket.url)
        socket.on("framereceived", lambda content: self.received.append(content))

    def pictures(self) -> int:
        """JPEGs that have come since this was asked before."""
        found = sum(isinstance(one, bytes) for one in self.received)
        self.received.clear()
        return found

    def press_until(self, key: str, wanted: str) -> None:
        """Press a key until what has the focus is of a class."""
        for _ in range(200):
            self.page.keyboard.press(key)
            if self.page.locator(f"{wanted}:focus").count():
                return
        raise AssertionError(f"{key} does not reach {wanted}")

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *exception: object) -> None:
        self.context.close()


def live(name: str) -> str:
    return f'.tile[data-camera="{name}"][data-state="live"]:not(.bare)'


def test_the_first_picture_comes_within_three_seconds(chromium, cameras):
    taken = []
    with serve(cameras.view, port=0) as page:
        while not taken or (min(taken) > 3 and len(taken) < 3):  # other tests may share the cores: the best of three
            began = time.monotonic()
            with Opened(chromium, page.url) as opened:
                opened.page.wait_for_selector(".tile:not(.bare)")
                taken.append(time.monotonic() - began)
    assert min(taken) <= 3


def test_nine_cameras_are_live_and_nobody_else_is_asked(chromium, cameras):
    with serve(cameras.view, port=0) as page, Opened(chromium, page.url) as opened:
        for name in NAMES:
            opened.page.wait_for_selector(live(name), timeout=10 * SECONDS)
        assert opened.page.locator(".tile").count() == 9
        assert opened.page.locator(".tile h3").first.text_content() == NASTY
        assert opened.page.locator(".tile img, .card img").count() == 0
        opened.page.wait_for_selector(".bar.live")
        for tab in ("#tab-health", "#tab-log", "#tab-lanes"):
            opened.page.click(tab)
            opened.page.wait_for_timeout(300)
        host = page.url.partition("//")[2]
        assert [one for one in opened.asked if one.partition("//")[2].partition("/")[0] != host] == []
        assert opened.faults == []


def test_the_keyboard_follows_a_person_and_undoes_a_match(chromium, cameras):
    with serve(cameras.view, port=0) as page, Opened(chromium, page.url) as opened:
        opened.page.wait_for_selector(live("camera 2"))
        opened.page.wait_for_selector(".wrong")
        opened.press_until("Tab", ".box")
        opened.page.keyboard.press("Enter")
        opened.page.wait_for_selector("#following:not([hidden])")
        opened.page.keyboard.press("Escape")
        opened.page.wait_for_selector("#following[hidden]", state="attached")
        opened.press_until("Tab", ".wrong")
        opened.page.keyboard.press("Enter")
        opened.page.wait_for_selector("#ask[open]")
        assert opened.page.locator("#ask-no:focus").count() == 1
        opened.page.keyboard.press("Tab")
        opened.page.keyboard.press("Enter")
        opened.page.wait_for_selector(".wrong", state="detached", timeout=5 * SECONDS)
        assert cameras.view.counts["undone"] == 1
        assert opened.faults == []


def test_a_click_follows_a_person_who_walks_and_forgetting_takes_the_card_away(chromium, cameras):
    with serve(cameras.view, port=0) as page, Opened(chromium, page.url) as opened:
        box = opened.page.locator(f"{live('camera 2')} .box:not(.nobody)")
        box.wait_for()
        number = box.text_content()
        box.dispatch_event("pointerdown", {"button": 0})
        opened.page.wait_for_selector(".card.followed")
        assert opened.page.locator(".card.followed .chip").text_content() == number
        opened.page.wait_for_selector('.tile.here[data-camera="camera 2"]')
        opened.page.click(".card.followed .forget")
        opened.page.click("#ask-yes")
        opened.page.locator(f'#cards .chip:text-is("{number}")').wait_for(state="detached", timeout=5 * SECONDS)
        assert opened.page.locator(".card.followed").count() == 0
        assert int(number) not in cameras.view.people.people
        assert opened.faults == []


def test_a_frozen_camera_is_greyed_and_says_since_when_then_comes_back(chromium, cameras):
    with serve(cameras.view, port=0) as page, Opened(chromium, page.url) as opened:
        opened.page.wait_for_selector(live("camera 3"))
        cameras.frozen.add("camera 3")
        tile = opened.page.locator('.tile[data-camera="camera 3"][data-state="stalled"]')
        tile.wait_for(timeout=5 * SECONDS)
        assert "stalled since" in tile.locator(".veil").text_content()
        assert "stalled since" in tile.get_attribute("aria-label")
        gray = "one => getComputedStyle(one.querySelector('canvas')).filter.includes('grayscale(1)')"  # it fades to it
        opened.page.wait_for_function(gray, arg=tile.element_handle(), timeout=5 * SECONDS)
        assert opened.page.locator(live("camera 4")).count() == 1
        cameras.frozen.clear()
        opened.page.wait_for_selector(live("camera 3"), timeout=5 * SECONDS)


def test_boxes_only_sends_no_picture_and_holds_after_a_reload(chromium, cameras):
    with serve(cameras.view, port=0) as page, Opened(chromium, page.url) as opened:
        opened.page.wait_for_selector(live("camera 1"))
        opened.page.locator("#privacy").check(force=True)
        opened.page.wait_for_selector(".tile:not(.bare)", state="detached")
        opened.page.wait_for_timeout(300)  # what was under way
        opened.pictures()
        opened.page.wait_for_timeout(1000)
        assert opened.received
        assert opened.pictures() == 0
        opened.page.reload()
        opened.page.wait_for_selector(".box:not(.nobody)")
        opened.page.wait_for_timeout(1000)
        assert opened.pictures() == 0
        assert opened.page.locator("#privacy").is_checked()
        assert opened.page.locator(".tile canvas:visible, .card canvas:visible").count() == 0
        opened.page.locator("#privacy").uncheck(force=True)
        opened.page.wait_for_selector(live("camera 1"))
        assert opened.faults == []


def test_a_lost_connection_greys_everything_and_comes_back(chromium, cameras):
    with serve(cameras.view, port=0) as page:
        port = int(page.url.rpartition(":")[2])
        with Opened(chromium, page.url) as opened:
            opened.page.wait_for_selector(live("camera 1"))
            page.close()
            opened.page.wait_for_selector('html[data-link="lost"]', timeout=8 * SECONDS)
            assert opened.page.locator('.tile[data-state="lost"]').count() == 9
            with serve(cameras.view, port=port):
                opened.page.wait_for_selector(live("camera 1"), timeout=15 * SECONDS)
                assert opened.page.locator('.tile[data-state="lost"]').count() == 0


def test_the_token_opens_the_page_and_leaves_the_address(chromium, cameras):
    token = "a-token-of-enough-letters"
    with serve(cameras.view, port=0, token=token) as page, Opened(chromium, page.url) as opened:
        opened.page.wait_for_selector(live("camera 1"))
        assert token not in opened.page.url
        assert opened.faults == []


@pytest.mark.parametrize("size", [(390, 844), (768, 1024), (1024, 700)])
def test_nothing_is_wider_than_the_window(chromium, cameras, size):
    width, height = size
    with serve(cameras.view, port=0) as page, Opened(chromium, page.url, viewport={"width": width, "height": height}) as opened:
        opened.page.wait_for_selector(live("camera 1"))
        opened.page.wait_for_timeout(500)
        assert opened.page.locator("html").evaluate("one => one.scrollWidth") <= width
        assert opened.faults == []


def test_a_card_keeps_the_focus_when_it_moves(chromium, cameras):
    with serve(cameras.view, port=0) as page, Opened(chromium, page.url) as opened:
        opened.page.wait_for_selector(live("camera 8"))
        cameras.frozen.add("camera 8")
        opened.page.wait_for_selector(".card:last-child.left")
        opened.page.locator(".card:last-child .head").focus()
        opened.page.wait_for_timeout(8500)  # until the order is no longer held
        cameras.frozen.clear()
        opened.page.wait_for_selector(".card.left", state="detached", timeout=10 * SECONDS)
        opened.page.wait_for_timeout(1000)
        assert opened.page.locator(".card:not(:last-child) .head:focus").count() == 1
        assert opened.faults == []
