"""The site of the documentation: built without a warning, and looked at in a browser, on a narrow screen too."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from headless import headless_chromium
from house import exports
from playwright.sync_api import Browser, Page
from written_pages import ROOT, pages

pytestmark = pytest.mark.slow
NARROW = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of the built pages."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for folder in ("docs", "lightning_reid", "callbacks", "datamodules", "benchmarks"):  # what it reads; and it writes beside the pages
        if folder == "docs":
            shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("api"))
        else:
            (source / folder).symlink_to(ROOT / folder)
    (source / "CHANGELOG.md").symlink_to(ROOT / "CHANGELOG.md")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(source / "trees"), str(source / "docs"), str(built)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    return built


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with headless_chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(browser) -> Iterator[tuple[Page, list[str]]]:
    """A page of the browser, and what it asked of other hosts or complained of."""
    opened, said = browser.new_page(viewport=NARROW), []
    opened.on("request", lambda request: said.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    yield opened, said
    opened.close()


def test_every_page_is_built_and_every_exported_name_has_its_place(site):
    for path in pages():
        if path != "README.md":
            assert (site / Path(path).relative_to("docs").with_suffix(".html")).is_file(), path
    reference = "".join(one.read_text(encoding="utf-8") for one in (site / "api").glob("*.html"))
    assert [name for name in exports() if f'.{name}"' not in reference] == []


def test_no_page_is_wider_than_a_telephone_or_lacks_a_picture_or_asks_another_host(site, page):
    opened, said = page
    wide, lacking = {}, {}
    for one in sorted(site.rglob("*.html")):
        if "_modules" not in one.parts:  # the library's code, which pages link to
            opened.goto(one.as_uri())
            if over := opened.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"):
                wide[one.relative_to(site).as_posix()] = over
            missing = "[...document.images].filter(one => !one.complete || !one.naturalWidth).map(one => one.src)"
            if without := opened.evaluate(missing):
                lacking[one.relative_to(site).as_posix()] = without
    assert wide == {}
    assert lacking == {}
    assert said == []


def test_formulas_are_drawn(site, page):
    opened, _ = page
    opened.goto((site / "paradigms" / "hsr.html").as_uri())
    heights = opened.evaluate("[...document.querySelectorAll('math')].map(one => one.getBoundingClientRect().height)")
    assert heights
    assert min(heights) > 5
