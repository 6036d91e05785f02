"""Tokens as attackers write them: any header, any claims, any signature, with nothing of the server's own writer."""

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64encode
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

ISSUER = "https://taxii.example.org"


def b64(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode()


def header(kid: str, /, **changes: Any) -> dict[str, Any]:
    """A header as the server writes it, with changes; a value of None takes the name out."""
    return _changed({"alg": "ES256", "typ": "at+jwt", "kid": kid}, changes)


def claims(client_id: str, /, **changes: Any) -> dict[str, Any]:
    """Claims as the server writes them, with changes; a value of None takes the name out."""
    now = int(time.time())
    return _changed(
        {
            "iss": ISSUER,
            "sub": client_id,
            "client_id": client_id,
            "aud": ISSUER,
            "iat": now,
            "exp": now + 300,
            "jti": str(uuid4()),
            "scope": "taxii:read taxii:write",
        },
        changes,
    )


def es256(key: EllipticCurvePrivateKey, head: dict[str, Any] | str, body: dict[str, Any] | str) -> str:
    """Sign with ES256, whatever the header says."""
    signed = _signing_input(head, body)
    r, s = decode_dss_signature(key.sign(signed.encode(), ECDSA(SHA256())))
    return f"{signed}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def hs256(key: bytes, head: dict[str, Any] | str, body: dict[str, Any] | str) -> str:
    """Sign with HS256, whatever the header says."""
    signed = _signing_input(head, body)
    return f"{signed}.{b64(hmac.digest(key, signed.encode(), hashlib.sha256))}"


def unsigned(head: dict[str, Any] | str, body: dict[str, Any] | str, signature: bytes = b"") -> str:
    return f"{_signing_input(head, body)}.{b64(signature)}"


def _signing_input(head: dict[str, Any] | str, body: dict[str, Any] | str) -> str:
    texts = (part if isinstance(part, str) else json.dumps(part) for part in (head, body))
    return ".".join(b64(text.encode("utf-8", "surrogatepass")) for text in texts)


def _changed(normal: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (normal | changes).items() if value is not None}
