"""The URLs of API Roots (§4.1.1, §4.2): what can stand in alliance.yaml makes good ones, and nothing else can stand there."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.domain.errors import AllianceInvalid
from taxii_server.operations import alliance_file
from tests.taxii.alliance import PUBLIC_URL, Exchange


def named(*slugs: str) -> alliance_file.Alliance:
    """Read a file with trust groups of these names."""
    groups = "".join(f"  {slug}: {{title: T}}\n" for slug in slugs)
    return alliance_file.parse(f"trust_groups:\n{groups}members: {{}}\n")


@pytest.mark.parametrize(
    "slug",
    [
        "/",
        "//evil.example",
        "../up",
        "..",
        ".",
        "a/b",
        "a?b=1",
        "'a#b'",
        "a%2Fb",
        "a b",
        "Ünïcode",
        "'https://a.example'",
    ],
)
def test_a_trust_group_can_be_named_by_nothing_but_a_path_segment(slug: str) -> None:
    """§4.1.1, App. B: no `//`, no `../`, no query, nothing that a client could read in two ways."""
    with pytest.raises(AllianceInvalid):
        named(slug)


def test_no_two_trust_groups_share_a_url() -> None:
    """§4.2: each API Root has its own."""
    with pytest.raises(AllianceInvalid, match="the first is in line 2"):
        named("fraud-intel", "fraud-intel")


@given(slug=st.from_regex(alliance_file.SLUG, fullmatch=True))
def test_any_name_is_one_segment_as_it_stands(slug: str) -> None:
    """§4.1.1: put into a URL it needs no encoding and changes no other part of it."""
    root = httpx.URL(f"https://taxii.example.org/taxii2/{slug}/")

    assert str(root) == f"https://taxii.example.org/taxii2/{slug}/"
    assert (root.host, root.path, root.query, root.fragment) == ("taxii.example.org", f"/taxii2/{slug}/", b"", "")


@pytest.mark.anyio
@pytest.mark.parametrize("member", ["north", "constabulary"])
async def test_every_advertised_root_is_an_absolute_url(exchange: Exchange, member: str) -> None:
    """§4.1.1: absolute, below this server's public URL, with a last slash and without a query."""
    discovery = (await exchange.get("/taxii2/", member)).json()

    for root in [*discovery["api_roots"], discovery["default"]]:
        parts = urlsplit(root)
        assert f"{parts.scheme}://{parts.netloc}" == PUBLIC_URL
        assert parts.path.startswith("/taxii2/")
        assert parts.path.endswith("/")
        assert (parts.query, parts.fragment) == ("", "")
