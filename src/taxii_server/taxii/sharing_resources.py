"""The resources of what this server has beyond TAXII: who received an object, and recalling it.

They are written like TAXII's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field

from taxii_server.domain.recalls import MOST_REASON
from taxii_server.domain.stix_objects import Form
from taxii_server.domain.timestamps import to_taxii
from taxii_server.taxii.resources import STIX_ID, More, Next, Resource, StixMediaType, Text, Timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taxii_server.operations.disclosures import ContributedReceipt
    from taxii_server.operations.recall_recipients import RecipientMember
    from taxii_server.storage.recalls import Recall

Receiver = Annotated[Text, Field(description="The receiving member.", examples=["harbour-bank"])]
ReceiverName = Annotated[Text, Field(description="The member's name.", examples=["Harbour Bank"])]
Received = Annotated[
    Literal["content", "listing"],
    Field(description="`content`: the object itself; `listing`: a manifest or a list of versions that names it."),
]


class DisclosureRecord(Resource):
    """That a version was sent to the clients of a member."""

    version: Annotated[Text, Field(description="As manifests write it.", examples=["2026-03-02T08:00:00.000Z"])]
    date_added: Timestamp
    media_type: StixMediaType
    removed: Annotated[bool, Field(description="Whether this version is there no more.")]
    member: Receiver
    name: ReceiverName
    received: Received
    first: Timestamp
    last: Timestamp
    times: Annotated[int, Field(gt=0, description="How many pages with it were sent.")]

    @classmethod
    def of(cls, receipt: ContributedReceipt) -> Self:
        """Show one receipt."""
        return cls(
            version=receipt.version,
            date_added=to_taxii(receipt.date_added),
            media_type=Form(receipt.form).media_type,
            removed=receipt.removed,
            member=receipt.member,
            name=receipt.name,
            received="content" if receipt.content else "listing",
            first=to_taxii(receipt.first),
            last=to_taxii(receipt.last),
            times=receipt.times,
        )


class DisclosuresResource(Resource):
    """Who received an object: a part of the answer. Not of the standard."""

    more: More
    next: Next | None = None
    disclosures: (
        Annotated[
            list[DisclosureRecord],
            Field(min_length=1, description="Left out of a part without any; more may follow all the same."),
        ]
        | None
    ) = None


class RecallRequest(Resource):
    """Why an object is recalled."""

    reason: (
        Annotated[
            str,
            Field(
                max_length=MOST_REASON,
                description="Told to whoever tries to add the object again, so it should name nothing confidential.",
            ),
        ]
        | None
    ) = None


class ToldVersion(Resource):
    """A version that says `revoked`."""

    version: Annotated[Text, Field(examples=["2026-05-02T08:15:30.000Z"])]
    date_added: Timestamp


class RecallRecipientRecord(Resource):
    """A member that had been sent a recalled object, or told of it."""

    member: Receiver
    name: ReceiverName
    received: Received
    first: Timestamp
    last: Timestamp
    informed: Annotated[
        Literal["all", "some", "none"],
        Field(
            description="Whether the clients that had received the object were sent a version since that says `revoked`."
        ),
    ]
    informed_at: Annotated[Timestamp, Field(description="When the first of them was.")] | None = None
    polled_at: (
        Annotated[Timestamp, Field(description="When one of them last read of the collection; may lag by a minute.")]
        | None
    ) = None
    polled_since: Annotated[bool, Field(description="Whether that was after the recall.")]

    @classmethod
    def of(cls, one: RecipientMember) -> Self:
        """Show a member."""
        return cls(
            member=one.member,
            name=one.name,
            received="content" if one.content else "listing",
            first=to_taxii(one.first),
            last=to_taxii(one.last),
            informed=one.informed,
            informed_at=None if one.informed_at is None else to_taxii(one.informed_at),
            polled_at=None if one.polled_at is None else to_taxii(one.polled_at),
            polled_since=one.polled_since,
        )


class RecallResource(Resource):
    """An object that was withdrawn, as its contributor sees it."""

    id: Annotated[str, Field(pattern=STIX_ID, examples=["indicator--bb28639b-2379-4150-872d-101c60c62553"])]
    state: Annotated[
        Literal["recalled", "lifted"],
        Field(description="`lifted`: the operator lets the object be added again."),
    ]
    outcome: Annotated[
        Literal["revoked", "deleted"],
        Field(
            description="`revoked`: new versions say so to whoever polls. `deleted`: its type can't be revoked, so "
            "pollers don't learn of it."
        ),
    ]
    recalled_at: Timestamp
    lifted_at: Timestamp | None = None
    reason: Text | None = None
    versions: Annotated[list[ToldVersion], Field(min_length=1, description="Those that say `revoked`.")] | None = None

    recipients: (
        Annotated[
            list[RecallRecipientRecord],
            Field(min_length=1, description="Who had received it by then; told to GET alone, left out if nobody had."),
        ]
        | None
    ) = None
    more: (
        Annotated[
            bool,
            Field(
                description="True where the object was sent so often that not all of the ledger was read: something may be "
                "missing of `recipients`, and `disclosures` has everything, page by page."
            ),
        ]
        | None
    ) = None

    @classmethod
    def of(cls, recall: Recall, recipients: Sequence[RecipientMember] = (), *, more: bool = False) -> Self:
        """Show a recall."""
        return cls(
            id=recall.stix_id,
            state="recalled" if recall.lifted_at is None else "lifted",
            outcome=recall.outcome.value,
            recalled_at=to_taxii(recall.at),
            lifted_at=None if recall.lifted_at is None else to_taxii(recall.lifted_at),
            reason=recall.reason,
            versions=[ToldVersion(version=one.version, date_added=to_taxii(one.date_added)) for one in recall.telling]
            or None,
            recipients=[RecallRecipientRecord.of(one) for one in recipients] or None,
            more=more or None,
        )
