"""The keys that sign access tokens, as operators handle them: list, replace, and refuse one that leaked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from taxii_server.domain.audit import KEYS, OPERATOR, Act, Entry
from taxii_server.domain.errors import OperatorError
from taxii_server.domain.words import did_you_mean
from taxii_server.storage import audit
from taxii_server.storage import signing_keys as storage

if TYPE_CHECKING:
    from datetime import datetime

    from taxii_server.auth.signing_keys import SigningKeys
    from taxii_server.storage.engine import Database

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key and how it stands: `signing`, `verifying` what it signed before, or `ended`."""

    kid: str
    state: str
    created_at: datetime
    signs_until: datetime
    verifies_until: datetime


async def listing(db: Database) -> list[ListedKey]:
    """List the signing keys, newest first; those that ended stay listed for thirty days."""
    async with db.read() as connection:
        found = await storage.listing(connection)
    return [
        ListedKey(
            kid=key.kid,
            state="signing" if key.signs else "verifying" if key.verifies else "ended",
            created_at=key.created_at,
            signs_until=key.signs_until,
            verifies_until=key.verifies_until,
        )
        for key in found
    ]


async def rotate(keys: SigningKeys) -> str:
    """Let a new key sign from the next token on, on every worker, and give its id.

    Raises:
        OperatorError: if the keys were sealed with another TAXII_SECRET_KEY.
    """
    return await keys.rotate()


async def retire(db: Database, kid: str | None) -> tuple[str, ...]:
    """Refuse a key's tokens from the next request on, on every worker, or every key's with None; which keys ended.

    A new key is made for the next token. Nothing is opened, so this works with a TAXII_SECRET_KEY that is lost.

    Raises:
        OperatorError: if there is no such key.
    """
    async with db.write() as connection:
        await storage.take_turns(connection)
        known = [key.kid for key in await storage.listing(connection)]
        if kid is not None and kid not in known:
            message = (
                f"There is no signing key {kid!r}{did_you_mean(kid, known) or '.'} taxii-server key list shows all."
            )
            raise OperatorError(message)
        retired = await storage.retire(connection, kid)
        for one in retired:
            await audit.append(connection, Entry(KEYS, Act.SIGNING_KEY_RETIRED, OPERATOR, {"kid": one}))
    for one in retired:
        log.info("signing_key_retired", kid=one)
    return tuple(retired)
