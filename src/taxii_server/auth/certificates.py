"""Client certificates: as a TLS proxy hands them over, and as an operator's file has them.

A certificate counts by its SHA-256 thumbprint alone (RFC 8705 §2.2): which one is whose is the operator's to say, so no
authority is asked. That its sender has the private key was proven to the proxy by the handshake.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote_to_bytes

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from taxii_server.domain.errors import NotAuthenticated, OperatorError

CONFIRMATION: Final = "x5t#S256"
"""The confirmation method of a token that is bound to a certificate (RFC 8705 §3.1)."""

LARGEST_FILE: Final = 64 * 1024
"""Octets of a file that may still be somebody's certificate."""

_LONGEST: Final = 16 * 1024
_REMEMBERED: Final = 256
# RFC 9440 §2.1: an item of RFC 8941 §3.3.5
_BYTE_SEQUENCE = re.compile(r":([A-Za-z0-9+/]+={0,2}):")
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_SMALLEST_RSA: Final = 2048
_CURVES: Final = (SECP256R1, SECP384R1, SECP521R1)
_BROKEN_HASHES: Final = frozenset({"md5", "sha1"})
# what begins with a small number: PKCS #8, PKCS #1 and SEC 1 with 0 or 1, PKCS #12 with 3; a certificate with a sequence
_DER_OF_A_KEY = re.compile(rb"\x30(?:[\x00-\x7f]|\x81.|\x82..|\x83...|\x80)\x02\x01[\x00\x01\x03]", re.DOTALL)
# all that the library ends with for a certificate that is none, or one of another kind than RFC 5280's
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What of a certificate counts."""

    thumbprint: bytes
    subject: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Shown:
    """The certificate that came with a request, by its thumbprint; None, and why, where none did that holds now."""

    thumbprint: bytes | None
    lacking: str = ""


NONE: Final = Shown(None, "no client certificate")
"""No certificate was shown."""


def shown(header: str | None) -> Shown:
    """Read what a trusted proxy says of the certificate that it was shown.

    Raises:
        NotAuthenticated: if it is no certificate: then nothing that this proxy says of certificates can be relied on.
    """
    if not header:
        return NONE
    certificate = _forwarded(header)
    now = datetime.now(UTC)
    if now < certificate.not_before:
        return Shown(None, "client certificate is not yet valid")
    if now > certificate.not_after:
        return Shown(None, "client certificate has expired")
    return Shown(certificate.thumbprint)


def of_file(octets: bytes, *, known: bool = False) -> Certificate:
    """Read a client's certificate from a file, PEM or DER, for an operator.

    One that is `known` is read whatever it is good for: it may be somebody's since before the rules were what they are.

    Raises:
        OperatorError: if it isn't one certificate alone, or one that no client should have; saying what would be right.
    """
    der = _der_of(octets)
    try:
        parsed = x509.load_der_x509_certificate(der)
        certificate = Certificate(
            thumbprint=sha256(der).digest(),
            subject=_printable(parsed.subject.rfc4514_string()),
            not_before=parsed.not_valid_before_utc,
            not_after=parsed.not_valid_after_utc,
        )
        problem = None if known else _problem(parsed)
    except _UNREADABLE as error:
        raise OperatorError(f"This file holds no certificate that can be read: {error}") from error
    if problem is not None:
        raise OperatorError(problem)
    if not known and certificate.not_after <= datetime.now(UTC):
        raise OperatorError(f"This certificate expired on {certificate.not_after:%Y-%m-%d}.")
    return certificate


def _printable(text: str) -> str:
    """Write what a terminal might obey as RFC 4514 §2.4 has it: whoever made the certificate chose its names."""
    return "".join(
        each if each.isprintable() else "".join(f"\\{octet:02X}" for octet in each.encode("utf-8", "surrogatepass"))
        for each in text
    )


def _der_of(octets: bytes) -> bytes:
    """Find the one certificate in a file."""
    if b"PRIVATE KEY" in octets or _DER_OF_A_KEY.match(octets):
        raise OperatorError(
            "This file holds a private key. Give the certificate alone; the key is for its client's eyes only, "
            "so if somebody sent it to you, have them make another."
        )
    if octets.count(b"-----BEGIN CERTIFICATE-----") > 1:
        raise OperatorError("This file holds several certificates: give the client's own alone, without its chain.")
    if len(octets) > LARGEST_FILE:
        raise OperatorError("This file is larger than any certificate.")
    if b"CERTIFICATE REQUEST" in octets:
        raise OperatorError("This file holds a request for a certificate. Give the certificate that came of it.")
    if b"-----BEGIN" not in octets:
        return octets
    pem = _PEM.search(octets)
    if pem is None:
        raise OperatorError("This file holds no certificate (BEGIN CERTIFICATE).")
    try:
        return b64decode(b"".join(pem[1].split()), validate=True)
    except binascii.Error as error:
        raise OperatorError("The certificate in this file is damaged: it is not base64.") from error


def confirmation(thumbprint: bytes) -> dict[str, str]:
    """Write the `cnf` claim of a token that is bound to a certificate."""
    return {CONFIRMATION: urlsafe_b64encode(thumbprint).rstrip(b"=").decode()}


def confirmed(claims: dict[str, Any]) -> bytes | None:
    """Read the thumbprint that a token is bound to; None if it is bound to nothing.

    Raises:
        NotAuthenticated: if it is bound in a way that we can't ask its bearer to prove (RFC 7800 §3.1), or says it badly.
    """
    if "cnf" not in claims:
        return None
    bound = claims["cnf"]
    if not isinstance(bound, dict) or bound.keys() != {CONFIRMATION}:
        raise NotAuthenticated("token is bound by something else than a certificate")
    text = bound[CONFIRMATION]
    if not isinstance(text, str) or not _THUMBPRINT.fullmatch(text):
        raise NotAuthenticated("token's cnf is malformed")
    thumbprint = urlsafe_b64decode(f"{text}=")
    if confirmation(thumbprint)[CONFIRMATION] != text:
        raise NotAuthenticated("token's cnf is malformed")
    return thumbprint


@dataclass(frozen=True, slots=True)
class _Forwarded:
    """What counts of a certificate that somebody showed. Its names are its own word, so nobody looks at them."""

    thumbprint: bytes
    not_before: datetime
    not_after: datetime


@lru_cache(maxsize=_REMEMBERED)
def _forwarded(header: str) -> _Forwarded:
    """Read RFC 9440's `:base64 of DER:`, or nginx's `$ssl_client_escaped_cert`, a PEM with its octets escaped.

    One begins with a colon and the other can't, so nobody has to say which it is.
    """
    if len(header) > _LONGEST:
        raise NotAuthenticated("client certificate is too large")
    try:
        if header.startswith(":"):
            sequence = _BYTE_SEQUENCE.fullmatch(header)
            der = b64decode(sequence[1], validate=True) if sequence else None
        else:
            pem = _PEM.fullmatch(unquote_to_bytes(header).strip())
            der = b64decode(b"".join(pem[1].split()), validate=True) if pem else None
        if der is not None:
            parsed = x509.load_der_x509_certificate(der)
            return _Forwarded(sha256(der).digest(), parsed.not_valid_before_utc, parsed.not_valid_after_utc)
    except _UNREADABLE as error:
        raise NotAuthenticated("client certificate is malformed") from error
    raise NotAuthenticated("client certificate is malformed")


def _problem(certificate: x509.Certificate) -> str | None:
    """Say why no client should have this certificate."""
    escaped = quote(certificate.public_bytes(Encoding.PEM), safe="")
    if len(escaped) > _LONGEST:
        return f"It is too large: a proxy hands over {_LONGEST // 1024} KiB at most, and with its octets escaped it has more."
    weak = _weakness(certificate.public_key())
    if weak is not None:
        return weak
    hashed = certificate.signature_hash_algorithm
    if hashed is not None and hashed.name in _BROKEN_HASHES:
        return f"It is signed with {hashed.name.upper()}, which is broken: have it made anew, with SHA-256."
    return _misuse(certificate)


def _misuse(certificate: x509.Certificate) -> str | None:
    """Say why no proxy would take this certificate for a client's, whose key signs a TLS handshake (RFC 8446 §4.4.2.2)."""
    basic = _extension(certificate, x509.BasicConstraints)
    # who signs its own certificate is an authority by what openssl writes unless told otherwise
    if basic is not None and basic.ca and certificate.issuer != certificate.subject:
        return "It is an authority's: give the client's own, which that authority signed."
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not (usage.digital_signature or usage.key_agreement):
        return "It is not for clients: its key usage lacks digitalSignature, so no proxy would let it through."
    uses = _extension(certificate, x509.ExtendedKeyUsage)
    if (
        uses is not None
        and ExtendedKeyUsageOID.CLIENT_AUTH not in uses
        and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in uses
    ):
        return "It is not for clients: its extended key usage lacks clientAuth, so no proxy would let it through."
    return None


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _weakness(key: CertificatePublicKeyTypes) -> str | None:
    match key:
        case RSAPublicKey() if key.key_size < _SMALLEST_RSA:
            return f"Its RSA key has {key.key_size} bits: it takes {_SMALLEST_RSA} at least."
        case EllipticCurvePublicKey() if not isinstance(key.curve, _CURVES):
            return f"Its key is on the curve {key.curve.name}: take P-256, P-384 or P-521."
        case RSAPublicKey() | EllipticCurvePublicKey() | Ed25519PublicKey() | Ed448PublicKey():
            return None
        case _:
            return "Its key is neither RSA nor of an elliptic curve."
