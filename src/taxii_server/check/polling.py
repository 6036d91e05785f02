"""A poll, as a SIEM makes it: pages, their dates, and going on from the last."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from http import HTTPStatus
from typing import Final

from taxii_server.check.admission import error_words
from taxii_server.check.exchange import Answer
from taxii_server.check.look import Collection, Item, Look, Page
from taxii_server.check.results import Finding, fault, good, skipped, warning
from taxii_server.check.words import counted
from taxii_server.domain.timestamps import BadTimestamp, from_parameter

FIRST: Final = "X-TAXII-Date-Added-First"
LAST: Final = "X-TAXII-Date-Added-Last"

_LIMIT: Final = 10
_MOST_OBJECTS: Final = 10_000
_MOST_TRIED: Final = 5
_EXACT: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z")
_TELL: Final = "Tell the operator"


class NotAPage(Exception):
    """An answer to a poll is no page."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.seen)
        self.finding = finding


async def first_page(look: Look) -> Finding:
    """Choose a collection and read its first page."""
    candidates = _candidates(look)
    if isinstance(candidates, Finding):
        return candidates
    try:
        page = await _first_with_objects(look, candidates)
        if 1 < len(page.objects) <= _LIMIT and not page.more:
            # it fits into one page: with smaller ones there is paging to look at
            look.limit = max(1, len(page.objects) // 2)
            page = await poll(look)
    except NotAPage as no:
        return no.finding
    look.pages = [page]
    name = look.quote(look.polled.title)
    if not page.objects:
        return warning(
            f"{name} holds nothing for this client, so paging could not be looked at",
            "Ask the operator for a collection with objects in it, and name it with --collection.",
        )
    took = page.took * 1000
    return good(f"{name}: {counted(len(page.objects), 'object')} in {took:.0f} ms, asked for {look.limit} at most")


async def _first_with_objects(look: Look, candidates: list[Collection]) -> Page:
    look.limit, look.polled = _LIMIT, candidates[0]
    page = await poll(look)
    for candidate in candidates[1:_MOST_TRIED]:
        if page.objects:
            break
        look.polled = candidate
        page = await poll(look)
    return page


def _candidates(look: Look) -> list[Collection] | Finding:
    wanted = look.options.collection or look.address.collection
    if wanted is None:
        return [one for one in look.collections if one.can_read] or skipped("no collection can be read")
    found = [one for one in look.collections if wanted in {one.id, one.alias, one.title}]
    if not found:
        return fault(
            f"the collection {look.quote(wanted)} is not among those that this client sees",
            "Look at the spelling: its id, alias or title. If it is right, ask the operator for a grant.",
        )
    if not any(one.can_read for one in found):
        return fault(
            f"{look.quote(found[0].title)} can't be read by this client (can_read is false)",
            "No right: ask the operator to grant reading, and whether the client was narrowed.",
        )
    return [one for one in found if one.can_read]


async def poll(look: Look, **query: str | int) -> Page:
    answer = await look.ask(look.polled.url.join("objects/"), limit=look.limit, **query)
    return page_of(look, answer)


def page_of(look: Look, answer: Answer) -> Page:
    """Read an envelope (§3.7).

    Raises:
        NotAPage: if it is none.
    """
    resource = answer.resource
    if not answer.ok:
        raise NotAPage(
            fault(
                f"HTTP {answer.status} to a poll of {look.quote(look.polled.title)}{error_words(look, answer)}",
                "The collection says that it can be read: tell the operator the time and this answer.",
            )
        )
    if resource is None:
        raise NotAPage(fault("what comes is no JSON object", f"{_TELL}: an envelope was expected (§3.7)."))
    objects = resource.get("objects", [])
    if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
        raise NotAPage(fault("objects is no list of objects", f"{_TELL}: an envelope was expected (§3.7)."))
    if len(objects) > _MOST_OBJECTS:
        # what is kept of a million objects would fill the memory within some pages
        raise NotAPage(_too_many(look, len(objects)))
    following = resource.get("next")
    return Page(
        objects=tuple(Item.of(one) for one in objects),
        more=resource.get("more") is True,
        next=following if isinstance(following, str) else None,
        headers=answer.headers,
        took=answer.took,
        holds_a_list="objects" in resource,
    )


def _too_many(look: Look, count: int) -> Finding:
    return fault(
        f"{counted(count, 'object')} came where limit={look.limit} was asked for",
        f"{_TELL} (§3.4): pages may be too large for your SIEM.",
    )


async def limit(look: Look) -> Finding:
    """Whether pages are no longer than was asked for."""
    longest = max(len(page.objects) for page in look.pages)
    if longest > look.limit:
        return _too_many(look, longest)
    return good(f"no page has more than the {look.limit} asked for")


async def paging(look: Look) -> Finding:
    """From page to page by `next`, to the end or to --pages."""
    if not look.pages[0].objects and not look.pages[0].more:
        return skipped("there is nothing to page through")
    page, seen, given = look.pages[0], set(look.pages[0].objects), set[str]()
    repeats = 0
    while page.more and page.next is not None and len(look.pages) < look.options.pages:
        asked, given = page.next, {*given, page.next}
        try:
            page = await poll(look, next=asked)
        except NotAPage as no:
            said = f"page {len(look.pages) + 1}: {no.finding.seen}"
            return fault(said, f"{_TELL}: next must lead to the next page (§3.5).")
        repeats += sum(1 for one in page.objects if one in seen)
        # a next that stays the same is no fault as long as the pages move on: medallion's does
        if seen.issuperset(page.objects) and (page.objects or (page.more and page.next in given)):
            return fault(
                f"page {len(look.pages) + 1} holds nothing but what was sent before",
                f"{_TELL}: next leads back, and a client that follows it never comes to an end.",
            )
        seen.update(page.objects)
        look.pages.append(page)
    return _paged(look, page, repeats)


def _paged(look: Look, page: Page, repeats: int) -> Finding:
    total = sum(len(one.objects) for one in look.pages)
    seen = f"{counted(len(look.pages), 'page')}, {counted(total, 'object')}"
    if page.more and page.next is None:
        return fault(
            f"{seen}; more is true, but there is no next",
            f"{_TELL}: many clients then ask for the same page for ever, taxii2-client among them. Until it is mended, let "
            f"your client go on with added_after = {LAST}.",
        )
    if repeats:
        return fault(
            f"{seen}, {repeats} of them sent more than once",
            f"{_TELL}: pages overlap, so some may be lost between them too.",
        )
    if not page.more and page.next is not None:
        return warning(
            f"{seen}; the last has next although more is not true",
            f"{_TELL}: clients that follow next whatever more says, like Elastic's, ask once too often or never stop.",
        )
    return good(f"{seen}; {'there are more (see --pages)' if page.more else 'that is all there is'}")


async def dates(look: Look) -> Finding:
    """The headers that say what to go on from (§3.2)."""
    pages = [page for page in look.pages if page.objects]
    if not pages:
        return skipped("there were no objects")
    lacking = [name for name in (FIRST, LAST) if any(not page.headers.get(name) for page in pages)]
    if lacking:
        return fault(
            f"no {' and no '.join(lacking)} with a page of objects",
            f"{_TELL} (§3.2): a client can't tell where its next poll should begin; some then take their own clock and lose objects.",
        )
    texts = [page.headers[name] for page in pages for name in (FIRST, LAST)]
    wrong = [one for one in texts if instant(one) is None]
    if wrong:
        return fault(
            f"{look.quote(wrong[0])} is no timestamp",
            f"{_TELL} (§3.2): a client can't tell where its next poll should begin.",
        )
    inexact = [one for one in texts if not _EXACT.fullmatch(one)]
    if inexact:
        return warning(
            f"{look.quote(inexact[0])} has not six fractional digits and Z (§2)",
            f"{_TELL}: strict clients refuse it; others may get a few objects twice.",
        )
    return good(f"both on every page, the last {look.quote(texts[-1])}")


def instant(text: str) -> datetime | None:
    """Read a timestamp; None if it is none."""
    try:
        return from_parameter(text)
    except BadTimestamp:
        return None


async def order(look: Look) -> Finding:
    """Whether pages are oldest addition first (§3.3)."""
    before: datetime | None = None
    for number, page in enumerate((one for one in look.pages if one.objects), 1):
        first, last = (instant(page.headers[name]) for name in (FIRST, LAST))
        if first is None or last is None:
            continue
        if first > last:
            return fault(f"page {number} has a First later than its Last", f"{_TELL} (§3.3): a poll will lose objects.")
        if before is not None and first < before:
            return fault(
                f"page {number} begins before the end of the page before it",
                f"{_TELL} (§3.3): a client that keeps the last date will lose objects.",
            )
        before = last
    return good("oldest addition first, across pages")


async def again(look: Look) -> Finding:
    """The next poll: added_after = the last date must give what is newer, and that alone."""
    last = next(page for page in reversed(look.pages) if page.objects)
    after = last.headers[LAST]
    try:
        page = await poll(look, added_after=after)
    except NotAPage as no:
        return fault(f"added_after={look.quote(after)}: {no.finding.seen}", f"{_TELL}: no client can go on from there.")
    if not page.objects:
        return good("nothing older, nothing twice")
    repeated = set(page.objects) & {one for each in look.pages for one in each.objects}
    of_the_last = repeated & set(last.objects)
    first = instant(page.headers.get(FIRST, ""))
    start = instant(after)
    older = first is not None and start is not None and first <= start
    if repeated - of_the_last or (repeated and len(repeated) == len(last.objects) > 1) or (older and not repeated):
        return fault(
            f"added_after={look.quote(after)} gives objects that were added before it",
            f"{_TELL} (§3.4): every poll of your SIEM will bring what it has already.",
        )
    if repeated:
        return warning(
            f"added_after = the last date gives {counted(len(repeated), 'object')} of that date again",
            "Your SIEM will see a few objects twice, which most sort out by id; the server's dates are finer than it writes them.",
        )
    return good("what is newer, nothing twice")


async def content(look: Look) -> Finding:
    """What the objects are."""
    objects = [one for page in look.pages for one in page.objects]
    if not objects:
        return skipped("there were none")
    if wrong := [one for one in objects if not one.is_named]:
        return fault(
            f"{len(wrong)} of {counted(len(objects), 'object')} lack id or type, or have ones that don't agree: "
            f"type {look.quote(wrong[0].type)}, id {look.quote(wrong[0].id)}",
            f"{_TELL}: that is not STIX, and your SIEM will drop it.",
        )
    kinds = Counter(str(one.type) for one in objects).most_common()
    forms = sorted({one.form for one in objects})
    held = ", ".join(f"{look.quote(kind)} {count}" for kind, count in kinds[:5])
    return good(f"STIX {look.quote(' and '.join(forms))}: {held}{' …' if len(kinds) > 5 else ''}")  # noqa: PLR2004 - enough for a line


async def empty(look: Look) -> Finding:
    """What a poll looks like that finds nothing."""
    answer = await look.ask(
        look.polled.url.join("objects/"), limit=look.limit, added_after="2999-01-01T00:00:00.000000Z"
    )
    if answer.status == HTTPStatus.NOT_FOUND:
        return fault(
            "404 where nothing is newer", f"{_TELL} (§5.4): it should be 200, and many clients take this for an error."
        )
    try:
        page = page_of(look, answer)
    except NotAPage as no:
        return fault(
            f"where nothing is newer: {no.finding.seen}", f"{_TELL}: it should be 200 with an empty envelope (§5.4)."
        )
    if page.objects:
        return fault(
            f"{counted(len(page.objects), 'object')} added after the year 2999",
            f"{_TELL} (§3.4): added_after has no effect, and every poll brings everything again.",
        )
    if page.more:
        return fault("an empty page says that there is more", f"{_TELL}: clients ask again and again.")
    return good(
        "200 without objects"
        if not page.holds_a_list
        else "200 with an empty list of objects, which §2 forbids and clients take"
    )
