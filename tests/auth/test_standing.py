"""A token or a secret found good before is asked about in short, and what comes of it is what the caller statement would have said."""

import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taxii_server.auth.identify import Identifier, PathNames
from taxii_server.auth.let_in import LetIn
from taxii_server.domain.access import Caller, Place, Right
from taxii_server.domain.errors import NotAuthenticated
from taxii_server.storage import standing
from taxii_server.storage.engine import Database
from taxii_server.storage.hot import Step
from taxii_server.storage.pipeline import Rows
from tests.auth.alliance import Alliance, Issued, statements
from tests.auth.forge import ISSUER, b64
from tests.auth.test_identify import basic, bearer, north

__all__ = ["bearer", "north"]

pytestmark = pytest.mark.anyio

Outcome = tuple[object, ...]

# what an operator, or time, may do to a client and all that its requests touch; and how it is undone
CHANGES = {
    "client revoked": ("UPDATE clients SET revoked_at = now()", "UPDATE clients SET revoked_at = NULL"),
    "client expired": ("UPDATE clients SET expires_at = now()", "UPDATE clients SET expires_at = NULL"),
    "client to expire": (
        "UPDATE clients SET expires_at = now() + interval '1 hour'",
        "UPDATE clients SET expires_at = NULL",
    ),
    "certificate asked for": (
        "UPDATE clients SET authentication = 'certificate'",
        "UPDATE clients SET authentication = 'any'",
    ),
    "client reads": ("UPDATE clients SET rights = '{read}'", "UPDATE clients SET rights = '{read,write}'"),
    "client without rights": ("UPDATE clients SET rights = '{}'", "UPDATE clients SET rights = '{read,write}'"),
    "client for its feed": (
        "UPDATE clients SET collections = ARRAY(SELECT id FROM collections WHERE title LIKE '%%indicators')",
        "UPDATE clients SET collections = NULL",
    ),
    "client for another feed": (
        "UPDATE clients SET collections = ARRAY(SELECT id FROM collections WHERE title LIKE '%%reports')",
        "UPDATE clients SET collections = NULL",
    ),
    "client for no feed": ("UPDATE clients SET collections = '{}'", "UPDATE clients SET collections = NULL"),
    "member suspended": ("UPDATE members SET suspended_at = now()", "UPDATE members SET suspended_at = NULL"),
    "member removed": ("UPDATE members SET removed_at = now()", "UPDATE members SET removed_at = NULL"),
    "quota": ("UPDATE members SET quota = 1000000000000", "UPDATE members SET quota = NULL"),
    "key retired": (
        "UPDATE signing_keys SET verifies_until = now()",
        "UPDATE signing_keys SET verifies_until = now() + interval '1 day'",
    ),
    "key gone": ("UPDATE signing_keys SET kid = 'x' || kid", "UPDATE signing_keys SET kid = substr(kid, 2)"),
    "another key": (
        "UPDATE signing_keys SET public_jwk = public_jwk || ' '",
        "UPDATE signing_keys SET public_jwk = rtrim(public_jwk)",
    ),
    "grant reads": ("UPDATE grants SET rights = '{read}'", "UPDATE grants SET rights = '{read,write}'"),
    "grant of nothing": ("UPDATE grants SET rights = '{}'", "UPDATE grants SET rights = '{read,write}'"),
    "clearance": ("UPDATE grants SET clearance = 2", "UPDATE grants SET clearance = 4"),
    "grants withdrawn": (
        "WITH gone AS (DELETE FROM grants RETURNING *) INSERT INTO kept_grants SELECT * FROM gone",
        "WITH back AS (DELETE FROM kept_grants RETURNING *) INSERT INTO grants SELECT * FROM back",
    ),
    "described": (
        "UPDATE collections SET description = '{a, \"b\",NULL}', alias = NULL, owner_only = true, ceiling = 3",
        "UPDATE collections SET description = NULL, alias = split_part(title, ' ', 3), owner_only = false, ceiling = 4",
    ),
    "rules": (
        "UPDATE collections SET unmarked_refused = true, unmarked_level = 1, attribution = 'anonymous', validation = 'structural'",
        "UPDATE collections SET unmarked_refused = false, unmarked_level = 0, attribution = 'named', validation = 'strict'",
    ),
    "group renamed": (
        "UPDATE trust_groups SET slug = slug || '-2'",
        "UPDATE trust_groups SET slug = rtrim(slug, '-2')",
    ),
    "clock lost": (
        "WITH gone AS (DELETE FROM collection_clocks RETURNING *) INSERT INTO kept_clocks SELECT * FROM gone",
        "WITH back AS (DELETE FROM kept_clocks RETURNING *) INSERT INTO collection_clocks SELECT * FROM back",
    ),
    "added to": (
        "UPDATE collection_clocks SET changes = changes + 1, last_added = last_added + interval '1 second'",
        "UPDATE collection_clocks SET changes = changes",
    ),
    "secret expired": (
        "UPDATE client_secrets SET expires_at = now()",
        "UPDATE client_secrets SET expires_at = NULL",
    ),
    "secret to expire": (
        "UPDATE client_secrets SET expires_at = now() + interval '1 hour'",
        "UPDATE client_secrets SET expires_at = NULL",
    ),
    "another secret": (
        "UPDATE client_secrets SET digest = sha256(digest), created_at = '-infinity'",
        "UPDATE client_secrets SET digest = own.digest FROM own",
    ),
    "secret beside it": (
        "INSERT INTO client_secrets (client, digest) SELECT client, sha256(digest) FROM client_secrets",
        "DELETE FROM client_secrets WHERE digest NOT IN (SELECT digest FROM own)",
    ),
    "no secret": (
        "DELETE FROM client_secrets",
        "INSERT INTO client_secrets (client, digest) SELECT client, digest FROM own",
    ),
    "token revoked": (
        "INSERT INTO revoked_tokens (issuer, jti, expires_at) SELECT issuer, jti, now() + interval '1 hour' FROM shown",
        "DELETE FROM revoked_tokens",
    ),
    "token of another issuer revoked": (
        "INSERT INTO revoked_tokens SELECT issuer || 'x', jti, now() + interval '1 hour' FROM shown",
        "DELETE FROM revoked_tokens",
    ),
    "another token revoked": (
        "INSERT INTO revoked_tokens (issuer, jti, expires_at) SELECT issuer, jti || 'x', now() + interval '1 hour' FROM shown",
        "DELETE FROM revoked_tokens",
    ),
}
PLACES = ("id", "ID", "alias", "another's id", "no id", "another group", "no group", "group alone", "nothing")


@contextmanager
def changed(alliance: Alliance, names: Iterable[str]) -> Iterator[None]:
    """Make some changes, each in a statement of its own, and take them back."""
    done = []
    try:
        for name in names:
            alliance.execute(CHANGES[name][0])
            done.append(name)
        yield
    finally:
        for name in reversed(done):
            alliance.execute(CHANGES[name][1])


def named(alliance: Alliance, place: str) -> PathNames:
    own, hidden = alliance.collections["fraud/indicators"], alliance.collections["police/indicators"]
    return {
        "id": PathNames("fraud", str(own)),
        "ID": PathNames("fraud", str(own).upper()),
        "alias": PathNames("fraud", "indicators"),
        "another's id": PathNames("police", str(hidden)),
        "no id": PathNames("fraud", str(uuid4())),
        "another group": PathNames("police", str(own)),
        "no group": PathNames("no-such", str(own)),
        "group alone": PathNames("fraud"),
        "nothing": PathNames(),
    }[place]


async def outcome(identifier: Identifier, authorization: str, names: PathNames) -> Outcome:
    try:
        caller = await identifier.caller(authorization, names)
    except NotAuthenticated as error:
        return "refused", error.reason, error.client
    assert caller.asked_at is not None
    return _told(caller)


def _told(caller: Caller) -> Outcome:
    place = caller.place
    clock = (place.last_added, place.changes)
    if place.collection is None:
        # whoever names a collection that isn't there isn't told of its trust group
        place, clock = replace(place, trust_group=None), (None, None)
    return caller.principal, place, *clock, caller.token, caller.certificate, caller.credential


@pytest.fixture
def shown(alliance: Alliance) -> Callable[[str], None]:
    """Note a token for the statements above; and have room for what they take away."""
    alliance.execute("CREATE TEMPORARY TABLE shown (issuer text, jti text)")
    alliance.execute("CREATE TEMPORARY TABLE own AS SELECT client, digest FROM client_secrets")
    alliance.execute("CREATE TEMPORARY TABLE kept_grants (LIKE grants)")
    alliance.execute("CREATE TEMPORARY TABLE kept_clocks (LIKE collection_clocks)")

    def note(jti: str) -> None:
        alliance.execute("DELETE FROM shown")
        alliance.execute("INSERT INTO shown VALUES (%s, %s)", ISSUER, jti)

    return note


@pytest.fixture
async def asked(
    db: Database, alliance: Alliance, north: Issued, bearer: Callable[..., str], shown: Callable[[str], None]
) -> Callable[..., Awaitable[None]]:
    """Make changes, and hold who knows the token and who has never seen it to the same outcome."""
    alliance.execute("UPDATE grants SET rights = '{read,write}'")

    async def ask(changes: Iterable[str], places: Iterable[str], scope: Iterable[Right]) -> None:
        knowing, token = Identifier(db, ISSUER), bearer(north.client_id, *scope)
        secret = basic(north.client_id, north.secret)
        first = await knowing.caller(token, PathNames())
        assert first.token is not None
        shown(str(first.token.jti))
        await knowing.caller(secret, PathNames())
        with changed(alliance, changes):
            for place, authorization in product(places, (token, secret)):
                names = named(alliance, place)
                seen = await outcome(knowing, authorization, names)
                assert seen == await outcome(Identifier(db, ISSUER), authorization, names), place

    return ask


@pytest.mark.parametrize("change", sorted(CHANGES))
async def test_it_says_what_the_caller_statement_says(asked: Callable[..., Awaitable[None]], change: str) -> None:
    await asked([change], PLACES, Right)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.sampled_from(sorted(CHANGES)), max_size=4, unique=True),
    places=st.sets(st.sampled_from(PLACES), min_size=1),
    scope=st.sets(st.sampled_from(Right)),
)
async def test_it_says_the_same_after_any_changes(
    asked: Callable[..., Awaitable[None]], changes: list[str], places: set[str], scope: set[Right]
) -> None:
    # some insert the same rows, and undo each other's
    alike = [sum(word in one for one in changes) for word in ("revoked", "secret")]
    await asked(changes if max(alike) < 2 else changes[:1], places, scope)


@pytest.fixture(params=["basic", "bearer"])
async def shows(
    request: pytest.FixtureRequest, identifier: Identifier, north: Issued, bearer: Callable[..., str]
) -> str:
    """Credentials that were found good before."""
    authorization = (
        basic(north.client_id, north.secret) if request.param == "basic" else bearer(north.client_id, *Right)
    )
    await identifier.caller(authorization, PathNames())
    return authorization


async def test_one_short_statement_lets_in_what_is_known(
    db: Database, alliance: Alliance, identifier: Identifier, shows: str
) -> None:
    names = named(alliance, "id")
    with statements(db) as whole:
        await Identifier(db, ISSUER).caller(shows, names)
    with statements(db) as short:
        caller = await identifier.caller(shows, names)

    assert len(whole) == len(short) == 1
    assert len(short[0]) < len(whole[0])
    assert caller.place.collection is not None


@pytest.mark.parametrize("place", ["another's id", "no id", "another group", "no group"])
async def test_hidden_and_absent_cost_the_same_one_statement(
    db: Database, alliance: Alliance, identifier: Identifier, shows: str, place: str
) -> None:
    with statements(db) as sent:
        caller = await identifier.caller(shows, named(alliance, place))

    assert caller.place == Place()
    assert len(sent) == 1


async def test_what_is_refused_is_refused_by_the_caller_statement(
    db: Database, alliance: Alliance, north: Issued, identifier: Identifier, shows: str
) -> None:
    alliance.execute("UPDATE clients SET revoked_at = now()")

    with statements(db) as sent, pytest.raises(NotAuthenticated) as refusal:
        await identifier.caller(shows, named(alliance, "id"))

    assert refusal.value.reason == "client was revoked"
    assert refusal.value.client == north.row
    assert len(sent) == 2

    # it is a stranger's from now on
    with statements(db) as sent, pytest.raises(NotAuthenticated):
        await identifier.caller(shows, named(alliance, "id"))
    assert len(sent) == 1


async def test_what_is_hidden_is_not_read(db: Database, alliance: Alliance, north: Issued) -> None:
    """Of a collection without a grant the row is the same as of one that isn't there: it can't take longer by what is in it."""
    alliance.execute("UPDATE collections SET description = repeat('long ', 2000)")
    rows = []
    for collection in (alliance.collections["police/indicators"], uuid4()):
        for group in ("fraud", "police", "none"):
            values = {"client_id": north.client_id, "trust_group": group, "collection_id": str(collection)}
            async with db.statement() as connection:
                [row] = await standing.OF_SECRET.on(connection, values)
            rows.append((row.sees, set(row.place), row.changes, row.last_added))

    assert rows == [(False, {None}, None, None)] * 6


async def test_the_time_is_the_databases(db: Database, alliance: Alliance, identifier: Identifier, shows: str) -> None:
    [(before,)] = alliance.execute("SELECT clock_timestamp()")
    caller = await identifier.caller(shows, named(alliance, "id"))
    [(after,)] = alliance.execute("SELECT clock_timestamp()")

    assert caller.asked_at is not None
    assert before <= caller.asked_at <= after


async def test_a_token_that_expires_while_it_is_asked_about_is_refused(
    monkeypatch: pytest.MonkeyPatch, db: Database, alliance: Alliance, north: Issued, bearer: Callable[..., str]
) -> None:
    identifier, authorization = Identifier(db, ISSUER), bearer(north.client_id, *Right)
    await identifier.caller(authorization, PathNames())
    ask = db.ask

    async def slow(*steps: Step) -> Rows:
        rows = await ask(*steps)
        monkeypatch.setattr("taxii_server.auth.tokens.time.time", lambda: 2**40)
        return rows

    monkeypatch.setattr(db, "ask", slow)

    with pytest.raises(NotAuthenticated) as refusal:
        await identifier.caller(authorization, named(alliance, "id"))

    assert refusal.value.reason == "token has expired"


async def test_a_secret_is_known_with_its_client_alone(
    db: Database, alliance: Alliance, north: Issued, identifier: Identifier
) -> None:
    """Nor does one that was right tell anything of one that is wrong: that costs the one statement it always did."""
    other = alliance.client("harbour")
    await identifier.caller(basic(north.client_id, north.secret), PathNames())
    await identifier.caller(basic(other.client_id, other.secret), PathNames())

    for client_id, secret in ((north.client_id, other.secret), (other.client_id, north.secret)):
        with statements(db) as sent, pytest.raises(NotAuthenticated) as refusal:
            await identifier.caller(basic(client_id, secret), named(alliance, "id"))
        assert refusal.value.reason == "wrong secret"
        assert len(sent) == 1


def test_so_many_are_known_and_those_shown_last() -> None:
    known = LetIn(most=2)
    known.keep("client", "0")
    known.keep("client", "1")
    assert known.knows("client", "0")
    known.keep("client", "2")

    assert [known.knows("client", f"{number}") for number in range(3)] == [True, False, True]


async def test_a_token_is_known_by_all_of_it(
    db: Database, alliance: Alliance, north: Issued, bearer: Callable[..., str], identifier: Identifier
) -> None:
    """A token with another signature is another token, though it says the same."""
    authorization, names = bearer(north.client_id, *Right), named(alliance, "id")
    await identifier.caller(authorization, names)
    head, claims, signature = authorization.split(".")
    first = "A" if signature[0] != "A" else "B"

    with pytest.raises(NotAuthenticated) as refusal:
        await identifier.caller(f"{head}.{claims}.{first}{signature[1:]}", names)

    assert "signature" in refusal.value.reason


async def test_a_key_put_in_the_place_of_ours_lets_nobody_in(
    alliance: Alliance, north: Issued, bearer: Callable[..., str], identifier: Identifier
) -> None:
    authorization, names = bearer(north.client_id, *Right), named(alliance, "id")
    await identifier.caller(authorization, names)
    [(kept,)] = alliance.execute("SELECT public_jwk FROM signing_keys")
    numbers = generate_private_key(SECP256R1()).public_key().public_numbers()
    other = {name: b64(number.to_bytes(32)) for name, number in (("x", numbers.x), ("y", numbers.y))}
    alliance.execute("UPDATE signing_keys SET public_jwk = %s", json.dumps(json.loads(kept) | other))

    with pytest.raises(NotAuthenticated):
        await identifier.caller(authorization, names)
