"""The address of a client is told by whoever the operator trusts, and by nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from taxii_server.web.proxies import Forwarded, TrustedProxies, client_address

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

PROXIES = ("10.0.0.7", "192.168.0.0/24", "fd00::/8")


async def seen(peer: str | None, *forwarded: str, trusted: tuple[str, ...] = PROXIES) -> str:
    """Send a request with these X-Forwarded-For headers; give the address that everything behind works with."""
    found = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(client_address(scope))

    scope: dict[str, Any] = {
        "type": "http",
        "client": None if peer is None else (peer, 4711),
        "headers": [(b"x-forwarded-for", one.encode("latin-1")) for one in forwarded],
    }
    await Forwarded(app, TrustedProxies(trusted))(scope, None, None)  # type: ignore[arg-type] # neither is called
    (address,) = found
    return address


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.5", (), "203.0.113.5"),
        ("203.0.113.5", ("198.51.100.1",), "203.0.113.5"),
        ("203.0.113.5", ("10.0.0.7",), "203.0.113.5"),
        ("10.0.0.8", ("198.51.100.1",), "10.0.0.8"),
        ("10.0.0.7", (), "10.0.0.7"),
        ("10.0.0.7", ("198.51.100.1",), "198.51.100.1"),
        ("10.0.0.7", ("6.6.6.6, 198.51.100.1",), "198.51.100.1"),
        ("10.0.0.7", ("6.6.6.6", "198.51.100.1"), "198.51.100.1"),
        ("10.0.0.7", ("198.51.100.1", "6.6.6.6"), "6.6.6.6"),
        ("10.0.0.7", ("6.6.6.6, 198.51.100.1, 192.168.0.9",), "198.51.100.1"),
        ("10.0.0.7", ("6.6.6.6,198.51.100.1,192.168.0.9,10.0.0.7",), "198.51.100.1"),
        ("10.0.0.7", ("192.168.0.9",), "192.168.0.9"),
        ("10.0.0.7", ("198.51.100.1:4711",), "198.51.100.1"),
        ("10.0.0.7", ("[2001:db8::1]:4711",), "2001:db8::1"),
        ("10.0.0.7", ("2001:0DB8::0001",), "2001:db8::1"),
        ("10.0.0.7", ("::ffff:198.51.100.1",), "198.51.100.1"),
        ("::ffff:10.0.0.7", ("198.51.100.1",), "198.51.100.1"),
        ("fd00::1", ("2001:db8::1",), "2001:db8::1"),
        ("10.0.0.7", ("unknown",), "10.0.0.7"),
        ("10.0.0.7", ("198.51.100.1, unknown",), "10.0.0.7"),
        ("10.0.0.7", ("198.51.100.1, _hidden, 192.168.0.9",), "192.168.0.9"),
        ("10.0.0.7", ("",), "10.0.0.7"),
        ("10.0.0.7", ("198.51.100.1,",), "10.0.0.7"),
        ("10.0.0.7", ("1" * 70_000,), "10.0.0.7"),
        ("10.0.0.7", ("198.51.100.1" + ", 192.168.0.9" * 16,), "192.168.0.9"),
        ("10.0.0.7", ("198.51.100.\xe9",), "10.0.0.7"),
        ("not-an-address", ("198.51.100.1",), "not-an-address"),
        (None, ("198.51.100.1",), "unknown"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_the_client_is_the_last_hop_that_is_no_trusted_proxy(
    peer: str | None, forwarded: tuple[str, ...], client: str
) -> None:
    """What a client writes into X-Forwarded-For itself stands left of what the first trusted proxy appends."""
    assert await seen(peer, *forwarded) == client


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "10.0.0.7"])
async def test_unless_told_nobody_is_trusted(peer: str) -> None:
    """Not even this machine: any process of it could name whom it likes."""
    assert await seen(peer, "198.51.100.1", trusted=()) == peer


async def test_a_longer_list_than_anybody_chains_costs_little() -> None:
    """Nothing but the last hops is read, however many a client sends."""
    assert await seen("10.0.0.7", "192.168.0.9," * 100_000 + "198.51.100.1") == "198.51.100.1"
