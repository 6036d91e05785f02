"""The tables, as Postgres holds them; `migrations/` makes them and a test holds that both agree.

Every key of a large table begins with the collection. Members and clients are numbered, because every stored version
names both.
"""

from taxii_server.storage.tables.activity import activity_batches, client_activity, client_readings
from taxii_server.storage.tables.alliance import collections, grants, members, removed_collections, trust_groups
from taxii_server.storage.tables.audit import audit_events, audit_heads
from taxii_server.storage.tables.base import metadata
from taxii_server.storage.tables.content import (
    collection_clocks,
    deleted_versions,
    object_versions,
    statuses,
    stored_octets,
)
from taxii_server.storage.tables.disclosures import disclosures
from taxii_server.storage.tables.identity import (
    client_certificates,
    client_secrets,
    clients,
    issuers,
    revoked_tokens,
    signing_keys,
)
from taxii_server.storage.tables.recalls import recalls

__all__ = [
    "activity_batches",
    "audit_events",
    "audit_heads",
    "client_activity",
    "client_certificates",
    "client_readings",
    "client_secrets",
    "clients",
    "collection_clocks",
    "collections",
    "deleted_versions",
    "disclosures",
    "grants",
    "issuers",
    "members",
    "metadata",
    "object_versions",
    "recalls",
    "removed_collections",
    "revoked_tokens",
    "signing_keys",
    "statuses",
    "stored_octets",
    "trust_groups",
]
