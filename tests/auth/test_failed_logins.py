"""Failed logins are bounded in what they cost, and keep nobody out whose credential holds."""

import asyncio
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine
from structlog.testing import capture_logs

from taxii_server.auth import failed_logins, secrets, tokens
from taxii_server.auth.certificates import confirmation
from taxii_server.auth.failed_logins import ALL_TOGETHER, FRESH, MOST_ADDRESSES, FailedLogins, before_look_up
from taxii_server.auth.identify import Identifier, PathNames
from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.domain.access import BOTH
from taxii_server.domain.allowances import Rate
from taxii_server.domain.errors import DatabaseGone, NotAuthenticated, TooManyRequests
from taxii_server.storage import live_credentials
from taxii_server.storage.engine import Connection, Database
from taxii_server.storage.live_credentials import LiveCredentials
from tests.auth.alliance import Alliance, Issued, statements
from tests.auth.certified import byte_sequence, certificate, thumbprint
from tests.auth.forge import ISSUER
from tests.auth.issuer import RSA_KEYS, Issuer, running
from tests.auth.test_identify import basic
from tests.domain.test_allowances import Clock

pytestmark = pytest.mark.anyio

NOWHERE = PathNames()
BANK, ATTACKER = "198.51.100.7", "203.0.113.9"
LIMIT = 3


@pytest.fixture
def clock() -> Clock:
    return Clock()


@dataclass
class Door:
    """Where logins are counted, and then looked at."""

    logins: FailedLogins
    identifier: Identifier


@pytest.fixture
def door(db: Database, identifier: Identifier, clock: Clock) -> Door:
    return Door(FailedLogins(db, Rate(LIMIT, 60), clock=clock), identifier)


@pytest.fixture
def north(alliance: Alliance) -> Issued:
    return alliance.client("north")


def wrong(client_id: str) -> str:
    return basic(client_id, secrets.generate())


async def outcome(door: Door, authorization: str | None, address: str, certificate: str | None = None) -> str:
    """What becomes of one login."""
    try:
        with door.logins.login(address):
            return (await door.identifier.caller(authorization, NOWHERE, certificate)).principal.client_id
    except NotAuthenticated:
        return "refused"
    except TooManyRequests as error:
        return f"wait {error.retry_after}"


async def flood(door: Door, address: str, client_id: str = "nobody", count: int = LIMIT) -> None:
    """Use an address's allowance up."""
    for _ in range(count):
        assert await outcome(door, wrong(client_id), address) == "refused"
    assert (await outcome(door, wrong(client_id), address)).startswith("wait")


async def test_after_too_many_failures_an_address_has_to_wait(door: Door, clock: Clock) -> None:
    """For as long as it is told, then one more is looked at."""
    await flood(door, ATTACKER)

    assert await outcome(door, wrong("nobody"), ATTACKER) == "wait 20"
    clock.now += 0.5
    assert await outcome(door, wrong("nobody"), ATTACKER) == "wait 20"
    clock.now += 18.5
    assert await outcome(door, wrong("nobody"), ATTACKER) == "wait 1"
    clock.now += 1
    assert await outcome(door, wrong("nobody"), ATTACKER) == "refused"


async def test_a_flood_in_a_banks_name_from_elsewhere_never_touches_it(door: Door, north: Issued) -> None:
    """Nobody is locked out by their id."""
    await flood(door, ATTACKER, north.client_id)

    assert await outcome(door, basic(north.client_id, north.secret), BANK) == north.client_id
    assert await outcome(door, wrong(north.client_id), BANK) == "refused"


async def test_a_flood_from_its_own_address_keeps_no_bank_out(
    door: Door, north: Issued, keys: SigningKeys, alliance: Alliance, clock: Clock
) -> None:
    """Behind one NAT or proxy, whatever holds is let in: secret, certificate, token and outside token, seen before or not."""
    key = await keys.current()
    token = tokens.issue(
        key.private_key,
        kid=key.kid,
        issuer=ISSUER,
        client_id=north.client_id,
        rights=BOTH,
        lifetime=timedelta(minutes=5),
    )
    with running() as bank:
        alliance.issuer("bank", bank.url, jwks_uri=bank.jwks_uri, audience=ISSUER)
        tied = alliance.tied("north", "bank", "siem")
        held, unknown = certificate(), certificate()
        alliance.certificate(north.row, held)
        await flood(door, ATTACKER, north.client_id)

        for _ in range(10):
            assert await outcome(door, basic(north.client_id, north.secret), ATTACKER) == north.client_id
            assert await outcome(door, f"Bearer {token}", ATTACKER) == north.client_id
            assert await outcome(door, f"Bearer {bank.token(aud=ISSUER)}", ATTACKER) == tied
            assert await outcome(door, None, ATTACKER, byte_sequence(held)) == north.client_id
            with door.logins.login(ATTACKER):
                assert (await door.identifier.client(north.client_id, north.secret)).principal.client == north.row
            with door.logins.login(ATTACKER):
                assert (await door.identifier.own_token(north.client_id, north.secret, token))[1] is not None
        stranger = await outcome(door, f"Bearer {bank.token(subject='x', aud=ISSUER)}", ATTACKER)

    assert stranger.startswith("wait")
    assert (await outcome(door, None, ATTACKER, byte_sequence(unknown))).startswith("wait")
    assert (await outcome(door, f"Bearer {token[:-8]}AAAAAAAA", ATTACKER)).startswith("wait")
    assert (await outcome(door, basic("another", north.secret), ATTACKER)).startswith("wait")


@pytest.mark.parametrize("must_show", ["any", "certificate", "both"])
async def test_a_thief_behind_the_banks_own_nat_keeps_it_out_with_nothing_it_stole(
    door: Door, north: Issued, keys: SigningKeys, alliance: Alliance, must_show: str
) -> None:
    """A secret or a token that is worth nothing without its certificate: the thief costs no look-up, and the bank none more."""
    own = certificate()
    key = await keys.current()
    bound = "Bearer " + tokens.issue(
        key.private_key,
        kid=key.kid,
        issuer=ISSUER,
        client_id=north.client_id,
        rights=BOTH,
        lifetime=timedelta(minutes=5),
        certificate=thumbprint(own),
    )
    alliance.certificate(north.row, own)
    alliance.must_show(north.row, must_show)
    credentials = [bound] if must_show == "any" else [basic(north.client_id, north.secret), bound]
    with running() as bank:
        alliance.issuer("bank", bank.url, jwks_uri=bank.jwks_uri, audience=ISSUER)
        alliance.tied("north", "bank", "siem")
        confirmed = bank.token(aud=ISSUER, cnf=confirmation(thumbprint(own)))
        await flood(door, ATTACKER)
        for stolen in [*credentials, f"Bearer {confirmed}"]:
            for shown in (None, byte_sequence(certificate())):
                with statements(Engine) as sent:
                    assert (await outcome(door, stolen, ATTACKER, shown)).startswith("wait")
                assert sent == []
            assert not (await outcome(door, stolen, ATTACKER, byte_sequence(own))).startswith(("wait", "refused"))


RETIRED = "UPDATE signing_keys SET verifies_until = now()"
ENDED = {
    "secret": ("UPDATE client_secrets SET expires_at = now()",),
    "certificate": ("DELETE FROM client_certificates",),
    "token": (RETIRED,),
    "bound": (RETIRED, "DELETE FROM client_certificates"),
    "outside": ("UPDATE issuers SET removed_at = now()",),
}
OF_ALL = (
    "UPDATE clients SET revoked_at = now()",
    "UPDATE clients SET expires_at = now()",
    "UPDATE members SET suspended_at = now()",
    "UPDATE members SET removed_at = now()",
)


@pytest.mark.parametrize("kind", ENDED)
async def test_what_has_ended_does_not_pass_for_what_holds(
    door: Door, north: Issued, keys: SigningKeys, alliance: Alliance, clock: Clock, kind: str
) -> None:
    """So a flood of it costs no look-up each, and keeps nobody out."""
    own = certificate()
    claims: dict[str, Any] = {
        "kid": (await keys.current()).kid,
        "issuer": ISSUER,
        "lifetime": timedelta(minutes=5),
        "rights": BOTH,
    }
    for ending in ENDED[kind] + OF_ALL:
        client = alliance.client("north")
        alliance.execute("DELETE FROM client_certificates")
        alliance.certificate(client.row, own)
        key = await keys.current()
        claims |= {"kid": key.kid, "client_id": client.client_id}
        with ExitStack() as stack:
            bank = (
                stack.enter_context(running())
                if kind == "outside"
                else Issuer("https://bank.example", {"rsa": RSA_KEYS[0]})
            )
            alliance.issuer("bank", bank.url, jwks_uri=bank.jwks_uri, audience=ISSUER)
            alliance.execute("UPDATE clients SET issuer = 'bank', subject = 'siem' WHERE id = %s", client.row)
            authorization, shown = {
                "secret": (basic(client.client_id, client.secret), None),
                "certificate": (None, byte_sequence(own)),
                "token": ("Bearer " + tokens.issue(key.private_key, **claims), None),
                "bound": (
                    "Bearer " + tokens.issue(key.private_key, **claims, certificate=thumbprint(own)),
                    byte_sequence(own),
                ),
                "outside": (f"Bearer {bank.token(aud=ISSUER)}", None),
            }[kind]
            await flood(door, ATTACKER)
            assert await outcome(door, authorization, ATTACKER, shown) == client.client_id
            alliance.execute(ending)
            clock.now += 1
            assert (await outcome(door, authorization, ATTACKER, shown)).startswith("wait"), ending
        alliance.execute("UPDATE members SET suspended_at = NULL, removed_at = NULL")
        alliance.execute("UPDATE issuers SET removed_at = NULL")
        alliance.execute("DELETE FROM signing_keys")
        alliance.execute("UPDATE clients SET issuer = NULL, subject = NULL")
        alliance.execute("DELETE FROM issuers")
        clock.now += 3600


async def test_a_certificate_that_needs_its_secret_costs_no_look_up_without_it(
    door: Door, north: Issued, alliance: Alliance
) -> None:
    """Its private key alone is not enough either, and a flood of it keeps nobody out who has both."""
    own = certificate()
    alliance.certificate(north.row, own)
    alliance.must_show(north.row, "both")
    await flood(door, ATTACKER)

    with statements(Engine) as sent:
        assert (await outcome(door, None, ATTACKER, byte_sequence(own))).startswith("wait")
        with pytest.raises(TooManyRequests), door.logins.login(ATTACKER):
            await door.identifier.client("another", None, byte_sequence(own))
    assert sent == []
    assert await outcome(door, basic(north.client_id, north.secret), ATTACKER, byte_sequence(own)) == north.client_id
    alliance.must_show(north.row, "any")
    with pytest.raises(TooManyRequests), door.logins.login(ATTACKER):
        await door.identifier.client("another", None, byte_sequence(own))


async def test_what_becomes_valid_is_let_in_within_a_second(
    door: Door, north: Issued, alliance: Alliance, clock: Clock
) -> None:
    """Issued or resumed in the middle of a flood from the same address; and what is revoked is out at once."""
    alliance.execute("UPDATE members SET suspended_at = now() WHERE id = %s", alliance.members["north"])
    await flood(door, ATTACKER)
    credential = basic(north.client_id, north.secret)

    assert (await outcome(door, credential, ATTACKER)).startswith("wait")
    alliance.execute("UPDATE members SET suspended_at = NULL WHERE id = %s", alliance.members["north"])
    newer = alliance.client("north")
    clock.now += 1
    assert await outcome(door, credential, ATTACKER) == north.client_id
    assert await outcome(door, basic(newer.client_id, newer.secret), ATTACKER) == newer.client_id
    alliance.execute("UPDATE clients SET revoked_at = now() WHERE id = %s", newer.row)
    assert await outcome(door, basic(newer.client_id, newer.secret), ATTACKER) == "refused"


async def test_a_flood_costs_a_look_a_second(door: Door, north: Issued, clock: Clock) -> None:
    """Whatever it sends, all at once or one by one, from any address; a bank's own requests cost what they always do."""
    await flood(door, ATTACKER)

    with statements(Engine) as sent:
        await asyncio.gather(*(outcome(door, wrong(f"bank-{number}"), ATTACKER) for number in range(200)))
        for _ in range(100):
            await outcome(door, wrong(north.client_id), ATTACKER)
    assert len(sent) == 0
    clock.now += 1
    with statements(Engine) as sent:
        await asyncio.gather(*(outcome(door, wrong(f"bank-{number}"), ATTACKER) for number in range(200)))
    assert len(sent) == 5
    with statements(Engine) as sent:
        await outcome(door, basic(north.client_id, north.secret), ATTACKER)
    assert len(sent) == 1


async def test_many_at_once_are_counted_before_any_has_failed(door: Door) -> None:
    """Else a flood of one instant would all be looked at."""
    became = await asyncio.gather(*(outcome(door, wrong("nobody"), ATTACKER) for _ in range(50)))

    assert became.count("refused") == LIMIT


async def test_a_reading_that_takes_its_time_serves_everybody_who_waited_for_it(
    door: Door, north: Issued, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of clients, or a database that the flood slows down: else they would read one after another, and wait for hours."""
    readings = 0

    async def slowly(connection: Connection) -> LiveCredentials:
        nonlocal readings
        readings += 1
        found = await live_credentials.read(connection)
        await asyncio.sleep(0)
        clock.now += 3 * FRESH
        return found

    monkeypatch.setattr(failed_logins, "live_credentials", SimpleNamespace(read=slowly))
    said = await asyncio.gather(*(door.logins.live() for _ in range(20)))
    later = await door.logins.live()

    assert all(north.client_id in one.clients for one in (*said, later))
    assert readings == 2


async def test_a_credential_that_was_good_once_is_no_way_round(
    door: Door, north: Issued, keys: SigningKeys, alliance: Alliance, clock: Clock
) -> None:
    """A token that was revoked has a good signature: it costs a look-up a second and no more."""
    key = await keys.current()
    token = tokens.issue(
        key.private_key,
        kid=key.kid,
        issuer=ISSUER,
        client_id=north.client_id,
        rights=BOTH,
        lifetime=timedelta(minutes=5),
        jti="stolen",
    )
    alliance.execute(
        "INSERT INTO revoked_tokens (issuer, jti, expires_at) VALUES (%s, 'stolen', now() + '1 hour')", ISSUER
    )
    await flood(door, ATTACKER)

    became = [await outcome(door, f"Bearer {token}", ATTACKER) for _ in range(20)]
    clock.now += 1
    again = [await outcome(door, f"Bearer {token}", ATTACKER) for _ in range(20)]

    assert (became.count("refused"), again.count("refused")) == (1, 1)


async def test_what_holds_takes_nothing_and_what_is_malformed_costs_nothing(door: Door, north: Issued) -> None:
    """A bank polls as often as it likes; who asks without credentials first, as some clients do, is not throttled."""
    for _ in range(5 * LIMIT):
        assert await outcome(door, None, BANK) == "refused"
        assert await outcome(door, basic(north.client_id, "guess"), BANK) == "refused"
        assert await outcome(door, "Bearer x.y.z", BANK) == "refused"
        assert await outcome(door, basic(north.client_id, north.secret), BANK) == north.client_id

    assert await outcome(door, wrong("nobody"), BANK) == "refused"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:198.51.100.7", "198.51.100.7", True),
        ("198.51.100.7", "198.51.100.8", False),
        ("unknown", "unknown", True),
    ],
)
async def test_what_counts_as_one_address(door: Door, one: str, other: str, same: bool) -> None:
    """Of IPv6 the network of one subscriber, who could otherwise use a new address each time."""
    await flood(door, one)

    assert (await outcome(door, wrong("nobody"), other)).startswith("wait") is same


@pytest.mark.slow
async def test_however_many_addresses_and_names_a_flood_has_memory_is_bounded(
    db: Database, identifier: Identifier, north: Issued
) -> None:
    """100,000 addresses, each with a name of its own; together they fail no more often than all may, and a bank gets in."""
    clock = Clock()
    failed_logins = FailedLogins(db, Rate(LIMIT, 60), clock=clock)
    door = Door(failed_logins, identifier)
    together = ALL_TOGETHER * LIMIT
    became = [await outcome(door, wrong(f"bank-{number}"), f"10.0.{number}.1") for number in range(together + 1)]
    for number in range(100_000):
        # slowly enough for everyone's allowance, so that each address is remembered
        clock.now += 1
        with (
            suppress(NotAuthenticated),
            failed_logins.login(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"),
        ):
            await before_look_up(f"{number}", _never)
            raise NotAuthenticated("wrong secret")
    with capture_logs() as logs:
        refused = [await outcome(door, wrong(f"bank-{number}"), f"10.5.{number}.1") for number in range(together)]
    kept = [failed_logins._by_address, failed_logins._of_all, failed_logins._tellings, failed_logins._failed]

    assert became.count("refused") == together
    assert became[-1].startswith("wait")
    assert MOST_ADDRESSES - together < max(len(some) for some in kept if some is not None) <= MOST_ADDRESSES
    assert [one for one in refused if one != "refused"]
    assert [log["peer"] for log in logs] == ["everybody"]
    assert await outcome(door, basic(north.client_id, north.secret), "10.9.9.9") == north.client_id


async def _never(_: object) -> bool:
    return False


async def _mistake(logins: FailedLogins, address: str) -> None:
    with logins.login(address):
        await before_look_up("wrong", _never)
        raise NotAuthenticated("wrong secret")


async def test_what_holds_takes_nothing_of_what_all_have_together_either(db: Database) -> None:
    """However many banks log in, from however many addresses, a mistake of somebody is still looked at."""
    logins = FailedLogins(db, Rate(1, 3600), clock=Clock())
    for number in range(2 * ALL_TOGETHER):
        with logins.login(f"10.0.0.{number}"):
            await before_look_up("good", _never)

    with pytest.raises(NotAuthenticated):
        await _mistake(logins, ATTACKER)


async def test_who_is_refused_for_what_all_have_used_up_loses_none_of_its_own(db: Database) -> None:
    """Once there is something again, its first mistake is looked at."""
    clock = Clock()
    logins = FailedLogins(db, Rate(1, 3600), clock=clock)
    for number in range(ALL_TOGETHER):
        with pytest.raises(NotAuthenticated):
            await _mistake(logins, f"10.0.0.{number}")
    with pytest.raises(TooManyRequests):
        await _mistake(logins, BANK)
    clock.now += 3600 / ALL_TOGETHER

    with pytest.raises(NotAuthenticated):
        await _mistake(logins, BANK)


async def test_who_is_told_to_wait_is_told_for_both_of_what_is_used_up(db: Database) -> None:
    """For its own allowance and for everyone's: coming back after the shorter of the two would be for nothing."""
    clock = Clock()
    logins = FailedLogins(db, Rate(2, 3600), clock=clock)
    for _ in range(2):
        with pytest.raises(NotAuthenticated):
            await _mistake(logins, BANK)
    clock.now += 1790
    for number in range(2 * ALL_TOGETHER):
        with suppress(NotAuthenticated, TooManyRequests):
            await _mistake(logins, f"10.0.0.{number}")
    with pytest.raises(TooManyRequests) as told:
        await _mistake(logins, BANK)
    clock.now += told.value.retry_after or 0

    assert 10 < (told.value.retry_after or 0) <= 90
    with pytest.raises(NotAuthenticated):
        await _mistake(logins, BANK)


def test_credentials_that_failed_after_all_are_remembered_for_a_moment_and_no_more_than_some() -> None:
    """Who has thousands of revoked tokens pushes the first of them out."""
    clock = Clock()
    logins = FailedLogins(clock=clock)
    for number in range(5_000):
        logins.note_failed(b"%d" % number)

    assert len(logins._failed) < 5_000
    assert logins.failed_just_now(b"4999")
    assert not logins.failed_just_now(b"0")
    clock.now += 1
    assert not logins.failed_just_now(b"4999")


async def test_without_a_limit_every_login_is_looked_at(db: Database, identifier: Identifier) -> None:
    """As the command line does, which has no strangers."""
    door = Door(FailedLogins(db), identifier)

    assert {await outcome(door, wrong("nobody"), ATTACKER) for _ in range(100)} == {"refused"}


async def test_a_database_that_is_away_is_no_fault_of_who_asks(
    door: Door, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It isn't counted, and those who wait for one look are told together."""
    asked = 0

    def away(*_: object, **__: object) -> None:
        nonlocal asked
        asked += 1
        raise DatabaseGone

    monkeypatch.setattr(db, "ask", away)
    monkeypatch.setattr(db, "statement", away)
    for _ in range(2 * LIMIT):
        with pytest.raises(DatabaseGone):
            await outcome(door, wrong("nobody"), ATTACKER)
    monkeypatch.undo()
    await flood(door, ATTACKER)
    other = Door(FailedLogins(db, Rate(1, 3600), clock=Clock()), door.identifier)
    await outcome(other, wrong("nobody"), ATTACKER)
    asked = 0
    monkeypatch.setattr(db, "read", away)
    became = await asyncio.gather(
        *(outcome(other, wrong("nobody"), ATTACKER) for _ in range(20)), return_exceptions=True
    )

    assert [type(one) for one in became] == [DatabaseGone] * 20
    assert asked == 1
