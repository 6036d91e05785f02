"""An outside issuer on this machine: RSA and EC keys, a JWK Set over HTTP, and whatever can be wrong with them."""

import asyncio
import json
import ssl
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    SECP384R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from tests.auth.forge import b64

AUDIENCE = "https://taxii.example.org"
HASHES: dict[str, HashAlgorithm] = {"256": SHA256(), "384": SHA384(), "512": SHA512()}
Private = rsa.RSAPrivateKey | EllipticCurvePrivateKey


def number(value: int, octets: int | None = None) -> str:
    length = octets or (value.bit_length() + 7) // 8
    return urlsafe_b64encode(value.to_bytes(length, "big")).rstrip(b"=").decode()


def public_jwk(key: Private, kid: str, **more: Any) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        return {"kty": "RSA", "kid": kid, "n": number(numbers.n), "e": number(numbers.e)} | more
    point, octets = key.public_key().public_numbers(), (key.curve.key_size + 7) // 8
    curve = {256: "P-256", 384: "P-384"}[key.curve.key_size]
    return {"kty": "EC", "kid": kid, "crv": curve, "x": number(point.x, octets), "y": number(point.y, octets)} | more


def sign(key: Private, header: dict[str, Any] | str, claims: dict[str, Any] | str, *, bits: str = "256") -> str:
    """Sign with a key of its own kind, whatever the header says."""
    texts = (part if isinstance(part, str) else json.dumps(part) for part in (header, claims))
    signed = ".".join(b64(text.encode()) for text in texts)
    if isinstance(key, rsa.RSAPrivateKey):
        return f"{signed}.{b64(key.sign(signed.encode(), PKCS1v15(), HASHES[bits]))}"
    r, s = decode_dss_signature(key.sign(signed.encode(), ECDSA(HASHES[bits])))
    octets = (key.curve.key_size + 7) // 8
    return f"{signed}.{b64(r.to_bytes(octets, 'big') + s.to_bytes(octets, 'big'))}"


@dataclass
class Issuer:
    """What the issuer has and how it behaves; `asked` are the paths it was asked for."""

    url: str
    keys: dict[str, Private] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    met: threading.Event = field(default_factory=threading.Event)
    status: int = 200
    delay: float = 0
    body: bytes | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    async def is_asked(self) -> None:
        """Wait until somebody asks."""
        assert await asyncio.to_thread(self.met.wait, 10)

    @property
    def jwks_uri(self) -> str:
        return f"{self.url}/keys"

    def jwks(self) -> dict[str, Any]:
        return {"keys": [public_jwk(key, kid) for kid, key in self.keys.items()]}

    def claims(self, subject: str = "siem", **changes: Any) -> dict[str, Any]:
        """Give claims of a good token, with changes; a value of None takes the name out."""
        now = int(time.time())
        good = {"iss": self.url, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 300}
        return {name: value for name, value in (good | changes).items() if value is not None}

    def token(
        self, kid: str = "rsa", subject: str = "siem", *, head: dict[str, Any] | None = None, **changes: Any
    ) -> str:
        """Write a good token, with changes."""
        key = self.keys[kid]
        algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else f"ES{key.curve.key_size}"
        header = {"alg": algorithm, "kid": kid, "typ": "at+jwt"} | (head or {})
        written = {name: value for name, value in header.items() if value is not None}
        return sign(key, written, self.claims(subject, **changes), bits=algorithm[2:])

    def answer(self, path: str) -> tuple[int, bytes]:
        if path == "/keys":
            body = json.dumps(self.jwks()).encode() if self.body is None else self.body
            return self.status, body
        if path in self.metadata:
            return 200, json.dumps(self.metadata[path]).encode()
        return 404, b"{}"


# 2048 bits take a while to find: made once
RSA_KEYS = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]
EC_KEYS = [generate_private_key(SECP256R1()) for _ in range(2)]
P384_KEY = generate_private_key(SECP384R1())


@contextmanager
def running(tls: ssl.SSLContext | None = None) -> Iterator[Issuer]:
    """Serve an issuer with an RSA key, an EC key and a larger EC key on a free port, over HTTPS with `tls`."""
    issuer = Issuer("", {"rsa": RSA_KEYS[0], "ec": EC_KEYS[0], "ec384": P384_KEY})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            issuer.met.set()
            time.sleep(issuer.delay)
            status, body = issuer.answer(self.path)
            try:
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | issuer.headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # whoever asked has left

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    issuer.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    if tls is not None:
        # the handshake is the handler's, in its own thread: one that fails ends nothing else
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
