"""What the server is to reach, held against a run: as ratios to the floors and peers of that same run, mostly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.report import FLOOR, short, times
from benchmarks.storm import STORM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.report import Report

_PUSH = "envelopes of 100, 8 connections"
_SYNC = "full sync, pages of 1,000"
_POLL = "poll, nothing new, 16 clients, tokens"
_POLL_OF_NEWS = "poll, 5 new, 16 clients, tokens"
_POLL_APART = f"{_POLL_OF_NEWS}, each from its own date"
_AT_MOST_PAGE, _AT_MOST_PUSH = 1.3, 2.0
_FRACTIONS = {1 / 3: "a third", 0.5: "half", 0.4: "0.4"}


@dataclass(frozen=True, slots=True)
class Aim:
    """One of them; `found` is None where the run has no such figure."""

    what: str
    wanted: str
    found: str | None = None
    reached: bool = False


def of_run(report: Report) -> list[Aim]:
    """Hold a run of `benchmarks` against what is to be reached."""
    return list(_of_run(report))


def _of_run(report: Report) -> Iterator[Aim]:
    strict, structural = f"push, strict, {_PUSH}", f"push, structural, {_PUSH}"
    yield _least(strict, "objects/s", 4_000, report.value(strict, "objects"))
    yield _beside(report, strict, "objects", "OpenTAXII", 6)
    yield _beside(report, structural, "objects", FLOOR, 0.4)
    yield _least(_SYNC, "objects/s", 100_000, report.value(_SYNC, "objects"))
    yield _beside(report, _SYNC, "objects", FLOOR, 1 / 3)
    yield _beside(report, _SYNC, "objects", "OpenTAXII", 15)
    for poll in (_POLL, _POLL_OF_NEWS, _POLL_APART):
        yield _beside(report, poll, "rate", FLOOR, 0.5)
        yield _beside(report, poll, "rate", "OpenTAXII", 8)
        yield _most(f"{poll}: p99 / p50", 5, _quotient(report, (poll, "p99"), (poll, "p50")))
    beside = _quotient(report, (f"{_POLL}, beside a push", "p99"), (f"{_POLL}, alone", "p99"))
    yield _most(f"{_POLL}, beside a push: p99 / p99 alone", 2, beside)
    for name in ("missed", "repeated"):
        yield _most(f"{STORM}: versions {name}", 0, report.value(STORM, name))


def of_growth(rows: Sequence[dict[str, Any]]) -> list[Aim]:
    """Hold the medians of `benchmarks.growth` against what is to be reached: of each kind, the one that grew most."""
    found = []
    for kind, starts, most in (
        ("page", ("page", "manifest", "match"), _AT_MOST_PAGE),
        ("poll", ("poll",), _AT_MOST_PAGE),
        ("push", ("push",), _AT_MOST_PUSH),
    ):
        mine = [row for row in rows if row["what"].startswith(starts)]
        worst = max(mine, key=lambda row: row["ratio"], default=None)
        within = sum(row["ratio"] <= most for row in mine)
        what = f"growth, each {kind}: median / median at 10,000 versions"
        wanted = f"at most {most:g}"
        if worst is None:
            found.append(Aim(what, wanted))
            continue
        told = f"{within} of {len(mine)} within; most: {times(worst['ratio'])} ({worst['what']})"
        found.append(Aim(what, wanted, told, within == len(mine)))
    return found


def table(aims: Sequence[Aim]) -> str:
    """Write them as a Markdown table."""
    lines = ["| aim | wanted | in this run | reached |", "| --- | --- | --- | --- |"]
    for aim in aims:
        reached = "not measured" if aim.found is None else "yes" if aim.reached else "**no**"
        lines.append(f"| {aim.what} | {aim.wanted} | {aim.found or ''} | {reached} |")
    return "\n".join(lines) + "\n"


def _beside(report: Report, what: str, name: str, of: str, least: float) -> Aim:
    ratio = report.ratio(what, name, of)
    wanted = f"at least {_FRACTIONS.get(least, f'{least:g}')}"
    return Aim(f"{what}: ours / {of}", wanted, times(ratio) or None, ratio is not None and ratio >= least)


def _least(what: str, unit: str, least: float, found: float | None) -> Aim:
    told = None if found is None else short(found)
    return Aim(f"{what}: {unit}", f"at least {least:,}", told, found is not None and found >= least)


def _most(what: str, most: float, found: float | None) -> Aim:
    told = None if found is None else short(found)
    return Aim(what, f"at most {most:g}" if most else "0", told, found is not None and found <= most)


def _quotient(report: Report, over: tuple[str, str], under: tuple[str, str]) -> float | None:
    one, other = report.value(*over), report.value(*under)
    return one / other if one is not None and other else None
