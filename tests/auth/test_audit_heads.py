"""Signed heads of the audit: of a type of their own, read strictly, and never a token."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from taxii_server.auth import audit_heads, tokens
from taxii_server.auth.identify import Identifier, PathNames
from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.domain.access import BOTH
from taxii_server.domain.audit_chain import encode
from taxii_server.domain.errors import NotAuthenticated
from tests.auth.alliance import Alliance
from tests.auth.forge import ISSUER, claims, es256, header, hs256, unsigned

pytestmark = pytest.mark.anyio

AT = datetime(2026, 5, 1, tzinfo=UTC)
DIGEST = bytes(range(32))
SAID = {"iss": ISSUER, "iat": int(AT.timestamp()), "seq": 7, "digest": encode(DIGEST)}


async def signed(keys: SigningKeys) -> tuple[str, dict[str, str]]:
    """A head of the server's own, and the key it is checked with."""
    key = await keys.current()
    [public] = [one for one in (await keys.jwks())["keys"] if one["kid"] == key.kid]
    return audit_heads.sign(key.private_key, kid=key.kid, issuer=ISSUER, seq=7, digest=DIGEST, at=AT), public


async def test_a_head_says_what_was_signed(keys: SigningKeys) -> None:
    """Number, digest, instant, server and key; for as long as anybody keeps the key, with no end of its own."""
    text, public = await signed(keys)

    head = audit_heads.read(text)
    audit_heads.verify(head, public)

    assert (head.seq, head.digest, head.issued_at, head.issuer, head.kid) == (7, DIGEST, AT, ISSUER, public["kid"])


async def test_a_head_is_no_token(alliance: Alliance, identifier: Identifier, keys: SigningKeys) -> None:
    """Not even one with all the claims of a token: its type is another."""
    client = alliance.client("north").client_id
    key = await keys.current()
    text, _ = await signed(keys)
    as_token = es256(key.private_key, header(key.kid, typ=audit_heads.TYPE), claims(client) | SAID)

    for one in (text, as_token):
        with pytest.raises(NotAuthenticated) as refusal:
            await identifier.caller(f"Bearer {one}", PathNames("fraud", "indicators"))
        assert refusal.value.reason == "token's typ is not at+jwt"


async def test_a_token_is_no_head(keys: SigningKeys) -> None:
    """Not even one with all the claims of a head, signed with the same key."""
    key = await keys.current()
    token = tokens.issue(
        key.private_key, kid=key.kid, issuer=ISSUER, client_id="north", rights=BOTH, lifetime=timedelta(minutes=5)
    )
    for one in (token, es256(key.private_key, header(key.kid), SAID)):
        with pytest.raises(NotAuthenticated) as refusal:
            audit_heads.read(one)
        assert refusal.value.reason == "it is no taxii-audit-head+jwt signed with ES256"


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"alg": "none"}, {}),
        ({"alg": "HS256"}, {}),
        ({"typ": "JWT"}, {}),
        ({"jwk": {"kty": "EC"}}, {}),
        ({"kid": 7}, {}),
        ({}, {"seq": 0}),
        ({}, {"seq": True}),
        ({}, {"seq": 7.0}),
        ({}, {"seq": "7"}),
        ({}, {"digest": encode(DIGEST)[:-1]}),
        ({}, {"digest": None}),
        ({}, {"iat": "now"}),
        ({}, {"exp": 2**40}),
        ({}, {"iss": None}),
    ],
)
async def test_a_head_of_another_form_is_refused(
    keys: SigningKeys, head: dict[str, object], said: dict[str, object]
) -> None:
    """Whatever its signature: one form is written, and one is read."""
    key = await keys.current()
    changed = es256(key.private_key, header(key.kid, typ=audit_heads.TYPE) | head, SAID | said)

    with pytest.raises(NotAuthenticated):
        audit_heads.read(changed)


async def test_a_head_that_somebody_else_signed_is_refused(keys: SigningKeys) -> None:
    """With another key under our key's id, with our public key as a secret, or with nothing."""
    text, public = await signed(keys)
    other = generate_private_key(SECP256R1())
    head = header(public["kid"], typ=audit_heads.TYPE)
    for forged in (
        es256(other, head, SAID),
        hs256(public["x"].encode(), head, SAID),
        unsigned(head, SAID, b"\x00" * 64),
        text[:-4] + "AAAA",
        es256((await keys.current()).private_key, head, SAID).rsplit(".", 1)[0] + "." + text.rsplit(".", 1)[1][::-1],
    ):
        with pytest.raises(NotAuthenticated):
            audit_heads.verify(audit_heads.read(forged), public)


async def test_a_key_is_not_passed_off_as_another(keys: SigningKeys) -> None:
    """The id of a key is its thumbprint, worked out anew: a key under another one's id is not taken."""
    text, public = await signed(keys)
    numbers = generate_private_key(SECP256R1()).public_key().public_numbers()
    other = {
        **public,
        "x": encode(numbers.x.to_bytes(32, "big")),
        "y": encode(numbers.y.to_bytes(32, "big")),
    }

    with pytest.raises(NotAuthenticated) as refusal:
        audit_heads.verify(audit_heads.read(text), other)

    assert refusal.value.reason == "the key is not the one that its kid names"


@pytest.mark.parametrize(
    "point",
    [{"x": 1, "y": 2}, {"x": "AA", "y": "AA"}, {"x": "", "y": ""}, {"x": "\xe9", "y": "AA"}, {"x": None, "y": []}, {}],
)
def test_a_key_that_is_none_signed_nothing(point: dict[str, object]) -> None:
    """Whoever owns the database can write down any key, and a head that names it: it is refused like a forged one."""
    key = {"kty": "EC", "crv": "P-256", **point}
    text = unsigned(header(audit_heads.thumbprint(key), typ=audit_heads.TYPE), SAID, bytes(64))

    with pytest.raises(NotAuthenticated):
        audit_heads.verify(audit_heads.read(text), key)
