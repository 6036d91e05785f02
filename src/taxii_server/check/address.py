"""The URL as people paste it: a host, discovery, an API Root, a collection, its objects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Final

import httpx

_HAS_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_COLLECTION: Final = re.compile(r"(?P<root>.*?/)collections(?:/(?P<collection>[^/]+)(?:/.*)?)?/?")
_STATUS: Final = re.compile(r"(?P<root>.*?/)status/[^/]+/?")
_DISCOVERY: Final = "/taxii2/"
_PORTS: Final = {"http": 80, "https": 443}


class AddressError(ValueError):
    """The text is no URL of a TAXII server; the message says why."""


class Kind(StrEnum):
    """What a URL names. A path without a known shape may be an API Root, or discovery in another place."""

    HOST = "a host; discovery is looked for at /taxii2/"
    DISCOVERY = "discovery"
    COLLECTION = "a collection"
    COLLECTIONS = "an API Root's collections"
    PATH = "a path, so an API Root"


@dataclass(frozen=True, slots=True)
class Address:
    """A URL, taken apart. `base` is the server without a path, `start` what is asked first."""

    kind: Kind
    base: httpx.URL
    start: httpx.URL
    root: httpx.URL | None
    collection: str | None
    scheme_assumed: bool
    had_credentials: bool

    @property
    def host(self) -> str:
        """The name or address, as it goes into DNS and TLS."""
        return self.base.raw_host.decode("ascii")

    @property
    def port(self) -> int:
        """The port, also where the URL leaves it out."""
        return self.base.port or _PORTS[self.base.scheme]

    @property
    def https(self) -> bool:
        """Whether the way there is encrypted."""
        return self.base.scheme == "https"

    @property
    def discovery(self) -> httpx.URL:
        """Where discovery is: at the server's root (§8.2.1), or where the URL says."""
        return self.start if self.kind is Kind.DISCOVERY else self.base.copy_with(path=_DISCOVERY)


def parse(text: str) -> Address:
    """Take a URL apart.

    Raises:
        AddressError: if it can't be one.
    """
    given = text.strip()
    assumed = _HAS_SCHEME.match(given) is None
    if assumed:
        given = f"{'http' if is_loopback(_host_of(given)) else 'https'}://{given}"
    url = _url(given)
    if url.scheme not in _PORTS:
        raise AddressError(f"it begins with {url.scheme}://, and TAXII is spoken over https://")
    if not url.host:
        raise AddressError("it names no host")
    path = url.path or "/"
    base = httpx.URL(scheme=url.scheme, host=url.host, port=url.port, path="/")
    kind, start, root, collection = _kind(path if path.endswith("/") else f"{path}/")
    return Address(
        kind=kind,
        base=base,
        start=base.copy_with(path=start),
        root=None if root is None else base.copy_with(path=root),
        collection=collection,
        scheme_assumed=assumed,
        had_credentials=bool(url.userinfo),
    )


def _url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
        url.raw_host.decode("ascii")
    except (httpx.InvalidURL, ValueError, TypeError) as error:
        raise AddressError("it can't be read as a URL") from error
    return url


def _host_of(text: str) -> str:
    try:
        return httpx.URL(f"https://{text}").host
    except (httpx.InvalidURL, ValueError):
        return ""


def _kind(path: str) -> tuple[Kind, str, str | None, str | None]:
    if path == "/":
        return Kind.HOST, _DISCOVERY, None, None
    if path.endswith(_DISCOVERY):
        return Kind.DISCOVERY, path, None, None
    if parts := _COLLECTION.fullmatch(path):
        kind = Kind.COLLECTION if parts["collection"] else Kind.COLLECTIONS
        return kind, parts["root"], parts["root"], parts["collection"]
    if parts := _STATUS.fullmatch(path):
        return Kind.PATH, parts["root"], parts["root"], None
    return Kind.PATH, path, path, None


def is_loopback(host: str) -> bool:
    """Whether what is sent to this host stays on the machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether both are the same scheme, host and port, so that credentials for one may go to the other."""

    def origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
        return url.scheme, url.raw_host.lower(), url.port or _PORTS.get(url.scheme)

    return origin(one) == origin(other)
