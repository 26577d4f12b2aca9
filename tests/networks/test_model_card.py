"""The card of a network: what the hub reads of it, and that it tells what is known and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from lightning_reid import from_pretrained
from lightning_reid.inference import read_calibration
from lightning_reid.metrics import ProtocolStamp
from lightning_reid.networks import MeasuredScores, ModelFacts, VideoResNet50
from lightning_reid.networks.model_card import NOT_KNOWN, front_matter, model_card
from lightning_reid.networks.shipped import DEFAULT, FOLDERS

STAMP = ProtocolStamp("market1501", num_query=3368, num_gallery=15913, num_query_ids=750, seed=0)
SCORED = MeasuredScores(STAMP, {"mAP": 0.8567, "R1": 0.9411, "R20": 0.99}, (0.84, 0.87), "Junk is left out.")


def card(facts: ModelFacts) -> ModelCard:
    return ModelCard(model_card("A network.", facts, "embed()"))


def test_what_is_known_stands_in_it_for_the_hub_and_for_people():
    facts = ModelFacts(
        "Doors", trained_on="market1501", epochs=60, first_weights="random", scores=(SCORED,), license="cc-by-4.0", made_by="run"
    )
    found = card(facts)
    told = found.data.to_dict()
    assert (told["license"], told["library_name"], told["datasets"]) == ("cc-by-4.0", "lightning-reid", ["market1501"])
    assert (told["pipeline_tag"], told["metrics"]) == ("image-feature-extraction", ["mAP", "R1", "R20"])
    assert "person-re-identification" in told["tags"]
    results = {one.metric_type: one.metric_value for one in found.data.eval_results}
    assert results == {"mAP": 85.67, "R1": 94.11, "R20": 99.0}
    assert found.data.eval_results[0].dataset_args["protocol"] == "market"
    for words in (
        "# Doors",
        "`market1501`. 60 passes over it.",
        "Its first weights: random.",
        "| market1501 | 85.7 | 94.1 | 99.0 | 84.0 to 87.0 |",
        "- market1501: 3,368 queries of 750 ids, 15,913 gallery images; protocol market, AP by step, cosine, not re-ranked; "
        "transform not stated; seed 0"
        ". Junk is left out.",
        "## How it was made\n\n    run\n",
        "## License\n\n`cc-by-4.0`\n",
    ):
        assert words in found.text, words


def test_what_nobody_told_is_told_to_be_not_known():
    found = card(ModelFacts())
    told = found.data.to_dict()
    assert not {"license", "datasets", "metrics", "model-index"} & set(told)
    for heading in ("What it was trained on", "How it was made", "License"):
        assert f"## {heading}\n\n{NOT_KNOWN}" in found.text
    for words in (
        "It was not scored, or nobody told",
        "Where its first weights came from is not known",
        "what a cosine means is not known",
    ):
        assert words in found.text
    for words in ("## Intended use\n\nNot told.", "is not known.", "It must not decide about anybody by itself"):
        assert words in " ".join(found.text.split(" ")) or words in found.text.replace("\n", " "), words


def test_facts_cannot_break_out_of_the_front_matter():
    facts = ModelFacts("a\n---\nlicense: mit", license="other\n---\nx: y", tags=("b: c", "---"), trained_on="evil: [", scores=(SCORED,))
    found = card(facts)
    assert found.data.license == "other\n---\nx: y"
    assert found.data.model_name == "a --- license: mit"
    assert {"b: c", "---"} <= set(found.data.tags)
    assert found.data.datasets is None


def test_data_sets_are_named_as_the_hub_takes_names():
    for told, name in {"generated-people,people=8": "generated-people", "org/set": "org/set", "my folder/": None, "/data/x": None}.items():
        assert card(ModelFacts(trained_on=told)).data.datasets == ([name] if name else None)


def test_a_calibration_is_told_and_kept(tmp_path):
    calibration = read_calibration(FOLDERS / DEFAULT / "calibration.json")
    from_pretrained().save_pretrained(tmp_path / "model", half=True, facts=ModelFacts(calibration=calibration, about_calibration="Drawn."))
    assert read_calibration(tmp_path / "model" / "calibration.json") == calibration
    text = (tmp_path / "model" / "README.md").read_text()
    assert "fitted on 300 people of `generated-people,people=500,shots=2,seed=7`" in text.replace("\n", " ")
    assert "expected calibration error of 0.004" in text.replace("\n", " ")
    assert "Drawn." in text


def test_a_calibration_of_another_network_is_refused(tmp_path):
    calibration = replace(read_calibration(FOLDERS / DEFAULT / "calibration.json"), model="weights 0 at 128x64")
    with pytest.raises(ValueError, match="the calibration is of another network, 'weights 0 at 128x64'"):
        from_pretrained().save_pretrained(tmp_path / "model", half=True, facts=ModelFacts(calibration=calibration))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelFacts(scores=[SCORED]), "scores must be a tuple of MeasuredScores"),
        (lambda: ModelFacts(scores=({"mAP": 1},)), "scores must be a tuple of MeasuredScores"),
        (lambda: ModelFacts(calibration={}), "calibration must be a Calibration"),
        (lambda: ModelFacts(tags="abc"), "tags must be a list of strings"),
        (lambda: ModelFacts(title="x" * 20_001), "title must be a string of at most 20,000 letters"),
        (lambda: MeasuredScores("market", {"mAP": 1}), "stamp must be a ProtocolStamp"),
        (lambda: MeasuredScores(STAMP, {"mAP": 85.7}), r"scores\['mAP'\] must be a number in \[0, 1\]"),
        (lambda: MeasuredScores(STAMP, {}), "scores must be fractions by name"),
        (lambda: MeasuredScores(STAMP, {"mAP": 1}, (0.5, 2)), "mAP_interval must be a number in"),
        (lambda: MeasuredScores(STAMP, {"mAP": 1}, 0.5), "mAP_interval must be two fractions"),
    ],
)
def test_facts_that_cannot_be_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_card_of_the_network_that_comes_along_tells_its_figures_to_the_hub_too():
    found = ModelCard((FOLDERS / DEFAULT / "README.md").read_text(encoding="utf-8"))
    told = found.data.to_dict()
    assert (told["license"], told["datasets"]) == ("apache-2.0", ["generated-people"])
    assert {(one.dataset_name, one.metric_type): one.metric_value for one in found.data.eval_results} == {
        ("PETS 2009 S2.L1, View_001", "mAP"): 87.9,
        ("PETS 2009 S2.L1, View_001", "R1"): 94.4,
    }
    assert "| all walks | 87.9 | 71.6 to 99.3 | 94.4 |" in found.text
    assert "18 queries" in found.text
    assert {"num_query": 18, "num_query_ids": 5, "protocol": "market"}.items() <= found.data.eval_results[0].dataset_args.items()
    assert front_matter(ModelFacts()).startswith("---\n")


def used(card: Path, folder: Path, **names: object) -> dict[str, object]:
    """Run the Python that a card says to use its network by."""
    section = card.read_text(encoding="utf-8").split("\n## Use\n")[1].split("\n## ")[0]
    lines = [line.removeprefix("    ") for line in section.splitlines() if line.startswith("    ") or not line]
    code = "\n".join(lines[next(number for number, line in enumerate(lines) if line.startswith("from ")) :])
    exec(code.replace("FOLDER", str(folder)), names)
    return names


def test_what_a_card_says_to_use_its_network_by_embeds_a_folder_of_crops(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_crops" / "door").mkdir(parents=True)
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (70, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "my_crops" / "door" / f"{number}.png")
    from_pretrained().save_pretrained(tmp_path / "model", half=True)
    for folder in (tmp_path / "model", FOLDERS / DEFAULT):
        embeddings = used(folder / "README.md", folder)["images"].embeddings
        assert embeddings.shape == (3, 192)
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


def test_what_the_card_of_a_network_of_clips_says_embeds_clips(tmp_path):
    options = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
    VideoResNet50("resnet18", **options).eval().save_pretrained(tmp_path / "clips", image_size=(64, 32))
    clips = torch.zeros(2, 4, 3, 64, 32, dtype=torch.uint8)
    assert used(tmp_path / "clips" / "README.md", tmp_path / "clips", clips=clips)["embeddings"].shape == (2, 16)
