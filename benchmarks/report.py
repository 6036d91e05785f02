"""Results as JSON, as a table and as plots."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.measures import Figures


@dataclass(frozen=True, slots=True)
class Row:
    """A measure's figures."""

    what: str
    figures: Figures
    of: str = "ours"
    """`ours`, `floor`, or a peer's name."""


@dataclass(slots=True)
class Report:
    """One run on one machine."""

    setting: dict[str, Any]
    rows: list[Row] = field(default_factory=list)

    def add(self, what: str, figures: Figures, of: str = "ours") -> None:
        """Take a row, and print it at once: a run takes minutes."""
        self.rows.append(Row(what, figures, of))
        print(
            f"{of:12} {what:44} " + "  ".join(f"{name} {_short(value)}" for name, value in figures.items()), flush=True
        )

    def ratio(self, what: str, name: str, of: str = "floor") -> float | None:
        """Give ours over another's, of the same measure."""
        ours, other = (
            {row.of: row.figures[name] for row in self.rows if row.what == what}.get(one) for one in ("ours", of)
        )
        return ours / other if ours is not None and other else None

    def write(self, file: Path) -> None:
        """Write everything as JSON."""
        file.write_text(
            json.dumps({"setting": self.setting, "rows": [asdict(row) for row in self.rows]}, indent=1) + "\n"
        )


def machine() -> dict[str, Any]:
    """Tell what it was measured on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    return {
        "cores": os.cpu_count(),
        "processor": model,
        "python": platform.python_version(),
        "load at the start": os.getloadavg()[0],
    }


def table(report: Report) -> str:
    """Write the figures as a Markdown table, a line a measure, with each other's ratio beside ours."""
    others = sorted({row.of for row in report.rows} - {"ours"}, key=lambda name: (name != "floor", name))
    lines = ["| measure | ours | " + " | ".join(f"{name} | ours / {name}" for name in others) + " |"]
    lines.append("| --- | ---: |" + " ---: | ---: |" * len(others))
    for what in dict.fromkeys(row.what for row in report.rows):
        mine = {row.of: row.figures for row in report.rows if row.what == what}
        name = "objects" if any("objects" in figures for figures in mine.values()) else "rate"
        if not any(name in figures for figures in mine.values()):
            continue
        unit = "objects/s" if name == "objects" else "requests/s"
        cells = [f"{what} ({unit})", _cell(mine.get("ours"), name)]
        for other in others:
            ratio = report.ratio(what, name, other) if other in mine and "ours" in mine else None
            cells += [_cell(mine.get(other), name), "" if ratio is None else f"{ratio:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(figures: Figures | None, name: str) -> str:
    return "" if figures is None or name not in figures else _short(figures[name])


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _lines(file: str) -> Iterable[str]:
    return Path(file).read_text().splitlines() if Path(file).exists() else ()
