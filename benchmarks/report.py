"""What a run measured: rows of figures, printed as they come, and as JSON."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.measures import Figures

OURS, FLOOR = "ours", "floor"


@dataclass(frozen=True, slots=True)
class Row:
    """A measure's figures."""

    what: str
    figures: Figures
    of: str = OURS
    """`ours`, `floor`, or a peer's name."""
    said: str = ""
    """Why there are no figures."""


@dataclass(slots=True)
class Report:
    """One run on one machine."""

    setting: dict[str, Any]
    rows: list[Row] = field(default_factory=list)

    def add(self, what: str, figures: Figures, of: str = OURS, said: str = "") -> None:
        """Take a row, and print it at once: a run takes minutes."""
        self.rows.append(Row(what, figures, of, said))
        told = "  ".join(f"{name} {short(value)}" for name, value in figures.items())
        print(f"{of:12} {what:50} {said or told}", flush=True)

    @property
    def others(self) -> list[str]:
        """Whose figures there are besides ours: the floor first."""
        return sorted({row.of for row in self.rows} - {OURS}, key=lambda name: (name != FLOOR, name))

    def row(self, what: str, of: str = OURS) -> Row | None:
        """Find what was measured of somebody."""
        return next((row for row in self.rows if (row.what, row.of) == (what, of)), None)

    def value(self, what: str, name: str, of: str = OURS) -> float | None:
        """Give one figure, if it was measured."""
        row = self.row(what, of)
        return None if row is None else row.figures.get(name)

    def ratio(self, what: str, name: str, of: str = FLOOR) -> float | None:
        """Give ours over another's, of the same measure."""
        ours, other = self.value(what, name), self.value(what, name, of)
        return ours / other if ours is not None and other else None

    def write(self, file: Path) -> None:
        """Write everything as JSON."""
        rows = [{name: value for name, value in asdict(row).items() if name != "said" or value} for row in self.rows]
        file.write_text(json.dumps({"setting": self.setting, "rows": rows}, indent=1) + "\n")


def read(file: Path) -> Report:
    """Read what `write` wrote."""
    held = json.loads(file.read_text())
    return Report(held["setting"], [Row(**row) for row in held["rows"]])


def machine() -> dict[str, Any]:
    """Tell what it was measured on, and when."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    return {
        "taken": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "processor": model,
        "python": platform.python_version(),
        "load at the start": os.getloadavg()[0],
    }


def times(ratio: float | None) -> str:
    """Write a ratio."""
    if ratio is None:
        return ""
    return short(ratio) if ratio >= 100 else f"{ratio:.1f}" if ratio >= 10 else f"{ratio:.2f}"


def short(value: float) -> str:
    """Write a figure with three digits, or all those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _lines(file: str) -> Iterable[str]:
    return Path(file).read_text().splitlines() if Path(file).exists() else ()
