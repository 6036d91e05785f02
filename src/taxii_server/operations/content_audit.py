"""Writing down what became of a collection's content: who, how many versions, and a digest of exactly which."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from taxii_server.domain import audit
from taxii_server.domain.audit import Entry
from taxii_server.domain.timestamps import to_taxii
from taxii_server.storage import audit as storage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from taxii_server.domain.audit import Act, Content
    from taxii_server.storage.engine import Connection

NOTHING_MORE: Final[Mapping[str, Any]] = MappingProxyType({})

_FEW: Final = 100


async def write(
    connection: Connection,
    collection_id: UUID,
    act: Act,
    who: str,
    contents: Sequence[Content],
    told: Mapping[str, Any] = NOTHING_MORE,
) -> None:
    """Write down that versions came or went, with what is `told` besides. The collection's clock must be locked.

    None did where a recall found the object revoked already.
    """
    # a large push must not hold up everybody else's requests
    large = len(contents) > _FEW
    digest = await asyncio.to_thread(audit.digest_of, contents) if large else audit.digest_of(contents)
    details: dict[str, Any] = {"versions": len(contents), "digest": digest, **told}
    if contents:
        dates = [one.date_added for one in contents]
        details |= {"first": to_taxii(min(dates)), "last": to_taxii(max(dates))}
    await storage.append(connection, Entry(audit.of_collection(collection_id), act, who, details))
