"""The page of ``lightning-reid report`` in a real browser that has no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from headless import headless_chromium
from tiny_runs import adapted

from lightning_reid.command_line.main import main

pytestmark = pytest.mark.slow
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
RATIO = """
() => {
  const number = (color) => color.match(/[\\d.]+/g).map(Number);
  const linear = (one) => (one <= 0.03928 * 255 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.push(number(getComputedStyle(one).backgroundColor));
    const over = (below, [r, g, b, a = 1]) => [r, g, b].map((one, at) => one * a + below[at] * (1 - a));
    return layers.reverse().reduce(over, [255, 255, 255]);
  };
  const texts = document.querySelectorAll("h1, h2, h3, p, b, caption, th, td, span, small, li, a, dt, dd, summary, figcaption, svg text");
  return [...texts].filter((one) => one.checkVisibility() && one.textContent.trim()).map((one) => {
    const look = getComputedStyle(one);
    const [a, b] = [light(number(one instanceof SVGElement ? look.fill : look.color)), light(ground(one))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), `${one.tagName} ${one.textContent.slice(0, 40)}`];
  }).filter(([ratio]) => ratio < 4.5);
}
"""
"""Texts whose contrast to what lies below them is less than WCAG AA asks for."""


@pytest.fixture(scope="module")
def report(market_folder, duke_folder, tmp_path_factory) -> Path:
    run = adapted(duke_folder, market_folder, tmp_path_factory.mktemp("runs") / "hsr")
    assert main(["report", str(run), "--points=40", "--queries=3", "--device=cpu", "--quiet"]) == 0
    return run / "report.html"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with headless_chromium() as browser:
        yield browser


class Opened:
    """The page, without network, and all that it asked for or complained of."""

    def __init__(self, browser: Any, report: Path, **options: Any) -> None:
        self.context = browser.new_context(offline=True, **({"viewport": WIDE} | options))
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda told: self.faults.append(told.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(report.as_uri())

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *exception: object) -> None:
        self.context.close()

    def focused(self) -> str:
        found: str = self.page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.innerText")
        return found


def test_it_opens_without_network_asks_nobody_and_complains_of_nothing(chromium, report):
    with Opened(chromium, report) as opened:
        assert opened.page.title().endswith("– lightning-reid")
        loaded = opened.page.eval_on_selector_all("img[src]", "all => all.map((one) => one.complete && one.naturalWidth > 0)")
        assert len(loaded) > 60
        assert all(loaded)
        assert [url for url in opened.asked if not url.startswith("data:")] == [report.as_uri()]
        assert opened.faults == []


def test_the_policy_of_the_page_stops_what_would_ask_somebody(chromium, report):
    with Opened(chromium, report) as opened:
        asked = "fetch('https://example.org/').then(() => 'answered', (error) => error.name)"
        assert opened.page.evaluate(f"() => {asked}") == "TypeError"
        assert any("Content Security Policy" in fault for fault in opened.faults)


def test_the_map_is_one_stop_of_the_tab_key_and_arrows_show_one_crop_after_another(chromium, report):
    with Opened(chromium, report) as opened:
        page = opened.page
        stops = 0
        while not page.locator(".point:focus").count():
            page.keyboard.press("Tab")
            stops += 1
            assert stops < 200
        tip = page.locator("#tip")
        assert tip.is_visible()
        first = opened.focused()
        assert tip.locator("p").inner_text().split("\n")[0] in first
        assert tip.locator("img").evaluate("one => one.naturalWidth") > 0
        seen = {first}
        for key in [*["ArrowRight"] * 4, *["ArrowDown"] * 4, *["ArrowLeft"] * 8, *["ArrowUp"] * 8]:
            page.keyboard.press(key)
            seen.add(opened.focused())
            assert tip.locator("p").inner_text().split("\n")[0] in opened.focused()
        assert len(seen) > 8
        person = page.locator(".point:focus").get_attribute("data-person")
        assert page.locator(".point.same").count() == page.locator(f".point[data-person='{person}']").count()
        page.keyboard.press("Escape")
        assert tip.is_hidden()
        page.keyboard.press("Tab")
        assert not page.locator(".point:focus").count(), "the next stop is behind the map"
        assert opened.faults == []


def test_the_map_takes_keys_from_the_first_tab_on_and_the_page_stays_where_it_is(chromium, report):
    with Opened(chromium, report) as opened:
        page = opened.page
        page.locator(".map-box").evaluate("one => one.insertAdjacentHTML('beforebegin', '<button id=before>before</button>')")
        page.locator("#before").focus()
        page.keyboard.press("Tab")
        assert page.locator(".point:focus").count() == 1
        place, seen = page.evaluate("scrollY"), {opened.focused()}
        for key in ("PageDown", "End", "ArrowLeft", "PageUp"):
            page.keyboard.press(key)
            seen.add(opened.focused())
            assert page.locator(".point:focus").count() == 1
        assert len(seen) > 3
        assert abs(page.evaluate("scrollY") - place) < WIDE["height"] / 2
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Shift+Tab")
        assert not page.locator(".map-box :focus").count(), "one stop backwards too"


def test_keys_reach_every_mark_and_each_crop_lies_within_the_map(chromium, report):
    with Opened(chromium, report) as opened:
        page, reached = opened.page, set()
        page.locator(".point").nth(7).focus()
        page.keyboard.press("Home")
        for _ in range(40):
            reached.add(opened.focused())
            assert page.locator("#tip").is_visible()
            box, around = page.locator("#tip").bounding_box(), page.locator(".map-box").bounding_box()
            assert box["x"] >= around["x"] - 1
            assert box["x"] + box["width"] <= around["x"] + around["width"] + 1
            page.keyboard.press("PageDown")
        assert len(reached) == page.locator(".point").count() == 40


def test_a_pointer_shows_the_crop_and_takes_it_away(chromium, report):
    with Opened(chromium, report) as opened:
        opened.page.locator(".point").nth(5).dispatch_event("pointerover")
        assert opened.page.locator("#tip").is_visible()
        opened.page.locator(".map").dispatch_event("pointerleave")
        assert opened.page.locator("#tip").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_by_day_and_by_night_every_text_stands_out_from_its_ground(chromium, report, scheme):
    with Opened(chromium, report, color_scheme=scheme) as opened:
        opened.page.eval_on_selector_all("details", "all => all.forEach((one) => (one.open = true))")
        assert opened.page.evaluate(RATIO) == []
        ground = opened.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 200) == (scheme == "dark")


def test_no_caption_is_cut_off_on_a_narrow_screen(chromium, report):
    with Opened(chromium, report, viewport=NARROW) as opened:
        cut = """() => [...document.querySelectorAll("caption")].filter((one) => one.checkVisibility()).filter((one) => {
          const words = document.createRange();
          words.selectNodeContents(one);
          return words.getBoundingClientRect().right > one.closest(".wide").getBoundingClientRect().right + 1;
        }).map((one) => one.textContent)"""
        assert opened.page.evaluate(cut) == []


def test_a_narrow_screen_scrolls_down_alone(chromium, report):
    with Opened(chromium, report, viewport=NARROW) as opened:
        opened.page.eval_on_selector_all("details", "all => all.forEach((one) => (one.open = true))")
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        opened.page.locator(".point").first.focus()
        assert opened.page.locator("#tip").is_visible()
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        mark, map_ = opened.page.locator(".point").nth(3).bounding_box(), opened.page.locator(".map").bounding_box()
        assert mark["width"] >= 8, "as large as on a wide screen"
        assert map_["y"] + map_["height"] <= opened.page.locator("#tip").bounding_box()["y"] + 1, "the crop hides no mark"


def test_without_scripts_the_pictures_of_the_map_are_listed(chromium, report):
    with Opened(chromium, report, java_script_enabled=False) as opened:
        opened.page.locator("summary", has_text="The pictures").click()
        assert opened.page.locator("#map ~ details tbody tr").count() == 40
        assert opened.page.locator("#tip").is_hidden()
