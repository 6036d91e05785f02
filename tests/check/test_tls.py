"""TLS (§8.2.2): each fault of a certificate is told apart, and no credentials travel over what isn't verified."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from taxii_server.check.results import Outcome
from tests.check.certificates import HOST, Authority, Certified, certified
from tests.check.conftest import look_at
from tests.check.fake import FakeServer, fake_server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def leaf(authority: Authority) -> Certified:
    """A certificate with nothing wrong."""
    return certified("taxii.example", authority.intermediate)


def test_a_verified_chain(authority: Authority, leaf: Certified) -> None:
    """All is well, and version, authority and days left are told."""
    with fake_server(tls=authority.serving(leaf, authority.intermediate)) as fake:
        looked = look_at(fake.url, ca_file=authority.trusted)

    assert (looked.faults, looked.warnings) == ([], [])
    assert looked.of("tls.version").seen.startswith("TLSv1.3, ")
    assert "Authority of the tests" in looked.of("tls.chain").seen
    assert "36" in looked.of("tls.expiry").seen


def refused(fake: FakeServer, authority: Authority | None) -> tuple[list[str], str, str]:
    """Look at a server whose TLS is not to be trusted: which checks say so, in which words."""
    looked = look_at(fake.url, **({"ca_file": authority.trusted} if authority else {}))
    assert fake.asked == []
    assert looked.of("basic").outcome is Outcome.SKIPPED
    worst = looked.of(looked.faults[0])
    return looked.faults, worst.seen, str(worst.remedy)


def test_an_expired_certificate(authority: Authority) -> None:
    """The chain and the name are well, and are said to be."""
    old = certified("old", authority.intermediate, days=-10)
    with fake_server(tls=authority.serving(old, authority.intermediate)) as fake:
        faults, seen, remedy = refused(fake, authority)

    assert faults == ["tls.expiry"]
    assert "10 days ago" in seen
    assert "renew" in remedy


def test_a_certificate_that_is_not_valid_yet(authority: Authority) -> None:
    """This machine's own clock may be the one that is wrong."""
    young = certified("young", authority.intermediate, since=3)
    with fake_server(tls=authority.serving(young, authority.intermediate)) as fake:
        faults, _, remedy = refused(fake, authority)

    assert faults == ["tls.expiry"]
    assert "clock" in remedy


def test_a_certificate_that_ends_soon(authority: Authority) -> None:
    """Below thirty days is a warning."""
    soon = certified("soon", authority.intermediate, days=12.5)
    with fake_server(tls=authority.serving(soon, authority.intermediate)) as fake:
        looked = look_at(fake.url, ca_file=authority.trusted)

    assert (looked.faults, looked.warnings) == ([], ["tls.expiry"])
    assert "12 days left" in looked.of("tls.expiry").seen


def test_a_certificate_for_another_host(authority: Authority) -> None:
    """Which names it is for is told."""
    other = certified("other", authority.intermediate, host="elsewhere.example")
    with fake_server(tls=authority.serving(other, authority.intermediate)) as fake:
        faults, seen, _ = refused(fake, authority)

    assert faults == ["tls.name"]
    assert seen == f"the certificate is for elsewhere.example, not for {HOST}"


def test_a_self_signed_certificate(authority: Authority) -> None:
    """Anybody could have made it; given as --ca-file it is trusted."""
    own = certified("own")
    with fake_server(tls=authority.serving(own)) as fake:
        faults, seen, remedy = refused(fake, None)
        looked = look_at(fake.url, ca_file=authority.files(own)[0])

    assert faults == ["tls.chain"]
    assert "self-signed" in seen
    assert "--ca-file" in remedy
    assert looked.faults == []


def test_an_incomplete_chain(authority: Authority, leaf: Certified) -> None:
    """The server sends its certificate alone, and the client knows the root only."""
    with fake_server(tls=authority.serving(leaf)) as fake:
        faults, seen, remedy = refused(fake, authority)

    assert faults == ["tls.chain"]
    assert "incomplete" in seen
    assert "full chain" in remedy


@pytest.mark.parametrize("root_too", [True, False])
def test_an_unknown_authority(authority: Authority, leaf: Certified, root_too: bool) -> None:
    """The alliance's own, or that of a proxy which inspects TLS."""
    chain = (authority.intermediate, authority.root) if root_too else (authority.intermediate,)
    with fake_server(tls=authority.serving(leaf, *chain)) as fake:
        faults, seen, remedy = refused(fake, None)

    assert faults == ["tls.chain"]
    assert "Authority of the tests, an authority that is not among this machine's" in seen
    assert "--ca-file" in remedy


def test_several_faults_at_once(authority: Authority) -> None:
    """Each is named: mending one after the other takes days."""
    worst = certified("worst", host="elsewhere.example", days=-1)
    with fake_server(tls=authority.serving(worst)) as fake:
        faults, _, _ = refused(fake, None)

    assert faults == ["tls.chain", "tls.name", "tls.expiry"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls(authority: Authority, leaf: Certified) -> None:
    """TLS 1.1 is refused, and named."""
    context = authority.serving(leaf, authority.intermediate)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with fake_server(tls=context) as fake:
        faults, seen, remedy = refused(fake, authority)

    assert faults == ["tls.version"]
    assert "TLSv1.1" in seen
    assert "TLS 1.2" in remedy


def test_no_tls_at_all() -> None:
    """https:// to a port that speaks plain HTTP."""
    with fake_server() as fake:
        looked = look_at(fake.url.replace("http:", "https:"))

    assert looked.faults == ["tls.version"]
    assert "doesn't speak TLS" in looked.of("tls.version").seen


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_wants_a_certificate(authority: Authority, leaf: Certified, newest: ssl.TLSVersion) -> None:
    """Without one it is said how to give it; with it all is well."""
    context = authority.serving(leaf, authority.intermediate)
    context.maximum_version = newest
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.trusted)
    mine = authority.files(certified("bank", authority.intermediate), authority.intermediate)
    with fake_server(tls=context) as fake:
        without = look_at(fake.url, ca_file=authority.trusted)
        asked = list(fake.asked)
        looked = look_at(fake.url, ca_file=authority.trusted, client_cert=mine[0], client_key=mine[1])

    assert len(without.faults) == 1
    assert "--client-cert" in str(without.of(without.faults[0]).remedy)
    assert asked == []
    assert looked.faults == []


def test_a_port_that_says_nothing() -> None:
    """A handshake that never ends is given up."""
    with socket.create_server((HOST, 0)) as silent:
        looked = look_at(f"https://{HOST}:{silent.getsockname()[1]}/", timeout=0.3)

    assert looked.faults == ["tls.version"]
    assert "0.3 s" in looked.of("tls.version").seen


@contextmanager
def proxy(port: int, status: bytes = b"200 OK") -> Iterator[tuple[str, list[bytes]]]:
    """Run a proxy that tunnels everything to one port."""
    heads: list[bytes] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while octets := await reader.read(65_536):
                writer.write(octets)
                await writer.drain()
        writer.close()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 " + status + b"\r\n\r\n")
            if status.startswith(b"200"):
                there = await asyncio.open_connection(HOST, port)
                await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(tunnel, HOST, 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def stop() -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    try:
        yield f"{HOST}:{server.sockets[0].getsockname()[1]}", heads
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def test_through_a_proxy(authority: Authority) -> None:
    """The proxy looks the name up; TLS is judged through its tunnel. Its password is nowhere shown."""
    named = certified("named", authority.intermediate, host="taxii.example.test")
    with (
        fake_server(tls=authority.serving(named, authority.intermediate)) as fake,
        proxy(fake.port) as (where, heads),
    ):
        fake.url = "https://taxii.example.test"
        proxies = {"https": f"http://clerk:proxy-pass%21@{where}/"}
        looked = look_at("taxii.example.test", ca_file=authority.trusted, proxies=proxies)

    assert looked.faults == []
    assert looked.of("dns").outcome is Outcome.SKIPPED
    assert where in looked.of("proxy").seen
    assert "proxy-pass" not in looked.text
    assert heads
    assert all(b"CONNECT taxii.example.test:443" in head and b"Proxy-Authorization: Basic" in head for head in heads)


def test_a_proxy_that_refuses(authority: Authority) -> None:
    """Whom to ask is told."""
    with proxy(1, b"407 Proxy Authentication Required") as (where, _):
        looked = look_at("https://taxii.example.test/", proxies={"all": f"http://{where}"})

    assert looked.faults == ["tls.version"]
    assert "407 Proxy Authentication Required" in looked.of("tls.version").seen


@pytest.mark.parametrize("named", ["socks5://127.0.0.1:1", "https://127.0.0.1:1", "http://[::1", "http://:3128", "://"])
def test_a_proxy_of_another_kind(named: str) -> None:
    """It is named, not tried."""
    looked = look_at("https://taxii.example.test/", proxies={"https": named})

    assert looked.faults == ["proxy"]


def test_no_proxy_for_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_PROXY counts."""
    monkeypatch.setenv("NO_PROXY", "example.test")
    monkeypatch.setattr(socket, "getaddrinfo", _nobody)
    looked = look_at("https://taxii.example.test/", proxies={"https": "http://127.0.0.1:1", "no": "example.test"})

    assert "NO_PROXY" in looked.of("proxy").seen
    assert looked.faults == ["dns"]


def _nobody(*_: object, **__: object) -> object:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_a_file_of_authorities_counts_alone(authority: Authority, leaf: Certified, tmp_path: Path) -> None:
    """--ca-file takes the place of the system's authorities."""
    other = tmp_path / "other.pem"
    other.write_bytes(certified("Another root", authority=True).pem)
    with fake_server(tls=authority.serving(leaf, authority.intermediate)) as fake:
        looked = look_at(fake.url, ca_file=other)

    assert looked.faults == ["tls.chain"]
    assert str(other) in looked.of("tls.chain").seen
