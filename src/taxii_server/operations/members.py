"""Suspend and resume members; alliance.yaml says which there are."""

from __future__ import annotations

import structlog

from taxii_server.domain.audit import OPERATOR, Act, Entry, of_member
from taxii_server.domain.errors import OperatorError
from taxii_server.domain.words import did_you_mean
from taxii_server.storage import audit
from taxii_server.storage import members as storage
from taxii_server.storage.engine import Connection, Database
from taxii_server.storage.members import Member

log = structlog.get_logger(__name__)


async def members(db: Database) -> list[Member]:
    """List the members."""
    async with db.read() as connection:
        return await storage.listing(connection)


async def suspend(db: Database, slug: str) -> bool:
    """Refuse all of a member's clients from their next request on; False if it was suspended already.

    Raises:
        OperatorError: if there is no such member.
    """
    return await _set(db, slug, suspended=True)


async def resume(db: Database, slug: str) -> bool:
    """Let a suspended member's clients in again; False if it was not suspended.

    Raises:
        OperatorError: if there is no such member.
    """
    return await _set(db, slug, suspended=False)


async def _set(db: Database, slug: str, *, suspended: bool) -> bool:
    async with db.write() as connection:
        member = await storage.lock(connection, slug)
        if member is None:
            raise await unknown(connection, slug)
        if (member.suspended_at is not None) == suspended:
            return False
        await storage.set_suspended(connection, member.id, suspended=suspended)
        act = Act.MEMBER_SUSPENDED if suspended else Act.MEMBER_RESUMED
        await audit.append_locking(connection, Entry(of_member(slug), act, OPERATOR))
    log.info("member_suspended" if suspended else "member_resumed", member=slug)
    return True


async def unknown(connection: Connection, slug: str) -> OperatorError:
    """Say that there is no such member, and which might be meant."""
    hint = did_you_mean(slug, [member.slug for member in await storage.listing(connection)])
    return OperatorError(f"There is no member {slug!r}{hint or '.'} taxii-server member list shows all.")
