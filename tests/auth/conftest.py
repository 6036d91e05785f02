"""A small alliance, and what the server asks it with."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

from taxii_server.auth.identify import Identifier
from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.storage.embedded import DatabaseUrls
from taxii_server.storage.engine import Database
from tests.auth.alliance import Alliance, alliance_in
from tests.auth.forge import ISSUER


@pytest.fixture
def alliance(database_urls: DatabaseUrls) -> Iterator[Alliance]:
    with alliance_in(database_urls) as made:
        yield made


@pytest.fixture
async def db(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    database = Database(database_urls.server, connections=8)
    yield database
    await database.close()


@pytest.fixture
def keys(db: Database) -> SigningKeys:
    return SigningKeys(db, "k" * 32, key_lifetime=timedelta(days=90), token_lifetime=timedelta(minutes=15))


@pytest.fixture
def identifier(db: Database) -> Identifier:
    return Identifier(db, ISSUER)
