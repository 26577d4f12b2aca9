"""``lightning-reid report``: what is in its page, and what it refuses; how the page behaves is in ``test_report_browser.py``."""

from __future__ import annotations

import base64
import json
import re
import shutil
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import adapted, filmed, supervised
from typing_extensions import override

from lightning_reid.command_line.main import main
from lightning_reid.command_line.report import MOST_POINTS, MOST_QUERIES
from lightning_reid.command_line.report_page.clip_looks_section import MOST_FRAMES
from lightning_reid.command_line.report_page.findings import TOP
from lightning_reid.command_line.report_page.looks_section import PAIRS
from lightning_reid.command_line.report_page.page import MOST_BYTES
from lightning_reid.command_line.report_page.pictures import LIST_BYTES, MAP_BYTES, address
from lightning_reid.datamodules.generated import GeneratedTracklets
from lightning_reid.datamodules.readers import read_market_folder
from lightning_reid.evaluation import embed_test, evaluate_embedded
from lightning_reid.inference import EmbeddingPass, load_network

QUICK = ["--points=30", "--queries=3", "--map=pca", "--device=cpu", "--quiet"]


@pytest.fixture(scope="module")
def ran(market_folder, duke_folder, tmp_path_factory) -> Path:
    """A finished run of HSR."""
    return adapted(duke_folder, market_folder, tmp_path_factory.mktemp("runs") / "hsr")


@pytest.fixture(scope="module")
def told(ran, tmp_path_factory) -> tuple[dict, str]:
    """What the verb tells programs of its last method, and the page."""
    return reported(ran, "--out", tmp_path_factory.mktemp("pages") / "hsr.html")


@pytest.fixture
def copied(ran, tmp_path) -> Path:
    """The run, to be damaged."""
    return Path(shutil.copytree(ran, tmp_path / "hsr"))


def reported(*argv: object) -> tuple[dict, str]:
    import io
    from contextlib import redirect_stdout

    with redirect_stdout(io.StringIO()) as printed:
        assert main(["report", *QUICK, *map(str, argv), "--json"]) == 0
    found = json.loads(printed.getvalue())
    return found, Path(found["report"]).read_text(encoding="utf-8")


def refused(capsys, *argv: object) -> str:
    capsys.readouterr()
    assert main(["report", *QUICK, *map(str, argv)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


class Elements(HTMLParser):
    """All elements of a page with their attributes, and the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._open = "", ""
        self.feed(page)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._open = tag

    @override
    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    @override
    def handle_data(self, data: str) -> None:
        self.text += "" if self._open in ("script", "style") else f"{data} "

    def of(self, name: str, **attributes: str) -> list[dict[str, str | None]]:
        wanted = attributes.items()
        return [held for tag, held in self.found if tag == name and wanted <= held.items()]


def test_the_last_method_of_the_table_is_looked_into_and_its_map_is_that_of_the_table(ran, told):
    found, page = told
    rows = json.loads((ran / "results.json").read_text())["rows"]
    assert list(rows)[-1] == found["method"] == "HSR"
    assert found["mAP"] == pytest.approx(rows["HSR"]["mAP"], abs=1e-4)
    text = " ".join(Elements(page).text.split())
    for name, row in rows.items():
        assert name in text
        assert f"{100 * row['mAP']:.1f}" in text
    assert f"This page's mAP is that of the table, {100 * found['mAP']:.1f} %." in text
    assert json.loads((ran / "results.json").read_text())["protocol"] in text
    assert "95 % interval of mAP by bootstrap over 6 people" in text
    assert "lightning-reid 0.1.0" in text


def test_the_worst_queries_come_first_and_others_are_drawn_by_the_seed(ran, market_folder, told):
    data = read_market_folder(market_folder)
    test = embed_test(load_network(ran / "HSR" / "last.ckpt"), data, EmbeddingPass(quiet=True, device="cpu"))
    scores = evaluate_embedded(test, "market").scores
    worst = scores.average_precision.sort(stable=True)
    drawn = torch.randperm(len(scores.valid_queries), generator=torch.Generator().manual_seed(0))[:3].sort().values
    expected = [
        (int(scores.valid_queries[place]) + 1, f"{100 * scores.average_precision[place]:.1f}", int(scores.first_match_rank[place]))
        for place in [*worst.indices[:3].tolist(), *drawn.tolist()]
    ]
    text = " ".join(Elements(told[1]).text.split())
    shown = re.findall(r"Query (\d+): person \d+, camera \d+ · average precision ([\d.]+) % · first right answer at rank (\d+)", text)
    assert [(int(number), precision, int(rank)) for number, precision, rank in shown] == expected
    assert f"The 3 worst of {len(scores.valid_queries)} scored queries" in text
    assert f"3 of {len(scores.valid_queries)} scored queries, drawn by seed 0" in text


def test_a_right_answer_beyond_the_tenth_stands_apart_with_its_rank(market_folder, tmp_path):
    _, page = reported("--model", untrained(tmp_path), "--data", market_folder, "--out", tmp_path / "page.html", "--queries=20")
    elements = Elements(page)
    ranks = [int(one) for one in re.findall(r"first right answer at rank (\d+)", elements.text)]
    apart = [held for held in elements.of("li") if (held.get("class") or "").endswith("apart")]
    assert len(apart) == sum(rank > 10 for rank in ranks) > 0


def untrained(folder: Path) -> Path:
    """A network that tells nobody apart."""
    from lightning_reid.modules import SupervisedReID

    torch.manual_seed(1)
    model = SupervisedReID(num_classes=2, backbone="resnet18", backbone_options={"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1]})
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams), "image_size": [64, 32]}
    torch.save(content, folder / "untrained.ckpt")
    return folder / "untrained.ckpt"


def test_clusters_are_charted_over_the_epochs_with_their_numbers_in_a_table(told):
    elements = Elements(told[1])
    charts = [held["aria-label"] or "" for held in elements.of("svg", role="img")]
    for title in ("Clusters: ", "Images in no cluster: ", "Clusters against people: V-measure: ", "Training loss: "):
        (chart,) = [one for one in charts if one.startswith(title)]
        assert "HSR from " in chart
    assert [held for held in elements.of("div", role="group") if held["aria-label"] == "table, Clusters, clusters"]


@pytest.mark.slow
def test_a_supervised_run_says_that_nothing_was_clustered(market_folder, tmp_path):
    _, page = reported(supervised(market_folder, tmp_path / "run"))
    assert "Nothing was clustered: this run was supervised, or logged no clusters." in page
    assert "This method was not trained on them" in page, "on halves"
    assert (tmp_path / "run" / "report.html").is_file()


def test_the_page_asks_nobody_forbids_itself_to_and_is_small(told):
    found, page = told
    elements = Elements(page)
    assert found["bytes"] == len(page.encode()) < 10e6
    (policy,) = elements.of("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src 'sha256-" in policy["content"]
    for name, held in elements.found:
        assert not ({"style", "onload", "onerror", "onclick", "srcset", "action"} & held.keys()), name
        assert (held.get("src") or "data:").startswith("data:")
        assert (held.get("href") or "#").startswith("#")
    assert not re.search(r"@import|url\(", page)
    assert {name for name, _ in elements.found} & {"link", "iframe", "object", "form"} == set()


def test_the_page_of_a_run_does_not_tell_where_it_lies_on_this_machine(told, ran, market_folder, duke_folder):
    page = told[1]
    for folder in (ran, market_folder, duke_folder):
        assert str(folder.parent) not in page
    assert "<dd>HSR/last.ckpt</dd>" in page
    assert f"<td>{duke_folder.name}" in page or f"&quot;{duke_folder.name}" in page or f'"{duke_folder.name}"' in page, "among the options"


@pytest.mark.parametrize(("width", "most"), [(64, LIST_BYTES), (256, LIST_BYTES), (192, MAP_BYTES), (256, 800)])
def test_no_picture_takes_more_bytes_than_its_share_of_the_page(width, most):
    height = 128
    noise = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    content = base64.b64decode(address(Image.fromarray(noise), most).removeprefix("data:image/jpeg;base64,"))
    assert most / 4 < len(content) <= most
    with Image.open(BytesIO(content)) as picture:
        assert picture.width * height == picture.height * width


def test_as_many_pictures_as_may_be_asked_for_take_less_than_the_page_may():
    lists = 2 * MOST_QUERIES * (1 + TOP + 1) * LIST_BYTES
    looks = PAIRS * 2 * 2 * MOST_FRAMES * LIST_BYTES
    assert (lists + looks + MOST_POINTS * MAP_BYTES) * 4 / 3 < 0.9 * MOST_BYTES, "the rest is for words"


def test_every_picture_has_words_and_every_part_a_heading(told):
    elements = Elements(told[1])
    assert all(held.get("alt") for held in elements.of("img") if held.get("src"))
    assert len(elements.of("h1")) == 1
    sections = [held["aria-labelledby"] for held in elements.of("section")]
    assert sections == [held["id"] for held in elements.of("h2")]
    assert [held["href"] for held in elements.of("a")][1:] == [f"#{name}" for name in sections]
    assert elements.of("html", lang="en")


def test_the_map_holds_as_many_points_as_were_asked_for_and_says_of_how_many(told, market_folder):
    data, elements = read_market_folder(market_folder), Elements(told[1])
    people = [record for record in (*data.query, *data.gallery) if record.pid > 0]
    points = [held for held in elements.of("path") if (held.get("class") or "").startswith("point ")]
    assert len(points) == 30
    assert f"30 of {len(people)} pictures, of " in elements.text
    assert all(held["data-crop"].startswith("data:image/jpeg;base64,") for held in points)


@pytest.mark.slow
def test_the_same_run_and_seed_give_the_same_page_to_the_byte_and_a_report_is_replaced(ran, told):
    found, page = told
    again, same = reported(ran, "--out", found["report"])
    assert same == page
    assert again == found
    _, other = reported(ran, "--out", found["report"], "--seed=1")
    assert "drawn by seed 1" in other


@pytest.mark.slow
def test_a_method_is_chosen_by_its_name(ran, tmp_path):
    found, page = reported(ran, "--method", "DBSCAN baseline", "--out", tmp_path / "page.html")
    assert found["method"] == "DBSCAN baseline"
    assert "This method was not trained on them" in page
    rows = json.loads((ran / "results.json").read_text())["rows"]
    assert found["mAP"] == pytest.approx(rows["DBSCAN baseline"]["mAP"], abs=1e-4)


@pytest.mark.slow
def test_of_a_stage_that_prunes_the_smaller_network_is_shown_and_another_score_than_the_tables_is_told(copied):
    rows = json.loads((copied / "results.json").read_text())["rows"]
    shutil.copy(copied / "DBSCAN-baseline" / "last.ckpt", copied / "HSR" / "small.ckpt")
    logged = copied / "HSR" / "version_0" / "metrics.csv"
    commas = "," * logged.read_text().partition("\n")[0].count(",")
    with logged.open("a") as file:
        file.write(f"0.5{commas}\n")  # as pruning logs a step, which is in no epoch
    found, page = reported(copied)
    here, there = (100 * rows[name]["mAP"] for name in ("DBSCAN baseline", "HSR"))
    assert found["mAP"] == pytest.approx(here / 100, abs=1e-4)
    assert f"This page's mAP is {here:.1f} %, the table's {there:.1f} %" in page


def test_a_network_alone_on_a_table_shows_names_as_text_whatever_they_hold_and_no_training(market_folder, tmp_path):
    data = read_market_folder(market_folder)
    nasty, lines = tmp_path / "<script>alert(1)<", ["path,pid,camid,split"]
    nasty.mkdir()
    for number, (split, record) in enumerate((split, one) for split, some in data.splits() if split != "train" for one in some[:40]):
        name = f"script>\"'&amp;{number}.jpg"
        shutil.copy(record.path, nasty / name)
        quoted = f"{nasty.name}/{name}".replace('"', '""')
        lines.append(f'"{quoted}",{record.pid},{record.camid},{split}')
    table = tmp_path / "<img src=x onerror=alert(2)>.csv"
    table.write_text("\n".join(lines))
    found, page = reported("--model", "generated-people-small", "--data", table, "--out", tmp_path / "page.html")
    elements = Elements(page)
    assert found["data"] == table.stem
    assert found["method"] is None
    assert page.count("A network alone tells nothing of its training: give the folder of its run.") == 2
    assert "The run's own table" not in page
    assert len(elements.of("script")) == 1
    assert page.count("alert(") == page.count("alert(1)&lt;/script&gt;") + page.count("onerror=alert(2)&gt;") > 0
    assert not [held for held in elements.of("img") if "onerror" in held]
    assert any("<script>alert(1)</script>\"'&amp;" in (held.get("title") or "") for held in elements.of("img"))


def test_data_that_were_moved_are_given_and_are_the_runs_by_what_they_hold(copied, market_folder, tmp_path):
    moved = shutil.copytree(market_folder, tmp_path / "elsewhere")
    found, page = reported(copied, "--data", moved)
    assert "This page's mAP is that of the table" in page
    assert found["data"] == "elsewhere"
    next((moved / "query").iterdir()).unlink()
    _, page = reported(copied, "--data", moved)
    assert "This page's mAP is that of the table" not in page
    assert "WARNING: the run's table was not scored on elsewhere" in page


def test_data_that_are_gone_or_changed_are_refused_with_the_way_on(copied, market_folder, tmp_path, capsys):
    file = copied / "HSR" / "scores.json"
    scores = json.loads(file.read_text())
    moved = Path(shutil.copytree(market_folder, tmp_path / "market"))
    scores["tested"]["dataset"] = str(moved)
    file.write_text(json.dumps(scores))
    reported(copied)
    picture = next((moved / "bounding_box_test").glob("0*.jpg"))
    picture.rename(picture.with_name("0001_c1s1_999999_01.jpg"))
    message = refused(capsys, copied)
    assert "what 'HSR' was scored on cannot be read again" in message
    assert "is not what it was when the run was scored on it: market, gallery: " in message
    assert "Restore it, or give --data" in message
    shutil.rmtree(moved)
    assert "what 'HSR' was scored on cannot be read again" in refused(capsys, copied)


def test_a_run_that_does_not_tell_what_it_was_scored_on_asks_for_it(copied, market_folder, capsys):
    file = copied / "HSR" / "scores.json"
    scores = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in scores.items() if name != "tested"}))
    assert "does not tell what 'HSR' was scored on: give --data, and --root for a named set" in refused(capsys, copied)
    file.write_text(json.dumps(scores | {"tested": {"dataset": 7}}))
    assert "tells 7 as 'dataset' of what was scored on, it was edited: give --data" in refused(capsys, copied)


def test_a_run_that_scored_nothing_is_looked_into_on_given_data(copied, market_folder, capsys):
    (copied / "direct-transfer" / "scores.json").unlink()
    (copied / "DBSCAN-baseline" / "scores.json").unlink()
    (copied / "results.json").write_text('{"rows": {}, "protocol": "nothing is scored: the data have no labels", "seconds": 1}')
    (copied / "HSR" / "scores.json").unlink()
    assert "does not tell what 'HSR' was scored on: give --data" in refused(capsys, copied)
    found, page = reported(copied, "--data", market_folder)
    assert "The run: nothing is scored: the data have no labels." in page
    assert found["method"] == "HSR"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("results.json", None, "lacks results.json: its run is not finished. Go on with the recipe, --resume"),
        ("results.json", '{"rows": {', "is cut short or was overwritten, it is no JSON"),
        ("results.json", '{"rows": []}', "holds [] as 'rows', it was edited or is not of this library"),
        ("results.json", '{"rows": {"HSR": {"mAP": 1}}, "protocol": "", "seconds": 1}', "the scores of 'HSR', lacks mAP, R1"),
        ("results.json", '{"rows": {}, "protocol": "", "seconds": 1, "stamp": {"what": 1}}', "tells a stamp that is none of this library"),
        ("HSR/stage.json", "{}", "holds no 'stage'"),
        ("HSR/last.ckpt", "torn", "last.ckpt cannot be read as weights, is it complete?"),
        ("HSR/version_0/metrics.csv", "epoch,train/loss\nnever,much\n", "metrics.csv is no table of logged values"),
    ],
)
def test_a_run_that_is_unfinished_or_damaged_is_refused_by_its_file(copied, file, content, message, capsys):
    if content is None:
        (copied / file).unlink()
    else:
        (copied / file).write_text(content)
    told = refused(capsys, copied)
    assert message in told
    assert str(copied) in told
    assert not (copied / "report.html").exists()


def test_what_is_no_run_is_refused_with_what_to_give(tmp_path, ran, capsys):
    assert f"there is nothing at {tmp_path / 'none'}" in refused(capsys, tmp_path / "none")
    assert "holds no run, neither run.json nor results.json" in refused(capsys, tmp_path)
    checkpoint = ran / "HSR" / "last.ckpt"
    assert f"is a file: give the --output folder of a recipe; of a network alone, --model {checkpoint} --data DATA" in refused(
        capsys, checkpoint
    )
    assert "is an address" in refused(capsys, "s3://bucket/run")
    told = refused(capsys, ran, "--method", "magic")
    assert "--method magic is none of this run" in told
    assert "'direct transfer', 'DBSCAN baseline', 'HSR'" in told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give the folder of a run, or --model and --data"),
        (["--model", "generated-people-small"], "give the folder of a run, or --model and --data"),
        (["run", "--model", "a.ckpt"], "the run run has networks of its own"),
        (["--method", "HSR", "--model", "a.ckpt", "--data", "x"], "--method HSR is one of a run"),
        (["run", "--root", "data"], "--root and --split say where --data lie"),
        (["run", "--queries", "25"], "--queries must be a whole number in 1..24, got 25"),
        (["run", "--points", "2"], "--points must be a whole number in 3..2,000, got 2"),
        (["run", "--false_match_rate", "0"], "--false_match_rate must be a number in (0, 1), got 0"),
        (["run", "--seed", "-1"], "--seed must be"),
    ],
)
def test_options_that_cannot_be_right_are_refused_before_anything_is_read(options, message, capsys):
    capsys.readouterr()
    assert main(["report", *options]) == 1
    assert message in capsys.readouterr().err


def test_what_is_no_report_is_not_written_over(ran, tmp_path, capsys):
    mine = tmp_path / "mine.html"
    mine.write_text("<p>my own")
    assert f"{mine} exists and is no report: give another --out" in refused(capsys, ran, "--out", mine)
    assert mine.read_text() == "<p>my own"
    assert "must end with .html" in refused(capsys, ran, "--out", tmp_path / "page.pdf")


@pytest.fixture(scope="module")
def walks(tmp_path_factory) -> Path:
    """Tracklets in the layout of MARS."""
    people = GeneratedTracklets(num_train_pids=4, num_test_pids=4, num_distractors=2, frames=(4, 6), height=64, width=32)
    return people.write(tmp_path_factory.mktemp("data") / "walks", progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["stenvan", "baseline"])
def test_a_run_of_clips_is_embedded_as_it_was_scored_and_shows_its_attention_where_it_has_some(network, walks, tmp_path):
    run = filmed(walks, tmp_path / "run", network)
    found, page = reported(run)
    ((name, row),) = list(json.loads((run / "results.json").read_text())["rows"].items())[-1:]
    assert found["mAP"] == pytest.approx(row["mAP"], abs=1e-5)
    text = " ".join(Elements(page).text.split())
    assert f"This page's mAP is that of the table, {100 * row['mAP']:.1f} %." in text
    assert "gallery tracklets | protocol mars" in found["stamp"]
    assert found["stamp"].count("RRS, T=4, first of each chunk") == 1
    assert ("in the last place where it attends (stripes at stripes)" in text) == (network == "stenvan")
    assert ("This network has no attention" in text) == (network == "baseline")
    frames = [held["alt"] or "" for held in Elements(page).of("img") if ", frame " in (held.get("alt") or "")]
    assert {one.rpartition(" ")[2] for one in frames} == ({"1", "2", "3", "4"} if network == "baseline" else {"1", "3"})
    assert name in text


def test_a_network_whose_embeddings_overflow_is_refused_by_the_picture(copied, capsys):
    file = copied / "HSR" / "last.ckpt"
    content = torch.load(file, weights_only=True)
    content["state_dict"]["network.neck.weight"].fill_(3e38)
    torch.save(content, file)
    told = refused(capsys, copied)
    assert "holds NaN or infinite values" in told
    assert "the checkpoint is of a diverged training" in told
