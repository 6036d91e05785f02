"""Running the checks in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from taxii_server.check.look import Options
from taxii_server.check.results import Outcome, Result
from taxii_server.check.run import run
from tests.check.fake import CLIENT, SECRET


@dataclass(frozen=True)
class Looked:
    """What a run found."""

    results: list[Result]

    def ended(self, outcome: Outcome) -> list[str]:
        """The checks that ended this way."""
        return list(dict.fromkeys(one.check for one in self.results if one.outcome is outcome))

    @property
    def faults(self) -> list[str]:
        """The checks that found a fault."""
        return self.ended(Outcome.FAULT)

    @property
    def warnings(self) -> list[str]:
        """The checks that warn."""
        return self.ended(Outcome.WARNING)

    def of(self, check: str) -> Result:
        """What one check found; the worst, where it looked at several things."""
        worst = (Outcome.FAULT, Outcome.WARNING, Outcome.GOOD, Outcome.SKIPPED)
        return min((one for one in self.results if one.check == check), key=lambda one: worst.index(one.outcome))

    @property
    def text(self) -> str:
        """All that people or programs are told."""
        return "\n".join(text for one in self.results for text in _texts(one))


def _texts(one: Result) -> Iterable[str]:
    return (text for text in (one.about, one.seen, one.remedy) if text is not None)


def look_at(url: str, **over: Any) -> Looked:
    """Run every check, with the credentials of the tests unless others are given."""
    options: dict[str, Any] = {"url": url, "client_id": CLIENT, "secret": SECRET, "timeout": 5.0} | over
    return Looked(asyncio.run(run(Options(**options), lambda _: None)))


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
