"""Keys of outside issuers over HTTPS: whose certificate is trusted, and that nothing else ever is.

Whoever can pass for an issuer signs in with every client that is tied to it.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from taxii_server.auth import issuer_keys
from taxii_server.auth.issuer_keys import IssuerKeys
from taxii_server.domain.errors import IssuerUnavailable
from taxii_server.domain.issuers import OutsideIssuer
from tests.auth.issuer import Issuer, running
from tests.check.certificates import Authority, certified

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.check.certificates import Certified

pytestmark = pytest.mark.anyio

ISSUER = "https://login.bank.example"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process trust the authority, as an operator does whose bank has one of its own."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.trusted))


@contextmanager
def serving(authority: Authority, leaf: Certified, *chain: Certified) -> Iterator[Issuer]:
    with running(authority.serving(leaf, *chain)) as issuer:
        yield issuer


async def fetched(issuer: Issuer, *, discovered: bool = False) -> bool:
    """Ask for a key that the issuer has; whether it could be had. A refused handshake means that nothing was asked."""
    if discovered:
        issuer.metadata = {"/.well-known/openid-configuration": {"issuer": issuer.url, "jwks_uri": issuer.jwks_uri}}
    configured = OutsideIssuer(
        "bank", issuer.url, None if discovered else issuer.jwks_uri, "https://taxii.example.org", frozenset({"RS256"})
    )
    try:
        key = await IssuerKeys().key(configured, "rsa")
    except IssuerUnavailable:
        assert issuer.asked == []
        return False
    assert key.kid == "rsa"
    return True


@pytest.mark.parametrize("discovered", [False, True])
@pytest.mark.usefixtures("trusted")
async def test_an_authority_that_this_machine_trusts(authority: Authority, discovered: bool) -> None:
    """With its chain, at the address that it was made for, straight or by the issuer's metadata."""
    leaf = certified("Bank", authority.intermediate)
    with serving(authority, leaf, authority.intermediate) as issuer:
        assert await fetched(issuer, discovered=discovered)


@pytest.mark.parametrize("discovered", [False, True])
async def test_an_authority_that_nobody_named(authority: Authority, discovered: bool) -> None:
    """Every certificate is good for somebody: only what this machine trusts counts."""
    with serving(authority, certified("Bank", authority.root)) as issuer:
        assert not await fetched(issuer, discovered=discovered)


@pytest.mark.parametrize("discovered", [False, True])
@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("host", ["127.0.0.2", "login.bank.example"])
async def test_a_certificate_for_another_host(authority: Authority, host: str, discovered: bool) -> None:
    """From the right authority, in the wrong hands."""
    with serving(authority, certified("Else", authority.root, host=host)) as issuer:
        assert not await fetched(issuer, discovered=discovered)


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_signed_by_itself(authority: Authority) -> None:
    with serving(authority, certified("Bank")) as issuer:
        assert not await fetched(issuer)


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_that_has_ended(authority: Authority) -> None:
    with serving(authority, certified("Bank", authority.root, days=-1)) as issuer:
        assert not await fetched(issuer)


@pytest.mark.parametrize(
    "named",
    [
        "http://login.bank.example/keys",
        "ftp://login.bank.example/keys",
        "https://127.0.0.1/keys",
        "http://localhost:8080/keys",
        "https://[::1]/keys",
        "https://name:secret@login.bank.example/keys",
        "https://login.bank.example/keys#a",
        "/keys",
        7,
        None,
    ],
)
async def test_where_metadata_may_not_send_us(named: object) -> None:
    """Neither in clear, nor into this machine, which may hold what is meant for nobody outside."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps({"issuer": ISSUER, "jwks_uri": named}).encode()))

    configured = OutsideIssuer("bank", ISSUER, None, "https://taxii.example.org", frozenset({"RS256"}))
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        with pytest.raises(issuer_keys._FetchFailed, match="the metadata names"):
            await issuer_keys._discovered(http, configured)

    assert asked == [f"{ISSUER}/.well-known/openid-configuration"]
