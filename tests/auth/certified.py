"""Client certificates, and what a proxy makes of them."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes


def certificate(
    name: str = "siem",
    key: CertificateIssuerPrivateKeyTypes | None = None,
    *,
    since: timedelta = timedelta(days=-1),
    until: timedelta = timedelta(days=90),
    uses: Sequence[x509.ObjectIdentifier] = (),
    extensions: Sequence[x509.ExtensionType] = (),
    issuer: str | None = None,
) -> x509.Certificate:
    """Make a certificate that is signed by itself; with an issuer, it names that one."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer or name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + since)
        .not_valid_after(now + until)
    )
    if uses:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, SHA256())


AUTHORITY = x509.BasicConstraints(ca=True, path_length=None)
_USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def usage(*may: str) -> x509.KeyUsage:
    """What a key may be used for."""
    return x509.KeyUsage(**{use: use in may for use in _USES})


def padding(octets: int) -> x509.UnrecognizedExtension:
    """An extension of some length, which says nothing to anybody."""
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), bytes(octets))


def thumbprint(certificate: x509.Certificate) -> bytes:
    """What a certificate is known by."""
    return certificate.fingerprint(SHA256())


def byte_sequence(certificate: x509.Certificate) -> str:
    """As RFC 9440 has a proxy hand it over."""
    return f":{b64encode(certificate.public_bytes(Encoding.DER)).decode()}:"


def escaped_pem(certificate: x509.Certificate) -> str:
    """As nginx's $ssl_client_escaped_cert hands it over."""
    return quote(certificate.public_bytes(Encoding.PEM), safe="")
