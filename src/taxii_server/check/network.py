"""The way to the server: URL, proxy, DNS, TCP."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic
from typing import Final
from urllib.request import proxy_bypass

import httpx

from taxii_server.check import address
from taxii_server.check.address import AddressError, is_loopback
from taxii_server.check.look import Look
from taxii_server.check.results import Finding, fault, good, skipped, warning
from taxii_server.check.words import listed

_HTTP_PROXY: Final = "http"


async def url(look: Look) -> Finding:
    """What was pasted, and whether credentials may travel there at all."""
    try:
        given = address.parse(look.options.url)
    except AddressError as error:
        return fault(
            f"{look.quote(look.options.url)}: {error}",
            "Give the URL the operator gave you, like https://taxii.example.org/taxii2/.",
        )
    look.address = given
    seen = f"{look.quote(str(given.base))[:-1]}{look.quote(given.start.path)}: {given.kind}"
    if not given.https and not is_loopback(given.host):
        return fault(
            f"{seen}, over plain HTTP, where everybody on the way can read secrets and alter indicators; nothing was sent",
            f"Use https://{look.quote(given.base.host)}/ and ask the operator for it if there is none.",
        )
    if given.had_credentials:
        return warning(
            f"{seen}; the name and password in it were left out",
            "Take them out of the URL: logs and shell histories keep URLs. Give the name with --client.",
        )
    if given.scheme_assumed:
        return good(f"{seen}; {given.base.scheme}:// was assumed")
    return good(seen)


async def proxy(look: Look) -> Finding:
    """Which proxy the environment names for this host."""
    where = look.address
    if is_loopback(where.host):
        return good("none, for this machine itself")
    proxies = look.options.proxies
    named = proxies.get(where.base.scheme) or proxies.get("all")
    if not named:
        return good("none named by the environment")
    if proxy_bypass(f"{where.host}:{where.port}"):
        return good("none for this host, by NO_PROXY")
    try:
        parsed = httpx.URL(named if "://" in named else f"http://{named}")
    except (httpx.InvalidURL, ValueError):
        return fault(
            "the environment's HTTPS_PROXY can't be read as a URL", "Write it like http://proxy.bank.example:3128."
        )
    shown = look.quote(f"{parsed.scheme}://{parsed.host}:{parsed.port or 80}")
    if parsed.scheme != _HTTP_PROXY or not parsed.host:
        return fault(
            f"{shown}, by the environment: a kind of proxy that this check doesn't speak",
            "Set HTTPS_PROXY to an http:// proxy, or name the host in NO_PROXY if it can be reached directly.",
        )
    look.proxy = str(parsed.copy_with(port=parsed.port or 80, path="/"))
    secret = " with a name and password" if parsed.userinfo else ""
    return good(f"{shown}{secret}, by the environment")


async def names(look: Look) -> Finding:
    """Host to addresses."""
    where = look.address
    if look.proxy is not None:
        return skipped("the proxy looks the name up")
    try:
        async with asyncio.timeout(look.options.timeout):
            found = await asyncio.get_running_loop().getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    except TimeoutError:
        return fault(
            f"no answer about {where.host} within {look.options.timeout:g} s", "Ask your network's people about DNS."
        )
    except (OSError, UnicodeError) as error:
        return fault(f"{look.quote(where.host)} has no address ({_said(error)})", _remedy(error))
    addresses = tuple(dict.fromkeys(str(one[4][0]) for one in found))
    return good(listed(addresses))


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _remedy(error: Exception) -> str:
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return (
            "Look at the spelling first. Otherwise this machine's DNS doesn't answer or doesn't look up outside names: "
            "ask your network's people, or set HTTPS_PROXY if a proxy leads out."
        )
    return (
        "Look at the spelling. If it is right, this machine may not look up outside names: ask your network's people, "
        "or set HTTPS_PROXY if a proxy leads out."
    )


async def connection(look: Look) -> Finding:
    """A TCP connection, to each address."""
    where = look.address
    via = httpx.URL(look.proxy) if look.proxy else None
    host, port = (via.host, via.port or 80) if via else (where.host, where.port)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return fault(f"the proxy {look.quote(host)} has no address ({_said(error)})", "Look at HTTPS_PROXY.")
    addresses = tuple(dict.fromkeys(str(one[4][0]) for one in found))[:4]
    tried = await asyncio.gather(*(_connect(one, port, look.options.timeout) for one in addresses))
    reached = {one: said for one, said in zip(addresses, tried, strict=True) if isinstance(said, float)}
    failed = {one: said for one, said in zip(addresses, tried, strict=True) if isinstance(said, str)}
    what = "the proxy" if via else "port"
    if not reached:
        seen = listed(f"{one}: {said}" for one, said in failed.items())
        return fault(
            f"{what} {port} can't be reached ({seen})" if not via else f"the proxy: {seen}", _unreached(failed)
        )
    fastest = min(reached, key=reached.__getitem__)
    seen = f"{'the proxy, ' if via else ''}{fastest} port {port}, in {reached[fastest] * 1000:.0f} ms"
    if failed:
        return warning(
            f"{seen}; but {listed(f'{one}: {said}' for one, said in failed.items())}",
            "Clients may try the address that fails first. Tell the operator, or your network's people.",
        )
    return good(seen)


def _unreached(failed: dict[str, str]) -> str:
    if "refused" in failed.values():
        return "The host is there but nothing listens on this port: look at the port, and ask the operator whether the server runs."
    return "A firewall may be in between: ask your network's people to let this machine out, and the operator to let you in."


async def _connect(host: str, port: int, patience: float) -> float | str:
    """Give the seconds it took, or what happened."""
    started = monotonic()
    try:
        async with asyncio.timeout(patience):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"no answer within {patience:g} s"
    except ConnectionRefusedError:
        return "refused"
    except OSError as error:
        return _said(error)
    took = monotonic() - started
    writer.transport.abort()
    return took
