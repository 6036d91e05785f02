"""What the server says it has: discovery, API Roots, collections and the rights to them."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

import httpx

from taxii_server.check.address import Kind, same_origin
from taxii_server.check.admission import error_words, joined
from taxii_server.check.exchange import TAXII, Answer, NoAnswer
from taxii_server.check.look import Collection, Look, Root
from taxii_server.check.results import Finding, fault, good, skipped, warning
from taxii_server.check.words import counted, listed

_NONSENSE: Final = "application/x-nothing-of-the-kind"
_BARE: Final = "application/taxii+json"
_SMALL: Final = 64 * 1024
_MOST_ROOTS: Final = 10
_MOST_NAMED: Final = 1000
_MOST_LISTED: Final = 20
_MOST_COLLECTIONS: Final = 10_000


async def discovery(look: Look) -> Finding:
    """The discovery resource (§4.1), and which API Roots the rest looks at."""
    given, explicit = await _find_discovery(look)
    resource = given.resource
    if not given.ok or resource is None:
        return _no_discovery(look, given, explicit=explicit)
    listing = resource.get("api_roots")
    named = listing if isinstance(listing, list) else []
    urls = [joined(given.url, one) for one in named[:_MOST_NAMED]]
    if explicit:
        look.root_urls = [one for one in urls if one is not None]
    if wrong := _wrong_discovery(look, resource):
        return fault(
            "; ".join(wrong), "Tell the operator: clients that begin with discovery stumble over this (§4.1.1)."
        )
    if not urls:
        return fault(
            "it names no API Root for these credentials",
            "No grant: ask the operator which trust group this client should see.",
        )
    seen = f"{look.quote(resource['title'])}: {counted(len(named), 'API Root')}"
    if look.root_urls[0] not in urls:
        names = listed(look.quote(one.path) for one in urls if one is not None)
        return warning(
            f"{seen}, without the one that was given: {names}",
            "Is one of these meant? Clients that begin with discovery won't find another: ask the operator.",
        )
    default = f"default {look.quote(_path(given.url, resource['default']))}" if "default" in resource else "no default"
    return good(f"{seen}, {default}")


async def _find_discovery(look: Look) -> tuple[Answer, bool]:
    """Ask for discovery; True if its URL is what was given, and not an API Root's."""
    address = look.address
    if address.kind in {Kind.HOST, Kind.DISCOVERY}:
        return await look.ask(look.first.url), True
    if address.kind is Kind.PATH:
        given = await look.ask(look.first.url)
        if "api_roots" in (given.resource or {}):
            return given, True
    look.root_urls = [look.first.url]
    return await look.ask(address.discovery), False


def _path(base: httpx.URL, text: str) -> str:
    url = joined(base, text)
    return url.path if url is not None else text


def _no_discovery(look: Look, given: Answer, *, explicit: bool) -> Finding:
    said = f"HTTP {given.status}{error_words(look, given)} at {look.quote(given.url.path)}"
    if given.ok:
        said = f"what comes from {look.quote(given.url.path)} is no JSON object"
    if explicit:
        return fault(said, "Ask the operator for the discovery URL, or give an API Root.")
    return warning(said, "Clients can use the API Root that was given; those that begin with discovery can't.")


def _wrong_discovery(look: Look, resource: dict[str, Any]) -> list[str]:
    wrong = []
    if not _text(resource.get("title")):
        wrong.append("it has no title")
    roots = resource.get("api_roots")
    if roots is not None and not (isinstance(roots, list) and all(_text(one) for one in roots)):
        return [*wrong, "api_roots is no list of URLs"]
    for one in (roots or ())[:_MOST_NAMED]:
        url = joined(look.address.base, one)
        if url is None or url.scheme not in {"http", "https"} or "?" in one or one.startswith(("//", "../")):
            wrong.append(f"api_roots holds {look.quote(one)}, which is no URL of an API Root")
    default = resource.get("default")
    if "default" in resource and default not in (roots or ()):
        wrong.append(f"default is {look.quote(default)}, which is not one of api_roots")
    return wrong


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


async def accept(look: Look) -> Finding:
    """What is answered to Accept headers other than TAXII 2.1's own."""
    where = look.first.url
    bare = await look.http.get(where, authorization=look.way_in, accept=_BARE)
    nonsense = await look.http.get(where, authorization=look.way_in, accept=_NONSENSE, taxii=False)
    if nonsense.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return fault(
            f"HTTP {nonsense.status} to an Accept that means nothing",
            "It should be 406 or an answer: tell the operator.",
        )
    told = "406 to nonsense" if nonsense.status == HTTPStatus.NOT_ACCEPTABLE else "whatever is asked"
    if not bare.ok:
        if not (await look.ask(where)).ok:
            return skipped(f"HTTP {bare.status}, whatever is asked for")
        return warning(
            f"HTTP {bare.status} to {_BARE} without a version; {told}",
            f"Set your client to send Accept: {TAXII}. The server should take both (§1.6.8.2).",
        )
    return good(f"{_BARE} with and without version; {told}")


async def slashes(look: Look) -> Finding:
    """What becomes of a URL without its last slash, which people and clients leave off."""
    where = look.first.url
    given = await look.http.get(where.copy_with(path=where.path.rstrip("/") or "/"), authorization=look.way_in)
    if given.ok:
        return good("URLs work with and without their last slash")
    if given.redirect is not None:
        if same_origin(given.redirect, where):
            return good("URLs without their last slash are sent on to those with it")
        return fault(
            f"URLs without their last slash are sent on to {look.quote(str(given.redirect.copy_with(query=None)))}, "
            "another server",
            "A client that follows loses or leaks its credentials there: tell the operator. Write URLs with their last slash.",
        )
    if not (await look.ask(where)).ok:
        return skipped(f"HTTP {given.status} with and without it")
    return warning(f"HTTP {given.status} without the last slash", "Write URLs with their last slash.")


async def api_roots(look: Look) -> list[Finding]:
    """Each API Root (§4.2)."""
    wanted = look.options.api_root
    urls = look.root_urls
    if wanted is not None:
        urls = [one for one in urls if _is_wanted(one, wanted)] or _named(look, wanted)
        if not urls:
            return [
                fault(f"--api-root {look.quote(wanted)} can't be read", "Give its URL, or the last part of its path.")
            ]
    if urls and not any(same_origin(one, look.address.base) for one in urls):
        return [_all_elsewhere(look, urls[0])]
    findings = [await _api_root(look, one) for one in urls[:_MOST_ROOTS]]
    if len(urls) > _MOST_ROOTS:
        findings.append(skipped(f"{len(urls) - _MOST_ROOTS} more; choose one with --api-root"))
    return findings or [skipped("none is known")]


def _is_wanted(url: httpx.URL, wanted: str) -> bool:
    return wanted.strip("/") in {str(url).strip("/"), url.path.strip("/"), url.path.strip("/").rpartition("/")[2]}


def _named(look: Look, wanted: str) -> list[httpx.URL]:
    below = wanted if wanted.startswith("/") or "://" in wanted else f"/taxii2/{wanted}"
    url = joined(look.address.base, below)
    return [] if url is None else [url]


async def _api_root(look: Look, url: httpx.URL) -> Finding:
    name = look.quote(url.path)
    if not same_origin(url, look.address.base):
        return _elsewhere(look, url)
    try:
        given = await look.ask(url)
    except NoAnswer as none:
        return none.finding(name)
    resource = given.resource
    if not given.ok or resource is None:
        said = f"HTTP {given.status}{error_words(look, given)}" if not given.ok else "no JSON object comes from it"
        return fault(
            said, "Is it the right API Root, and was this client granted anything in it? Ask the operator.", name
        )
    look.roots.append(Root(url))
    return _judged(look, resource, name)


def _judged(look: Look, resource: dict[str, Any], name: str) -> Finding:
    versions, most = resource.get("versions"), resource.get("max_content_length")
    wrong = []
    if not _text(resource.get("title")):
        wrong.append("it has no title")
    if not isinstance(versions, list) or not any(_same_type(one, TAXII) for one in versions):
        wrong.append(f"versions is {look.quote(versions)} and doesn't hold {TAXII}")
    if not isinstance(most, int) or isinstance(most, bool) or most <= 0:
        wrong.append(f"max_content_length is {look.quote(most)}, not a number of octets")
    if wrong or not isinstance(most, int):
        return fault("; ".join(wrong), "Tell the operator (§4.2.1).", name)
    seen = f"{look.quote(resource['title'])}; up to {_octets(most)} a push"
    if most < _SMALL:
        return warning(seen, "That is little: a push of some objects may be refused. Ask the operator.", name)
    return good(seen, name)


def _all_elsewhere(look: Look, url: httpx.URL) -> Finding:
    return fault(
        f"the server has its API Roots at {look.quote(str(url.copy_with(path='/')))}, not at {look.quote(str(look.address.base))}; "
        "not asked, and no credentials go there",
        f"Is that the same server by its right name? Then check {look.quote(str(url))}, and give it to your client. Otherwise tell "
        "the operator that the server's idea of its public URL is wrong, as happens behind a proxy.",
    )


def _elsewhere(look: Look, url: httpx.URL) -> Finding:
    shown = look.quote(str(url))
    if url.host == look.address.base.host:
        return fault(
            f"discovery names {shown}, on another scheme or port than {look.quote(str(look.address.base))}; not asked, and no "
            "credentials go there",
            "Tell the operator: the server's idea of its public URL is wrong, as happens behind a proxy. Until then give your "
            "client the API Root by hand, with the scheme and port that work.",
            shown,
        )
    return warning(
        "on another server; not asked, and no credentials go there",
        "If the operator says that this is right, check that URL by itself.",
        shown,
    )


def _same_type(one: object, other: str) -> bool:
    return isinstance(one, str) and one.replace(" ", "").lower() == other


def _octets(count: int) -> str:
    for size, unit in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if count >= size:
            return f"{count / size:,.4g} {unit}"
    return counted(count, "octet")


async def collections(look: Look) -> list[Finding]:
    """The collections of each API Root (§5.1)."""
    return [await _collections(look, root) for root in look.roots] or [skipped("no API Root could be read")]


async def _collections(look: Look, root: Root) -> Finding:
    name = look.quote(root.url.path)
    try:
        given = await look.ask(root.url.join("collections/"))
    except NoAnswer as none:
        return none.finding(name)
    if not given.ok or given.resource is None:
        said = f"HTTP {given.status}{error_words(look, given)}" if not given.ok else "no JSON object comes from it"
        return fault(said, "Ask the operator whether this client was granted anything here.", name)
    entries = given.resource.get("collections", [])
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        return fault("collections is no list of collections", "Tell the operator (§5.1.1).", name)
    if len(entries) > _MOST_COLLECTIONS:
        return fault(
            f"{counted(len(entries), 'collection')}, and they were not looked at",
            "Tell the operator: no client can show so many.",
            name,
        )
    look.listed = True
    wrong = [each for one in entries for each in _wrong_collection(look, one)]
    known = [one for one in entries if _text(one.get("id"))]
    look.collections += [_read(root, one) for one in known]
    wrong += [f"the id {look.quote(one)} occurs twice" for one in _repeated(each["id"] for each in known)]
    if wrong:
        return fault(listed(wrong), "Tell the operator (§5.2.1).", name)
    return _entries_seen(look, entries, name)


def _read(root: Root, one: dict[str, Any]) -> Collection:
    return Collection(
        root=root,
        id=one["id"],
        alias=one["alias"] if _text(one.get("alias")) else None,
        title=str(one.get("title") or one["id"]),
        can_read=one.get("can_read") is True,
        can_write=one.get("can_write") is True,
    )


def _entries_seen(look: Look, entries: list[dict[str, Any]], name: str) -> Finding:
    if not entries:
        return warning("none visible", "If you expect some, ask the operator for a grant.", name)
    if twice := _repeated(str(one["title"]) for one in entries):
        return warning(
            f"{len(entries)}; the title {look.quote(twice[0])} occurs twice",
            "Clients that choose a collection by its title, like XSOAR, will take either: choose by id, or tell the operator.",
            name,
        )
    return good(f"{len(entries)}, with ids, titles and rights", name)


def _repeated(values: Any) -> list[str]:
    return [one for one, count in Counter(values).items() if count > 1]


def _wrong_collection(look: Look, one: dict[str, Any]) -> list[str]:
    name = look.quote(one.get("title") or one.get("id") or "a collection")
    wrong = [f"{name} has no {key}" for key in ("id", "title") if not _text(one.get(key))]
    wrong += [f"{name}: {key} is no boolean" for key in ("can_read", "can_write") if not isinstance(one.get(key), bool)]
    return wrong


async def rights(look: Look) -> list[Finding]:
    """What this client may do, collection by collection."""
    if not look.listed:
        return [skipped("no collections could be read")]
    if not look.collections:
        return [
            fault(
                "these credentials see no collection at all",
                "No grant: ask the operator to grant this client's member a collection, and whether the client was narrowed.",
            )
        ]
    findings = [_right(look, one) for one in look.collections[:_MOST_LISTED]]
    if len(look.collections) > _MOST_LISTED:
        findings.append(skipped(f"{len(look.collections) - _MOST_LISTED} more collections, not listed here"))
    if not any(one.can_read or one.can_write for one in look.collections):
        findings.append(
            fault(
                "no collection can be read or written",
                "No rights: ask the operator what this client's member was granted, and to which rights the client was narrowed.",
            )
        )
    elif not any(one.can_read for one in look.collections):
        findings.append(warning("nothing that can be read", "To poll, ask the operator for the right to read."))
    return findings


def _right(look: Look, one: Collection) -> Finding:
    may = {(True, True): "read and write", (True, False): "read", (False, True): "write only"}
    seen = may.get((one.can_read, one.can_write), "neither read nor write")
    strange = "" if _is_uuid4(one.id) else "; its id is no UUID of version 4, which few clients mind"
    return good(f"{look.quote(one.title)} ({look.quote(one.id)}): {seen}{strange}", look.quote(one.root.url.path))


def _is_uuid4(text: str) -> bool:
    try:
        return UUID(text).version == 4  # noqa: PLR2004 - random UUIDs (§2)
    except ValueError:
        return False
