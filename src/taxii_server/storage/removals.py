"""Taking versions away: one way for every reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sqlalchemy import text

from taxii_server.storage import clocks, stored_versions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from taxii_server.storage.engine import Connection
    from taxii_server.storage.stored_versions import StoredVersion

# The rows without their bodies go to deleted_versions in the statement that deletes them. Probes the primary key.
MOVE_OUT = text("""
    WITH gone AS (
        DELETE FROM object_versions
         WHERE collection_id = :collection AND date_added = ANY(CAST(:dates AS timestamptz[]))
     RETURNING *
    )
    INSERT INTO deleted_versions (
           collection_id, date_added, stix_id, form, version_at, version, stix_type, digest, body_bytes, level, marked,
           member, client, status_id, deleted_by_member, deleted_by_client, reason)
    SELECT collection_id, date_added, stix_id, form, version_at, version, stix_type, digest, body_bytes, level, marked,
           member, client, status_id, CAST(:by_member AS integer), CAST(:by_client AS integer), :reason
      FROM gone
""")


async def remove(
    connection: Connection,
    collection_id: UUID,
    versions: Sequence[StoredVersion],
    *,
    reason: Literal["delete", "retention", "prune", "recall"],
    member: int | None = None,
    client: int | None = None,
) -> None:
    """Remove versions and set the kept levels of what remains of their objects. The clock must be locked.

    `member` and `client` are who asked for it, None for the operator.
    """
    await connection.execute(
        MOVE_OUT,
        {
            "collection": collection_id,
            "dates": [version.date_added for version in versions],
            "by_member": member,
            "by_client": client,
            "reason": reason,
        },
    )
    left = await stored_versions.of_objects(connection, collection_id, {version.stix_id for version in versions})
    stored_versions.restand(connection, collection_id, left)
    clocks.note_change(connection, collection_id)
