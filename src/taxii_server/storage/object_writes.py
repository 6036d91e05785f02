"""Adding versions: one short transaction under the collection's clock.

The caller has parsed and validated everything before, and commits after. In order: lock the clock (`clocks`), read what
is stored of the objects that come in, decide (`domain.additions`), insert all with one statement, set the kept levels,
move the clock.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from taxii_server.domain.additions import Known, Outcome, Store, decide, is_small
from taxii_server.domain.stix_versions import ALONE, standings, standings_after
from taxii_server.storage import arrays, clocks, long_histories, stored_versions
from taxii_server.storage.hot import Statement

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from taxii_server.domain.access import Writable
    from taxii_server.domain.recalls import StandingRecall
    from taxii_server.domain.stix_objects import Columns
    from taxii_server.domain.stix_versions import Standing, Version
    from taxii_server.storage.clocks import Clock
    from taxii_server.storage.engine import Connection
    from taxii_server.storage.stored_versions import StoredVersion

INSERT = Statement("""
    INSERT INTO object_versions (
           collection_id, date_added, stix_id, form, version_at, version, stix_type, digest, body_bytes, level, marked,
           superseded_level, newer_form_level, late_after, member, client, status_id, body)
    SELECT CAST(:collection AS uuid), date_added, stix_id, form, version_at, version, stix_type, digest, octet_length(body), level,
           marked, superseded_level, newer_form_level, late_after,
           CAST(:member AS integer), CAST(:client AS integer), CAST(:status AS uuid), body
      FROM unnest(
           CAST(:date_added AS timestamptz[]), CAST(:stix_id AS text[]), CAST(:form AS smallint[]),
           CAST(:version_at AS timestamptz[]), CAST(:version AS text[]), CAST(:stix_type AS text[]),
           CAST(:digest AS bytea[]), CAST(:level AS smallint[]), CAST(:marked AS boolean[]),
           CAST(:superseded_level AS smallint[]), CAST(:newer_form_level AS smallint[]),
           CAST(:late_after AS timestamptz[]), CAST(:body AS text[]))
           AS new(date_added, stix_id, form, version_at, version, stix_type, digest, level, marked,
                  superseded_level, newer_form_level, late_after, body)
""")


async def add(
    connection: Connection,
    target: Writable,
    clock: Clock,
    status_id: UUID,
    incoming: Sequence[tuple[Columns, bytes]],
    room: int | None = None,
) -> list[Outcome]:
    """Store what is new of `incoming` and give the outcome of each, in order. The clock must be locked.

    `room` is how many octets there are for it (`stored_octets.within`), None if it has no end.

    Raises:
        ClockAhead: if the collection's clock is too far ahead of the database's time.
    """
    if incoming:
        clocks.refuse_if_ahead(clock)
    ids = {columns.stix_id for columns, _ in incoming}
    # what was recalled doesn't come back in capital letters
    stored, recalled = await stored_versions.of_objects_and_recalls(
        connection, target.collection_id, ids | {stix_id.lower() for stix_id in ids}, long_histories.LONG
    )
    stored, partly = await long_histories.completed(connection, target, stored, recalled, [one for one, _ in incoming])
    work = partial(_plan, stored, partly, recalled, target, clock, incoming, room)
    # in a thread: deciding on a large envelope takes so long that everybody else's requests would wait for it
    small = is_small([len(body) for _, body in incoming])
    plan = work() if small else await asyncio.to_thread(work)
    if plan.last_added is not None:
        owner = {"member": target.member, "client": target.client, "status": status_id}
        values = {"collection": target.collection_id, **owner, **plan.rows}
        if small:
            INSERT.later(connection, values)
        else:
            # the answer to one message may take only so long, and what commits all shall not wait behind this
            await INSERT.on(connection, values)
        stored_versions.set_standings(connection, target.collection_id, plan.standings)
        clocks.move_clock(connection, target.collection_id, plan.last_added)
    return plan.outcomes


@dataclass(frozen=True, slots=True)
class _Plan:
    """What becomes of each object; the new rows, column by column; and what becomes of the rows that are there."""

    outcomes: list[Outcome]
    last_added: datetime | None
    rows: dict[str, str]
    standings: list[tuple[StoredVersion, Standing]]


def _plan(
    stored: Sequence[StoredVersion],
    partly: Collection[str],
    recalled: Mapping[str, Sequence[StandingRecall]],
    target: Writable,
    clock: Clock,
    incoming: Sequence[tuple[Columns, bytes]],
    room: int | None,
) -> _Plan:
    unmarked = target.policy.unmarked_level
    outcomes = decide(
        (Known(one.place, one.version, one.digest, one.member) for one in stored),
        [(columns, unmarked if columns.level is None else columns.level) for columns, _ in incoming],
        clock.base,
        member=target.member,
        owner_only=target.policy.owner_only,
        clearance=target.clearance,
        recalled=recalled,
        octets=[len(body) for _, body in incoming],
        room=room,
    )
    new = [
        (outcome, columns, body)
        for outcome, (columns, body) in zip(outcomes, incoming, strict=True)
        if isinstance(outcome, Store)
    ]
    if not new:
        return _Plan(outcomes, None, {}, [])
    places: dict[str, list[Version]] = defaultdict(list)
    for one in stored:
        places[one.stix_id].append(one.place)
    for outcome, _, _ in new:
        places[outcome.place.stix_id].append(outcome.place)
    kept_of = {one.date_added: one.standing for one in stored if one.stix_id in partly}
    standing = {}
    for stix_id, some in places.items():
        if len(some) == 1 and stix_id not in partly:
            standing[some[0].date_added] = ALONE
        else:
            standing.update(standings_after(some, kept_of) if stix_id in partly else standings(some))
    kept = [standing[outcome.place.date_added] for outcome, _, _ in new]
    rows = {
        "date_added": arrays.instants(outcome.place.date_added for outcome, _, _ in new),
        "stix_id": arrays.texts(columns.stix_id for _, columns, _ in new),
        "form": arrays.numbers(columns.form for _, columns, _ in new),
        "version_at": arrays.instants(outcome.place.version_at for outcome, _, _ in new),
        "version": arrays.texts(outcome.version for outcome, _, _ in new),
        "stix_type": arrays.texts(columns.stix_type for _, columns, _ in new),
        "digest": arrays.octets(columns.digest for _, columns, _ in new),
        "level": arrays.numbers(outcome.place.level for outcome, _, _ in new),
        "marked": arrays.booleans(columns.level is not None for _, columns, _ in new),
        "superseded_level": arrays.numbers(one.superseded_level for one in kept),
        "newer_form_level": arrays.numbers(one.newer_form_level for one in kept),
        "late_after": arrays.instants(outcome.late_after for outcome, _, _ in new),
        "body": arrays.texts(body.decode() for _, _, body in new),
    }
    return _Plan(outcomes, new[-1][0].place.date_added, rows, [(one, standing[one.date_added]) for one in stored])
