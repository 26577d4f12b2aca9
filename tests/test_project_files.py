"""What stands beside the code and is read by machines or by people in need: how to cite it, how to report, what CI calls."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest
import yaml
from house import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_citation_is_of_this_version_and_license():
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (str(told["version"]), told["license"], told["type"]) == (PROJECT["version"], PROJECT["license"], "software")
    assert {"cff-version", "message", "title", "authors"} <= set(told)
    assert set(told["keywords"]) <= set(PROJECT["keywords"])


def test_a_report_is_told_where_to_go_and_no_address_is_made_up():
    told = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "private vulnerability reporting" in told
    assert re.findall(r"[\w.]+@[\w.]+", told) == []
    for what in ("checkpoints", "weights", "model folders", "indices", "tables", "gateways", "weights_only=True"):
        assert what in told, what


@pytest.mark.parametrize("script", ["run", "nightly", "release"])
def test_a_script_of_ci_is_one_that_bash_reads_and_stops_at_the_first_error(script):
    file = ROOT / ".ci" / script
    assert file.stat().st_mode & 0o111
    assert "\nset -euo pipefail\n" in file.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", str(file)], check=True)


@pytest.mark.parametrize(("script", "option"), [("nightly", "everything"), ("release", "--now")])
def test_a_script_of_ci_refuses_what_it_does_not_know(script, option):
    told = subprocess.run([ROOT / ".ci" / script, option], capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert f"no {'part' if script == 'nightly' else 'option'} {option}" in told.stderr


def test_a_release_uploads_nothing_unless_it_is_told_to():
    text = (ROOT / ".ci" / "release").read_text(encoding="utf-8")
    before, _, after = text.partition('if [ "$upload" = true ]; then')
    assert 'twine" upload' not in before
    assert after.count("upload dist/") == 1
    assert not re.search(r"(?i)token|password", text)
