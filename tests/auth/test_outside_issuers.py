"""Tokens of outside issuers, against real ones on this machine: good tokens in, and every attack refused.

Each refused token differs from a good one in the one thing the test is about.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from taxii_server.auth import issuer_keys
from taxii_server.auth.identify import Identifier, PathNames
from taxii_server.auth.issuer_keys import AGAIN, LARGEST, MAX_AGE, STALE, IssuerKeys
from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.domain.access import Caller, Right
from taxii_server.domain.errors import IssuerUnavailable, NotAuthenticated, OperatorError
from taxii_server.operations.tokens import revoke_jti, revoke_token
from taxii_server.storage.engine import Database
from tests.auth import confirmations, forge
from tests.auth.alliance import Alliance, statements
from tests.auth.forge import ISSUER
from tests.auth.issuer import EC_KEYS, RSA_KEYS, Issuer, public_jwk, running, sign

pytestmark = pytest.mark.anyio

INDICATORS = PathNames("fraud", "indicators")
ALGORITHMS = ("ES256", "ES384", "RS256")
HEAD = {"alg": "RS256", "kid": "rsa"}


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def identifier(db: Database, clock: Clock) -> Identifier:
    return Identifier(db, ISSUER, issuer_keys=IssuerKeys(clock))


@pytest.fixture
def bank(alliance: Alliance) -> Iterator[Issuer]:
    """North Bank's own issuer, trusted for North Bank's SIEM."""
    with running() as issuer:
        alliance.issuer("bank", issuer.url, jwks_uri=issuer.jwks_uri, algorithms=ALGORITHMS)
        alliance.tied("north", "bank", "siem")
        yield issuer


@pytest.fixture
def other(alliance: Alliance) -> Iterator[Issuer]:
    """Another bank's issuer, trusted for a client of Harbour Bank."""
    with running() as issuer:
        issuer.keys = {"rsa": RSA_KEYS[1], "ec": EC_KEYS[1]}
        alliance.issuer("other", issuer.url, jwks_uri=issuer.jwks_uri, algorithms=ALGORITHMS)
        alliance.tied("harbour", "other", "push-tool")
        yield issuer


Refused = Callable[[str], Awaitable[str]]


@pytest.fixture
def refused(identifier: Identifier) -> Refused:
    async def send(token: str) -> str:
        with pytest.raises(NotAuthenticated) as refusal:
            await identifier.caller(f"Bearer {token}", INDICATORS)
        return refusal.value.reason

    return send


async def member(identifier: Identifier, token: str) -> str:
    return (await identifier.caller(f"Bearer {token}", INDICATORS)).principal.member_slug


class TestGoodTokens:
    @pytest.mark.parametrize("kid", ["rsa", "ec", "ec384"])
    async def test_each_kind_of_key(self, kid: str, identifier: Identifier, bank: Issuer) -> None:
        caller = await identifier.caller(f"Bearer {bank.token(kid)}", INDICATORS)

        assert caller.principal.member_slug == "north"
        assert caller.principal.rights == set(Right)
        assert caller.place.collection is not None

    async def test_one_statement_a_request_and_one_fetch_for_many(
        self, identifier: Identifier, db: Database, bank: Issuer
    ) -> None:
        for _ in range(5):
            with statements(db) as sent:
                await identifier.caller(f"Bearer {bank.token()}", INDICATORS)
            assert len(sent) == 1

        assert bank.asked == ["/keys"]

    async def test_no_connection_is_held_while_keys_are_fetched(
        self, identifier: Identifier, db: Database, bank: Issuer
    ) -> None:
        bank.delay = 0.3
        asking = asyncio.create_task(identifier.caller(f"Bearer {bank.token()}", INDICATORS))
        await bank.is_asked()

        held = db.engine.pool.checkedout()  # type: ignore[attr-defined]
        await asking

        assert held == 0

    @pytest.mark.parametrize("typ", [None, "JWT", "jwt", "at+jwt", "application/at+jwt"])
    async def test_types_that_issuers_write(self, typ: str | None, identifier: Identifier, bank: Issuer) -> None:
        assert await member(identifier, bank.token(head={"typ": typ})) == "north"

    async def test_headers_that_nobody_must_understand_are_ignored(self, identifier: Identifier, bank: Issuer) -> None:
        assert await member(identifier, bank.token(head={"x5t": "abc", "pi.atm": "1"})) == "north"

    async def test_the_audience_may_be_one_of_several(self, identifier: Identifier, bank: Issuer) -> None:
        assert await member(identifier, bank.token(aud=["https://else.example", ISSUER])) == "north"

    async def test_seconds_may_have_fractions(self, identifier: Identifier, bank: Issuer) -> None:
        assert await member(identifier, bank.token(iat=time.time() - 0.5, exp=time.time() + 60.5)) == "north"

    @pytest.mark.parametrize("claim", ["client_id", "azp", "appid", "https://bank.example/client"])
    async def test_another_claim_may_name_the_client(
        self, claim: str, identifier: Identifier, alliance: Alliance, bank: Issuer, refused: Refused
    ) -> None:
        alliance.execute("UPDATE issuers SET claim = %s", claim)

        named: dict[str, Any] = {claim: "siem"}

        assert await member(identifier, bank.token(subject="whoever", **named)) == "north"
        assert await refused(bank.token()) == "unknown client"

    async def test_metadata_names_the_keys(
        self, identifier: Identifier, alliance: Alliance, bank: Issuer, clock: Clock
    ) -> None:
        """By OpenID Connect Discovery, or RFC 8414."""
        alliance.execute("UPDATE issuers SET jwks_uri = NULL")
        document = {"issuer": bank.url, "jwks_uri": bank.jwks_uri}
        for place in ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"):
            bank.metadata = {place: document}
            clock.now += MAX_AGE
            bank.asked.clear()

            assert await member(identifier, bank.token()) == "north"
            assert bank.asked[-2:] == [place, "/keys"]


class TestScope:
    @pytest.mark.parametrize(
        ("said", "left"),
        [
            ({"scope": "taxii:read"}, {Right.READ}),
            ({"scope": "openid taxii:write"}, {Right.WRITE}),
            ({"scp": ["taxii:read"]}, {Right.READ}),
            ({"scope": "openid profile"}, {Right.READ, Right.WRITE}),
            ({"scope": ""}, {Right.READ, Right.WRITE}),
            ({"scope": "taxii:raed"}, set()),
        ],
    )
    async def test_a_scope_of_ours_narrows(
        self, said: dict[str, Any], left: set[Right], identifier: Identifier, bank: Issuer
    ) -> None:
        assert (await identifier.caller(f"Bearer {bank.token(**said)}", INDICATORS)).principal.rights == left

    async def test_it_never_widens(self, identifier: Identifier, alliance: Alliance, bank: Issuer) -> None:
        alliance.tied("north", "bank", "reader", rights=("read",))
        token = bank.token(subject="reader", scope="taxii:read taxii:write")

        assert (await identifier.caller(f"Bearer {token}", INDICATORS)).principal.rights == {Right.READ}

    @pytest.mark.parametrize("scope", [7, {"taxii:read": 1}, ["taxii:read", 1]])
    async def test_a_malformed_one_is_refused(self, scope: Any, bank: Issuer, refused: Refused) -> None:
        assert "scope" in await refused(bank.token(scope=scope))


class TestStanding:
    """Revoked, suspended, expired: by the next request, although signature and keys are remembered."""

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE clients SET revoked_at = now()",
            "UPDATE clients SET expires_at = now()",
            "UPDATE members SET suspended_at = now()",
            "UPDATE members SET removed_at = now()",
            "UPDATE issuers SET removed_at = now()",
            "UPDATE issuers SET audience = 'https://else.example'",
            "UPDATE issuers SET algorithms = '{ES256}'",
            "UPDATE clients SET subject = 'somebody-else'",
        ],
    )
    async def test_at_once(
        self, change: str, identifier: Identifier, alliance: Alliance, bank: Issuer, refused: Refused
    ) -> None:
        token = bank.token()
        assert await member(identifier, token) == "north"

        alliance.execute(change)

        await refused(token)

    async def test_a_token_by_its_jti(
        self, identifier: Identifier, db: Database, bank: Issuer, refused: Refused
    ) -> None:
        token, same_jti_of_ours, shown = bank.token(jti="one"), bank.token(jti="two"), bank.token(jti="three")
        assert await member(identifier, token) == "north"
        await revoke_jti(db, ISSUER, "one", outside="bank")
        await revoke_jti(db, ISSUER, "two")
        await revoke_token(db, ISSUER, shown)

        assert await refused(token) == await refused(shown) == "token was revoked"
        assert await member(identifier, same_jti_of_ours) == "north"

    async def test_a_token_that_can_t_be_taken_back_alone(self, db: Database, bank: Issuer) -> None:
        """Without a jti, or of an issuer that nobody trusts."""
        for token in (bank.token(), bank.token(jti="one", iss="https://else.example")):
            with pytest.raises(OperatorError):
                await revoke_token(db, ISSUER, token)
        with pytest.raises(OperatorError, match="no issuer"):
            await revoke_jti(db, ISSUER, "one", outside="else")

    async def test_inside_a_write_it_is_asked_again(
        self, identifier: Identifier, db: Database, alliance: Alliance, bank: Issuer
    ) -> None:
        caller = await identifier.caller(f"Bearer {bank.token()}", INDICATORS)
        async with db.write() as connection:
            assert (await identifier.again(connection, caller, INDICATORS)).principal == caller.principal
        alliance.execute("UPDATE issuers SET removed_at = now()")

        with pytest.raises(NotAuthenticated):
            async with db.write() as connection:
                await identifier.again(connection, caller, INDICATORS)


class TestMixUp:
    async def test_one_issuer_s_key_signs_nothing_in_another_s_name(
        self, bank: Issuer, other: Issuer, refused: Refused
    ) -> None:
        """The same kid, another key: each issuer's keys are its own."""
        forged = sign(other.keys["rsa"], {"alg": "RS256", "kid": "rsa", "typ": "JWT"}, bank.claims())

        assert await refused(forged) == "token's signature is wrong"

    async def test_a_subject_of_another_issuer_is_nobody(self, bank: Issuer, other: Issuer, refused: Refused) -> None:
        """Harbour Bank's issuer can't say `siem`, nor North Bank's `push-tool`."""
        assert await refused(other.token(subject="siem")) == "unknown client"
        assert await refused(bank.token(subject="push-tool")) == "unknown client"

    async def test_a_key_that_two_issuers_share_speaks_for_the_one_that_is_named(
        self, identifier: Identifier, bank: Issuer, other: Issuer, refused: Refused
    ) -> None:
        """Same key, same kid, as with one product that serves many: `iss` is signed, and decides."""
        other.keys = dict(bank.keys)

        assert await member(identifier, bank.token()) == "north"
        assert await member(identifier, other.token(subject="push-tool")) == "harbour"
        assert await refused(other.token(subject="siem")) == "unknown client"

    async def test_a_remembered_signature_is_bound_to_its_key(
        self, identifier: Identifier, bank: Issuer, clock: Clock, refused: Refused
    ) -> None:
        token = bank.token()
        assert await member(identifier, token) == "north"
        bank.keys["rsa"] = RSA_KEYS[1]
        clock.now += MAX_AGE

        assert await refused(token) == "token's signature is wrong"

    async def test_our_own_name_is_never_an_outside_one(
        self, alliance: Alliance, bank: Issuer, refused: Refused
    ) -> None:
        """Even if somebody wrote it into the table."""
        alliance.issuer("us", ISSUER, jwks_uri=bank.jwks_uri, algorithms=ALGORITHMS)
        alliance.tied("north", "us", "siem")

        await refused(bank.token("ec", iss=ISSUER, client_id="siem", jti="1", scope="taxii:read"))
        assert bank.asked == []

    async def test_our_own_key_signs_nothing_in_an_issuer_s_name(
        self, keys: SigningKeys, bank: Issuer, refused: Refused
    ) -> None:
        current = await keys.current()

        forged = sign(current.private_key, {"alg": "ES256", "kid": current.kid, "typ": "at+jwt"}, bank.claims())

        assert "none that its issuer publishes" in await refused(forged)

    async def test_an_issuer_s_key_signs_no_token_of_ours(
        self, alliance: Alliance, bank: Issuer, refused: Refused
    ) -> None:
        client = alliance.client("north").client_id
        for kid in ("ec", "A" * 43):
            await refused(forge.es256(EC_KEYS[0], forge.header(kid), forge.claims(client)))
        assert bank.asked == []

    @pytest.mark.parametrize("change", ["/", "x", "?a", "#a"])
    async def test_a_name_that_is_nearly_the_issuer_s(self, change: str, bank: Issuer, refused: Refused) -> None:
        assert await refused(bank.token(iss=bank.url + change)) == "token is of another issuer"

    @pytest.mark.parametrize(
        "audience",
        ["https://else.example", "", "https://taxii.example.org/", [], ["https://else.example"], 7, [ISSUER, 7], None],
    )
    async def test_another_audience(self, audience: Any, bank: Issuer, refused: Refused) -> None:
        assert "aud" in await refused(bank.token(aud=audience))


class TestClaims:
    @pytest.mark.parametrize("name", ["iss", "aud", "exp", "iat", "sub"])
    async def test_none_may_be_missing(self, name: str, bank: Issuer, refused: Refused) -> None:
        missing: dict[str, Any] = {name: None}

        await refused(bank.token(**missing))

    @pytest.mark.parametrize(
        "changes",
        [
            {"exp": lambda now: now - 1},
            {"iat": lambda now: now + 60},
            {"nbf": lambda now: now + 60},
            {"exp": lambda now: now + 24 * 3600 + 60},
            {"exp": lambda _: "never"},
            {"exp": lambda _: True},
            {"iat": lambda _: -1},
            {"nbf": lambda _: "soon"},
            {"exp": lambda _: float("inf")},
        ],
    )
    async def test_times(self, changes: dict[str, Callable[[int], Any]], bank: Issuer, refused: Refused) -> None:
        now = int(time.time())
        await refused(bank.token(**{name: value(now) for name, value in changes.items()}))

    async def test_clocks_may_differ_by_half_a_minute(self, identifier: Identifier, bank: Issuer) -> None:
        now = int(time.time())

        assert await member(identifier, bank.token(iat=now + 25, nbf=now + 25)) == "north"

    @pytest.mark.parametrize("subject", ["SIEM", "siem ", "siem\x00", "", "s" * 300, 7, ["siem"], {"siem": 1}])
    async def test_a_subject_is_exactly_what_was_tied(self, subject: Any, bank: Issuer, refused: Refused) -> None:
        await refused(bank.token(subject=subject))

    @pytest.mark.parametrize("shown", [None, confirmations.SHOWN], ids=["alone", "with a certificate"])
    async def test_what_it_is_bound_by_is_a_certificate_or_it_is_refused(
        self, shown: str | None, bank: Issuer, identifier: Identifier, db: Database
    ) -> None:
        """The corpus of `confirmations`: before its issuer or anybody else is asked, whatever is shown beside it."""
        for cnf in confirmations.WRONG:
            token = sign(bank.keys["ec"], {"alg": "ES256", "kid": "ec"}, json.dumps(bank.claims() | {"cnf": cnf}))
            with statements(db) as sent, pytest.raises(NotAuthenticated) as refusal:
                await identifier.caller(f"Bearer {token}", INDICATORS, shown)
            assert "bound" in refusal.value.reason or "cnf" in refusal.value.reason, cnf
            assert sent == []
        assert bank.asked == []
        good = f"Bearer {bank.token(cnf=confirmations.GOOD)}"
        assert (await identifier.caller(good, INDICATORS, confirmations.SHOWN)).credential == "bound outside token"

    @pytest.mark.parametrize("typ", ["logout+jwt", "dpop+jwt", 7, "JWE"])
    async def test_another_type(self, typ: Any, bank: Issuer, refused: Refused) -> None:
        assert "typ" in await refused(bank.token(head={"typ": typ}))

    @pytest.mark.parametrize("jti", [7, "a b", "x" * 300])
    async def test_a_jti_that_could_not_be_revoked(self, jti: Any, bank: Issuer, refused: Refused) -> None:
        assert "jti" in await refused(bank.token(jti=jti))

    @pytest.mark.parametrize("where", ["header", "claims"])
    async def test_nesting_never_breaks_a_reader(self, where: str, identifier: Identifier, bank: Issuer) -> None:
        """However deep: it is let in or refused. Two readers look at it, and the second has less of the stack left."""
        outcomes = set()
        for depth in (10, *range(850, 1000), 3000):
            deep = f', "x": {"[" * depth}{"]" * depth}}}'
            head, claims = json.dumps(HEAD), json.dumps(bank.claims())
            token = sign(
                RSA_KEYS[0],
                head[:-1] + deep if where == "header" else head,
                claims if where == "header" else claims[:-1] + deep,
            )
            [outcome] = await asyncio.gather(identifier.caller(f"Bearer {token}", INDICATORS), return_exceptions=True)
            outcomes.add(type(outcome))

        assert outcomes == {Caller, NotAuthenticated}

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
    async def test_what_is_no_json_number(self, number: str, bank: Issuer, refused: Refused) -> None:
        claims = f'{json.dumps(bank.claims())[:-1]}, "x": {number}}}'

        assert await refused(sign(RSA_KEYS[0], HEAD, claims)) == "token is not JSON"


class TestAlgorithms:
    async def test_none(self, bank: Issuer, refused: Refused) -> None:
        for alg in ("none", "None", ""):
            await refused(forge.unsigned({"alg": alg, "kid": "rsa"}, bank.claims()).rstrip("."))
            await refused(forge.unsigned({"alg": alg, "kid": "rsa"}, bank.claims(), bytes(256)))

    async def test_hs256_with_the_public_key_as_secret(self, bank: Issuer, refused: Refused) -> None:
        pem = RSA_KEYS[0].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        jwk = json.dumps(public_jwk(RSA_KEYS[0], "rsa")).encode()
        for secret in (pem, pem.strip(), jwk, b""):
            for alg in ("HS256", "RS256"):
                await refused(forge.hs256(secret, {"alg": alg, "kid": "rsa"}, bank.claims()))

    @pytest.mark.parametrize(("kid", "alg"), [("rsa", "ES256"), ("ec", "RS256"), ("ec", "ES384"), ("ec384", "ES256")])
    async def test_the_algorithm_of_another_kind_of_key(
        self, kid: str, alg: str, bank: Issuer, refused: Refused
    ) -> None:
        assert await refused(bank.token(kid, head={"alg": alg})) == "token's alg is not one of its key"

    @pytest.mark.parametrize("alg", ["RS384", "RS512", "PS256", "ES512", "ES256K", "EdDSA", None, 7, ["RS256"]])
    async def test_what_was_not_configured(self, alg: Any, bank: Issuer, refused: Refused) -> None:
        assert "alg" in await refused(bank.token(head={"alg": alg}))

    async def test_a_key_that_names_its_algorithm_is_for_that_alone(self, bank: Issuer, refused: Refused) -> None:
        bank.body = json.dumps({"keys": [public_jwk(RSA_KEYS[0], "rsa", alg="RS512")]}).encode()

        assert await refused(bank.token()) == "token's alg is not one of its key"


class TestHeaders:
    @pytest.mark.parametrize(
        "more",
        [{"jku": "{url}/evil"}, {"x5u": "{url}/evil"}, {"jwk": {}}, {"x5c": ["a"]}, {"crit": ["exp"]}, {"b64": False}],
    )
    async def test_a_token_never_says_where_its_key_is(
        self, more: dict[str, Any], bank: Issuer, other: Issuer, refused: Refused
    ) -> None:
        """Neither fetched nor used."""
        said = {name: value.format(url=other.url) if isinstance(value, str) else value for name, value in more.items()}
        said = {name: public_jwk(RSA_KEYS[1], "rsa") if name == "jwk" else value for name, value in said.items()}
        claims = bank.claims()

        await refused(sign(RSA_KEYS[1], {"alg": "RS256", "kid": "rsa", "typ": "JWT"} | said, claims))
        await refused(sign(RSA_KEYS[0], {"alg": "RS256", "kid": "rsa", "typ": "JWT"} | said, claims))
        assert (bank.asked, other.asked) == ([], [])

    @pytest.mark.parametrize("kid", [None, "", 7, "x" * 300, "a\x00b", ["rsa"]])
    async def test_a_kid_is_needed(self, kid: Any, bank: Issuer, refused: Refused) -> None:
        assert "kid" in await refused(bank.token(head={"kid": kid}))
        assert bank.asked == []


class TestUnfitKeys:
    """A key that must not be used is as good as not there; the others of its set go on."""

    async def kid_is_refused(
        self, jwk: Any, token: str, bank: Issuer, identifier: Identifier, refused: Refused
    ) -> None:
        bank.body = json.dumps({"keys": [jwk, public_jwk(EC_KEYS[0], "ec")]}).encode()

        assert await refused(token) == "token's key is none that its issuer publishes"
        assert await member(identifier, bank.token("ec")) == "north"

    async def test_a_weak_rsa_key(self, bank: Issuer, identifier: Identifier, refused: Refused) -> None:
        weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - that is the attack
        token = sign(weak, {"alg": "RS256", "kid": "weak"}, bank.claims())
        await self.kid_is_refused(public_jwk(weak, "weak"), token, bank, identifier, refused)

    async def test_a_small_exponent(self, bank: Issuer, identifier: Identifier, refused: Refused) -> None:
        small = rsa.generate_private_key(public_exponent=3, key_size=2048)
        token = sign(small, {"alg": "RS256", "kid": "small"}, bank.claims())
        await self.kid_is_refused(public_jwk(small, "small"), token, bank, identifier, refused)

    async def test_a_private_key(self, bank: Issuer, identifier: Identifier, refused: Refused) -> None:
        """Whoever read the set can sign with it."""
        private = public_jwk(RSA_KEYS[0], "rsa", d="AQAB")
        await self.kid_is_refused(private, bank.token(), bank, identifier, refused)

    async def test_a_symmetric_key(self, bank: Issuer, identifier: Identifier, refused: Refused) -> None:
        jwk = {"kty": "oct", "kid": "oct", "k": forge.b64(b"k" * 32)}
        await self.kid_is_refused(jwk, bank.token(head={"kid": "oct"}), bank, identifier, refused)
        await refused(forge.hs256(b"k" * 32, {"alg": "HS256", "kid": "oct"}, bank.claims()))

    async def test_a_key_for_encryption(self, bank: Issuer, identifier: Identifier, refused: Refused) -> None:
        for more in ({"use": "enc"}, {"key_ops": ["encrypt"]}, {"key_ops": 7}):
            await self.kid_is_refused(public_jwk(RSA_KEYS[0], "rsa", **more), bank.token(), bank, identifier, refused)

    async def test_a_point_off_its_curve(self, bank: Issuer, identifier: Identifier, refused: Refused) -> None:
        off = public_jwk(EC_KEYS[1], "off") | {"y": public_jwk(EC_KEYS[0], "ec")["y"]}
        await self.kid_is_refused(off, bank.token("ec", head={"kid": "off"}), bank, identifier, refused)

    async def test_coordinates_longer_than_their_curve(
        self, bank: Issuer, identifier: Identifier, refused: Refused
    ) -> None:
        """RFC 7518 §6.2.1.2: as many octets as the curve has, so that a key is written in one way only."""
        point = EC_KEYS[1].public_key().public_numbers()
        long = public_jwk(EC_KEYS[1], "long") | {"x": forge.b64(point.x.to_bytes(33, "big"))}
        token = sign(EC_KEYS[1], {"alg": "ES256", "kid": "long"}, bank.claims())
        await self.kid_is_refused(long, token, bank, identifier, refused)

    @pytest.mark.parametrize(
        "jwk",
        [
            7,
            None,
            [],
            {},
            {"kty": "RSA", "kid": "rsa"},
            {"kty": ["RSA"], "kid": "rsa"},
            {"kty": "RSA", "kid": "rsa", "n": "!!", "e": "AQAB"},
            {"kty": "OKP", "kid": "rsa"},
            {"kty": "EC", "kid": "rsa", "crv": "P-521", "x": "AA", "y": "AA"},
        ],
    )
    async def test_nonsense(self, jwk: Any, bank: Issuer, identifier: Identifier, refused: Refused) -> None:
        await self.kid_is_refused(jwk, bank.token(), bank, identifier, refused)

    async def test_two_keys_of_one_kid(self, bank: Issuer, identifier: Identifier, refused: Refused) -> None:
        """Neither is tried: which one is meant isn't for us to find out."""
        twice = [public_jwk(RSA_KEYS[1], "rsa"), public_jwk(RSA_KEYS[0], "rsa"), public_jwk(EC_KEYS[0], "ec")]
        bank.body = json.dumps({"keys": twice}).encode()

        assert "none that its issuer publishes" in await refused(bank.token())
        assert await member(identifier, bank.token("ec")) == "north"


class TestFetching:
    async def test_keys_that_the_issuer_rotates(
        self, identifier: Identifier, bank: Issuer, clock: Clock, refused: Refused
    ) -> None:
        """A new kid is fetched when it is met; a withdrawn one goes when the set is fetched again."""
        old = bank.token()
        assert await member(identifier, old) == "north"
        clock.now += AGAIN
        bank.keys = {"new": RSA_KEYS[1]}

        assert await member(identifier, bank.token("new")) == "north"
        assert "none that its issuer publishes" in await refused(old)
        assert len(bank.asked) == 2

    async def test_a_withdrawn_key_is_used_for_no_longer_than_its_age(
        self, identifier: Identifier, bank: Issuer, clock: Clock, refused: Refused
    ) -> None:
        token = bank.token()
        assert await member(identifier, token) == "north"
        bank.keys = {"new": RSA_KEYS[1]}
        clock.now += MAX_AGE

        await refused(token)

    async def test_a_storm_of_unknown_kids_is_one_fetch_in_half_a_minute(
        self, identifier: Identifier, bank: Issuer, clock: Clock
    ) -> None:
        assert await member(identifier, bank.token()) == "north"
        for _ in range(3):
            clock.now += AGAIN
            asked = (
                identifier.caller(f"Bearer {bank.token(head={'kid': f'made-up-{number}'})}", INDICATORS)
                for number in range(50)
            )
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(answer) for answer in answers} == {NotAuthenticated}

        assert len(bank.asked) == 4

    async def test_many_at_once_wait_for_one_fetch(self, identifier: Identifier, bank: Issuer) -> None:
        bank.delay = 0.3

        members = await asyncio.gather(*(member(identifier, bank.token()) for _ in range(20)))

        assert set(members) == {"north"}
        assert bank.asked == ["/keys"]

    async def test_one_that_gives_up_does_not_end_the_fetch_of_the_others(
        self, identifier: Identifier, bank: Issuer
    ) -> None:
        bank.delay = 0.3
        first, second = (asyncio.create_task(member(identifier, bank.token())) for _ in range(2))
        await bank.is_asked()
        first.cancel()

        assert await second == "north"

    async def test_another_address_is_another_set_of_keys(
        self, identifier: Identifier, alliance: Alliance, bank: Issuer, other: Issuer, refused: Refused
    ) -> None:
        """From the next request on: what the place before had published counts no more."""
        token = bank.token()
        assert await member(identifier, token) == "north"

        alliance.execute("UPDATE issuers SET jwks_uri = %s WHERE slug = 'bank'", other.jwks_uri)

        assert await refused(token) == "token's signature is wrong"

    async def test_an_unknown_issuer_is_never_asked(self, alliance: Alliance, bank: Issuer, refused: Refused) -> None:
        alliance.execute("UPDATE issuers SET issuer = 'https://else.example'")

        assert await refused(bank.token()) == "token is of another issuer"
        assert bank.asked == []


class TestOutage:
    """Keys in hand are used for an hour; without any it is 503, for a bearer who is one of us, and 401 for others."""

    async def test_a_fetch_that_fails_in_an_unforeseen_way_is_an_outage(
        self, identifier: Identifier, bank: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As with a proxy's setting that nobody understands: keys in hand go on, and it is told as unavailable."""
        monkeypatch.setenv("HTTP_PROXY", "nonsense://proxy.example")
        monkeypatch.delenv("NO_PROXY", raising=False)
        with pytest.raises(IssuerUnavailable):
            await member(identifier, bank.token())
        monkeypatch.delenv("HTTP_PROXY")
        clock.now += AGAIN
        assert await member(identifier, bank.token()) == "north"
        monkeypatch.setenv("HTTP_PROXY", "nonsense://proxy.example")
        clock.now += MAX_AGE

        assert await member(identifier, bank.token()) == "north"

    async def test_and_recovery(self, identifier: Identifier, bank: Issuer, clock: Clock) -> None:
        assert await member(identifier, bank.token()) == "north"
        bank.status = 500
        clock.now += MAX_AGE
        assert await member(identifier, bank.token()) == "north"
        clock.now += STALE - MAX_AGE

        with pytest.raises(IssuerUnavailable):
            await member(identifier, bank.token())
        bank.status = 200
        with pytest.raises(IssuerUnavailable):
            await member(identifier, bank.token())
        clock.now += AGAIN

        assert await member(identifier, bank.token()) == "north"

    async def test_the_issuer_is_asked_again_only_after_half_a_minute(
        self, identifier: Identifier, bank: Issuer, clock: Clock
    ) -> None:
        bank.status = 500
        for _ in range(10):
            with pytest.raises(IssuerUnavailable):
                await member(identifier, bank.token())
            clock.now += AGAIN / 5

        assert len(bank.asked) == 2

    async def test_a_new_kid_during_an_outage_is_not_judged(
        self, identifier: Identifier, bank: Issuer, clock: Clock
    ) -> None:
        assert await member(identifier, bank.token()) == "north"
        bank.keys["new"], bank.status = RSA_KEYS[1], 503
        clock.now += AGAIN

        with pytest.raises(IssuerUnavailable):
            await member(identifier, bank.token("new"))

    async def test_strangers_learn_nothing_of_it(self, bank: Issuer, refused: Refused) -> None:
        bank.status = 500

        assert await refused(bank.token(subject="stranger")) == "unknown client"

    @pytest.mark.parametrize("status", [204, 301, 302, 307, 401, 404, 500])
    async def test_any_status_but_200(self, status: int, identifier: Identifier, bank: Issuer, other: Issuer) -> None:
        """Redirects are not followed."""
        bank.status, bank.headers = status, {"Location": other.jwks_uri}

        with pytest.raises(IssuerUnavailable):
            await member(identifier, bank.token())
        assert other.asked == []

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"no json",
            b"[]",
            b"{}",
            b'{"keys": {}}',
            b"[" * 100_000,
            b"\xff",
            json.dumps({"keys": [{}] * 65}).encode(),
        ],
        ids=["nothing", "text", "list", "object", "no list", "deep", "octets", "many"],
    )
    async def test_what_is_no_key_set(self, body: bytes, identifier: Identifier, bank: Issuer) -> None:
        bank.body = body

        with pytest.raises(IssuerUnavailable):
            await member(identifier, bank.token())

    async def test_a_giant_set(self, identifier: Identifier, bank: Issuer) -> None:
        bank.body = json.dumps(bank.jwks() | {"padding": "x" * LARGEST}).encode()

        with pytest.raises(IssuerUnavailable):
            await member(identifier, bank.token())

    async def test_a_slow_issuer(self, identifier: Identifier, bank: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(issuer_keys, "TIMEOUT", 0.2)
        bank.delay = 1
        begun = time.monotonic()

        with pytest.raises(IssuerUnavailable):
            await member(identifier, bank.token())
        assert time.monotonic() - begun < 1

    async def test_metadata_of_somebody_else(
        self, identifier: Identifier, alliance: Alliance, bank: Issuer, other: Issuer, clock: Clock
    ) -> None:
        """RFC 8414 §3.3; nor keys over plain HTTP from anywhere but this machine."""
        alliance.execute("UPDATE issuers SET jwks_uri = NULL WHERE slug = 'bank'")
        documents: list[Any] = [
            {"issuer": other.url, "jwks_uri": other.jwks_uri},
            {"issuer": bank.url, "jwks_uri": "http://keys.example/keys"},
            {"issuer": bank.url, "jwks_uri": "file:///etc/passwd"},
            {"issuer": bank.url},
            {"issuer": bank.url, "jwks_uri": 7},
            [],
        ]
        for document in documents:
            bank.metadata = {"/.well-known/openid-configuration": document}
            clock.now += AGAIN
            with pytest.raises(IssuerUnavailable):
                await member(identifier, bank.token())
        assert other.asked == []
