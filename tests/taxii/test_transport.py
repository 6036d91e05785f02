"""TLS (§8.2.2): what `taxii-server serve` accepts on a real port, with an RSA certificate, which would allow the most."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.cli.processes import taxii_server
from tests.parts import need

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taxii_server.storage.embedded import DatabaseUrls

HOST = "127.0.0.1"
# whatever OpenSSL could be talked into, without regard to its strength
ANYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
# RFC 7540 Appendix A lists every suite of TLS 1.2 but these: ephemeral key exchange with an AEAD cipher
GOOD = re.compile(r"(ECDHE|DHE)-.*(GCM|CHACHA20|CCM).*")

pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(signed.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


@pytest.fixture(scope="module")
def port(
    module_database_urls: DatabaseUrls, certificate: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of a server that speaks TLS."""
    settings = {
        "TAXII_DATABASE_URL": module_database_urls.server,
        "TAXII_SECRET_KEY": "k" * 32,
        "TAXII_VALIDATOR_PROCESSES": "1",
        "TAXII_METRICS_PORT": "0",
        "TAXII_LOG_FORMAT": "json",
    }
    folder = tmp_path_factory.mktemp("serve")
    arguments = ("serve", "--port", "0", "--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1]))
    with taxii_server(*arguments, cwd=folder, settings=settings) as process:
        said = process.wait_for('"event": "serving"')
        found = re.search(rf'"url": "https://{HOST}:(\d+)"', said)
        assert found is not None, said
        yield int(found[1])


def client(least: ssl.TLSVersion, most: ssl.TLSVersion, ciphers: str = ANYTHING) -> ssl.SSLContext:
    """Make a client that looks at nothing but the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers(ciphers)
    context.minimum_version, context.maximum_version = least, most
    return context


def handshake(port: int, context: ssl.SSLContext) -> tuple[str | None, str] | None:
    """Shake hands; give the version and the suite, or None if the server refused."""
    with (
        suppress(ssl.SSLError, ConnectionError),
        socket.create_connection((HOST, port), timeout=10) as plain,
        context.wrap_socket(plain) as made,
    ):
        cipher = made.cipher()
        assert cipher is not None
        return made.version(), cipher[0]
    return None


def test_requests_over_https_are_answered(port: int, certificate: tuple[Path, Path]) -> None:
    """§8.2.2, T-TLS-01: with a certificate that the client checks."""
    trusted = ssl.create_default_context(cafile=str(certificate[0]))

    answer = httpx.get(f"https://{HOST}:{port}/taxii2/", verify=trusted)

    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/taxii+json;version=2.1"
    # RFC 6797: from then on browsers take no other way
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_a_client_without_tls_gets_nothing(port: int) -> None:
    """Plain HTTP on the same port is no way in."""
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{HOST}:{port}/taxii2/")


def test_tls_1_2_is_accepted(port: int) -> None:
    """§8.2.2, T-TLS-02."""
    made = handshake(port, client(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2))

    assert made is not None
    assert made[0] == "TLSv1.2"


def test_tls_1_3_is_accepted_and_preferred(port: int) -> None:
    """§8.2.2, T-TLS-03: a client that knows both gets the newer one."""
    made = handshake(port, client(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3))

    assert made is not None
    assert made[0] == "TLSv1.3"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_versions_are_refused(port: int, version: ssl.TLSVersion) -> None:
    """§8.2.2: nothing before TLS 1.2."""
    assert handshake(port, client(version, version)) is None


def test_no_suite_of_the_black_list_is_accepted(port: int) -> None:
    """§8.2.2, T-TLS-05: every suite of TLS 1.2 that this machine's OpenSSL knows is offered, one by one."""
    offered = {suite["name"] for suite in client(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2).get_ciphers()}
    offered = {name for name in offered if not name.startswith("TLS_")}  # those of TLS 1.3
    accepted = {
        name
        for name in offered
        if handshake(port, client(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2, f"{name}:@SECLEVEL=0"))
    }

    assert {"AES128-GCM-SHA256", "AES128-SHA", "ECDHE-RSA-AES128-SHA256"} <= offered
    assert "ECDHE-RSA-AES128-GCM-SHA256" in accepted
    assert {name for name in accepted if not GOOD.fullmatch(name)} == set()


def test_early_data_is_not_offered(port: int, tmp_path: Path) -> None:
    """§8.2.2, T-TLS-04: a resumed TLS 1.3 session may send no 0-RTT data, and what is sent as such is not taken."""
    need(which("openssl"), "the command openssl")
    session, early = tmp_path / "session.pem", tmp_path / "early"
    request = f"GET /healthz HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    early.write_text(request)
    connect = ["openssl", "s_client", "-connect", f"{HOST}:{port}", "-tls1_3"]

    first = subprocess.run(
        [*connect, "-sess_out", session, "-ign_eof"],
        check=False,
        input=request,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout
    again = subprocess.run(
        [*connect, "-sess_in", session, "-early_data", early],
        check=False,
        input="",
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert '{"status":"ok"}' in first
    assert session.exists()
    assert set(re.findall(r"Max Early Data: (\d+)", first)) == {"0"}
    assert "Early data was accepted" not in again.stdout + again.stderr
