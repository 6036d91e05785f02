"""A token of an outside issuer at every kind of request, and what is answered while its issuer is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine

from tests.auth.alliance import statements
from tests.auth.issuer import running
from tests.factories import indicator
from tests.taxii.alliance import PUBLIC_URL, TAXII, exchange_on

if TYPE_CHECKING:
    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio


async def test_a_client_that_its_own_bank_vouches_for(module_database_urls: DatabaseUrls) -> None:
    """It reads and writes like any other, at the same number of statements; without its issuer it is told to come again."""
    async with exchange_on(module_database_urls) as exchange:
        with running() as bank, running() as away:
            for slug, issuer in (("bank", bank), ("away", away)):
                exchange.alliance.issuer(slug, issuer.url, jwks_uri=issuer.jwks_uri, audience=PUBLIC_URL)
                exchange.alliance.tied("north", slug, "siem")
            headers = {"Authorization": f"Bearer {bank.token(aud=PUBLIC_URL)}", "Accept": TAXII}
            envelope = {"objects": [indicator()]}

            pushed = await exchange.http.post(exchange.path(), json=envelope, headers=headers | {"Content-Type": TAXII})
            with statements(Engine) as sent:
                polled = await exchange.http.get(exchange.path(), headers=headers)
            away.status = 500
            unsure = await exchange.http.get(
                exchange.path(), headers=headers | {"Authorization": f"Bearer {away.token(aud=PUBLIC_URL)}"}
            )
            stranger = await exchange.http.get(
                exchange.path(),
                headers=headers | {"Authorization": f"Bearer {away.token(subject='x', aud=PUBLIC_URL)}"},
            )

    assert pushed.json()["success_count"] == 1
    assert (polled.status_code, len(polled.json()["objects"])) == (200, 1)
    # the caller statement, the page, and its row of the disclosure ledger
    assert len(sent) == 3
    assert (unsure.status_code, unsure.json()["error_code"], unsure.headers["retry-after"]) == (
        503,
        "issuer-unavailable",
        "30",
    )
    assert stranger.status_code == 401
    assert 'error="invalid_token"' in stranger.headers["www-authenticate"]
