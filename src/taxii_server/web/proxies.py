"""Who really asks, where proxies stand in between: what a proxy says counts only if the operator trusts its address.

It says whence a client came, and what certificate it showed.

The web server's own handling of `X-Forwarded-For` is off, so the address of a connection is always that of its other end.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Counter

from taxii_server.domain.errors import NotAuthenticated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

log = structlog.get_logger(__name__)

IGNORED = Counter(
    "taxii_client_certificate_headers_ignored", "Headers with a client certificate that came from no trusted proxy."
)

_FORWARDED_FOR: Final = b"x-forwarded-for"
# more proxies than anybody chains; what a client wrote before them is never looked at
_MOST_HOPS: Final = 16
_LONGEST_ADDRESS: Final = 64
_NOWHERE: Final = "unknown"
_CERTIFICATES: Final = "taxii.client_certificates"
_ONE_COLON: Final = 1
# IPv4 as IPv6 spells it (RFC 4291 §2.5.5.2); addresses are compared as those of IPv4
_MAPPED: Final = IPv6Network("::ffff:0:0/96")


class TrustedProxies:
    """The addresses whose word on others counts."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        """Take addresses and networks as the operator wrote them; none trusts nobody."""
        self._networks = tuple(map(_network, networks))
        self._trusts = lru_cache(maxsize=4096)(self._look)

    def __bool__(self) -> bool:
        """Tell whether anybody is trusted."""
        return bool(self._networks)

    def __contains__(self, address: IPv4Address | IPv6Address | None) -> bool:
        """Tell whether this address is trusted."""
        return address is not None and bool(self._networks) and self._trusts(address)

    def _look(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def client_address(scope: Scope) -> str:
    """Give the address of the client of this request: what limits count by, and the log calls its peer.

    That is the other end of the connection, unless that is a trusted proxy: then it is the rightmost hop of
    `X-Forwarded-For` that is no trusted proxy. What stands left of it may be written by anybody and is never read.
    """
    client = scope.get("client")
    return client[0] if client else _NOWHERE


def client_certificate(scope: Scope) -> str | None:
    """Give what a trusted proxy says of the certificate that the client of this request showed it; None if nothing.

    Raises:
        NotAuthenticated: if it says so twice: then one of the two may be the client's own word.
    """
    certificates: Sequence[bytes] = scope.get(_CERTIFICATES, ())
    if len(certificates) > 1:
        raise NotAuthenticated("several client certificates")
    return certificates[0].decode("latin-1").strip() if certificates else None


class Forwarded:
    """ASGI middleware around everything: puts what trusted proxies say of the client into the scope."""

    def __init__(self, app: ASGIApp, trusted: TrustedProxies, certificate_header: str | None = None) -> None:
        """Take the application, whom to believe, and the header in which they hand certificates over, if they do."""
        self._app = app
        self._trusted = trusted
        self._certificate = None if certificate_header is None else certificate_header.lower().encode("ascii")
        self._told = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through with its client in the place of the proxy."""
        if scope["type"] == "http":
            peer = scope["client"][0] if scope.get("client") else None
            trusted = peer is not None and bool(self._trusted) and _address(peer) in self._trusted
            if self._certificate is not None:
                self._hand_over(scope, trusted=trusted)
            if peer is not None and trusted:
                scope["client"] = (_last_untrusted(scope, self._trusted, peer), 0)
        await self._app(scope, receive, send)

    def _hand_over(self, scope: Scope, *, trusted: bool) -> None:
        """Take the certificate off a trusted proxy's request; off anybody else's it is as if it weren't there."""
        found = [value for name, value in scope["headers"] if name == self._certificate]
        if trusted:
            scope[_CERTIFICATES] = found
        elif found:
            IGNORED.inc()
            if not self._told:
                self._told = True
                log.warning("client_certificate_ignored", peer=client_address(scope))


def _last_untrusted(scope: Scope, trusted: TrustedProxies, nearest: str) -> str:
    """Walk the hops from the nearest on, as far as each was told by somebody trusted."""
    hops = b",".join(value for name, value in scope["headers"] if name == _FORWARDED_FOR)
    for hop in reversed(hops.decode("latin-1").rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]):
        address = _address(hop)
        if address is None:
            # a trusted proxy that writes what is no address ("unknown", "_hidden"): it is the last one known
            break
        nearest = str(address)
        if address not in trusted:
            break
    return nearest


def _network(text: str) -> IPv4Network | IPv6Network:
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        first = IPv4Address(int(network.network_address) & 0xFFFF_FFFF)
        return IPv4Network((first, network.prefixlen - _MAPPED.prefixlen))
    return network


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address, which may have a port; one of IPv4 is the same however IPv6 spells it."""
    text = text.strip()
    if len(text) > _LONGEST_ADDRESS:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == _ONE_COLON:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
