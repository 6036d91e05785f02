"""The documents that show figures: what stands in them between two marks is written from the figures' JSON, never by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from benchmarks import aims, figures, report

ROOT: Final = Path(__file__).parent.parent
FIGURES: Final = ROOT / "docs/figures"
RUN, GROWTH = FIGURES / "bench.json", FIGURES / "bench-growth.json"
SHOWING: Final = (ROOT / "docs/performance.md", ROOT / "README.md")

_MARKED = re.compile(r"(<!-- figures: ([\w-]+) -->)(.*?)(<!-- /figures -->)", re.DOTALL)


def texts() -> dict[str, str]:
    """Give what stands between the marks, by their names."""
    run, growth = report.read(RUN), json.loads(GROWTH.read_text())
    shown = [*figures.of_run(run), figures.of_growth(growth)]
    found = {chart.name: f"![{chart.sentence}](figures/{chart.name}.svg)\n\n{chart.table}" for chart in shown}
    found.setdefault("storm", "It was no part of this run.\n")
    found["aims"] = aims.table([*aims.of_run(run), *aims.of_growth(growth["rows"])])
    found["peers"] = "".join(f"- {' '.join(told)}\n" for told in run.setting.get("peers", {}).values())
    # a mark that stands alone is a block of its own, and whatever follows on its line would be one with it
    found = {name: f"\n\n{text}\n" for name, text in found.items()}
    found["summary"] = figures.summary(run)
    return found


def written(document: str, told: dict[str, str]) -> str:
    """Give a document with what stands between its marks written anew.

    Raises:
        KeyError: if a mark names something that isn't there.
    """
    return _MARKED.sub(lambda found: f"{found[1]}{told[found[2]]}{found[4]}", document)


def named(document: str) -> set[str]:
    """Tell which marks a document has."""
    return {found[2] for found in _MARKED.finditer(document)}


def write() -> None:
    """Write all documents anew."""
    told = texts()
    for document in SHOWING:
        document.write_text(written(document.read_text(), told))
