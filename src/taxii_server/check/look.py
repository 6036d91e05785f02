"""What a run was told and what it has found so far; the checks hand on through it."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from taxii_server.check.address import Address
from taxii_server.check.exchange import Answer, Exchange
from taxii_server.check.words import Redaction, plain, shortened


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller asked for. Secrets don't show in a repr."""

    url: str
    client_id: str | None = None
    secret: str | None = field(default=None, repr=False)
    doubt: str | None = None
    """What seems odd about id and secret, and what to do; told if they are refused."""
    token: str | None = field(default=None, repr=False)
    token_url: str | None = None
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    timeout: float = 10.0
    api_root: str | None = None
    collection: str | None = None
    pages: int = 5
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The environment's proxies, as urllib reads them; `no` is where none is used."""

    @property
    def basic(self) -> str | None:
        """The Authorization header of HTTP Basic (RFC 7617)."""
        if self.client_id is None or self.secret is None:
            return None
        pair = f"{self.client_id}:{self.secret}".encode("utf-8", "surrogateescape")
        return f"Basic {base64.b64encode(pair).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Root:
    """An API Root that could be read."""

    url: httpx.URL


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection that is listed."""

    root: Root
    id: str
    alias: str | None
    title: str
    can_read: bool
    can_write: bool

    @property
    def url(self) -> httpx.URL:
        """Where it is."""
        return self.root.url.join(f"collections/{quote(self.id, safe='')}/")


@dataclass(frozen=True, slots=True)
class Item:
    """What is kept of an object."""

    id: str | None
    type: str | None
    form: str
    version: str

    @classmethod
    def of(cls, one: Mapping[str, Any]) -> Item:
        """Read an object of whatever shape; without timestamps its content stands for its version."""
        name, kind, form = one.get("id"), one.get("type"), one.get("spec_version")
        version = one.get("modified") or one.get("created")
        return cls(
            id=name if isinstance(name, str) else None,
            type=kind if isinstance(kind, str) else None,
            form=form if isinstance(form, str) else "2.0 or unnamed",
            version=version if isinstance(version, str) else sha256(repr(one).encode("utf-8", "replace")).hexdigest(),
        )

    @property
    def is_named(self) -> bool:
        """Whether id and type are there, and agree."""
        return self.type is not None and self.id is not None and self.id.startswith(f"{self.type}--")


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a poll."""

    objects: tuple[Item, ...]
    more: bool
    next: str | None
    headers: httpx.Headers
    took: float
    holds_a_list: bool


@dataclass
class Look:
    """The run. What a later check needs is there once the check that finds it has not failed."""

    options: Options
    redacted: Redaction
    address: Address = field(init=False)
    proxy: str | None = field(init=False, default=None)
    tls: ssl.SSLContext = field(init=False)
    certificate: bytes = field(init=False, default=b"")
    http: Exchange = field(init=False)
    first: Answer = field(init=False)
    asks_at: httpx.URL = field(init=False)
    """Where credentials are asked for, so where they can be tried."""
    challenges: tuple[str, ...] = field(init=False, default=())
    is_open: bool = field(init=False, default=False)
    basic_works: bool = field(init=False, default=False)
    basic_refused: bool = field(init=False, default=False)
    token: str | None = field(init=False, default=None, repr=False)
    token_works: bool = field(init=False, default=False)
    way_in: str | None = field(init=False, default=None, repr=False)
    """The Authorization header that the rest is asked with; None where the server is open."""
    root_urls: list[httpx.URL] = field(init=False, default_factory=list)
    roots: list[Root] = field(init=False, default_factory=list)
    listed: bool = field(init=False, default=False)
    """Whether any API Root told its collections, were it none."""
    collections: list[Collection] = field(init=False, default_factory=list)
    polled: Collection = field(init=False)
    limit: int = field(init=False, default=0)
    pages: list[Page] = field(init=False, default_factory=list)

    def quote(self, text: object) -> str:
        """Repeat what the server sent, without our secrets and fit for a terminal."""
        return shortened(plain(self.redacted(text if isinstance(text, str) else repr(text))))

    def hide(self, secret: str) -> None:
        """Keep a secret that came from the server out of what is shown."""
        self.redacted.add(secret)

    async def ask(self, url: httpx.URL, **query: str | int) -> Answer:
        """Ask with the credentials that work."""
        return await self.http.get(url, authorization=self.way_in, query=query)
