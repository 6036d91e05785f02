"""`disclosures`: who was sent an object."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from taxii_server.cli import context, output
from taxii_server.operations import disclosures as operations
from taxii_server.operations.disclosures import TracedVersion


def disclosures(
    object_id: Annotated[str, typer.Argument(metavar="OBJECT-ID", help="Its STIX identifier.", show_default=False)],
    collection: Annotated[
        str | None, typer.Option(metavar="COLLECTION", help="In this collection alone: trust-group/alias, or its id.")
    ] = None,
    json: output.AsJson = False,
) -> None:
    """Tell who was sent an object: every version of it, removed ones too, in every collection, and every client.

    A version counts as sent before its first octet leaves, so a client that broke off is listed as well.
    """
    traced = context.run(partial(operations.trace, stix_id=object_id, collection=collection))
    if json:
        output.as_json(traced)
        return
    _show(traced)
    output.note(_told(traced))


def _show(traced: list[TracedVersion]) -> None:
    output.table(
        ("COLLECTION", "VERSION", "STIX", "ADDED", "BY", "MEMBER", "CLIENT", "RECEIVED", "FIRST", "LAST", "TIMES"),
        [
            (
                version.collection,
                f"{version.version} (removed)" if version.removed else version.version,
                version.spec_version,
                version.date_added,
                version.brought_by,
                *(
                    ("nobody", None, None, None, None, None)
                    if one is None
                    else (
                        one.member,
                        one.client_id,
                        "content" if one.content else "listing",
                        one.first,
                        one.last,
                        one.times,
                    )
                ),
            )
            for version in traced
            for one in version.received or (None,)
        ],
        "",
    )


def _told(traced: list[TracedVersion]) -> str:
    whole = {one.member for version in traced for one in version.received if one.content}
    listed = {one.member for version in traced for one in version.received} - whole
    if not whole | listed:
        return "No version of it was sent to anybody."
    told = f"Its content was sent to {', '.join(sorted(whole))}." if whole else "Its content was sent to nobody."
    return f"{told} {', '.join(sorted(listed))}: only that there is such an object." if listed else told
