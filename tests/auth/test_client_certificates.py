"""Who asks, where certificates are shown: alone, beside a secret, and with a token that is bound to one (RFC 8705)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from taxii_server.auth import secrets, tokens
from taxii_server.auth.authorization import challenges
from taxii_server.auth.certificates import confirmation
from taxii_server.auth.identify import Identifier, PathNames
from taxii_server.domain.access import Right
from taxii_server.domain.errors import NotAuthenticated
from tests.auth import issuer as outside
from tests.auth.alliance import statements
from tests.auth.certified import byte_sequence, certificate, escaped_pem, thumbprint
from tests.auth.forge import ISSUER
from tests.auth.test_identify import INDICATORS, NOWHERE, basic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from taxii_server.auth.signing_keys import SigningKeys
    from taxii_server.storage.engine import Database
    from tests.auth.alliance import Alliance, Issued
    from tests.auth.issuer import Issuer

pytestmark = pytest.mark.anyio

OWN, OTHERS, UNKNOWN = certificate("own"), certificate("another client's"), certificate("nobody's")
EXPIRED = certificate("expired", until=timedelta(seconds=-5))
SHOWN = {
    "none": None,
    "own": byte_sequence(OWN),
    "other": byte_sequence(OTHERS),
    "unknown": byte_sequence(UNKNOWN),
    "expired": byte_sequence(EXPIRED),
}


@pytest.fixture
def north(alliance: Alliance) -> Issued:
    """A client with a secret, a certificate and one that has expired; another member's client has one too."""
    made = alliance.client("north")
    alliance.certificate(made.row, OWN)
    alliance.certificate(made.row, EXPIRED)
    alliance.certificate(alliance.client("harbour").row, OTHERS)
    return made


@pytest.fixture
async def token(keys: SigningKeys, north: Issued) -> Callable[..., str]:
    key = await keys.current()

    def write(bound: bytes | None = None) -> str:
        return "Bearer " + tokens.issue(
            key.private_key,
            kid=key.kid,
            issuer=ISSUER,
            client_id=north.client_id,
            rights=frozenset(Right),
            lifetime=timedelta(minutes=5),
            certificate=bound,
        )

    return write


async def outcome(
    identifier: Identifier, db: Database, authorization: str | None, shown: str | None, *, look_ups: int | None = 1
) -> str:
    """Give the member who asks, or else why nobody does; hold that it took one statement."""
    with statements(db) as sent:
        try:
            said = (await identifier.caller(authorization, INDICATORS, shown)).principal.member_slug
        except NotAuthenticated as refusal:
            said = refusal.reason
    assert look_ups is None or len(sent) == look_ups
    return said


@pytest.mark.parametrize("shown", [byte_sequence(OWN), escaped_pem(OWN)], ids=["rfc 9440", "nginx"])
async def test_a_certificate_alone_is_its_client(
    identifier: Identifier, db: Database, north: Issued, shown: str
) -> None:
    """RFC 8705 §2.2, on every request: by the one statement that finds the place as well."""
    with statements(db) as sent:
        caller = await identifier.caller(None, INDICATORS, shown)

    assert len(sent) == 1
    assert caller.principal.client_id == north.client_id
    assert caller.principal.rights == frozenset(Right)
    assert caller.credential == "certificate"
    assert caller == await identifier.caller(basic(north.client_id, north.secret), INDICATORS)


# secret, certificate and both stand for what is sent; what must be shown is the client's
TABLE = {
    # (what must be shown, Authorization, certificate): who that is, or why nobody
    ("any", "none", "own"): "north",
    ("any", "none", "other"): "harbour",
    ("any", "none", "unknown"): "unknown client certificate",
    ("any", "secret", "none"): "north",
    ("any", "secret", "own"): "north",
    ("any", "secret", "other"): "north",
    ("any", "secret", "unknown"): "north",
    ("any", "secret", "expired"): "north",
    ("any", "token", "none"): "north",
    ("any", "token", "own"): "north",
    ("any", "token", "other"): "north",
    ("any", "bound", "own"): "north",
    ("any", "bound", "none"): "token is bound to a certificate: no client certificate",
    ("any", "bound", "other"): "token is bound to another certificate",
    ("any", "bound", "unknown"): "token is bound to another certificate",
    ("any", "bound", "expired"): "token is bound to a certificate: client certificate has expired",
    ("any", "wrong", "own"): "wrong secret",
    ("certificate", "none", "own"): "north",
    ("certificate", "secret", "none"): "client must show its certificate: no client certificate",
    ("certificate", "token", "none"): "client must show its certificate: no client certificate",
    ("certificate", "token", "other"): "client must show its certificate: this is none of its own",
    ("certificate", "token", "own"): "north",
    ("certificate", "bound", "own"): "north",
    ("certificate", "bound", "none"): "token is bound to a certificate: no client certificate",
    ("both", "none", "own"): "client must show its secret as well",
    ("both", "secret", "none"): "client must show its certificate: no client certificate",
    ("both", "secret", "other"): "client must show its certificate: this is none of its own",
    ("both", "secret", "unknown"): "client must show its certificate: this is none of its own",
    ("both", "secret", "expired"): "client must show its certificate: client certificate has expired",
    ("both", "secret", "own"): "north",
    ("both", "wrong", "own"): "wrong secret",
    ("both", "token", "none"): "client must show its certificate: no client certificate",
    ("both", "bound", "own"): "north",
    ("both", "bound", "other"): "token is bound to another certificate",
}


@pytest.mark.parametrize(("case", "said"), TABLE.items(), ids=["-".join(case) for case in TABLE])
async def test_what_a_client_must_show(
    identifier: Identifier,
    db: Database,
    alliance: Alliance,
    north: Issued,
    token: Callable[..., str],
    case: tuple[str, str, str],
    said: str,
) -> None:
    """The whole table of docs/security.md, each by one statement."""
    must, sent, shown = case
    alliance.must_show(north.row, must)
    authorization = {
        "none": None,
        "secret": basic(north.client_id, north.secret),
        "wrong": basic(north.client_id, secrets.generate()),
        "token": token(),
        "bound": token(thumbprint(OWN)),
    }[sent]

    assert await outcome(identifier, db, authorization, SHOWN[shown]) == said


KNOWN = {case: said for case, said in TABLE.items() if case[1] in {"token", "bound"}}


@pytest.mark.parametrize(("case", "said"), KNOWN.items(), ids=["-".join(case) for case in KNOWN])
async def test_what_a_client_must_show_with_a_token_that_is_known(
    identifier: Identifier,
    alliance: Alliance,
    north: Issued,
    token: Callable[..., str],
    case: tuple[str, str, str],
    said: str,
) -> None:
    """A token found good with its certificate is good with nothing less the next time, wherever it is used."""
    must, sent, shown = case
    authorization = token() if sent == "token" else token(thumbprint(OWN))
    await identifier.caller(authorization, INDICATORS, SHOWN["own"])
    alliance.must_show(north.row, must)
    by_id = PathNames("fraud", str(alliance.collections["fraud/indicators"]))

    if said != "north":
        with pytest.raises(NotAuthenticated) as refusal:
            await identifier.caller(authorization, by_id, SHOWN[shown])
        assert refusal.value.reason == said
        return
    caller = await identifier.caller(authorization, by_id, SHOWN[shown])
    assert caller.principal.member_slug == said
    # what a write holds again inside its transaction
    assert caller.certificate == (thumbprint(OWN) if shown == "own" else None)
    assert caller.credential == ("token" if sent == "token" else "bound token")


@pytest.mark.parametrize(("must", "scheme"), [("both", "secret"), ("certificate", "token")])
async def test_what_was_stolen_without_its_certificate_costs_what_is_wrong(
    identifier: Identifier,
    db: Database,
    alliance: Alliance,
    north: Issued,
    token: Callable[..., str],
    must: str,
    scheme: str,
) -> None:
    """However often its owner is let in meanwhile: a thief doesn't learn by the statements that he has what is right."""
    by_id = PathNames("fraud", str(alliance.collections["fraud/indicators"]))
    own = basic(north.client_id, north.secret) if scheme == "secret" else token()
    alliance.must_show(north.row, must)

    for _ in range(2):
        await identifier.caller(own, by_id, SHOWN["own"])
        for sent in (own, basic(north.client_id, secrets.generate())):
            with statements(db) as asked, pytest.raises(NotAuthenticated):
                await identifier.caller(sent, by_id)
            assert len(asked) == 1


async def test_an_expired_certificate_alone_is_none(identifier: Identifier, db: Database, north: Issued) -> None:
    assert await outcome(identifier, db, None, SHOWN["expired"], look_ups=0) == "client certificate has expired"


@pytest.mark.parametrize("scheme", ["none", "basic", "bearer"])
async def test_what_is_no_certificate_refuses_whatever_else_is_sent(
    identifier: Identifier, db: Database, north: Issued, token: Callable[..., str], scheme: str
) -> None:
    """A proxy that says so isn't set up as its operator thinks."""
    sent = {"none": None, "basic": basic(north.client_id, north.secret), "bearer": token()}[scheme]

    assert await outcome(identifier, db, sent, "nonsense", look_ups=0) == "client certificate is malformed"


async def test_authorization_decides_who_asks(
    identifier: Identifier, db: Database, alliance: Alliance, north: Issued
) -> None:
    """A certificate says whose a request is only where nothing else does: an unknown id isn't mended by one."""
    unknown = basic("nobody", north.secret)

    assert await outcome(identifier, db, unknown, SHOWN["own"]) == "unknown client"
    assert await outcome(identifier, db, "Digest x", SHOWN["own"], look_ups=0) == "unknown authentication scheme"
    assert await outcome(identifier, db, "Basic", SHOWN["own"], look_ups=0) == "Basic credentials have no colon"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE clients SET revoked_at = now()", "client was revoked"),
        ("UPDATE clients SET expires_at = now()", "client has expired"),
        ("UPDATE members SET suspended_at = now()", "member is suspended"),
        ("UPDATE members SET removed_at = now()", "member was removed"),
        ("DELETE FROM client_certificates", "unknown client certificate"),
    ],
)
async def test_the_next_request_is_refused(
    identifier: Identifier, db: Database, alliance: Alliance, north: Issued, change: str, said: str
) -> None:
    """Nothing of what a certificate opened is remembered."""
    assert await outcome(identifier, db, None, SHOWN["own"]) == "north"
    alliance.execute(change)

    assert await outcome(identifier, db, None, SHOWN["own"]) == said


async def test_a_certificate_that_is_taken_away_takes_its_tokens_along(
    identifier: Identifier, db: Database, alliance: Alliance, north: Issued, token: Callable[..., str]
) -> None:
    """Who has the key of a certificate that leaked may have a token as well."""
    bound = token(thumbprint(OWN))
    assert await outcome(identifier, db, bound, SHOWN["own"]) == "north"
    alliance.execute("DELETE FROM client_certificates WHERE thumbprint = %s", thumbprint(OWN))

    assert "not its client's any more" in await outcome(identifier, db, bound, SHOWN["own"])


async def test_two_certificates_overlap(
    identifier: Identifier, db: Database, alliance: Alliance, north: Issued
) -> None:
    """So that one can be exchanged without a gap; a token stays with the one it was got with."""
    new = certificate("new")
    alliance.certificate(north.row, new)
    got = await identifier.client(north.client_id, None, byte_sequence(new))

    assert await outcome(identifier, db, None, SHOWN["own"]) == "north"
    assert await outcome(identifier, db, None, byte_sequence(new)) == "north"
    assert got.certificate == thumbprint(new)


async def test_refusals_are_told_apart_by_nobody(
    identifier: Identifier, north: Issued, alliance: Alliance, token: Callable[..., str]
) -> None:
    """Every refusal has the words of all others, and challenges only by what was sent in Authorization."""
    alliance.must_show(north.row, "both")
    told = set()
    for authorization, shown in [
        (None, None),
        (None, SHOWN["own"]),
        (None, SHOWN["unknown"]),
        (None, "nonsense"),
        (basic(north.client_id, north.secret), None),
        (basic(north.client_id, north.secret), SHOWN["other"]),
        (token(thumbprint(OWN)), SHOWN["unknown"]),
    ]:
        with pytest.raises(NotAuthenticated) as refusal:
            await identifier.caller(authorization, NOWHERE, shown)
        told.add(str(refusal.value))

    assert len(told) == 1
    assert challenges("") == challenges(basic("a", "b"))


class TestTheSecondLook:
    async def test_a_certificate_taken_away_meanwhile(
        self, identifier: Identifier, db: Database, alliance: Alliance, north: Issued
    ) -> None:
        """A push that is still being read when its certificate is taken away is not stored."""
        before = await identifier.caller(None, INDICATORS, SHOWN["own"])
        async with db.write() as connection:
            assert await identifier.again(connection, before, INDICATORS) == before
        alliance.execute("DELETE FROM client_certificates WHERE thumbprint = %s", thumbprint(OWN))

        async with db.write() as connection:
            with pytest.raises(NotAuthenticated) as refusal:
                await identifier.again(connection, before, INDICATORS)
        assert refusal.value.reason == "client certificate was removed"

    async def test_a_certificate_asked_for_meanwhile(
        self, identifier: Identifier, db: Database, alliance: Alliance, north: Issued
    ) -> None:
        before = await identifier.caller(basic(north.client_id, north.secret), INDICATORS)
        alliance.must_show(north.row, "both")

        async with db.write() as connection:
            with pytest.raises(NotAuthenticated, match="No credentials"):
                await identifier.again(connection, before, INDICATORS)

    async def test_narrowed_rights_stay_narrow(self, identifier: Identifier, db: Database, alliance: Alliance) -> None:
        reader = alliance.client("north", rights=("read",))
        alliance.certificate(reader.row, UNKNOWN)
        before = await identifier.caller(None, INDICATORS, SHOWN["unknown"])

        async with db.write() as connection:
            assert (await identifier.again(connection, before, INDICATORS)).principal.rights == {Right.READ}


class TestOutsideTokens:
    @pytest.fixture
    def bank(self, alliance: Alliance) -> Iterator[Issuer]:
        with outside.running() as issuer:
            alliance.issuer("bank", issuer.url, jwks_uri=issuer.jwks_uri)
            alliance.tied("north", "bank", "siem")
            yield issuer

    @pytest.mark.parametrize(
        ("shown", "said"),
        [
            ("unknown", "north"),
            ("none", "token is bound to a certificate: no client certificate"),
            ("own", "token is bound to another certificate"),
            ("expired", "token is bound to a certificate: client certificate has expired"),
        ],
    )
    async def test_a_bound_one_is_good_with_its_certificate_alone(
        self, bank: Issuer, identifier: Identifier, db: Database, shown: str, said: str
    ) -> None:
        """RFC 8705 §3: which certificate that is is its issuer's to say; nobody registers it here."""
        token = bank.token(cnf=confirmation(thumbprint(UNKNOWN)))

        assert await outcome(identifier, db, f"Bearer {token}", SHOWN[shown]) == said

    async def test_an_unbound_one_is_good_with_any(self, bank: Issuer, identifier: Identifier, db: Database) -> None:
        assert await outcome(identifier, db, f"Bearer {bank.token()}", SHOWN["unknown"]) == "north"


async def test_who_has_nothing_but_a_secret_is_not_found_by_nothing(
    identifier: Identifier, db: Database, alliance: Alliance
) -> None:
    """A null is no thumbprint, and a certificate of nobody's is no client's."""
    alliance.client("north")

    assert await outcome(identifier, db, None, None, look_ups=0) == "no credentials"
    assert await outcome(identifier, db, None, SHOWN["unknown"]) == "unknown client certificate"


async def test_the_place_is_found_in_the_same_statement(identifier: Identifier, north: Issued) -> None:
    """Hidden and absent places are alike to who shows a certificate as well."""
    hidden = await identifier.caller(None, PathNames("police", "indicators"), SHOWN["own"])
    absent = await identifier.caller(None, PathNames("none", "indicators"), SHOWN["own"])

    assert hidden.place == absent.place
