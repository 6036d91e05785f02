"""The files that pages are made of: which, from where, how long a browser may keep them, and nothing beside them."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from taxii_server.site import asset_files

if TYPE_CHECKING:
    from tests.taxii.alliance import Exchange

ROOT = Path(__file__).parents[2]
SITE = ROOT / "src" / "taxii_server" / "site"
VENDOR = SITE / "assets" / "vendor"
MANIFEST = json.loads((VENDOR / "manifest.json").read_text("utf-8"))
NAMES = sorted(asset_files.contents())


def test_what_others_published_is_exactly_what_was_recorded() -> None:
    """Each copy has its digest, and nothing lies beside them."""
    recorded = {name: digest for package in MANIFEST.values() for name, digest in package["sha256"].items()}
    found = {one.name: sha256(one.read_bytes()).hexdigest() for one in VENDOR.iterdir() if one.name != "manifest.json"}

    assert found == recorded


def test_the_copies_are_of_the_locked_versions() -> None:
    """package.json, its lock and the copies agree; the lock has a digest of every package and names no host."""
    wanted = json.loads((ROOT / "frontend/package.json").read_text("utf-8"))["devDependencies"]
    lock = (ROOT / "frontend/package-lock.json").read_text("utf-8")
    packages = {name: one for name, one in json.loads(lock)["packages"].items() if name}

    assert {name: one["version"] for name, one in MANIFEST.items()} == wanted
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    assert [name for name, one in packages.items() if not one["integrity"].startswith("sha512-")] == []
    assert '"resolved"' not in lock


def test_the_licences_come_along() -> None:
    """Of every package, and of what it is built from."""
    for package in MANIFEST.values():
        names = set(package["sha256"])
        scripts = {name for name in names if name.endswith(".js")}
        assert any(name.endswith(".LICENSE.txt") and name.removesuffix(".LICENSE.txt") not in scripts for name in names)
        assert {f"{name}.LICENSE.txt" for name in scripts} <= names


@pytest.mark.parametrize("name", NAMES)
def test_no_file_sends_a_browser_elsewhere_by_itself(name: str) -> None:
    """No map for debuggers, no style, font or image of another host; our own files name none at all."""
    text = asset_files.contents()[name].decode("utf-8")

    assert "cdn." not in text
    assert "sourceMappingURL=" not in text.rsplit("\n", 1)[-1]
    if name.endswith(".css"):
        assert re.findall(r"@import|url\((?!\s*[\"']?data:)", text) == []
    if not (VENDOR / name).exists():
        assert re.sub(r'xmlns="http://www\.w3\.org/2000/svg"', "", text).count("//www") == 0
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []


def test_no_template_names_another_host() -> None:
    """Whatever a page loads or links comes from here."""
    named = {one.name: re.findall(r"https?:|[\"']//", one.read_text("utf-8")) for one in (SITE / "templates").iterdir()}

    assert named
    assert {name for name, found in named.items() if found} == set()


@pytest.mark.anyio
@pytest.mark.parametrize("name", NAMES)
async def test_an_asset_may_be_kept_for_good(exchange: Exchange, name: str) -> None:
    """Its URL changes with the contents; text comes as what it is, and as nothing else."""
    answer = await exchange.http.get(asset_files.url(name))

    kind = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "txt": "text/plain"}
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == kind[name.rpartition(".")[2]]
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content == asset_files.contents()[name]


@pytest.mark.anyio
async def test_a_page_of_another_release_gets_the_present_files(exchange: Exchange) -> None:
    """While nodes are upgraded a page may come from one and its files from another; those are not kept."""
    answer = await exchange.http.get("/assets/0123456789abcdef/site.css")

    assert answer.content == asset_files.contents()["site.css"]
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.anyio
async def test_an_asset_that_is_known_is_not_sent_again(exchange: Exchange) -> None:
    """RFC 9110 §13.1.2; its tag is the same packed and plain, as every tag here."""
    url = asset_files.url("swagger-ui-bundle.js")
    first = [await exchange.http.get(url, headers={"Accept-Encoding": coding}) for coding in ("gzip", "identity")]
    (tag,) = {answer.headers["etag"] for answer in first}
    again = await exchange.http.get(url, headers={"If-None-Match": tag})

    assert again.status_code == 304
    assert again.content == b""


@pytest.mark.anyio
async def test_large_assets_travel_packed(exchange: Exchange) -> None:
    """Three megabytes of scripts are one on the wire."""
    for name in ("swagger-ui-bundle.js", "redoc.standalone.js", "swagger-ui.css"):
        answer = await exchange.http.get(asset_files.url(name), headers={"Accept-Encoding": "gzip"})

        assert answer.headers["content-encoding"] == "gzip"
        assert "Accept-Encoding" in answer.headers["vary"]
        assert int(answer.headers["content-length"]) < len(asset_files.contents()[name]) / 2
        assert answer.content == asset_files.contents()[name]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "path",
    [
        "../pages.py",
        "../../../app.py",
        "..%2fpages.py",
        "%2e%2e/pages.py",
        "%2e%2e%2f%2e%2e%2fsettings.py",
        "..%5cpages.py",
        "vendor/redoc.standalone.js",
        "vendor%2fredoc.standalone.js",
        "manifest.json",
        "//etc/passwd",
        "%2fetc%2fpasswd",
        "site.css%00",
        "site.css/",
        "SITE.CSS",
        "",
    ],
)
async def test_no_other_file_can_be_reached(exchange: Exchange, path: str) -> None:
    """Files are found in a table, not in the file system."""
    for version in (asset_files.version(), "x"):
        answer = await exchange.http.get(f"/assets/{version}/{path}")

        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
