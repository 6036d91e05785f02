"""TLS, one question at a time: version, chain, host name, expiry, so that each fault has its own name.

OpenSSL stops at the first thing it dislikes. So the certificate is fetched without judging it, and then judged in separate
handshakes: the chain without the name, the name with the certificate itself for its authority. Nothing but handshakes
happens on those connections. What is sent later goes over a context that verifies everything.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote

import httpx
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from taxii_server.check.exchange import NoAnswer
from taxii_server.check.look import Look, Options
from taxii_server.check.results import Finding, fault, good, skipped, warning
from taxii_server.check.words import counted, listed

_SOON: Final = 30
_MOST_OF_A_PROXY_HEAD: Final = 16_384

# OpenSSL's X509_V_ERR_…
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_SELF_SIGNED: Final = 18
_SELF_SIGNED_IN_CHAIN: Final = 19
_NO_ISSUER: Final = frozenset({2, 20, 21, 27})
_WRONG_NAME: Final = frozenset({62, 63, 64})


def verifying(options: Options) -> ssl.SSLContext:
    """The context that requests go over: chain and name are verified, TLS 1.2 and later.

    Raises:
        OSError: if a file can't be used; `ssl.SSLError` is one.
    """
    context = ssl.create_default_context(cafile=str(options.ca_file) if options.ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 began to ask for what many a bank's own authority lacks and SIEMs don't mind
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return _with_client(context, options)


async def version(look: Look) -> Finding:
    """Which TLS is spoken; the certificate is fetched for the checks after this one."""
    if not look.address.https:
        return skipped("plain HTTP, which stays on this machine")
    context = _with_client(_judging_nothing(), look.options)
    try:
        seen, cipher, look.certificate = await _handshake(look, context)
    except (ssl.SSLError, ConnectionError) as error:
        return await _too_old(look) or _no_tls(look, error)
    if look.certificate == b"":
        return fault("the server showed no certificate", "Ask the operator to set one up.")
    return good(f"{seen}, {cipher}")


async def _too_old(look: Look) -> Finding | None:
    """Whether the server would speak what nobody should any more."""
    context = _judging_nothing()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    try:
        seen, cipher, _ = await _handshake(look, _with_client(context, look.options))
    except (OSError, NoAnswer):
        return None
    return fault(
        f"the server speaks no better than {seen} with {cipher}; nothing was sent",
        "Ask the operator to switch on TLS 1.2 or 1.3 with current ciphers: TAXII 2.1 requires it (§8.2.2).",
    )


def _no_tls(look: Look, error: Exception) -> Finding:
    reason = str(getattr(error, "reason", "") or "")
    if "CERTIFICATE_REQUIRED" in reason or (look.options.client_cert is None and "HANDSHAKE_FAILURE" in reason):
        return fault(
            f"the server ended the handshake ({_reason(error)}); it may want a certificate from the client",
            "Give the one you were issued: --client-cert FILE --client-key FILE. If you have none, ask the operator.",
        )
    if reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNEXPECTED_MESSAGE"}:
        return fault(
            f"port {look.address.port} doesn't speak TLS ({_reason(error)})",
            "Look at the port. Is it the one for plain HTTP, or a proxy's?",
        )
    return fault(
        f"the TLS handshake failed ({_reason(error)})",
        "Ask your network's people whether something between you inspects TLS, and the operator what the server's log says.",
    )


async def chain(look: Look) -> Finding:
    """Whether the certificate leads to an authority that this machine trusts."""
    context = verifying(look.options)
    context.check_hostname = False
    store = f"--ca-file {look.options.ca_file}" if look.options.ca_file else "this machine's trusted authorities"
    certificate = _read(look.certificate)
    issuer = look.quote(_name(certificate.issuer)) if certificate else "an unknown authority"
    try:
        await _handshake(look, context)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in {_EXPIRED, _NOT_YET_VALID} and certificate and _out_of_time(certificate):
            return good(f"issued by {issuer}; leads to {store}")
        return await _unverified(look, error, issuer, store)
    return good(f"issued by {issuer}; verified by {store}")


async def _unverified(look: Look, error: ssl.SSLCertVerificationError, issuer: str, store: str) -> Finding:
    if error.verify_code == _SELF_SIGNED:
        return fault(
            "the certificate is self-signed: anybody could have made it",
            "Ask the operator for a certificate from an authority. For a trial, get this one from them in another way and give it "
            "with --ca-file.",
        )
    sent = await _sent_certificates(look)
    if error.verify_code == _SELF_SIGNED_IN_CHAIN or (error.verify_code in _NO_ISSUER and sent > 1):
        return fault(
            f"issued by {issuer}, an authority that is not among {store}",
            "Is it the alliance's own authority? Get its certificate from the operator and give it with --ca-file, and to your "
            "SIEM. Is it your own bank's? Then a proxy inspects TLS: give that authority with --ca-file.",
        )
    if error.verify_code in _NO_ISSUER:
        certificate = _read(look.certificate)
        known = ", and says where that can be had" if certificate and _says_issuer(certificate) else ""
        return fault(
            f"the chain is incomplete, or its authority unknown: the server sends its own certificate alone{known}; {issuer}, "
            f"who issued it, is not among {store}",
            "Ask the operator to serve the full chain, intermediate certificates included. If the authority is the alliance's own, "
            "get its certificate from them and give it with --ca-file.",
        )
    return fault(
        f"the certificate can't be trusted: {look.quote(error.verify_message)}",
        "Tell the operator these words; they come from OpenSSL.",
    )


async def name(look: Look) -> Finding:
    """Whether the certificate is for this host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=look.certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    certificate = _read(look.certificate)
    names = [look.quote(one) for one in _names(certificate)] if certificate else []
    held = listed(names) or "no host at all"
    try:
        await _handshake(look, _with_client(context, look.options))
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _WRONG_NAME:
            return fault(
                f"the certificate is for {held}, not for {look.address.host}",
                "Use the name it is for, if that is the same server; otherwise ask the operator for a certificate with this name.",
            )
    return good(f"the certificate is for {held}")


async def expiry(look: Look) -> Finding:
    """How long the certificate lasts."""
    certificate = _read(look.certificate)
    if certificate is None:
        return warning("the certificate's dates can't be read", "Ask the operator for a certificate in common form.")
    now = datetime.now(UTC)
    until, since = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    left = (until - now).days
    if until < now:
        return fault(
            f"expired on {until:%Y-%m-%d}, {counted(-left - 1, 'day')} ago",
            "Ask the operator to renew the certificate. Until then no client should connect.",
        )
    if since > now:
        return fault(
            f"valid from {since:%Y-%m-%d %H:%M} UTC only",
            "Look at this machine's clock; if it is right, ask the operator for a certificate that is valid now.",
        )
    if left < _SOON:
        return warning(
            f"until {until:%Y-%m-%d}, {counted(left, 'day')} left",
            "Ask the operator when it will be renewed; if that is done by itself, shortly before the end, all is well.",
        )
    return good(f"until {until:%Y-%m-%d}, {counted(left, 'day')} left")


def _judging_nothing() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _with_client(context: ssl.SSLContext, options: Options) -> ssl.SSLContext:
    if options.client_cert is not None:
        # a callable, because OpenSSL would ask the terminal for the password of a locked key
        context.load_cert_chain(options.client_cert, options.client_key, password=lambda: b"")
    return context


async def _handshake(look: Look, context: ssl.SSLContext) -> tuple[str, str, bytes]:
    """Shake hands and hang up; give version, cipher and the server's certificate."""
    ssl_object = await _shaken(look, context)
    cipher = ssl_object.cipher()
    return ssl_object.version() or "?", cipher[0] if cipher else "?", ssl_object.getpeercert(binary_form=True) or b""


async def _sent_certificates(look: Look) -> int:
    """How many certificates the server sends; 1 where Python doesn't say."""
    ssl_object: Any = await _shaken(look, _with_client(_judging_nothing(), look.options))
    # public since Python 3.13
    holder = ssl_object if hasattr(ssl_object, "get_unverified_chain") else getattr(ssl_object, "_sslobj", None)
    get = getattr(holder, "get_unverified_chain", None)
    return len(get() or [None]) if get else 1


async def _shaken(look: Look, context: ssl.SSLContext) -> ssl.SSLObject:
    where = look.address
    try:
        async with asyncio.timeout(look.options.timeout):
            if look.proxy is None:
                _, writer = await asyncio.open_connection(
                    where.host, where.port, ssl=context, server_hostname=where.host.strip("[]")
                )
            else:
                writer = await _through_proxy(look, context)
    except TimeoutError as error:
        raise NoAnswer(
            f"the TLS handshake was not done within {look.options.timeout:g} s",
            "Look at the port; ask your network's people whether something between you holds connections up.",
        ) from error
    try:
        ssl_object: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return ssl_object
    finally:
        writer.transport.abort()


async def _through_proxy(look: Look, context: ssl.SSLContext) -> asyncio.StreamWriter:
    """Ask the proxy for a tunnel (RFC 9110 §9.3.6), and speak TLS in it."""
    via, where = httpx.URL(look.proxy or ""), look.address
    reader, writer = await asyncio.open_connection(via.host, via.port, limit=_MOST_OF_A_PROXY_HEAD)
    try:
        lines = [f"CONNECT {where.host}:{where.port} HTTP/1.1", f"Host: {where.host}:{where.port}"]
        if via.userinfo:
            pair = base64.b64encode(unquote(via.userinfo.decode("ascii")).encode()).decode("ascii")
            lines.append(f"Proxy-Authorization: Basic {pair}")
        writer.write("\r\n".join([*lines, "", ""]).encode("ascii"))
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise NoAnswer("the proxy ended the connection or doesn't speak HTTP", "Look at HTTPS_PROXY.") from error
        _granted(look, head.split(b"\r\n")[0].decode("latin-1"))
        await writer.start_tls(context, server_hostname=where.host.strip("[]"))
    except BaseException:
        writer.transport.abort()
        raise
    return writer


def _granted(look: Look, status: str) -> None:
    if status.split()[1:2] != ["200"]:
        raise NoAnswer(
            f"the proxy refuses the way to {look.address.host}: {look.quote(status)}",
            "Ask your network's people to let this host through, or mend the proxy's name and password in the environment.",
        )


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else type(error).__name__


def _read(der: bytes) -> x509.Certificate | None:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        return None


def _out_of_time(certificate: x509.Certificate) -> bool:
    return not certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc


def _name(of: x509.Name) -> str:
    for kind in (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME):
        if found := of.get_attributes_for_oid(kind):
            return str(found[0].value)
    return of.rfc4514_string() or "an authority without a name"


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []
    return [*held.get_values_for_type(x509.DNSName), *map(str, held.get_values_for_type(x509.IPAddress))]


def _says_issuer(certificate: x509.Certificate) -> bool:
    try:
        about = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
    return any(one.access_method == AuthorityInformationAccessOID.CA_ISSUERS for one in about)
