"""The P-256 keys that sign access tokens: made in the database, sealed with TAXII_SECRET_KEY, rotated with overlap.

A key signs for its lifetime and verifies for one token's lifetime longer, so a rotation refuses nobody. Its id is its
RFC 7638 thumbprint. Whoever needs a key and finds none makes one under a lock: many workers starting at once make
exactly one.
"""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from taxii_server.domain.audit import KEYS, OPERATOR, SERVER, Act, Entry
from taxii_server.domain.errors import OperatorError
from taxii_server.storage import audit
from taxii_server.storage import signing_keys as stored

if TYPE_CHECKING:
    from taxii_server.storage.engine import Connection, Database

log = structlog.get_logger(__name__)

_PURPOSE = b"taxii-server signing key, sealed, 1"
_NONCE_BYTES = 12
_COORDINATE_BYTES = 32
# what clocks of nodes and a request under way may add to a token's lifetime
_GRACE = timedelta(minutes=5)

_CANT_OPEN = (
    "The signing keys in the database were sealed with another TAXII_SECRET_KEY. Set the one they were made with; it "
    "must be the same on every node. If it is lost, run taxii-server key retire --all: a new key is made, and every "
    "client has to fetch a new token."
)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that may sign now; no token of it is accepted from `verifies_until` on."""

    kid: str
    private_key: EllipticCurvePrivateKey = field(repr=False)
    verifies_until: datetime


class SigningKeys:
    """The alliance's signing keys. Make one per process."""

    def __init__(self, db: Database, secret_key: str, *, key_lifetime: timedelta, token_lifetime: timedelta) -> None:
        """Take the value of TAXII_SECRET_KEY, how long a key signs and how long its last token may live."""
        self._db = db
        self._seal = _Seal(secret_key)
        self._signs_for = key_lifetime
        self._overlap = token_lifetime + _GRACE
        self._opened: tuple[str, EllipticCurvePrivateKey] | None = None

    async def current(self) -> SigningKey:
        """Give the key to sign with now, made on the spot if the last one is past its time.

        Raises:
            OperatorError: if it was sealed with another TAXII_SECRET_KEY.
        """
        async with self._db.statement() as connection:
            newest = await stored.newest_signing(connection)
        return self._open(newest or await self._make())

    async def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Give the JWK Set (RFC 7517 §5) of the keys that still verify, newest first."""
        async with self._db.statement() as connection:
            keys = await stored.verifying(connection)
        return {"keys": [json.loads(key) for key in keys]}

    async def rotate(self) -> str:
        """Make a key that signs from now on, on every worker, and give its id.

        The one before verifies until the last of its tokens has expired. Nothing happens with a TAXII_SECRET_KEY that
        the workers don't have: none of them could open the new key.

        Raises:
            OperatorError: if the key that signs now was sealed with another TAXII_SECRET_KEY.
        """
        async with self._db.write() as connection:
            await stored.take_turns(connection)
            newest = await stored.newest_signing(connection)
            if newest is not None:
                self._open(newest)
            made = await self._add(connection, OPERATOR)
            await stored.stop_signing(connection, successor=made.kid, verifies_for=self._overlap)
        log.info("signing_key_made", kid=made.kid)
        return made.kid

    async def _make(self) -> stored.SealedKey:
        async with self._db.write() as connection:
            await stored.take_turns(connection)
            newest = await stored.newest_signing(connection)
            if newest is not None:
                return newest
            made = await self._add(connection, SERVER)
        log.info("signing_key_made", kid=made.kid)
        return made

    async def _add(self, connection: Connection, who: str) -> stored.SealedKey:
        private_key = generate_private_key(SECP256R1())
        public_jwk = _public_jwk(private_key)
        made = await stored.add(
            connection,
            kid=public_jwk["kid"],
            public_jwk=json.dumps(public_jwk),
            sealed_private_key=self._seal.close(private_key, public_jwk["kid"]),
            signs_for=self._signs_for,
            verifies_for=self._signs_for + self._overlap,
        )
        said = {"kid": made.kid, "key": public_jwk}
        await audit.append(connection, Entry(KEYS, Act.SIGNING_KEY_MADE, who, said))
        return made

    def _open(self, key: stored.SealedKey) -> SigningKey:
        if self._opened is None or self._opened[0] != key.kid:
            self._opened = (key.kid, self._seal.open(key.sealed_private_key, key.kid))
        return SigningKey(kid=key.kid, private_key=self._opened[1], verifies_until=key.verifies_until)


class _Seal:
    """AES-256-GCM under a key derived from TAXII_SECRET_KEY; the kid is authenticated along, so rows can't be swapped."""

    def __init__(self, secret_key: str) -> None:
        if not secret_key:
            raise OperatorError("TAXII_SECRET_KEY is not set; make one with: openssl rand -hex 32")
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(secret_key.encode())
        self._cipher = AESGCM(derived)

    def close(self, private_key: EllipticCurvePrivateKey, kid: str) -> bytes:
        plain = private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, kid.encode())

    def open(self, sealed: bytes, kid: str) -> EllipticCurvePrivateKey:
        try:
            plain = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], kid.encode())
            private_key = load_der_private_key(plain, password=None)
        except (InvalidTag, ValueError) as error:
            log.error("signing_key_sealed", kid=kid, remedy=_CANT_OPEN)  # noqa: TRY400 - the trace tells nothing more
            raise OperatorError(_CANT_OPEN) from error
        if not isinstance(private_key, EllipticCurvePrivateKey):
            raise OperatorError(_CANT_OPEN)
        return private_key


def _public_jwk(private_key: EllipticCurvePrivateKey) -> dict[str, str]:
    """Write the public half as a JWK whose kid is its thumbprint (RFC 7638)."""
    numbers = private_key.public_key().public_numbers()
    members = {
        "crv": "P-256",
        "kty": "EC",
        "x": _base64url(numbers.x.to_bytes(_COORDINATE_BYTES, "big")),
        "y": _base64url(numbers.y.to_bytes(_COORDINATE_BYTES, "big")),
    }
    # the thumbprint is taken of exactly these members, in this order, without blanks
    thumbprint = sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
    return members | {"kid": _base64url(thumbprint), "use": "sig", "alg": "ES256"}


def _base64url(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
