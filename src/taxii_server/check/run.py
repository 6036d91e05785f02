"""All checks, in their order. A check runs once what it needs has not failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from taxii_server.check import admission, details, directory, network, polling, tls
from taxii_server.check.exchange import Exchange, NoAnswer
from taxii_server.check.look import Look, Options
from taxii_server.check.polling import NotAPage
from taxii_server.check.results import Finding, Outcome, Result, fault, skipped
from taxii_server.check.words import Redaction, plain, shortened

_Ask = Callable[[Look], Awaitable[Finding | list[Finding]]]

_WAY: Final = "The way there"
_ADMISSION: Final = "Clock and credentials"
_DIRECTORY: Final = "What is there"
_POLL: Final = "A poll"
_FORM: Final = "Form"

_LONGEST: Final = 2000


@dataclass(frozen=True, slots=True)
class Check:
    """One question: its stable id, its name for people, how it is asked, and which others must not have failed."""

    id: str
    group: str
    title: str
    ask: _Ask
    needs: tuple[str, ...] = ()


CHECKS: Final = (
    Check("url", _WAY, "URL", network.url),
    Check("proxy", _WAY, "proxy", network.proxy, ("url",)),
    Check("dns", _WAY, "DNS", network.names, ("proxy",)),
    Check("tcp", _WAY, "TCP", network.connection, ("proxy", "dns?")),
    Check("tls.version", _WAY, "TLS", tls.version, ("tcp",)),
    Check("tls.chain", _WAY, "TLS chain", tls.chain, ("tls.version",)),
    Check("tls.name", _WAY, "TLS host name", tls.name, ("tls.version",)),
    Check("tls.expiry", _WAY, "TLS expiry", tls.expiry, ("tls.version",)),
    Check("answer", _WAY, "HTTP", admission.answer, ("tcp", "tls.version?", "tls.chain?", "tls.name?", "tls.expiry?")),
    Check("clock", _ADMISSION, "clock", admission.clock, ("answer",)),
    Check("without-credentials", _ADMISSION, "no credentials", admission.without_credentials, ("answer",)),
    Check("basic", _ADMISSION, "id and secret", admission.basic, ("without-credentials",)),
    Check("token", _ADMISSION, "token", admission.token, ("without-credentials",)),
    Check("way-in", _ADMISSION, "used from here", admission.way_in, ("without-credentials",)),
    Check("discovery", _DIRECTORY, "discovery", directory.discovery, ("way-in",)),
    Check("accept", _DIRECTORY, "Accept", directory.accept, ("way-in",)),
    Check("slashes", _DIRECTORY, "last slash", directory.slashes, ("way-in",)),
    Check("api-roots", _DIRECTORY, "API Root", directory.api_roots, ("way-in",)),
    Check("collections", _DIRECTORY, "collections", directory.collections, ("way-in",)),
    Check("rights", _DIRECTORY, "rights", directory.rights, ("way-in",)),
    Check("poll", _POLL, "first page", polling.first_page, ("rights",)),
    Check("poll.paging", _POLL, "paging", polling.paging, ("poll",)),
    Check("poll.limit", _POLL, "limit", polling.limit, ("poll",)),
    Check("poll.dates", _POLL, "date headers", polling.dates, ("poll",)),
    Check("poll.order", _POLL, "order", polling.order, ("poll.dates",)),
    Check("poll.again", _POLL, "next poll", polling.again, ("poll.dates",)),
    Check("poll.empty", _POLL, "empty poll", polling.empty, ("poll",)),
    Check("poll.objects", _POLL, "objects", polling.content, ("poll",)),
    Check("manifest", _POLL, "manifest", details.manifest, ("poll",)),
    Check("filter.type", _POLL, "filter", details.type_filter, ("poll",)),
    Check("unknown", _POLL, "not there", details.unknown, ("way-in",)),
    Check("gzip", _FORM, "gzip", details.gzip, ("poll",)),
    Check("media-types", _FORM, "media types", details.media_types, ("answer",)),
    Check("errors", _FORM, "refusals", details.errors, ("answer",)),
)
"""A needed id that ends in `?` may be skipped, as TLS is for plain HTTP, but not wrong."""


async def run(options: Options, tell: Callable[[Result], None]) -> list[Result]:
    """Run every check; each result is told as soon as it is there."""
    look = Look(options, Redaction(options.client_id, [options.secret, options.token, *_proxy_secrets(options)]))
    look.tls = tls.verifying(options)
    progress, results = _Progress(), list[Result]()
    async with AsyncExitStack() as stack:
        for check in CHECKS:
            if check.id == "answer" and "proxy" in progress.passed:
                look.http = await stack.enter_async_context(Exchange(options.timeout, look.proxy, look.tls))
            cause = progress.hindrance(check)
            findings = [skipped(cause.words)] if cause else await _findings(check, look)
            progress.note(check, findings, cause)
            for finding in findings:
                results.append(_result(check, finding, cause, look))
                tell(results[-1])
    return results


@dataclass(frozen=True, slots=True)
class _Cause:
    """What was in the way: a check, and how to say it."""

    check: str
    words: str


@dataclass
class _Progress:
    """Which checks have passed, and what is in the way of those that need the others."""

    passed: set[str] = field(default_factory=set)
    harmless: set[str] = field(default_factory=set)
    causes: dict[str, _Cause] = field(default_factory=dict)

    def hindrance(self, check: Check) -> _Cause | None:
        """What is in the way of this one, directly or not."""
        for need in check.needs:
            name = need.removesuffix("?")
            if name not in self.passed and not (need.endswith("?") and name in self.harmless):
                return self.causes[name]
        return None

    def note(self, check: Check, findings: list[Finding], cause: _Cause | None) -> None:
        """Remember how it ended: it is in the way of others only if nothing it found was any good."""
        outcomes = {one.outcome for one in findings}
        if outcomes & {Outcome.GOOD, Outcome.WARNING}:
            self.passed.add(check.id)
            return
        fine = outcomes == {Outcome.SKIPPED}
        self.causes[check.id] = cause or _Cause(check.id, findings[0].seen if fine else f"because of {check.title}")
        if fine and (cause is None or cause.check in self.harmless):
            self.harmless.add(check.id)


async def _findings(check: Check, look: Look) -> list[Finding]:
    try:
        found = await check.ask(look)
    except NoAnswer as none:
        found = none.finding()
    except NotAPage as no:
        found = no.finding
    except Exception as error:  # noqa: BLE001 - whatever a server sends is told as its fault, never as a traceback
        found = fault(
            f"the answer was so strange that this check stumbled ({type(error).__name__}: {error})",
            "Tell the operator, and the authors of this check.",
        )
    return found if isinstance(found, list) else [found]


def _result(check: Check, finding: Finding, cause: _Cause | None, look: Look) -> Result:
    """The one place where words leave: no secret, no control character and no flood of them gets past it."""

    def clean(text: str | None) -> str | None:
        return None if text is None else shortened(plain(look.redacted(text)), _LONGEST)

    return Result(
        check=check.id,
        group=check.group,
        title=check.title,
        outcome=finding.outcome,
        about=clean(finding.about),
        seen=clean(finding.seen) or "",
        remedy=clean(finding.remedy),
        because=cause.check if cause else None,
    )


def _proxy_secrets(options: Options) -> list[str]:
    passwords = []
    for one in options.proxies.values():
        try:
            password = urlsplit(one).password
        except ValueError:
            continue
        if password:
            passwords += [password, unquote(password)]
    return passwords
