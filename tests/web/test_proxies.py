"""The address of a client is told by whoever the operator trusts, and by nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from taxii_server.domain.errors import NotAuthenticated
from taxii_server.web.proxies import Forwarded, TrustedProxies, client_address, client_certificate

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


@pytest.mark.parametrize(
    ("trusted", "peer", "believed"),
    [
        ("::ffff:10.0.0.7", "10.0.0.7", True),
        ("::ffff:10.0.0.7", "::ffff:10.0.0.7", True),
        ("::ffff:10.0.0.7", "10.0.0.8", False),
        ("::ffff:10.0.0.0/120", "10.0.0.8", True),
        ("::ffff:10.0.0.0/120", "10.0.1.8", False),
        ("::10.0.0.7", "10.0.0.7", False),
        ("10.0.0.7", "::10.0.0.7", False),
        ("10.0.0.7", "64:ff9b::10.0.0.7", False),
        ("10.0.0.7", "2002:a00:7::1", False),
    ],
)
async def test_ipv4_is_the_same_however_ipv6_spells_it(trusted: str, peer: str, believed: bool) -> None:
    """As mapped, which is how a socket of both kinds tells it; embedded in other ways it is somebody else's."""
    expected = "198.51.100.1" if believed else peer
    assert await seen(peer, "198.51.100.1", trusted=(trusted,)) == expected


@pytest.mark.parametrize("peer", ["", "unix:", "/run/taxii.sock"])
async def test_a_unix_socket_s_other_end_has_no_address_to_trust(peer: str) -> None:
    """Whatever the web server calls it."""
    assert await seen(peer, "198.51.100.1") == peer
    assert await shown(peer, ("client-cert", ":AA==:")) is None


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "10.0.0.7"])
async def test_unless_told_nobody_is_trusted(peer: str) -> None:
    """Not even this machine: any process of it could name whom it likes."""
    assert await seen(peer, "198.51.100.1", trusted=()) == peer


async def test_a_longer_list_than_anybody_chains_costs_little() -> None:
    """Nothing but the last hops is read, however many a client sends."""
    assert await seen("10.0.0.7", "192.168.0.9," * 100_000 + "198.51.100.1") == "198.51.100.1"


async def shown(peer: str | None, *headers: tuple[str, str], name: str | None = "Client-Cert") -> str | None:
    """Send a request with these headers; give what everything behind takes for the client's certificate."""
    found = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(client_certificate(scope))

    scope: dict[str, Any] = {
        "type": "http",
        "client": None if peer is None else (peer, 4711),
        "headers": [(one.encode(), value.encode("latin-1")) for one, value in headers],
    }
    await Forwarded(app, TrustedProxies(PROXIES), name)(scope, None, None)  # type: ignore[arg-type] # neither is called
    (certificate,) = found
    return certificate


def ignored() -> float:
    """How many headers came from somebody who is no proxy."""
    return REGISTRY.get_sample_value("taxii_client_certificate_headers_ignored_total") or 0


@pytest.mark.parametrize(
    ("peer", "headers", "certificate"),
    [
        ("10.0.0.7", (), None),
        ("10.0.0.7", (("client-cert", ":AA==:"),), ":AA==:"),
        ("10.0.0.7", (("client-cert", " :AA==: "),), ":AA==:"),
        ("10.0.0.7", (("client-cert", ""),), ""),
        ("::ffff:10.0.0.7", (("client-cert", ":AA==:"),), ":AA==:"),
        ("fd00::1", (("client-cert", ":AA==:"),), ":AA==:"),
        # others may read them as the same name; we don't
        ("10.0.0.7", (("client_cert", ":AA==:"), ("x-client-cert", ":AA==:")), None),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_trusted_proxy_hands_a_certificate_over(
    peer: str, headers: tuple[tuple[str, str], ...], certificate: str | None
) -> None:
    """In the one header that was configured, however the setting spells its letters."""
    assert await shown(peer, *headers) == certificate
    assert await shown(peer, *headers, name="CLIENT-cert") == certificate
    assert await shown(peer, *headers, name=None) is None


@pytest.mark.parametrize("peer", ["203.0.113.5", "10.0.0.8", "127.0.0.1", "not-an-address", None])
async def test_from_anybody_else_a_certificate_is_as_if_it_weren_t_there(peer: str | None) -> None:
    """Whatever they say of a proxy beside it; it is counted each time, and told once."""
    before = ignored()
    with capture_logs() as logs:
        assert await shown(peer, ("client-cert", ":AA==:"), ("x-forwarded-for", "10.0.0.7")) is None
    assert await shown(peer, ("client-cert", "one"), ("client-cert", "two")) is None

    assert ignored() == before + 2
    assert [(log["event"], log["peer"]) for log in logs] == [("client_certificate_ignored", peer or "unknown")]


async def test_an_attempt_is_told_once() -> None:
    """Else whoever reaches the port fills the log with warnings."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        """Answer nothing."""

    middleware = Forwarded(app, TrustedProxies(PROXIES), "Client-Cert")
    with capture_logs() as logs:
        for number in range(20):
            scope: dict[str, Any] = {
                "type": "http",
                "client": (f"203.0.113.{number}", 1),
                "headers": [(b"client-cert", b"x")],
            }
            await middleware(scope, None, None)  # type: ignore[arg-type] # neither is called
    assert len(logs) == 1


@pytest.mark.parametrize(("one", "other"), [(":AA==:", ":AA==:"), ("", ":AA==:"), (":AA==:", ""), ("", "")])
async def test_a_certificate_that_is_handed_over_twice_refuses_the_request(one: str, other: str) -> None:
    """One of the two may be the client's own word, which the proxy didn't take away."""
    with pytest.raises(NotAuthenticated):
        await shown("10.0.0.7", ("client-cert", one), ("client-cert", other))
