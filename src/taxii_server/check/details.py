"""What else clients rely on: manifest, filters, refusals, gzip, media types."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

from taxii_server.check.exchange import TAXII, TAXII_20, Trace
from taxii_server.check.look import Item, Look
from taxii_server.check.polling import NotAPage, instant, page_of, poll
from taxii_server.check.results import Finding, fault, good, skipped, warning
from taxii_server.check.words import counted, listed

_COMMON_TYPES: Final = ("indicator", "malware", "identity", "relationship", "tool", "campaign")


async def manifest(look: Look) -> Finding:
    """Whether the manifest tells of the same objects in the same order (§5.3)."""
    answer = await look.ask(look.polled.url.join("manifest/"), limit=look.limit)
    if not answer.ok or answer.resource is None:
        return warning(
            f"HTTP {answer.status} from the manifest",
            "Clients that read the manifest first can't be used: tell the operator.",
        )
    records = answer.resource.get("objects", [])
    if not isinstance(records, list) or not all(isinstance(one, dict) for one in records):
        return fault("the manifest's objects is no list of records", "Tell the operator (§5.3.1).")
    wrong = [
        one for one in records if not all(isinstance(one.get(key), str) for key in ("id", "date_added", "version"))
    ]
    if wrong:
        return fault(
            f"{len(wrong)} of {counted(len(records), 'record')} lack id, date_added or version",
            "Tell the operator (§5.3.1).",
        )
    objects = look.pages[0].objects
    pairs = list(zip(objects, records, strict=False))
    different = [f"{one.id} and {other['id']}" for one, other in pairs if not _same(one, other)]
    if different or (objects and not records):
        seen = f": {look.quote(different[0])}" if different else ", which is empty"
        return fault(
            f"the first page of objects and that of the manifest differ{seen}",
            "Tell the operator (§5.3): a client that fetches what the manifest lists will miss objects. If something was just "
            "being added or deleted, check again.",
        )
    return good(f"{counted(len(pairs), 'record')}, the same objects in the same order")


def _same(one: Item, record: dict[str, Any]) -> bool:
    mine, theirs = instant(one.version), instant(record["version"])
    return one.id == record["id"] and (mine is None or theirs is None or mine == theirs)


async def type_filter(look: Look) -> Finding:
    """Whether match[type] filters, which spares a SIEM what it can't use."""
    kinds = Counter(str(one.type) for page in look.pages for one in page.objects)
    if not kinds:
        return skipped("there were no objects to filter")
    rarest = min(kinds, key=lambda kind: (kinds[kind], kind))
    asked = rarest if len(kinds) > 1 else next(one for one in _COMMON_TYPES if one not in kinds)
    try:
        found = await poll(look, **{"match[type]": asked})
    except NotAPage as no:
        return fault(f"match[type]={look.quote(asked)}: {no.finding.seen}", "Tell the operator (§3.4.1).")
    others = sorted({str(one.type) for one in found.objects} - {asked})
    if others:
        return fault(
            f"match[type]={look.quote(asked)} gives {look.quote(listed(others))} as well",
            "Tell the operator (§3.4.1). Until it is mended, sort out on your side what you can't use.",
        )
    if asked in kinds and not found.objects and not found.more:
        return fault(
            f"match[type]={look.quote(asked)} finds nothing, though a page had one",
            "Tell the operator (§3.4.1): it hides objects.",
        )
    return good(f"match[type]={look.quote(asked)} gives {counted(len(found.objects), 'object')}, none of another type")


async def unknown(look: Look) -> Finding:
    """What is said of a collection that doesn't exist."""
    if not look.roots:
        return skipped("no API Root could be read")
    answer = await look.ask(look.roots[0].url.join(f"collections/{uuid4()}/objects/"))
    if answer.status == HTTPStatus.NOT_FOUND:
        return good("404")
    if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return warning(
            f"{answer.status}, where 404 is meant for what isn't there (§5.4)",
            "A collection that is gone will look to your SIEM like wrong credentials: tell the operator.",
        )
    return fault(
        f"HTTP {answer.status} for a collection that doesn't exist",
        "Tell the operator: it should be 404 (§5.4). A client can't tell a slip in the URL from an empty feed.",
    )


async def gzip(look: Look) -> Finding:
    """Whether a page comes packed to a client that can unpack it."""
    answer = await look.http.get(
        look.polled.url.join("objects/"), authorization=look.way_in, coding="gzip", query={"limit": look.limit}
    )
    page_of(look, answer)
    if answer.headers.get("content-encoding"):
        return good(f"offered; {counted(len(answer.body), 'octet')} unpacked")
    return good("not used for this page; large polls take longer without")


async def media_types(look: Look) -> Finding:
    """Whether all answers so far say what they are (§3.1)."""
    granted = [one for one in look.http.answers if one.status == HTTPStatus.OK and one.is_resource]
    wrong = [one for one in granted if not _is_taxii(one)]
    if any(TAXII_20 in one.media_type for one in wrong):
        return fault(
            f"{look.quote(wrong[0].media_type)}: that is TAXII 2.0",
            "Clients for TAXII 2.1 can't use it: ask the operator for a TAXII 2.1 URL, or set your SIEM to 2.0.",
        )
    if not granted:
        return skipped("nothing was granted")
    if not wrong:
        return good(f"{TAXII} on {counted(len(granted), 'answer')}")
    seen = f"{len(wrong)} of {counted(len(granted), 'answer')} come as {_kinds(look, wrong)}, not as {TAXII}"
    if all(one.media_type.lower().startswith("application/taxii+json") for one in wrong):
        return warning(
            seen, "Tell the operator (§3.1): strict clients, like taxii2-client, refuse answers without the version."
        )
    return fault(seen, "Tell the operator (§3.1): strict clients, like taxii2-client, refuse such answers.")


async def errors(look: Look) -> Finding:
    """Whether refusals are such as a client can read (§3.6)."""
    refused = [one for one in look.http.answers if one.status >= HTTPStatus.BAD_REQUEST]
    if not refused:
        return skipped("nothing was refused")
    failed = [one for one in refused if one.status >= HTTPStatus.INTERNAL_SERVER_ERROR]
    if failed:
        return warning(
            f"HTTP {failed[0].status} from {look.quote(failed[0].path)}",
            "That is a fault of the server's: tell the operator the time and this path.",
        )
    wrong = [one for one in refused if not _is_taxii(one)]
    if wrong:
        return warning(
            f"{len(wrong)} of {counted(len(refused), 'refusal')} come as {_kinds(look, wrong)}, not as {TAXII}",
            "Tell the operator (§3.1). Most clients look at the status alone; your SIEM's log may show less of the reason.",
        )
    unnamed = [one for one in refused if not one.has_title]
    if unnamed:
        return warning(
            f"HTTP {unnamed[0].status} without a title that says what was wrong", "Tell the operator (§3.6.1)."
        )
    return good(f"{counted(len(refused), 'refusal')}, each with a title")


def _is_taxii(answer: Trace) -> bool:
    kind, *parameters = (part.strip() for part in answer.media_type.lower().split(";"))
    return kind == "application/taxii+json" and any(one.replace('"', "") == "version=2.1" for one in parameters)


def _kinds(look: Look, answers: list[Trace]) -> str:
    return listed(sorted({look.quote(one.media_type or "no type") for one in answers}), 3)
