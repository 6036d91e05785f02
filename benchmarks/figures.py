"""The figures of a run: what each shows, as a table, as a sentence, and as what `plots` draws. All three are the same numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.report import FLOOR, OURS, short, times
from benchmarks.storm import DATES, STORM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.report import Report, Row

GREW = 2.0
"""What takes so many times as long stands out."""


@dataclass(frozen=True, slots=True)
class Line:
    """What is measured in one way: for each of whom it was, a bar's length, or the two ends of a span; or why there is none."""

    label: str
    ends: dict[str, tuple[float, ...]]
    said: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure."""

    name: str
    title: str
    """With the unit."""
    setting: str
    """The machine, the day."""
    lines: list[Line]
    sentence: str
    """What it shows, for who can't see it."""
    table: str
    spans: tuple[str, str] | None = None
    """What the two ends are, where lines have spans; they stand on a logarithmic scale."""
    more_is_better: bool = True

    @property
    def series(self) -> list[str]:
        """Whose there are, the floor after ours."""
        found = dict.fromkeys(of for line in self.lines for of in (*line.ends, *line.said))
        return sorted(found, key=lambda of: ((OURS, FLOOR).index(of) if of in {OURS, FLOOR} else 2, of))


def of_run(report: Report) -> list[Chart]:
    """Give the figures that a run of `benchmarks` has."""
    makers: list[Callable[[Report], Chart | None]] = [
        lambda report: _rates(
            report, "push", "Push, objects a second", "objects", ("push, ",), "strict, envelopes of 100, 8 connections"
        ),
        lambda report: _rates(
            report,
            "sync",
            "Full synchronisation and manifest, one client, objects a second",
            "objects",
            ("full sync, ", "manifest, "),
            "full sync, pages of 1,000",
        ),
        lambda report: _rates(
            report, "poll", "Poll, requests a second", "rate", ("poll, ",), "nothing new, 16 clients, tokens"
        ),
        _waits,
        _storm,
        _memory,
    ]
    return [chart for make in makers if (chart := make(report)) is not None]


def of_growth(held: dict[str, Any]) -> Chart:
    """Give the figure of a run of `benchmarks.growth`."""
    setting, rows = held["setting"], held["rows"]
    many = f"{setting['versions']:,}"
    lines = [Line(row["what"], {OURS: (row["few_ms"], row["many_ms"])}) for row in rows]
    table = [f"| request, ms | 10,000 | {many} | ratio |", "| --- | ---: | ---: | ---: |"]
    for row in rows:
        bold = "**" if row["ratio"] >= GREW else ""
        table.append(
            f"| {bold}{row['what']}{bold} | {short(row['few_ms'])} | {short(row['many_ms'])} | {bold}{times(row['ratio'])}{bold} |"
        )
    flat = sum(row["ratio"] < GREW for row in rows)
    most = max(rows, key=lambda row: row["ratio"])
    sentence = (
        f"Of {len(rows)} kinds of requests, {flat} take less than twice as long with {many} versions as with 10,000; "
        f"the one that grows most is “{most['what']}”, from {short(most['few_ms'])} to {short(most['many_ms'])} ms."
    )
    return Chart(
        "growth",
        f"Requests to a collection of 10,000 versions and of {many}, median ms",
        _setting(setting, f"shared_buffers {setting['shared_buffers']}"),
        lines,
        sentence,
        _joined(table),
        ("10,000", many),
        more_is_better=False,
    )


def summary(report: Report) -> str:
    """Say in a sentence what the README says of speed."""
    push, sync = "push, strict, envelopes of 100, 8 connections", "full sync, pages of 1,000"
    ours = [report.value(what, "objects") for what in (push, sync)]
    theirs = [report.value(what, "objects", "OpenTAXII") for what in (push, sync)]
    took, gave, they_took, they_gave = ("…" if value is None else _round(value) for value in (*ours, *theirs))
    return (
        f"on {_cores(report.setting)} {took} objects a second are pushed and {gave} synchronised,\n"
        f"  where OpenTAXII takes {they_took} and gives {they_gave}"
    )


def _rates(report: Report, name: str, title: str, figure: str, starts: tuple[str, ...], headline: str) -> Chart | None:
    """Compare rates: bars, and a table with each other's ratio to ours."""
    whats = [what for what in dict.fromkeys(row.what for row in report.rows) if what.startswith(starts)]
    if not whats:
        return None
    rows = {what: {row.of: row for row in report.rows if row.what == what} for what in whats}
    # where there is but one kind it is in the title already
    start = starts[0] if len(starts) == 1 else ""
    lines = [
        Line(
            what.removeprefix(start),
            {of: (row.figures[figure],) for of, row in mine.items() if figure in row.figures},
            {of: row.said for of, row in mine.items() if figure not in row.figures},
        )
        for what, mine in rows.items()
    ]
    others = [of for of in report.others if any(of in mine for mine in rows.values())]
    table = [
        f"| {title.split(',', maxsplit=1)[0].lower()} | ours | " + "".join(f"{of} | ours / {of} | " for of in others)
    ]
    table.append("| --- | ---: |" + " ---: | ---: |" * len(others))
    for what, mine in rows.items():
        cells = [what.removeprefix(start), _cell(mine.get(OURS), figure)]
        for of in others:
            cells += [_cell(mine.get(of), figure), times(report.ratio(what, figure, of))]
        table.append("| " + " | ".join(cells) + " |")
    chosen = next((line for line in lines if line.label == headline), lines[0])
    told = ", ".join(f"{_named(of)} {short(value)}" for of, (value,) in chosen.ends.items())
    unit = title.rpartition(", ")[2]
    sentence = f"{title.split(',', maxsplit=1)[0]}, {chosen.label.removeprefix('full sync, ')}, {unit}: {told}."
    return Chart(name, title, _setting(report.setting), lines, sentence, _joined(table))


def _waits(report: Report) -> Chart | None:
    """Show how long polls take."""
    whats = [what for what in dict.fromkeys(row.what for row in report.rows) if what.startswith("poll, ")]
    whats = [what for what in whats if ", tokens" in what]
    if not whats:
        return None
    rows = [(what.removeprefix("poll, "), [row for row in report.rows if row.what == what]) for what in whats]
    if mine := [row for row in report.rows if row.what == STORM and "p99" in row.figures and row.of == OURS]:
        rows.append(("in the storm", mine))
    lines = [
        Line(label, {row.of: (row.figures["p50"], row.figures["p99"]) for row in found if "p99" in row.figures})
        for label, found in rows
    ]
    others = [of for of in report.others if any(of in line.ends for line in lines)]
    heads = [f"{of} {head} | " for of in (OURS, *others) for head in ("p50", "p99", "p99 / p50")]
    table = ["| poll, ms | " + "".join(heads), "| --- |" + " ---: |" * len(heads)]
    for line in lines:
        ends = [line.ends.get(of) for of in (OURS, *others)]
        told = [(short(one[0]), short(one[1]), times(one[1] / one[0])) if one else ("", "", "") for one in ends]
        table.append(f"| {line.label} | " + " | ".join(cell for three in told for cell in three) + " |")
    chosen = next((line for line in lines if line.label == "nothing new, 16 clients, tokens"), lines[0])
    told_of = ", ".join(f"{_named(of)} {short(low)} and {short(high)}" for of, (low, high) in chosen.ends.items())
    sentence = f"Poll, {chosen.label}, p50 and p99 in ms: {told_of}."
    return Chart(
        "waits",
        "How long a poll takes, p50 and p99 in ms",
        _setting(report.setting),
        lines,
        sentence,
        _joined(table),
        ("p50", "p99"),
        more_is_better=False,
    )


def _storm(report: Report) -> Chart | None:
    """Show what pollers missed and got again."""
    found = [row for row in report.rows if row.what == STORM]
    if not found:
        return None
    measured = {row.of: row.figures for row in found if row.figures}
    lines = [
        Line(
            label,
            {of: (100 * figures[name] / figures["to deliver"],) for of, figures in measured.items()},
            {row.of: row.said for row in found if row.said},
        )
        for label, name in (("missed", "missed"), ("got again", "repeated"))
    ]
    of_all = [row.of for row in found]
    table = ["| storm | " + " | ".join(of_all) + " |", "| --- |" + " ---: |" * len(of_all)]
    for label, name in (
        ("objects written a second", "objects"),
        ("versions to deliver, to four pollers together", "to deliver"),
        ("missed", "missed"),
        ("got again", "repeated"),
    ):
        table.append(f"| {label} | " + " | ".join(_cell(row, name) for row in found) + " |")
    dates = " | ".join(_cell(report.row(DATES, of), "dates") for of in of_all)
    table.append(f"| {DATES} | {dates} |")
    told = ", ".join(
        f"{_named(of)} {short(figures['missed'])} of {short(figures['to deliver'])}" for of, figures in measured.items()
    )
    return Chart(
        "storm",
        "Four writers and four pollers at once: missed and got again, of 100 to deliver",
        _setting(report.setting),
        lines,
        f"Versions that four pollers missed while four writers wrote: {told}.",
        _joined(table),
        more_is_better=False,
    )


def _memory(report: Report) -> Chart | None:
    """Show what processes hold after all the rest."""
    found = report.row("memory")
    if found is None:
        return None
    told = {
        "the server, all its processes": "server",
        "the largest of them": "largest process",
        "PostgreSQL, all of it": "PostgreSQL",
    }
    lines = [Line(label, {OURS: (found.figures[name],)}) for label, name in told.items()]
    table = ["| memory | MiB |", "| --- | ---: |"]
    table += [f"| {label} | {short(found.figures[name])} |" for label, name in told.items()]
    sentence = (
        f"After all that the server holds {short(found.figures['server'])} MiB, PostgreSQL "
        f"{short(found.figures['PostgreSQL'])}."
    )
    return Chart(
        "memory",
        "Memory after all that, MiB",
        _setting(report.setting),
        lines,
        sentence,
        _joined(table),
        more_is_better=False,
    )


def _cell(row: Row | None, figure: str) -> str:
    """Write a figure into a table, or why there is none."""
    if row is None:
        return ""
    return short(row.figures[figure]) if figure in row.figures else row.said


def _named(of: str) -> str:
    return "the floor" if of == FLOOR else of


def _joined(table: Sequence[str]) -> str:
    return "\n".join(line.rstrip() for line in table) + "\n"


def _setting(setting: dict[str, Any], *more: str) -> str:
    processor = setting["processor"].replace("(R)", "").replace("(TM)", "")
    return ", ".join(_parts(setting, processor, *more))


def _parts(setting: dict[str, Any], processor: str, *more: str) -> Iterator[str]:
    yield f"{_cores(setting)} of an {processor}" if processor[:1] in "AEIO" else f"{_cores(setting)} of a {processor}"
    yield f"Python {setting['python']}"
    if "PostgreSQL" in setting:
        yield f"PostgreSQL {setting['PostgreSQL']}"
    yield from more
    if "load at the start" in setting:
        yield f"load {setting['load at the start']:.1f} when it began"
    yield setting["taken"]


def _cores(setting: dict[str, Any]) -> str:
    return f"{setting['cores']} cores" if setting["cores"] != 1 else "1 core"


def _round(value: float) -> str:
    """Three digits count."""
    step = 10 ** max(0, len(str(int(value))) - 3)
    return f"{round(value / step) * step:,}"
