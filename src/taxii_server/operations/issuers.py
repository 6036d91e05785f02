"""What `apply` has to do about outside issuers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from taxii_server.domain.errors import AllianceInvalid
from taxii_server.storage import issuers as storage
from taxii_server.storage.issuers import StoredIssuer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from taxii_server.operations.alliance_file import Alliance
    from taxii_server.operations.issuers_file import WantedIssuer
    from taxii_server.storage.engine import Connection


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between the file and what is stored, in the words of a step; `problem` if it can't be removed."""

    kind: str
    what: str
    act: Callable[[Connection], Awaitable[None]] | None
    line: int = 0
    problem: str | None = None


def refuse_own(wanted: Alliance, public_url: str) -> None:
    """See that this server's own name is not that of an outside issuer, which would then seem to write its tokens.

    Raises:
        AllianceInvalid: if it is.
    """
    problems = [
        f"{wanted.file}:{one.line}: issuer {one.slug} has this server's own name, {public_url}: its tokens hold anyway"
        for one in wanted.issuers
        if one.issuer.rstrip("/").lower() == public_url.rstrip("/").lower()
    ]
    if problems:
        raise AllianceInvalid(problems)


def differences(stored: Iterable[StoredIssuer], wanted: Iterable[WantedIssuer], *, prune: bool) -> Iterator[Difference]:
    """Compare: those to remove first, so that another may take the name of one of them."""
    before = {one.slug: one for one in stored}
    named = {one.slug: one for one in wanted}
    for slug, one in before.items():
        if slug in named or one.removed:
            continue
        if prune:
            what = f"issuer {slug} ({one.issuer}), and its {one.clients} clients are revoked"
            yield Difference("delete", what, partial(storage.remove, slug=slug))
        else:
            yield Difference("absent", f"issuer {slug} ({one.issuer}) is not in the file and stays", None)
    taken = {} if prune else {one.issuer: one.slug for one in before.values() if not one.removed}
    for slug, want in named.items():
        target = StoredIssuer(slug, want.issuer, want.jwks_uri, want.audience, want.claim, want.algorithms)
        old = before.get(slug)
        act = partial(storage.put, issuer=target)
        if taken.get(want.issuer, slug) != slug:
            problem = f"issuer {want.issuer!r} is that of {taken[want.issuer]} already"
            yield Difference("change", f"issuer {slug}", None, want.line, problem)
        elif old is None or old.removed:
            again = "" if old is None else " again; it needs new clients"
            yield Difference("create", f"issuer {slug} ({want.issuer}){again}", act)
        elif replace(old, clients=0) != target:
            yield _change(old, target, act, want.line)


def _change(
    old: StoredIssuer, new: StoredIssuer, act: Callable[[Connection], Awaitable[None]], line: int
) -> Difference:
    changed = [
        name for name in ("issuer", "jwks_uri", "audience", "claim", "algorithms") if _of(old, name) != _of(new, name)
    ]
    what = ", ".join(f"{name} {_of(old, name)} → {_of(new, name)}" for name in changed)
    problem = None
    if old.clients and {"issuer", "claim"} & set(changed):
        problem = (
            f"issuer {old.slug} vouches for {old.clients} clients by its name and claim, and somebody else's subjects would "
            "take their place: give the new one a slug of its own, and issue its clients anew"
        )
    return Difference("change", f"issuer {old.slug}: {what}", act, line, problem)


def _of(issuer: StoredIssuer, name: str) -> str:
    value = getattr(issuer, name)
    return ", ".join(value) if isinstance(value, tuple) else "by its metadata" if value is None else repr(value)
