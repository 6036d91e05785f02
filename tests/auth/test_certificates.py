"""Certificates as a proxy hands them over, and as operators have them in files."""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.auth import certificates
from taxii_server.domain.errors import NotAuthenticated, OperatorError
from tests.auth import confirmations
from tests.auth.certified import AUTHORITY, byte_sequence, certificate, escaped_pem, padding, thumbprint, usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.x509 import Certificate

SIEM = certificate()
PEM = SIEM.public_bytes(Encoding.PEM)
DER = SIEM.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "header",
    [
        byte_sequence(SIEM),
        escaped_pem(SIEM),
        escaped_pem(SIEM).replace("%0A", "%0D%0A"),
        PEM.decode().replace("\n", " "),
    ],
    ids=["rfc 9440", "nginx", "with carriage returns", "on one line"],
)
def test_each_form_is_the_same_certificate(header: str) -> None:
    assert certificates.shown(header).thumbprint == thumbprint(SIEM)


@pytest.mark.parametrize("header", [None, ""])
def test_no_certificate_is_none(header: str | None) -> None:
    assert certificates.shown(header) is certificates.NONE


WRONG = [
    "x",
    ":",
    "::",
    ":x:",
    ":AAAA:",
    f":{'A' * 1000}:",
    byte_sequence(SIEM)[:-1],
    f"{byte_sequence(SIEM)}, {byte_sequence(SIEM)}",
    f"{byte_sequence(SIEM)};a=1",
    f":{b64encode(DER + b'x').decode()}:",
    f":{b64encode(DER[:-1]).decode()}:",
    f":{b64encode(DER + DER).decode()}:",
    escaped_pem(SIEM) * 2,
    f"{escaped_pem(SIEM)},{escaped_pem(SIEM)}",
    escaped_pem(SIEM).replace("CERTIFICATE", "TRUSTED%20CERTIFICATE"),
    escaped_pem(SIEM)[:-60],
    "-----BEGIN%20CERTIFICATE-----" + "%20" * 5000,
    "-----BEGIN CERTIFICATE-----" + " " * 16_000,
    ":" + "A" * 20_000 + ":",
    "CN=siem",
    'Subject="CN=siem"',
    "\xff",
]


@pytest.mark.parametrize("header", WRONG, ids=map(str, range(len(WRONG))))
def test_what_is_no_certificate_is_refused(header: str) -> None:
    """Whatever else came with the request: this proxy isn't set up as its operator thinks."""
    with pytest.raises(NotAuthenticated) as refusal:
        certificates.shown(header)

    assert refusal.value.reason in {"client certificate is malformed", "client certificate is too large"}


@given(st.text(st.characters(max_codepoint=255), max_size=200))
def test_nothing_in_the_header_is_a_fault(text: str) -> None:
    for header in (text, f":{text}:", f"-----BEGIN%20CERTIFICATE-----{text}-----END%20CERTIFICATE-----"):
        try:
            certificates.shown(header)
        except NotAuthenticated:
            continue


# a version that is none, names of kinds that no name has, an extension twice: nginx lets all of them through
ODD = [
    DER.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x1e", 1),
    DER.replace(b"\x0c\x04siem", b"\x03\x04\x00iem"),
    DER.replace(b"\x0c\x04siem", b"\x13\x04si*m"),
    DER.replace(b"\x0c\x04siem", b"\x0c\x04\xff\xffem"),
]


@pytest.mark.parametrize("der", ODD, ids=["version", "bit string", "printable", "utf-8"])
def test_an_odd_certificate_is_no_fault_of_the_server(der: bytes) -> None:
    """Whoever connects chooses what is in it: it ends as one of nobody's, or as none, never with 500."""
    assert der != DER
    with suppress(NotAuthenticated):
        assert certificates.shown(f":{b64encode(der).decode()}:").thumbprint != thumbprint(SIEM)
    with suppress(OperatorError):
        certificates.of_file(der)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning", "ignore::UserWarning")
@given(place=st.integers(0, len(DER) - 1), octet=st.integers(0, 255))
def test_nor_is_one_with_any_octet_changed(place: int, octet: int) -> None:
    der = DER[:place] + bytes([octet]) + DER[place + 1 :]
    with suppress(NotAuthenticated):
        certificates.shown(f":{b64encode(der).decode()}:")
    with suppress(OperatorError):
        certificates.of_file(der)


@pytest.mark.parametrize(
    ("made", "lacking"),
    [
        (lambda: certificate(until=timedelta(seconds=-5)), "client certificate has expired"),
        (lambda: certificate(since=timedelta(minutes=5)), "client certificate is not yet valid"),
    ],
    ids=["expired", "not yet valid"],
)
def test_outside_its_time_it_is_as_if_none_was_shown(made: Callable[[], Certificate], lacking: str) -> None:
    """Whatever the proxy lets through."""
    assert certificates.shown(byte_sequence(made())) == certificates.Shown(None, lacking)


def test_a_certificate_expires_while_it_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered is what it says, not that it held."""
    header = byte_sequence(SIEM)
    assert certificates.shown(header).thumbprint is not None

    later = SIEM.not_valid_after_utc + timedelta(seconds=1)
    monkeypatch.setattr(certificates, "datetime", SimpleNamespace(now=lambda _: later))

    assert certificates.shown(header).lacking == "client certificate has expired"


@pytest.mark.parametrize(
    "octets",
    [PEM, DER, b"Certificate:\n    Data: as openssl x509 -text writes it\n" + PEM, PEM.replace(b"\n", b"\r\n")],
    ids=["pem", "der", "text before", "windows"],
)
def test_a_file_is_pem_or_der(octets: bytes) -> None:
    read = certificates.of_file(octets)

    assert read.thumbprint == thumbprint(SIEM)
    assert read.subject == "CN=siem"
    assert read.not_after == SIEM.not_valid_after_utc


def _key_pem() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _key_der(form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return rsa.generate_private_key(65537, 2048).private_bytes(Encoding.DER, form, NoEncryption())


def _pkcs12() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return pkcs12.serialize_key_and_certificates(
        b"siem", key, certificate(key=key), None, BestAvailableEncryption(b"x")
    )


def _csr() -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(SIEM.subject)
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), SHA256()).public_bytes(Encoding.PEM)


def _with(*extensions: x509.ExtensionType, issuer: str | None = None) -> bytes:
    return certificate(extensions=extensions, issuer=issuer).public_bytes(Encoding.PEM)


def _of(key: object) -> bytes:
    return certificate("weak", key).public_bytes(Encoding.PEM)  # type: ignore[arg-type] # some are no keys of clients


@pytest.mark.parametrize(
    ("octets", "told"),
    [
        (lambda: PEM + _key_pem(), "holds a private key"),
        (_key_pem, "holds a private key"),
        (_key_der, "holds a private key"),
        (lambda: _key_der(PrivateFormat.TraditionalOpenSSL), "holds a private key"),
        (_pkcs12, "holds a private key"),
        (_csr, "a request for a certificate"),
        (lambda: PEM + PEM, "several certificates"),
        (lambda: PEM * 2000, "several certificates"),
        (lambda: PEM + b"\n" * 1_000_000, "larger than any certificate"),
        (lambda: _with(padding(12_000)), "too large"),
        (lambda: _with(AUTHORITY, issuer="root"), "an authority's"),
        (lambda: _with(usage("key_cert_sign", "crl_sign")), "lacks digitalSignature"),
        (lambda: b"", "can be read"),
        (lambda: b"nonsense", "can be read"),
        (lambda: b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "holds no certificate"),
        (lambda: PEM.replace(b"\n", b"\n=", 3), "damaged"),
        (lambda: PEM[:200], "holds no certificate"),
        (lambda: _of(rsa.generate_private_key(65537, 1024)), "has 1024 bits"),  # noqa: S505 - refused
        (lambda: _of(ec.generate_private_key(ec.SECP256K1())), "curve secp256k1"),
        (lambda: _of(dsa.generate_private_key(2048)), "neither RSA nor"),
        (lambda: certificate(until=timedelta(seconds=-5)).public_bytes(Encoding.PEM), "expired on"),
        (lambda: certificate(uses=[ExtendedKeyUsageOID.SERVER_AUTH]).public_bytes(Encoding.PEM), "lacks clientAuth"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_file_that_no_client_should_have_is_refused(octets: Callable[[], bytes], told: str) -> None:
    """With what would be right."""
    with pytest.raises(OperatorError, match=told):
        certificates.of_file(octets())


@pytest.mark.parametrize(
    "made",
    [
        lambda: certificate(uses=[ExtendedKeyUsageOID.CLIENT_AUTH]),
        lambda: certificate(uses=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
        lambda: certificate(key=ec.generate_private_key(ec.SECP384R1())),
        lambda: certificate(key=rsa.generate_private_key(65537, 2048)),
        lambda: certificate(since=timedelta(days=1)),
        lambda: certificate(extensions=[AUTHORITY, usage("digital_signature", "key_cert_sign")]),
        lambda: certificate(extensions=[usage("digital_signature")], issuer="root"),
    ],
    ids=[
        "for clients",
        "for anything",
        "P-384",
        "RSA",
        "ahead of its time",
        "as openssl signs itself",
        "of an authority",
    ],
)
def test_other_files_are_taken(made: Callable[[], Certificate]) -> None:
    """One that begins tomorrow too: that is how one is exchanged in time."""
    whole = made()

    assert certificates.of_file(whole.public_bytes(Encoding.PEM)).thumbprint == thumbprint(whole)


def test_one_that_somebody_has_is_read_whatever_is_wrong_with_it() -> None:
    """To be removed."""
    weak, late = _of(rsa.generate_private_key(65537, 1024)), certificate(until=timedelta(seconds=-5))  # noqa: S505 - refused

    assert certificates.of_file(weak, known=True).subject == "CN=weak"
    assert certificates.of_file(late.public_bytes(Encoding.PEM), known=True).thumbprint == thumbprint(late)


def test_a_subject_commands_no_terminal() -> None:
    """Its maker chose it, and an operator's terminal would obey it."""
    made = certificate("a\x1b[2J\x9b\u202eb é")

    assert certificates.of_file(made.public_bytes(Encoding.PEM)).subject == r"CN=a\1B[2J\C2\9B\E2\80\AEb é"


def test_a_confirmation_is_read_as_it_is_written() -> None:
    """RFC 8705 §3.1: base64url of the SHA-256 of the DER, without padding."""
    said = certificates.confirmation(thumbprint(SIEM))

    assert list(said) == ["x5t#S256"]
    assert len(said["x5t#S256"]) == 43
    assert certificates.confirmed({"cnf": said}) == thumbprint(SIEM)
    assert certificates.confirmed({}) is None


@pytest.mark.parametrize("cnf", confirmations.WRONG, ids=map(str, range(len(confirmations.WRONG))))
def test_a_confirmation_of_another_kind_or_spelling_is_refused(cnf: object) -> None:
    """What its bearer would have to prove can't be asked, so it proves nothing (RFC 7800 §3.1)."""
    with pytest.raises(NotAuthenticated):
        certificates.confirmed({"cnf": cnf})


def test_ed25519_is_taken() -> None:
    """Its signatures have no hash of their own."""
    key = ed25519.Ed25519PrivateKey.generate()
    now = SIEM.not_valid_before_utc
    whole = (
        x509.CertificateBuilder()
        .subject_name(SIEM.subject)
        .issuer_name(SIEM.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now)
        .not_valid_after(SIEM.not_valid_after_utc)
        .sign(key, None)
    )

    assert certificates.of_file(whole.public_bytes(Encoding.PEM)).thumbprint == thumbprint(whole)


def test_what_is_larger_than_any_certificate_is_not_read() -> None:
    """It would be good otherwise; a proxy that passes a client's own header on shall not have us parse megabytes."""
    padded = escaped_pem(certificate()) + "%0A" * 5_500

    assert certificates.shown(padded[: 16 * 1024 - 1].rsplit("%0A", 1)[0]).thumbprint is not None
    with pytest.raises(NotAuthenticated):
        certificates.shown(padded)
