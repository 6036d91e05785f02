"""Client certificates through a real nginx with the configuration that is handed out (deploy/nginx), and round it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from taxii_server.auth import certificates
from taxii_server.domain.errors import OperatorError
from tests.auth.certified import AUTHORITY, byte_sequence, certificate, escaped_pem, padding, thumbprint, usage
from tests.check.certificates import Certified, certified
from tests.factories import indicator
from tests.taxii.alliance import TAXII, basic
from tests.taxii.live import live_server
from tests.taxii.nginx import nginx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from cryptography import x509

    from taxii_server.storage.embedded import DatabaseUrls
    from tests.auth.alliance import Issued
    from tests.check.certificates import Authority
    from tests.taxii.live import Live

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

HEADER = "X-Client-Cert"


@dataclass
class Proxied:
    """A server, nginx in front of it, a client with a certificate, and that certificate."""

    live: Live
    url: str
    authority: Authority
    client: Issued
    own: Certified

    def context(self, shown: Certified | None, **versions: Any) -> ssl.SSLContext:
        """Speak TLS as a client, with a certificate if it has one."""
        context = ssl.create_default_context(cafile=str(self.authority.trusted))
        if shown is not None:
            context.load_cert_chain(*self.authority.files(shown))
        for name, value in versions.items():
            setattr(context, name, value)
        return context

    async def ask(
        self,
        method: str,
        path: str,
        shown: Certified | None = None,
        *,
        context: ssl.SSLContext | None = None,
        **options: Any,
    ) -> httpx.Response:
        """Send a request over a connection of its own."""
        async with httpx.AsyncClient(verify=context or self.context(shown), timeout=30) as http:
            headers = [("Accept", TAXII), *options.pop("headers", [])]
            return await http.request(method, self.url + path, headers=headers, **options)

    async def poll(self, shown: Certified | None = None, **options: Any) -> int:
        return (await self.ask("GET", self.live.path(), shown, **options)).status_code

    async def token(self, shown: Certified | None, **form: str) -> httpx.Response:
        form = {"grant_type": "client_credentials", "client_id": self.client.client_id} | form
        return await self.ask("POST", "/oauth2/token", shown, data=form)

    async def direct(self, address: str, *headers: tuple[str, str]) -> int:
        """Poll the server itself, past nginx, from an address of this machine."""
        transport = httpx.AsyncHTTPTransport(local_address=address)
        async with httpx.AsyncClient(transport=transport, base_url=self.live.base_url) as http:
            return (await http.get(self.live.path(), headers=[("Accept", TAXII), *headers])).status_code


@pytest.fixture
async def proxied(fresh_database_urls: DatabaseUrls, tmp_path: Path) -> AsyncIterator[Proxied]:
    over = {"trusted_proxies": ("127.0.0.1",), "client_cert_header": HEADER}
    async with (
        live_server(fresh_database_urls, **over) as live,
        nginx(tmp_path, live.port) as (url, authority),
    ):
        client = live.alliance.client("north")
        own = certified("siem")
        live.alliance.certificate(client.row, own.certificate)
        live.alliance.must_show(client.row, "certificate")
        yield Proxied(live, url, authority, client, own)


async def test_a_client_polls_pushes_and_gets_a_token_by_its_certificate(proxied: Proxied) -> None:
    """No secret anywhere; the token it gets is good with the certificate alone (RFC 8705 §2.2, §3)."""
    pushed = await proxied.ask(
        "POST", proxied.live.path(), proxied.own, json={"objects": [indicator()]}, headers=[("Content-Type", TAXII)]
    )
    polled = await proxied.ask("GET", proxied.live.path(), proxied.own)
    got = await proxied.token(proxied.own)
    bearer = ("Authorization", f"Bearer {got.json()['access_token']}")

    assert pushed.status_code == 202
    assert pushed.json()["failure_count"] == 0
    assert len(polled.json()["objects"]) == 1
    assert await proxied.poll(proxied.own, headers=[bearer]) == 200
    assert await proxied.poll(None, headers=[bearer]) == 401
    assert await proxied.poll(certified("thief"), headers=[bearer]) == 401
    assert await proxied.direct("127.0.0.2", bearer, (HEADER, escaped_pem(proxied.own.certificate))) == 401


async def test_who_shows_nothing_that_holds_is_refused(proxied: Proxied) -> None:
    """No certificate, one of nobody's, and one whose time is over: by nginx itself or by the server."""
    assert await proxied.poll() == 401
    assert await proxied.poll(certified("stranger")) == 401
    late = certified("late", days=-1)
    proxied.live.alliance.certificate(proxied.client.row, late.certificate)
    assert await proxied.poll(late) in {400, 401}
    assert (await proxied.token(certified("stranger"))).json()["error"] == "invalid_client"
    assert (await proxied.token(None)).json()["error"] == "invalid_client"


@pytest.mark.parametrize("name", [HEADER, HEADER.lower(), HEADER.replace("-", "_"), "X_Client-Cert"])
async def test_nginx_lets_no_client_speak_for_itself(proxied: Proxied, name: str) -> None:
    """Whatever spelling of the header a client sends, and however often: nginx puts its own word in its place."""
    for value in (escaped_pem(proxied.own.certificate), byte_sequence(proxied.own.certificate)):
        for shown in (None, certified("stranger")):
            assert await proxied.poll(shown, headers=[(name, value)]) == 401
            assert await proxied.poll(shown, headers=[(name, value), (name, value)]) == 401
        assert await proxied.poll(proxied.own, headers=[(name, "nonsense")]) == 200


async def test_from_anywhere_else_the_header_is_nobody_s_word(proxied: Proxied) -> None:
    """Past nginx, from an address that isn't trusted, it counts for nothing; twice, it counts from nobody."""
    header = (HEADER, escaped_pem(proxied.own.certificate))
    forwarded = ("X-Forwarded-For", "127.0.0.1")

    assert await proxied.direct("127.0.0.2", header) == 401
    assert await proxied.direct("127.0.0.2", header, forwarded) == 401
    assert await proxied.direct("127.0.0.2", (HEADER, "nonsense")) == 401
    assert await proxied.direct("127.0.0.1", header) == 200
    assert await proxied.direct("127.0.0.1", header, header) == 401
    assert await proxied.direct("127.0.0.1", ("X_Client_Cert", header[1])) == 401


async def test_what_is_taken_away_is_refused_by_the_next_request(proxied: Proxied) -> None:
    """On a connection that goes on: the certificate, its client, its member; what it had got is no way round."""
    alliance = proxied.live.alliance
    bearer = {"Authorization": f"Bearer {(await proxied.token(proxied.own)).json()['access_token']}"}
    async with httpx.AsyncClient(verify=proxied.context(proxied.own), base_url=proxied.url) as http:

        async def statuses() -> list[int]:
            path = proxied.live.path()
            return [(await http.get(path, headers={"Accept": TAXII} | more)).status_code for more in ({}, bearer)]

        assert await statuses() == [200, 200]
        alliance.execute("UPDATE members SET suspended_at = now() WHERE slug = 'north'")
        assert await statuses() == [401, 401]
        alliance.execute("UPDATE members SET suspended_at = NULL")
        alliance.execute("DELETE FROM client_certificates WHERE thumbprint = %s", thumbprint(proxied.own.certificate))
        assert await statuses() == [401, 401]
        alliance.certificate(proxied.client.row, proxied.own.certificate)
        assert await statuses() == [200, 200]
        alliance.execute("UPDATE clients SET revoked_at = now()")
        assert await statuses() == [401, 401]


async def test_a_secret_goes_on_without_a_certificate(proxied: Proxied) -> None:
    """Others aren't asked for one, and who must show both needs both."""
    plain = proxied.live.clients["harbour"]
    both = proxied.live.alliance.client("north")
    second = certified("second")
    proxied.live.alliance.certificate(both.row, second.certificate)
    proxied.live.alliance.must_show(both.row, "both")
    with_secret = list(basic(both.client_id, both.secret).items())

    assert await proxied.poll(headers=list(basic(plain.client_id, plain.secret).items())) == 200
    assert await proxied.poll(certified("any"), headers=list(basic(plain.client_id, plain.secret).items())) == 200
    assert await proxied.poll(second, headers=with_secret) == 200
    assert await proxied.poll(second) == 401
    assert await proxied.poll(headers=with_secret) == 401
    assert await proxied.poll(proxied.own, headers=with_secret) == 401


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "ciphers", "accepted"),
    [
        (ssl.TLSVersion.TLSv1_3, None, True),
        (ssl.TLSVersion.TLSv1_2, None, True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256", False),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-SHA", False),
        (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256:@SECLEVEL=0", False),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", False),
    ],
    ids=str,
)
async def test_tls_is_as_the_standard_asks(
    proxied: Proxied, version: ssl.TLSVersion, ciphers: str | None, accepted: bool
) -> None:
    """§8.2.2: TLS 1.2 and 1.3 with the certificate; nothing older, none of RFC 7540 Appendix A."""
    context = proxied.context(proxied.own)
    context.minimum_version = context.maximum_version = version
    if ciphers is not None:
        context.set_ciphers(ciphers)

    if accepted:
        assert await proxied.poll(context=context) == 200
    else:
        with pytest.raises(httpx.ConnectError):
            await proxied.poll(context=context)


async def test_a_resumed_session_has_the_certificate_it_began_with(proxied: Proxied) -> None:
    """The proxy need not ask again, and tells the same; what was taken away meanwhile is refused all the same."""
    address = urlsplit(proxied.url)
    context = proxied.context(proxied.own, minimum_version=ssl.TLSVersion.TLSv1_2)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    request = f"GET {proxied.live.path()} HTTP/1.1\r\nHost: x\r\nAccept: {TAXII}\r\nConnection: close\r\n\r\n"

    def ask(session: ssl.SSLSession | None) -> tuple[int, bool, ssl.SSLSession | None]:
        with (
            socket.create_connection(("127.0.0.1", address.port or 0), timeout=30) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as tls,
        ):
            tls.sendall(request.encode())
            status = int(tls.recv(12).split()[1])
            return status, bool(tls.session_reused), tls.session

    status, resumed, session = await asyncio.to_thread(ask, None)
    assert (status, resumed) == (200, False)
    assert (await asyncio.to_thread(ask, session))[:2] == (200, True)
    proxied.live.alliance.execute("DELETE FROM client_certificates")
    assert (await asyncio.to_thread(ask, session))[:2] == (401, True)


async def test_the_log_has_the_client_s_own_address(proxied: Proxied, capsys: pytest.CaptureFixture[str]) -> None:
    """Not what it says of itself; and a word on how it authenticated, nothing of the certificate."""
    transport = httpx.AsyncHTTPTransport(verify=proxied.context(proxied.own), local_address="127.0.0.3")
    async with httpx.AsyncClient(transport=transport, base_url=proxied.url) as http:
        headers = {"Accept": TAXII, "X-Forwarded-For": "6.6.6.6"}
        assert (await http.get(proxied.live.path(), headers=headers)).status_code == 200

    said = capsys.readouterr().out
    assert "credential=certificate" in said
    assert "peer=127.0.0.3" in said
    assert "6.6.6.6" not in said
    assert "CERTIFICATE" not in said


@pytest.mark.parametrize(
    ("extensions", "issuer", "uses", "taken"),
    [
        ([], None, [], True),
        ([], "an authority", [ExtendedKeyUsageOID.CLIENT_AUTH], True),
        ([AUTHORITY], None, [], True),
        ([usage("digital_signature")], None, [], True),
        ([usage("key_agreement")], None, [], True),
        ([padding(10_000)], None, [], True),
        ([usage("key_cert_sign")], None, [], False),
        ([usage("key_encipherment")], None, [], False),
        ([], None, [ExtendedKeyUsageOID.SERVER_AUTH], False),
        ([padding(12_000)], None, [], False),
        ([padding(50_000)], None, [], False),
    ],
    ids=map(str, range(11)),
)
async def test_what_is_taken_for_a_client_is_what_nginx_lets_through(
    proxied: Proxied,
    extensions: list[x509.ExtensionType],
    issuer: str | None,
    uses: list[x509.ObjectIdentifier],
    taken: bool,
) -> None:
    """What is refused when it is registered would be refused with each request, and nobody would know why."""
    key = ec.generate_private_key(ec.SECP256R1())
    own = Certified(certificate("own", key, extensions=extensions, issuer=issuer, uses=uses), key)
    proxied.live.alliance.certificate(proxied.client.row, own.certificate)
    try:
        certificates.of_file(own.pem)
    except OperatorError:
        registered = False
    else:
        registered = True

    assert registered is taken
    status = await proxied.poll(own)
    assert status == 200 if taken else status in {400, 401}


async def test_certificates_overlap_while_one_is_exchanged(proxied: Proxied) -> None:
    """The new one is registered before the old one goes: no request in between is refused."""
    new = certified("next", days=timedelta(days=700).days)
    proxied.live.alliance.certificate(proxied.client.row, new.certificate)

    assert await proxied.poll(proxied.own) == 200
    assert await proxied.poll(new) == 200
    proxied.live.alliance.execute(
        "DELETE FROM client_certificates WHERE thumbprint = %s", thumbprint(proxied.own.certificate)
    )
    assert await proxied.poll(proxied.own) == 401
    assert await proxied.poll(new) == 200
