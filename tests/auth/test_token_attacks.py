"""The attack corpus: every token here was made by someone who is not this server, and every one is refused.

Each test builds a token that differs from a good one in the one thing it is about, and signs it with the server's own
key where the attack allows for that, so that nothing but the attacked check can be what refuses it.
"""

import json
import string
import time
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taxii_server.auth.certificates import confirmation
from taxii_server.auth.identify import Identifier, PathNames
from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.domain.errors import NotAuthenticated
from taxii_server.storage.engine import Database
from tests.auth import confirmations, forge
from tests.auth.alliance import Alliance, statements
from tests.auth.certified import certificate, thumbprint
from tests.auth.forge import claims, es256, header, hs256, unsigned

pytestmark = pytest.mark.anyio

Refused = Callable[..., Awaitable[str]]


@dataclass(frozen=True)
class Target:
    """What an attacker may know or have: the server's key (in full, to be generous), its public half, a client's id."""

    key: EllipticCurvePrivateKey
    kid: str
    jwk: dict[str, str]
    client_id: str
    row: int


@pytest.fixture
async def target(alliance: Alliance, keys: SigningKeys) -> Target:
    current = await keys.current()
    [public] = (await keys.jwks())["keys"]
    north = alliance.client("north")
    return Target(current.private_key, current.kid, public, north.client_id, north.row)


@pytest.fixture
def refused(identifier: Identifier, db: Database) -> Refused:
    """Hold that a token is refused, with or without a look-up, and give the reason that the log gets."""

    async def send(token: str, *, look_ups: int = 0) -> str:
        with statements(db) as sent, pytest.raises(NotAuthenticated) as refusal:
            await identifier.caller(f"Bearer {token}", PathNames("fraud", "indicators"))
        assert len(sent) == look_ups
        assert refusal.value.message is not None
        assert "token" not in refusal.value.message
        return refusal.value.reason

    return send


def es(target: Target, *, head: dict[str, Any] | None = None, **changed_claims: Any) -> str:
    return es256(target.key, header(target.kid, **(head or {})), claims(target.client_id, **changed_claims))


async def test_the_corpus_s_own_good_token_is_accepted(identifier: Identifier, target: Target) -> None:
    """Without this every refusal below could have another cause."""
    caller = await identifier.caller(f"Bearer {es(target)}", PathNames("fraud", "indicators"))

    assert caller.principal.client_id == target.client_id
    assert caller.place.collection is not None


class TestAlgorithm:
    @pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
    async def test_none(self, alg: str, target: Target, refused: Refused) -> None:
        await refused(unsigned(header(target.kid, alg=alg), claims(target.client_id)))
        await refused(unsigned(header(target.kid, alg=alg), claims(target.client_id), bytes(64)))

    async def test_hs256_with_the_public_key_as_pem(self, target: Target, refused: Refused) -> None:
        pem = target.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        await refused(hs256(pem, header(target.kid, alg="HS256"), claims(target.client_id)))

    async def test_hs256_with_the_public_key_as_jwk(self, target: Target, refused: Refused) -> None:
        jwk = json.dumps(target.jwk).encode()
        await refused(hs256(jwk, header(target.kid, alg="HS256"), claims(target.client_id)))

    async def test_hs256_with_the_public_x(self, target: Target, refused: Refused) -> None:
        x = urlsafe_b64decode(target.jwk["x"] + "=")
        await refused(hs256(x, header(target.kid, alg="HS256"), claims(target.client_id)))

    async def test_hs256_under_an_es256_header(self, target: Target, refused: Refused) -> None:
        """The MAC is 32 octets, an ES256 signature 64."""
        await refused(hs256(json.dumps(target.jwk).encode(), header(target.kid), claims(target.client_id)))

    async def test_rs256(self, target: Target, refused: Refused) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        head, body = header(target.kid, alg="RS256"), claims(target.client_id)
        signed = unsigned(head, body).removesuffix(".")
        await refused(f"{signed}.{forge.b64(key.sign(signed.encode(), PKCS1v15(), SHA256()))}")

    @pytest.mark.parametrize("alg", ["ES384", "ES256K", "EdDSA", "RS256", "PS256", "es256", "HS256"])
    async def test_another_algorithm_named_over_a_good_signature(
        self, alg: str, target: Target, refused: Refused
    ) -> None:
        assert "alg" in await refused(es(target, head={"alg": alg}))

    async def test_no_algorithm(self, target: Target, refused: Refused) -> None:
        await refused(es(target, head={"alg": None}))

    @pytest.mark.parametrize("alg", [256, True, ["ES256"], {"ES256": 1}])
    async def test_an_algorithm_that_is_no_string(self, alg: Any, target: Target, refused: Refused) -> None:
        await refused(es(target, head={"alg": alg}))


class TestClaims:
    @pytest.mark.parametrize("issuer", ["http://taxii.example.org", "https://evil.example\x00", "evil", "", 7, ["x"]])
    async def test_wrong_issuer(self, issuer: Any, target: Target, refused: Refused) -> None:
        assert "issuer" in await refused(es(target, iss=issuer))

    @pytest.mark.parametrize("issuer", ["https://evil.example", "https://taxii.example.org/"])
    async def test_an_issuer_that_is_not_trusted(self, issuer: str, target: Target, refused: Refused) -> None:
        """Whether it is, is asked of the database: an outside issuer counts from the moment it is applied."""
        assert "issuer" in await refused(es(target, iss=issuer), look_ups=1)

    @pytest.mark.parametrize(
        "audience",
        [
            "https://other.example",
            "",
            ["https://taxii.example.org", "https://other.example"],
            ["https://other.example"],
        ],
    )
    async def test_wrong_audience(self, audience: Any, target: Target, refused: Refused) -> None:
        assert "aud" in await refused(es(target, aud=audience))

    @pytest.mark.parametrize("name", ["iss", "sub", "client_id", "aud", "exp", "iat", "jti", "scope"])
    async def test_a_claim_left_out(self, name: str, target: Target, refused: Refused) -> None:
        """No `exp` among them: python-jose by itself would take that for a token without end."""
        assert name in await refused(es(target, **{name: None}))

    @pytest.mark.parametrize("value", [1, 1.5, True, [], {}, ["a"]])
    @pytest.mark.parametrize("name", ["iss", "sub", "client_id", "aud", "jti", "scope"])
    async def test_a_claim_that_is_no_string(self, name: str, value: Any, target: Target, refused: Refused) -> None:
        await refused(es(target, **{name: value}))

    @pytest.mark.parametrize("value", ["soon", "4102444800", True, -1, 1e30, 10**400, [], float("inf"), float("nan")])
    @pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
    async def test_an_instant_that_is_none(self, name: str, value: Any, target: Target, refused: Refused) -> None:
        await refused(es(target, **{name: value}))

    @pytest.mark.parametrize("ago", [0, 1, 3600])
    async def test_expired(self, ago: int, target: Target, refused: Refused) -> None:
        assert "expired" in await refused(es(target, exp=int(time.time()) - ago))

    async def test_not_yet_valid(self, target: Target, refused: Refused) -> None:
        assert "not yet valid" in await refused(es(target, nbf=int(time.time()) + 120))

    async def test_issued_in_the_future(self, target: Target, refused: Refused) -> None:
        assert "future" in await refused(es(target, iat=int(time.time()) + 120))

    async def test_sub_and_client_id_differ(self, target: Target, alliance: Alliance, refused: Refused) -> None:
        other = alliance.client("harbour").client_id
        await refused(es(target, sub=other))
        await refused(es(target, client_id=other))

    @pytest.mark.parametrize("name", ["", " ", "a\x00b", "a\nb", "\ud800", "é", "x" * 257, "north' OR '1'='1"])
    async def test_a_client_id_that_can_be_none(self, name: str, target: Target, refused: Refused) -> None:
        await refused(es(target, sub=name, client_id=name))

    async def test_claims_changed_under_a_good_signature(
        self, target: Target, alliance: Alliance, refused: Refused
    ) -> None:
        head, _, signature = es(target).split(".")
        body = forge.b64(json.dumps(claims(alliance.client("harbour").client_id)).encode())
        await refused(f"{head}.{body}.{signature}", look_ups=1)

    async def test_a_claim_twice(self, target: Target, refused: Refused) -> None:
        body = json.dumps(claims(target.client_id))
        twice = body[:-1] + ', "sub": "someone-else"}'
        assert "twice" in await refused(es256(target.key, header(target.kid), twice))

    async def test_claims_that_are_no_object(self, target: Target, refused: Refused) -> None:
        for body in ("[]", "null", '"claims"', "1", "", "{", "[" * 3000, '{"iss":' * 500):
            await refused(es256(target.key, header(target.kid), body))


class TestConfirmation:
    """What says that it is bound is no bearer token, and is good with the certificate that it names alone (RFC 8705 §3)."""

    @pytest.fixture
    def bound(self, target: Target, alliance: Alliance, identifier: Identifier, db: Database) -> Refused:
        """Hold that a token with this `cnf` is refused by its claims, after the one look-up that finds its key."""
        alliance.certificate(target.row, confirmations.BEARERS)

        async def send(cnf: object, *, shown: str | None = confirmations.SHOWN) -> str:
            body = json.dumps(claims(target.client_id) | {"cnf": cnf})
            token = es256(target.key, header(target.kid), body)
            with statements(db) as sent, pytest.raises(NotAuthenticated) as refusal:
                await identifier.caller(f"Bearer {token}", PathNames("fraud", "indicators"), shown)
            assert len(sent) < 2
            return refusal.value.reason

        return send

    async def test_the_good_one_is_accepted(self, bound: Refused, target: Target, identifier: Identifier) -> None:
        """With its certificate, which is its client's own."""
        token = f"Bearer {es(target, cnf=confirmations.GOOD)}"
        caller = await identifier.caller(token, PathNames("fraud", "indicators"), confirmations.SHOWN)

        assert caller.credential == "bound token"

    async def test_bound_by_something_else(self, bound: Refused) -> None:
        for cnf in confirmations.ANOTHER_KIND:
            assert "bound by something else" in await bound(cnf), cnf
            assert "bound by something else" in await bound(cnf, shown=None), cnf

    async def test_a_thumbprint_that_is_none(self, bound: Refused) -> None:
        for cnf in confirmations.ANOTHER_SPELLING:
            assert "cnf" in await bound(cnf), cnf

    async def test_another_certificate(self, bound: Refused) -> None:
        for cnf in (confirmation(bytes(32)), confirmation(thumbprint(certificate()))):
            assert "another certificate" in await bound(cnf)
        assert "no client certificate" in await bound(confirmations.GOOD, shown=None)

    async def test_its_client_s_no_more(self, bound: Refused, alliance: Alliance) -> None:
        """A certificate that was taken from the client, or is another's by now, takes its tokens along."""
        alliance.execute("DELETE FROM client_certificates")
        assert "not its client's any more" in await bound(confirmations.GOOD)
        alliance.certificate(alliance.client("harbour").row, confirmations.BEARERS)
        assert "not its client's any more" in await bound(confirmations.GOOD)

    async def test_bound_twice(self, target: Target, refused: Refused) -> None:
        """The first would be believed by one reader, the second by another."""
        body = json.dumps(claims(target.client_id) | {"cnf": confirmations.GOOD})
        for second in (f', "cnf": {json.dumps(confirmations.GOOD)}}}', ', "cnf": null}', ', "\\u0063nf": {}}'):
            assert "twice" in await refused(es256(target.key, header(target.kid), body[:-1] + second))
        inner = body.replace('{"x5t#S256"', '{"x5t#S256": "", "x5t#S256"')
        assert "twice" in await refused(es256(target.key, header(target.kid), inner))


class TestKey:
    async def test_unknown_kid(self, target: Target, refused: Refused) -> None:
        assert "unknown" in await refused(es(target, head={"kid": "A" * 43}), look_ups=1)

    @pytest.mark.parametrize(
        "kid",
        [
            "../../../../dev/null",
            "/dev/null",
            "file:///etc/passwd",
            "https://evil.example/key.pem",
            "x' UNION SELECT 'key",
            "key\x00",
            "",
            "é" * 43,
            "A" * 42,
            "A" * 44,
            "A" * 43 + "\n",
        ],
    )
    async def test_path_like_or_otherwise_odd_kid(self, kid: str, target: Target, refused: Refused) -> None:
        assert "kid" in await refused(es(target, head={"kid": kid}))

    @pytest.mark.parametrize("kid", [1, True, ["A" * 43], {"kid": "A"}])
    async def test_a_kid_that_is_no_string(self, kid: Any, target: Target, refused: Refused) -> None:
        await refused(es(target, head={"kid": kid}))

    async def test_no_kid(self, target: Target, refused: Refused) -> None:
        await refused(es(target, head={"kid": None}))

    async def test_another_key_under_our_kid(self, target: Target, refused: Refused) -> None:
        mine = generate_private_key(SECP256R1())
        token = es256(mine, header(target.kid), claims(target.client_id))
        assert "signature" in await refused(token, look_ups=1)

    async def test_our_older_key_under_the_newer_one_s_kid(
        self, target: Target, alliance: Alliance, keys: SigningKeys, refused: Refused
    ) -> None:
        """Given a whole JWKS python-jose tries each key; here the `kid` decides."""
        alliance.execute("UPDATE signing_keys SET signs_until = now()")
        newer = await keys.current()
        assert newer.kid != target.kid

        assert "signature" in await refused(es(target, head={"kid": newer.kid}), look_ups=1)

    async def test_a_retired_key(self, target: Target, alliance: Alliance, refused: Refused) -> None:
        alliance.execute("UPDATE signing_keys SET verifies_until = now()")
        assert "retired" in await refused(es(target), look_ups=1)

    async def test_a_key_retired_after_its_token_was_accepted(
        self, target: Target, alliance: Alliance, identifier: Identifier, refused: Refused
    ) -> None:
        token = es(target)
        await identifier.caller(f"Bearer {token}", PathNames())
        alliance.execute("UPDATE signing_keys SET verifies_until = now()")

        assert "retired" in await refused(token, look_ups=1)

    async def test_a_public_key_put_into_the_database_under_our_kid(
        self, target: Target, alliance: Alliance, identifier: Identifier, refused: Refused
    ) -> None:
        """The remembered good signature is bound to the key it was found with."""
        token = es(target)
        await identifier.caller(f"Bearer {token}", PathNames())
        numbers = generate_private_key(SECP256R1()).public_key().public_numbers()
        other = target.jwk | {"x": forge.b64(numbers.x.to_bytes(32)), "y": forge.b64(numbers.y.to_bytes(32))}
        alliance.execute("UPDATE signing_keys SET public_jwk = %s", json.dumps(other))

        await refused(token, look_ups=1)

    async def test_a_shared_secret_stored_as_if_it_were_our_key(
        self, target: Target, alliance: Alliance, refused: Refused
    ) -> None:
        """Even the database can't turn the server to another kind of key."""
        oct_key = json.dumps({"kty": "oct", "k": forge.b64(b"known"), "kid": target.kid, "alg": "HS256"})
        alliance.execute("UPDATE signing_keys SET public_jwk = %s", oct_key)

        await refused(es(target), look_ups=1)
        await refused(hs256(b"known", header(target.kid, alg="HS256"), claims(target.client_id)))


class TestHeader:
    async def test_jku(self, target: Target, refused: Refused) -> None:
        await refused(es(target, head={"jku": "https://evil.example/jwks.json"}))

    async def test_x5u(self, target: Target, refused: Refused) -> None:
        await refused(es(target, head={"x5u": "https://evil.example/cert.pem"}))

    async def test_x5c(self, target: Target, refused: Refused) -> None:
        await refused(es(target, head={"x5c": ["MIIB"]}))

    async def test_embedded_jwk(self, target: Target, refused: Refused) -> None:
        """The attacker brings the key that verifies the attacker's signature."""
        mine = generate_private_key(SECP256R1())
        numbers = mine.public_key().public_numbers()
        jwk = target.jwk | {"x": forge.b64(numbers.x.to_bytes(32)), "y": forge.b64(numbers.y.to_bytes(32))}
        await refused(es256(mine, header(target.kid, jwk=jwk), claims(target.client_id)))

    async def test_crit(self, target: Target, refused: Refused) -> None:
        await refused(es(target, head={"crit": ["exp"]}))

    async def test_unencoded_payload(self, target: Target, refused: Refused) -> None:
        await refused(es(target, head={"b64": False, "crit": ["b64"]}))

    async def test_zip(self, target: Target, refused: Refused) -> None:
        await refused(es(target, head={"zip": "DEF"}))

    @pytest.mark.parametrize("typ", ["JWT", "jwt", "", "logout+jwt", None, 1, ["at+jwt"]])
    async def test_another_typ(self, typ: Any, target: Target, refused: Refused) -> None:
        """An ID token or a logout token of the same key is no access token."""
        await refused(es(target, head={"typ": typ}))

    async def test_a_header_name_twice(self, target: Target, refused: Refused) -> None:
        head = json.dumps(header(target.kid))
        for second in ('"alg": "none"', '"kid": "AAAA"', '"alg": "ES256"'):
            twice = f"{head[:-1]}, {second}}}"
            assert "twice" in await refused(es256(target.key, twice, claims(target.client_id)))

    async def test_a_header_that_is_no_object(self, target: Target, refused: Refused) -> None:
        for head in ("[]", "null", '"ES256"', "1", "{", "[" * 3000, "\ud800"):
            await refused(es256(target.key, head, claims(target.client_id)))


class TestShape:
    async def test_jwe(self, refused: Refused) -> None:
        head = {"alg": "ECDH-ES", "enc": "A256GCM", "typ": "at+jwt"}
        parts = [json.dumps(head).encode(), b"key", b"iv", b"ciphertext", b"tag"]
        await refused(".".join(map(forge.b64, parts)))

    async def test_a_jws_in_json(self, target: Target, refused: Refused) -> None:
        head, body, signature = es(target).split(".")
        await refused(json.dumps({"protected": head, "payload": body, "signature": signature}))

    async def test_one_megabyte(self, target: Target, refused: Refused) -> None:
        started = time.perf_counter()
        assert "large" in await refused(es(target, padding="x" * 1_000_000))
        assert time.perf_counter() - started < 1

    @pytest.mark.parametrize("kept", [0, 1, 32, 63, 65, 128])
    async def test_a_signature_cut_short_or_too_long(self, kept: int, target: Target, refused: Refused) -> None:
        signed, _, signature = es(target).rpartition(".")
        octets = (urlsafe_b64decode(signature + "==") * 2)[:kept]
        await refused(f"{signed}.{forge.b64(octets)}")

    async def test_a_signature_of_zeros(self, target: Target, refused: Refused) -> None:
        """CVE-2022-21449: r = s = 0 verified everywhere."""
        await refused(unsigned(header(target.kid), claims(target.client_id), bytes(64)), look_ups=1)

    async def test_a_der_signature(self, target: Target, refused: Refused) -> None:
        head, body = header(target.kid), claims(target.client_id)
        signed = unsigned(head, body).removesuffix(".")
        await refused(f"{signed}.{forge.b64(target.key.sign(signed.encode(), ECDSA(SHA256())))}")

    async def test_parts_missing_or_too_many(self, target: Target, refused: Refused) -> None:
        token = es(target)
        head, body, signature = token.split(".")
        for wrong in ("", ".", "..", head, f"{head}.{body}", f"{head}.{body}.", f"{token}.", f"{token}.{signature}"):
            await refused(wrong)

    async def test_base64_that_two_readers_read_differently(self, target: Target, refused: Refused) -> None:
        head, body, signature = es(target).split(".")
        for wrong in (
            f"{head}=.{body}.{signature}",
            f"{head}.{body}.{signature}==",
            f"{head}\n.{body}.{signature}",
            f"{head}.{body[:8]} {body[8:]}.{signature}",
            f"{head}.{body}.{signature[:-1]}{'B' if signature[-1] != 'B' else 'C'}",
            f"{head}.{body}.{'+' + signature[1:]}",
        ):
            await refused(wrong)

    async def test_a_refresh_or_opaque_token(self, refused: Refused) -> None:
        await refused("f7a1c2d3e4b5")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_a_good_token_with_any_one_letter_changed(
    identifier: Identifier, target: Target, data: st.DataObject
) -> None:
    token = es(target)
    position = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_.=+/ ").filter(token[position].__ne__))

    with pytest.raises(NotAuthenticated):
        await identifier.caller(f"Bearer {token[:position]}{letter}{token[position + 1 :]}", PathNames())


class TestStanding:
    """A good token of a client that no longer is."""

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ("UPDATE clients SET revoked_at = now()", "revoked"),
            ("UPDATE clients SET expires_at = now()", "expired"),
            ("UPDATE members SET suspended_at = now()", "suspended"),
            ("UPDATE members SET removed_at = now()", "removed"),
            ("DELETE FROM client_secrets; DELETE FROM clients", "unknown client"),
        ],
    )
    async def test_refused_by_the_next_request(
        self,
        change: str,
        reason: str,
        target: Target,
        alliance: Alliance,
        identifier: Identifier,
        refused: Refused,
    ) -> None:
        token = es(target)
        await identifier.caller(f"Bearer {token}", PathNames())
        for statement in change.split(";"):
            alliance.execute(statement)

        assert reason in await refused(token, look_ups=1)

    async def test_a_client_that_never_was(self, target: Target, refused: Refused) -> None:
        assert await refused(es(target, sub="nobody", client_id="nobody"), look_ups=1) == "unknown client"
