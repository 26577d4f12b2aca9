"""``lightning-reid report`` of a run's folder that a stranger has filled: what is not asked, not read, not waited for and not believed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import adapted
from verbs import refused

from lightning_reid.command_line.told_data import require_readable_as_told
from lightning_reid.recipes.workshop.report import MOST_ROWS
from lightning_reid.recipes.workshop.tested_part import TestedPart

QUICK = ["report", "--points=30", "--queries=3", "--map=pca", "--device=cpu", "--quiet"]
SECRET = "a-line-of-somebody-else"


@pytest.fixture(scope="module")
def ran(market_folder, duke_folder, tmp_path_factory) -> Path:
    return adapted(duke_folder, market_folder, tmp_path_factory.mktemp("runs") / "hsr")


@pytest.fixture
def run(ran, tmp_path) -> Path:
    """The run, to be filled anew."""
    return Path(shutil.copytree(ran, tmp_path / "hsr"))


def tell(run: Path, **tested: object) -> None:
    """Have the run tell that it was scored on something else."""
    file = run / "HSR" / "scores.json"
    scores = json.loads(file.read_text())
    file.write_text(json.dumps(scores | {"tested": scores["tested"] | tested}))


def test_an_address_that_a_run_tells_is_named_and_not_asked_until_the_user_names_it(run, capsys):
    asked: list[str] = []

    def hang_up(server: socket.socket) -> None:
        with suppress(OSError):  # it is closed at the end
            while True:
                there, who = server.accept()
                asked.append(str(who))
                there.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        threading.Thread(target=hang_up, args=(server,), daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/evil"
        tell(run, dataset=address)
        told = refused(capsys, *QUICK, run)
        assert asked == []
    assert f"{run / 'HSR' / 'scores.json'} tells the address {address}." in told
    assert f"give --data {address}" in told


def test_an_address_that_the_user_has_named_is_taken_for_clips_too(run):
    file = run / "HSR" / "scores.json"
    clips = {"image_size": [64, 32], "clip_length": 4, "test_clips": "rrs", "corrections": None}
    tested = TestedPart("s3://bucket/walks", str(run), 0, False, False, {}, clips)
    require_readable_as_told(tested, file, named="s3://bucket/walks")
    with pytest.raises(ValueError, match="tells the address s3://bucket/walks"):
        require_readable_as_told(tested, file, named=None)
    with pytest.raises(ValueError, match="is no file of corrections, as "):
        require_readable_as_told(replace(tested, dataset="mars", clips=clips | {"corrections": str(file)}), file, named=None)


def test_a_file_that_a_run_tells_and_that_is_no_table_is_not_quoted(run, tmp_path, capsys):
    secret = tmp_path / "passwd"
    secret.write_text(f"{SECRET}:x:0:0\n")
    for told in (secret, tmp_path):
        tell(run, dataset=str(told))
        shutil.copy(secret, tmp_path / "images.csv")
        message = refused(capsys, *QUICK, run)
        assert "is no table of images, as " in message
        assert SECRET not in message


@pytest.mark.parametrize("file", ["table.md", "results.json", "run.json", "HSR/stage.json", "HSR/scores.json", "HSR/last.ckpt"])
def test_a_link_out_of_the_folder_of_a_run_is_not_read(run, tmp_path, file, capsys):
    (run / file).rename(tmp_path / "elsewhere")
    (run / file).symlink_to(tmp_path / "elsewhere")
    assert f"{run / file} is a link that leads out of {run}, and is not read" in refused(capsys, *QUICK, run)


def test_a_link_within_the_folder_of_a_run_is_followed(run, capsys):
    (run / "HSR" / "last.ckpt").rename(run / "HSR" / "epoch=1.ckpt")
    (run / "HSR" / "last.ckpt").symlink_to("epoch=1.ckpt")
    tell(run, dataset="/nowhere/at/all")
    assert "cannot be read again" in refused(capsys, *QUICK, run), "the network was taken, and data were looked for"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("file", ["HSR/version_0/metrics.csv", "HSR/stage.json", "report.html"])
def test_a_pipe_is_not_waited_for(run, file, capsys):
    (run / file).unlink(missing_ok=True)
    os.mkfifo(run / file)
    told = refused(capsys, *QUICK, run)
    assert str(run / file) in told
    assert "exists and is no report" in told if file == "report.html" else "is a pipe where a file was expected" in told


def test_a_table_of_too_many_rows_or_bytes_is_refused_before_anything_is_embedded(run, capsys):
    file = run / "results.json"
    content = json.loads(file.read_text())
    row = content["rows"]["HSR"]
    file.write_text(json.dumps(content | {"rows": {f"HSR {number}": row for number in range(MOST_ROWS + 1)}}))
    assert f"{file} has 1,001 rows, more than the 1,000 that are read" in refused(capsys, *QUICK, run)
    with file.open("r+b") as there:
        there.truncate(2**24 + 1)
    assert f"{file} has 16,777,217 bytes, more than the 16,777,216 that are read" in refused(capsys, *QUICK, run)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mAP": 1e308}, "tells 1e+308 as 'mAP', expected a fraction in [0, 1]"),
        ({"R1": -5}, "tells -5.0 as 'R1', expected a fraction in [0, 1]"),
        ({"R5": float("nan")}, "tells nan as 'R5', expected a fraction in [0, 1]"),
        ({"mAP": 10**400}, "int too large to convert to float"),
        ({"mAP_interval": [0.1, 40]}, "tells 40.0 as 'the high end of mAP_interval', expected a fraction in [0, 1]"),
        ({"costs": {"seconds": float("inf")}}, "tells inf as 'seconds', expected a finite number of at least 0"),
        ({"queries": {"asked": -1, "unmatched": 0, "people": 3}}, "tells -1 as 'asked', expected a finite number of at least 0"),
    ],
)
def test_scores_that_none_can_have_are_refused_by_name_and_file(run, changed, message, capsys):
    file = run / "results.json"
    content = json.loads(file.read_text())
    content["rows"]["HSR"] |= changed
    file.write_text(json.dumps(content))
    told = refused(capsys, *QUICK, run)
    assert f"{file}, the scores of 'HSR'," in told
    assert message in told
