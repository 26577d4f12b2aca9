"""``lightning-reid report`` calls people and cameras as their table does, and tells nobody where they lie on this machine."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from lightning_reid.command_line.main import main
from lightning_reid.command_line.report_page.names import option_without_places, without_places
from lightning_reid.datamodules.readers import read_market_folder, read_table

PEOPLE, CAMERAS = ["ola", "sign", "kari"], ["front door", "yard"]
QUICK = ["--points=30", "--queries=3", "--map=pca", "--device=cpu", "--quiet", "--json"]


@pytest.fixture(scope="module")
def table(market_folder, tmp_path_factory) -> Path:
    """Three people of two cameras by their names, in a folder whose name has a space."""
    folder = tmp_path_factory.mktemp("somebody at home") / "my crops"
    folder.mkdir()
    data = read_market_folder(market_folder)
    pids = sorted({record.pid for record in data.query})[: len(PEOPLE)]
    lines = ["path,pid,camid,split"]
    for split, records in (("query", data.query), ("gallery", data.gallery)):
        for number, record in enumerate(one for one in records if one.pid in pids and one.camid in (1, 2)):
            shutil.copy(record.path, folder / f"{split}{number}.jpg")
            lines.append(f"{split}{number}.jpg,{PEOPLE[pids.index(record.pid)]},{CAMERAS[record.camid - 1]},{split}")
    (folder / "mine.csv").write_text("\n".join(lines))
    return folder / "mine.csv"


@pytest.fixture(scope="module")
def page(table, tmp_path_factory) -> str:
    import io
    from contextlib import redirect_stdout

    out = tmp_path_factory.mktemp("pages") / "page.html"
    with redirect_stdout(io.StringIO()) as printed:
        assert main(["report", "--model=generated-people-small", f"--data={table}", f"--out={out}", *QUICK]) == 0
    assert json.loads(printed.getvalue())["report"] == str(out)
    return out.read_text(encoding="utf-8")


def test_people_and_cameras_have_their_names_in_lists_tables_and_on_the_map(page):
    assert set(re.findall(r'<span class="who">([^<]*)</span>', page)) <= {f"{one} · {camera}" for one in PEOPLE for camera in CAMERAS}
    assert re.search(r"<b>Query [0-9]+: (ola|sign|kari), (front door|yard)</b>", page)
    assert '<th scope="row">front door</th>' in page
    assert re.search(r'data-said="(ola|sign|kari), (front door|yard), (query|gallery)"', page)
    assert not re.search(r"person [0-9]|camera [0-9]", page)


def test_notes_stand_once_and_no_path_of_this_machine_is_told(page, table):
    assert page.count("the column &#x27;pid&#x27; is text") + page.count("the column 'pid' is text") == 1
    assert str(table.parent.parent) not in page
    assert "somebody at home" not in page


def test_numbers_stay_where_a_table_has_numbers(market_folder, table):
    assert read_market_folder(market_folder).names.people == {}
    told = sorted({line.split(",")[1] for line in table.read_text().splitlines()[1:]})
    assert read_table(table, needs_train=False).names.people == dict(enumerate(told, start=1))


def test_a_path_is_told_from_the_data_on_or_by_its_last_name(tmp_path):
    folder = tmp_path / "a set"
    told = f"{folder}/mine.csv: of {folder} left out (first: {folder}/sub/1.jpg), see /etc/more/notes.txt and https://example.org/a/b"
    assert without_places(told, [folder, None]) == (
        "mine.csv: of a set left out (first: sub/1.jpg), see notes.txt and https://example.org/a/b"
    )
    assert option_without_places({"a": ["/home/me/x.csv", 0.5, None], "b": "12/7"}) == {"a": ["x.csv", 0.5, None], "b": "12/7"}
