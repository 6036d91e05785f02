"""Certificates with one fault each, for servers on this machine."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Certified:
    """A certificate, its key, and who signed it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def certified(
    name: str,
    by: Certified | None = None,
    *,
    authority: bool = False,
    host: str = HOST,
    days: float = 365,
    since: float = -730,
) -> Certified:
    """Make a certificate; signed by itself unless an authority is given."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    signer = by.key if by else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=since))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if not authority:
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    return Certified(builder.sign(signer, SHA256()), key)


@dataclass(frozen=True)
class Authority:
    """A root, an authority below it, and files of what a client trusts."""

    folder: Path

    @cached_property
    def root(self) -> Certified:
        return certified("Root of the tests", authority=True)

    @cached_property
    def intermediate(self) -> Certified:
        return certified("Authority of the tests", self.root, authority=True)

    @cached_property
    def trusted(self) -> Path:
        """The file for --ca-file."""
        file = self.folder / "root.pem"
        file.write_bytes(self.root.pem)
        return file

    def serving(self, leaf: Certified, *chain: Certified) -> ssl.SSLContext:
        """Speak TLS with this certificate and what is sent along."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files(leaf, *chain))
        return context

    def files(self, leaf: Certified, *chain: Certified) -> tuple[Path, Path]:
        """Write a certificate with its chain, and its key."""
        number = leaf.certificate.serial_number
        files = self.folder / f"{number}.pem", self.folder / f"{number}.key"
        files[0].write_bytes(b"".join(one.pem for one in (leaf, *chain)))
        files[1].write_bytes(leaf.key_pem)
        return files
