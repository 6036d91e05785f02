"""Draw the figures of a run, and write their numbers into the documents that show them.

    python -m benchmarks.plots [bench.json [bench-growth.json]] [--into docs/figures]

Without files, those in docs/figures, which is what docs/performance.md shows: `make figures` measures them anew. There, the text
between `<!-- figures: name -->` and `<!-- /figures -->` is written too, with its tables. The same numbers give the same SVGs, octet
for octet; each has a background of its own, which follows the reader's choice of light and dark.
"""

from __future__ import annotations

import argparse
import io
import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks import documents, figures, report
from benchmarks.report import FLOOR, OURS, short, times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from benchmarks.figures import Chart, Line

# light, dark
INK: Final = ("#1f2328", "#e6edf3")
MUTED: Final = ("#57606a", "#9da7b3")
PAPER: Final = ("#ffffff", "#0d1117")
GRID: Final = ("#d8dee4", "#30363d")
# seen well enough on both, and told apart by who sees no red or green
COLOURS: Final = {OURS: "#2277dd", FLOOR: "#87909a", "OpenTAXII": "#d9701e", "medallion": "#a855c7"}
ANOTHER: Final = "#1f9e77"
_FONTS: Final = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', Arial, 'DejaVu Sans', sans-serif"
_SETTINGS: Final[Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "taxii-server",
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "path.simplify": False,
}
# inches
_WIDE, _RIGHT, _TOP, _BOTTOM = 8.2, 0.85, 0.78, 0.34
_LETTER = 0.064
_BAR, _GAP = 0.135, 0.115
_SLIVER = 0.01


def svg(chart: Chart) -> str:
    """Draw a figure."""
    with mpl.rc_context(_SETTINGS):
        thick = [_BAR * max(1, len(line.ends) + len(line.said)) + _GAP for line in chart.lines]
        if chart.spans and len(chart.series) == 1:
            thick = [_BAR + _GAP / 2] * len(chart.lines)
        high = sum(thick) + _TOP + _BOTTOM
        left = 0.2 + _LETTER * max(len(line.label) for line in chart.lines)
        figure = Figure((_WIDE, high), facecolor=PAPER[0])
        axes = figure.add_axes((left / _WIDE, _BOTTOM / high, 1 - (left + _RIGHT) / _WIDE, 1 - (_TOP + _BOTTOM) / high))
        axes.set_facecolor("none")
        axes.set_ylim(sum(thick), 0)
        if chart.spans:
            _spans(axes, chart, thick)
        else:
            _bars(axes, chart, thick)
        _frame(axes)
        figure.text(0.12 / _WIDE, 1 - 0.2 / high, chart.title, size=10.5, weight="bold", color=INK[0], va="center")
        better = "more is better" if chart.more_is_better else "less is better"
        under = f"{better}; {chart.setting}"
        figure.text(0.12 / _WIDE, 1 - 0.4 / high, under, size=7.5, color=MUTED[0], va="center")
        _legend(figure, chart, high)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _finished(drawn.getvalue(), chart)


def _name(axes: Axes, line: Line, middle: float) -> None:
    axes.text(-0.01, middle, line.label, transform=axes.get_yaxis_transform(), ha="right", va="center", color=INK[0])


def _bars(axes: Axes, chart: Chart, thick: Sequence[float]) -> None:
    """Draw bars from zero, each with its number behind it; a line has its bars below each other."""
    longest = max(value for line in chart.lines for (value,) in line.ends.values())
    axes.set_xlim(0, longest or 1)
    at = 0.0
    for line, height in zip(chart.lines, thick, strict=True):
        here = [of for of in chart.series if of in line.ends or of in line.said]
        _name(axes, line, at + height / 2)
        for number, of in enumerate(here):
            middle = at + _GAP / 2 + _BAR * (number + 0.5)
            (value,) = line.ends.get(of, (0,))
            axes.barh(middle, value, 0.84 * _BAR, color=COLOURS.get(of, ANOTHER))
            told = short(value) if of in line.ends else line.said[of]
            if of != OURS and value <= _SLIVER * longest:
                # of a bar that short nobody sees the colour
                told = f"{of} {told}"
            axes.annotate(told, (value, middle), (3, 0), textcoords="offset points", va="center", color=INK[0], size=7)
        at += height


def _spans(axes: Axes, chart: Chart, thick: Sequence[float]) -> None:
    """Draw spans on a logarithmic scale: a ring at the first end, a dot at the second, and how many times as much that is."""
    ends = [end for line in chart.lines for pair in line.ends.values() for end in pair]
    axes.set_xscale("log")
    axes.set_xlim(min(ends) / 1.3, max(ends) * 1.3)
    at = 0.0
    for line, height in zip(chart.lines, thick, strict=True):
        _name(axes, line, at + height / 2)
        here = [of for of in chart.series if of in line.ends]
        for number, of in enumerate(here):
            middle = at + height / 2 + _BAR * (number - (len(here) - 1) / 2)
            low, high = line.ends[of]
            colour = COLOURS.get(of, ANOTHER)
            axes.plot((low, high), (middle, middle), color=colour, linewidth=2.2, solid_capstyle="butt")
            axes.plot(low, middle, "o", color=colour, markersize=4.4, markerfacecolor=PAPER[0], markeredgewidth=1.4)
            axes.plot(high, middle, "o", color=colour, markersize=4.6)
            told = f"\N{MULTIPLICATION SIGN} {times(high / low)}"
            axes.annotate(
                told, (max(low, high), middle), (6, 0), textcoords="offset points", va="center", color=INK[0], size=7
            )
        at += height


def _frame(axes: Axes) -> None:
    axes.spines[:].set_visible(False)
    axes.yaxis.set_visible(False)
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.tick_params(axis="x", which="both", length=0, labelsize=7, labelcolor=MUTED[0])
    axes.xaxis.grid(visible=True, color=GRID[0], linewidth=0.7)
    axes.set_axisbelow(True)


def _legend(figure: Figure, chart: Chart, high: float) -> None:
    """Say whose is whose, from the left; of spans, which end is which."""
    x = 0.12
    names = [(of, "our server" if of == OURS else of) for of in chart.series] if len(chart.series) > 1 else []
    for of, name in names:
        figure.text(x / _WIDE, 1 - 0.59 / high, "■", color=COLOURS.get(of, ANOTHER), size=9, va="center")
        figure.text((x + 0.16) / _WIDE, 1 - 0.59 / high, name, color=INK[0], size=8, va="center")
        x += 0.32 + 0.075 * len(name)
    if chart.spans:
        told = f"○ {chart.spans[0]}, ● {chart.spans[1]}, \N{MULTIPLICATION SIGN} how many times as much"
        figure.text((x + (0.1 if names else 0)) / _WIDE, 1 - 0.59 / high, told, color=MUTED[0], size=8, va="center")


def _finished(drawn: str, chart: Chart) -> str:
    """Keep what a page needs: no prologue, the reader's own fonts, the sentence, and the colours of the dark."""
    drawn = drawn[drawn.index("<svg") :]
    drawn = drawn.replace("'DejaVu Sans'", _FONTS)
    dark = "".join(
        f"[style*='{what}: {light}'] {{ {what}: {other} !important }}\n"
        for light, other in (INK, MUTED, PAPER, GRID)
        for what in ("fill", "stroke")
        if f"{what}: {light}" in drawn
    )
    told = f"<title>{escape(chart.title)}</title>\n<desc>{escape(chart.sentence)}</desc>\n"
    style = f"<style>\n@media (prefers-color-scheme: dark) {{\n{dark}}}\n</style>\n"
    head, end, rest = drawn.partition(">\n")
    return f'{head} role="img"{end} {told}{style}{rest}'


def charts(run: Path, growth: Path | None) -> list[Chart]:
    """Give the figures of a run, and of growth if that was measured."""
    found = figures.of_run(report.read(run))
    if growth is not None:
        found.append(figures.of_growth(json.loads(growth.read_text())))
    return found


def main() -> None:
    """Draw, and write the documents if it is theirs that are drawn."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__.splitlines()[0])
    options.add_argument("run", type=Path, nargs="?", default=documents.RUN, help="what `benchmarks --json` wrote")
    options.add_argument("growth", type=Path, nargs="?", help="what `benchmarks.growth --json` wrote")
    options.add_argument("--into", type=Path, default=documents.FIGURES, metavar="FOLDER", help="docs/figures")
    asked = options.parse_args()
    growth = documents.GROWTH if asked.run == documents.RUN else asked.growth
    asked.into.mkdir(parents=True, exist_ok=True)
    for chart in charts(asked.run, growth):
        file = asked.into / f"{chart.name}.svg"
        file.write_text(svg(chart))
        print(file)
    if asked.run == documents.RUN:
        documents.write()


if __name__ == "__main__":
    main()
