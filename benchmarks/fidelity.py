"""Writes docs/fidelity.md: what the texts claim, of ``claims.toml``, beside what the benchmarks found, of ``results/*.json``.

    python benchmarks/fidelity.py            # writes the page
    python benchmarks/fidelity.py --check    # ends with 1 where the page is not what the files give

A claim is one of

- ``results``, ``pair`` (and ``table``, where the file has several): a comparison over seeds. The verdict follows from its figures.
- ``results``, ``of``, ``over`` (and ``table``): two figures that were counted or measured once. ``wanted`` is "above" or "below": on which
  side of 1 the quotient is to be; or ``says``, the text's per cent more or less than 1, which holds where ours is within one point of it.
- ``tested``: a test, as ``tests/FILE.py::NAME``.
- none of these: then ``cannot`` says why it cannot be shown here. Beside figures, ``cannot`` says why they do not tell.

Every claim has ``claim`` and ``text``, the text's figure; ``note`` is a cause or a limit.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from result_files import ResultTable, find_table, read_results

from lightning_reid.files import write_atomically
from lightning_reid.recipes.workshop.comparisons import Comparison, p_cells

ROOT = Path(__file__).parents[1]
CLAIMS = Path(__file__).with_name("claims.toml")
PAGE = ROOT / "docs" / "fidelity.md"
README = Path(__file__).with_name("README.md")
KEYS = {"claim", "text", "results", "table", "pair", "of", "over", "wanted", "says", "tested", "cannot", "note"}
NOTHING = "cannot be shown here"
Results = Mapping[str, list[ResultTable]]


def page(claims: Mapping[str, Any], results: Results, readme: str) -> str:
    """The page, in Markdown.

    Raises:
        ValueError: A claim names a file, a table, a row or a test that is not there, or says too little; its words are told.
    """
    parts = [str(claims["introduction"]).strip()]
    for section in claims["section"]:
        rows = [row(claim, results) for claim in section["claim"]]
        head = ["| claim | the text | here | verdict |", "|---|---|---|---|"]
        parts.append("\n".join([f"## {section['title']}", "", *head, *(f"| {' | '.join(cells)} |" for cells in rows)]))
    parts.append("\n\n".join(["## Protocols", str(claims["protocols"]).strip()]))
    parts += [protocols(file, tables, readme) for file, tables in results.items()]
    return "\n\n".join(parts) + "\n"


def row(claim: Mapping[str, Any], results: Results) -> tuple[str, str, str, str]:
    """Cells of a claim: its words, the text's figure, ours, the verdict."""
    try:
        unknown = set(claim) - KEYS
        if unknown:
            raise ValueError(f"there is no {', '.join(sorted(unknown))} of a claim")
        figure, verdict = found(claim, results)
    except (ValueError, KeyError) as error:
        raise ValueError(f"claims.toml, {claim.get('claim')!r}: {error}") from error
    judged = f"**{NOTHING}**: {claim['cannot']}" if "cannot" in claim else f"**{verdict}**"
    return claim["claim"], claim["text"], figure, judged + (f"; {claim['note']}" if "note" in claim else "")


def found(claim: Mapping[str, Any], results: Results) -> tuple[str, str]:
    """Our figure, and the verdict by the rules of the page."""
    if "tested" in claim:
        return f"`{existing_test(claim['tested'])}`", "holds, by a test"
    if "results" not in claim:
        if "cannot" not in claim:
            raise ValueError("name results, a test, or why it cannot be shown here")
        return "", NOTHING
    table = find_table(results, claim["results"], claim.get("table"))
    link = f"[{table.file}](#{table.file})"
    if "pair" in claim:
        better, worse = claim["pair"]
        comparison = table.comparison((better, worse))
        named = ", its primary comparison named afterwards" if comparison.corrected is None and table.primary_named_afterwards else ""
        return f"{in_points(comparison, table.told['unit'])}; {link}", table.verdict(comparison) + named
    figure, verdict = quotient(table, claim)
    return f"{figure}; {link}", verdict


def in_points(comparison: Comparison, unit: str) -> str:
    """Mean, interval and p-values; points of mAP go without saying."""
    figures = f"{100 * comparison.mean:+.1f} ({100 * comparison.low:+.1f} to {100 * comparison.high:+.1f})"
    p, corrected = p_cells(comparison)
    chance = f"primary, p {p}" if comparison.corrected is None else f"p {p}, Holm {corrected}"
    return f"{figures}{'' if unit == 'points of mAP' else ' ' + unit}, {chance}"


def quotient(table: ResultTable, claim: Mapping[str, Any]) -> tuple[str, str]:
    """Two figures of one measurement, and whether they are as the text has it."""
    one, other = (table.figure(claim[name]) for name in ("of", "over"))
    share = one / other
    if "says" in claim:
        ours = 100 * (share - 1)
        holds = abs(ours - claim["says"]) <= 1
        return f"{ours:+.1f} %, {shown(one)} to {shown(other)} {table.told['unit']}", "holds" if holds else "does not hold"
    if claim["wanted"] not in ("above", "below"):
        raise ValueError(f"wanted is above or below, got {claim['wanted']!r}")
    holds = share > 1 if claim["wanted"] == "above" else share < 1
    figures = shown(one) if other == 1 else f"{share:.2f} times: {shown(one)} to {shown(other)}"
    return f"{figures} {table.told['unit']}", ("holds" if holds else "the opposite") + ", once measured"


def shown(number: float) -> str:
    """Millions and more as such."""
    return f"{number / 1e6:,.1f} M" if number >= 1e6 else f"{number:,g}"


def existing_test(name: str) -> str:
    """The name of a test that there is.

    Raises:
        ValueError: There is none.
    """
    file, _, function = name.partition("::")
    path = ROOT / file
    if not path.is_file() or f"def {function}(" not in path.read_text(encoding="utf-8"):
        raise ValueError(f"there is no test {name}")
    return name


def protocols(file: str, tables: Sequence[ResultTable], readme: str) -> str:
    """A section on what stands behind a file's figures; what tables share is said once."""
    lines = [f"### {file}"]
    for text, those in groupby(tables, lambda table: made(table, readme)):
        lines += [text, "\n".join(f"- **{table.name}**: {counts(table)}" for table in those)]
    return "\n\n".join(lines)


def made(table: ResultTable, readme: str) -> str:
    """By what, how, when and where."""
    said = table.told
    hours = "core-hours not noted" if said["hours"] is None else f"{said['hours']:g} core-hours"
    source = f" Figures: {said['source']}." if "source" in said else ""
    link = f"[{said['benchmark']}.py](benchmarks.md#{section_of(said['benchmark'], readme)})"
    return f"{link}. {said['protocol']} Protocol of commit {said['commit'][:7]}; {said['date']}; {said['machine']}; {hours}.{source}"


def counts(table: ResultTable) -> str:
    """How many seeds and comparisons, and what the primary one came to."""
    if not table.comparisons:
        return "counted, or measured once; no interval."
    primary = [one for one in table.comparisons if one.corrected is None]
    explored = len(table.comparisons) - len(primary)
    named = "".join(f"{one.better} - {one.worse} {in_points(one, table.told['unit'])}: {one.verdict}; " for one in primary)
    return f"{table.num_seeds} seeds; {named}{explored} exploratory."


def section_of(benchmark: str, readme: str) -> str:
    """The anchor of a benchmark's section in its README.

    Raises:
        ValueError: It has none.
    """
    for heading in re.findall(r"^## (.*)$", readme, re.MULTILINE):
        if f"`{benchmark}.py`" in heading:
            return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
    raise ValueError(f"benchmarks/README.md has no section on `{benchmark}.py`")


def main(argv: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    arguments = parser.parse_args(argv)
    text = page(tomllib.loads(CLAIMS.read_text(encoding="utf-8")), read_results(), README.read_text(encoding="utf-8"))
    if not arguments.check:
        write_atomically(PAGE, lambda draft: draft.write_text(text, encoding="utf-8"))
    elif PAGE.read_text(encoding="utf-8") != text:
        sys.exit(f"{PAGE} is not what the claims and result files give: python benchmarks/fidelity.py writes it")
    return text


if __name__ == "__main__":
    main()
