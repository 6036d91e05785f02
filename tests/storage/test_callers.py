"""The caller statement: one row, one statement, and hidden tells nothing that absent wouldn't."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import TextClause, text
from sqlalchemy.dialects import postgresql

from taxii_server.auth import secrets
from taxii_server.domain.access import Place, Presented, Principal, Right, Validation
from taxii_server.domain.tlp import Level
from taxii_server.storage import callers, standing
from taxii_server.storage.callers import Found
from taxii_server.storage.engine import Database
from taxii_server.storage.hot import Statement
from tests.auth.alliance import Alliance, Issued, statements
from tests.auth.conftest import alliance, db

__all__ = ["alliance", "db"]

pytestmark = pytest.mark.anyio


@pytest.fixture
def north(alliance: Alliance) -> Issued:
    return alliance.client("north")


async def look_up(
    db: Database,
    client_id: str | None,
    trust_group: str | None = None,
    collection: str | None = None,
    kid: str | None = None,
    jti: str | None = None,
) -> Found:
    """Ask, and hold that it was one statement."""
    with statements(db) as sent:
        async with db.statement() as connection:
            found = await callers.look_up(
                connection,
                client_id=client_id,
                token=None if kid is None and jti is None else Presented("us", kid or "", jti),
                trust_group=trust_group,
                collection=collection,
            )
    assert len(sent) == 1
    return found


def principal(alliance: Alliance, member: str, collections: set[UUID] | None = None) -> Principal:
    return Principal(
        client=1,
        client_id="tool",
        member=alliance.members[member],
        member_slug=member,
        collections=None if collections is None else frozenset(collections),
    )


class TestPlace:
    async def test_a_collection_by_alias(self, db: Database, alliance: Alliance, north: Issued) -> None:
        found = await look_up(db, north.client_id, "fraud", "reports")

        assert found.client is not None
        assert found.client.id == north.row
        assert found.place.trust_group is not None
        assert found.place.trust_group.id == alliance.groups["fraud"]
        assert found.place.trust_group.title == "Title of fraud"
        assert found.place.collection is not None
        assert found.place.collection.id == alliance.collections["fraud/reports"]
        assert found.place.collection.trust_group_id == alliance.groups["fraud"]
        assert found.place.collection.policy.validation is Validation.STRICT
        assert found.place.collection.policy.unmarked_level is Level.CLEAR
        assert found.place.grant is not None
        assert found.place.grant.rights == {Right.READ}
        assert found.place.grant.clearance is Level.RED
        assert found.place.changes == 7

    @pytest.mark.parametrize("spelling", [str, lambda uuid: str(uuid).upper()])
    async def test_a_collection_by_id(
        self, db: Database, alliance: Alliance, north: Issued, spelling: type[str]
    ) -> None:
        reports = alliance.collections["fraud/reports"]

        assert await look_up(db, north.client_id, "fraud", spelling(reports)) == await look_up(
            db, north.client_id, "fraud", "reports"
        )

    async def test_the_clearance_is_the_grant_s(self, db: Database, alliance: Alliance) -> None:
        alliance.grant("stranger", "fraud/reports", ("read",), clearance=2)
        stranger = alliance.client("stranger")

        found = await look_up(db, stranger.client_id, "fraud", "reports")

        assert found.place.grant is not None
        assert found.place.grant.clearance is Level.AMBER

    async def test_a_trust_group_alone(self, db: Database, north: Issued) -> None:
        found = await look_up(db, north.client_id, "fraud")

        assert found.place.trust_group is not None
        assert found.place.collection is None
        assert found.place.grant is None

    async def test_no_names_no_place(self, db: Database, north: Issued) -> None:
        assert (await look_up(db, north.client_id)).place == Place()


class TestHiddenIsAbsent:
    @pytest.mark.parametrize("collection", [None, "indicators"])
    async def test_a_trust_group_without_a_grant(
        self, db: Database, alliance: Alliance, north: Issued, collection: str | None
    ) -> None:
        hidden = await look_up(db, north.client_id, "police", collection)
        absent = await look_up(db, north.client_id, "no-such", collection)

        assert hidden == absent
        assert hidden.place == Place()

    async def test_a_collection_without_a_grant(self, db: Database, alliance: Alliance) -> None:
        harbour = alliance.client("harbour")
        reports = str(alliance.collections["fraud/reports"])

        answers = [
            await look_up(db, harbour.client_id, "fraud", name) for name in ("reports", reports, "none", str(uuid4()))
        ]

        assert all(answer == answers[0] for answer in answers)
        assert answers[0].place.collection is None
        assert answers[0].place.changes is None

    async def test_a_collection_of_another_trust_group(self, db: Database, alliance: Alliance, north: Issued) -> None:
        """Even one that the caller may see there."""
        alliance.grant("north", "police/indicators", ("read",))
        elsewhere = str(alliance.collections["police/indicators"])

        assert await look_up(db, north.client_id, "fraud", elsewhere) == await look_up(
            db, north.client_id, "fraud", str(uuid4())
        )

    async def test_everything_for_a_member_without_grants(self, db: Database, alliance: Alliance) -> None:
        stranger = alliance.client("stranger")

        assert (await look_up(db, stranger.client_id, "fraud", "indicators")).place == Place()

    async def test_everything_for_nobody(self, db: Database, alliance: Alliance) -> None:
        for client_id in ("nobody", None):
            found = await look_up(db, client_id, "fraud", "indicators")
            assert found == Found(
                client=None, digests=(), public_jwk=None, token_revoked=False, issuer=None, place=Place()
            )


class TestNarrowedClient:
    async def test_sees_its_collections_only(self, db: Database, alliance: Alliance) -> None:
        narrow = alliance.client("north", collections=[alliance.collections["fraud/reports"]])

        seen = await look_up(db, narrow.client_id, "fraud", "reports")
        hidden = await look_up(db, narrow.client_id, "fraud", "indicators")

        assert seen.place.collection is not None
        assert hidden.place.trust_group is not None
        assert hidden == await look_up(db, narrow.client_id, "fraud", "none")

    async def test_does_not_see_a_trust_group_through_what_others_of_its_member_see(
        self, db: Database, alliance: Alliance
    ) -> None:
        alliance.grant("north", "police/indicators", ("read",))
        narrow = alliance.client("north", collections=[alliance.collections["police/indicators"]])

        assert (await look_up(db, narrow.client_id, "fraud", "indicators")).place == Place()
        assert (await look_up(db, narrow.client_id, "police")).place.trust_group is not None

    @pytest.mark.parametrize("to", [[], [UUID(int=1)]])
    async def test_narrowed_to_nothing_sees_nothing(self, db: Database, alliance: Alliance, to: list[UUID]) -> None:
        narrow = alliance.client("north", collections=to)

        assert (await look_up(db, narrow.client_id, "fraud", "indicators")).place == Place()

    async def test_is_given_no_more_than_its_member_has(self, db: Database, alliance: Alliance) -> None:
        narrow = alliance.client("harbour", collections=[alliance.collections["police/indicators"]])

        assert (await look_up(db, narrow.client_id, "police", "indicators")).place == Place()


class TestStanding:
    async def test_a_client_as_issued(self, db: Database, alliance: Alliance) -> None:
        reports = alliance.collections["fraud/reports"]
        narrow = alliance.client("north", rights=("read",), collections=[reports])

        client = (await look_up(db, narrow.client_id)).client

        assert client is not None
        assert client.rights == {Right.READ}
        assert client.collections == frozenset({reports})
        assert (client.member, client.member_slug) == (alliance.members["north"], "north")
        assert not any((client.revoked, client.expired, client.member_suspended, client.member_removed))

    @pytest.mark.parametrize(
        ("change", "flag"),
        [
            ("UPDATE clients SET revoked_at = now()", "revoked"),
            ("UPDATE clients SET expires_at = now()", "expired"),
            ("UPDATE members SET suspended_at = now()", "member_suspended"),
            ("UPDATE members SET removed_at = now()", "member_removed"),
        ],
    )
    async def test_each_loss_of_standing_is_told(
        self, db: Database, alliance: Alliance, north: Issued, change: str, flag: str
    ) -> None:
        alliance.execute(change)

        client = (await look_up(db, north.client_id)).client

        flags = ("revoked", "expired", "member_suspended", "member_removed")
        assert [name for name in flags if getattr(client, name)] == [flag]

    async def test_digests_are_of_live_secrets(self, db: Database, alliance: Alliance, north: Issued) -> None:
        later = alliance.secret(north.row, expires_in=timedelta(hours=1))
        alliance.secret(north.row, expires_in=timedelta(seconds=-1))
        alliance.client("north")

        found = await look_up(db, north.client_id)

        assert set(found.digests) == {secrets.digest(north.secret), secrets.digest(later)}

    async def test_a_key_that_verifies(self, db: Database, alliance: Alliance, north: Issued) -> None:
        alliance.execute(
            "INSERT INTO signing_keys (kid, public_jwk, sealed_private_key, signs_until, verifies_until) VALUES "
            "('past', '{}', '', now(), now()), ('present', '{\"kty\": \"EC\"}', '', now(), now() + interval '1 hour')"
        )

        assert (await look_up(db, north.client_id, kid="present")).public_jwk == '{"kty": "EC"}'
        assert (await look_up(db, north.client_id, kid="past")).public_jwk is None
        assert (await look_up(db, north.client_id, kid="absent")).public_jwk is None
        assert (await look_up(db, None, kid="present")).public_jwk == '{"kty": "EC"}'

    async def test_a_token_that_was_revoked(self, db: Database, alliance: Alliance, north: Issued) -> None:
        alliance.execute("INSERT INTO revoked_tokens VALUES ('us', 'gone', now()), ('them', 'theirs', now())")

        assert (await look_up(db, north.client_id, jti="gone")).token_revoked
        assert not (await look_up(db, north.client_id, jti="theirs")).token_revoked
        assert not (await look_up(db, north.client_id)).token_revoked


ODD = ["", " ", "\x00", "a\x00b", "\ud800", "\n", "x" * 10_000, "%", "..", "'", "é", "\U0001f600", "\ufffe", "NULL"]


@pytest.mark.parametrize("odd", ODD, ids=ascii)
async def test_a_name_that_can_name_nothing_is_absent(
    db: Database, alliance: Alliance, north: Issued, odd: str
) -> None:
    nobody = await look_up(db, "nobody", "fraud", "indicators")

    assert await look_up(db, odd, "fraud", "indicators") == nobody
    assert await look_up(db, north.client_id, odd, "indicators") == await look_up(
        db, north.client_id, "none", "indicators"
    )
    assert await look_up(db, north.client_id, "fraud", odd) == await look_up(db, north.client_id, "fraud", "none")
    assert await look_up(db, north.client_id, kid=odd) == await look_up(db, north.client_id)


@pytest.mark.parametrize(
    "almost",
    ["{{{}}}", "urn:uuid:{}", "{} ", "{}0", "{}\n"],
)
async def test_only_the_canonical_spelling_is_an_id(
    db: Database, alliance: Alliance, north: Issued, almost: str
) -> None:
    reports = alliance.collections["fraud/reports"]

    assert (await look_up(db, north.client_id, "fraud", almost.format(reports))).place.collection is None
    assert (await look_up(db, north.client_id, "fraud", reports.hex)).place.collection is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.text(), st.text(), st.text())
async def test_any_names_are_one_statement_and_no_error(
    db: Database, client_id: str, trust_group: str, collection: str, kid: str
) -> None:
    found = await look_up(db, client_id, trust_group, collection, kid)

    assert found.client is None
    assert found.place == Place()


async def test_inside_a_transaction_the_present_is_seen(db: Database, alliance: Alliance, north: Issued) -> None:
    async with db.write() as connection:
        before = await callers.look_up(connection, client_id=north.client_id)
        alliance.execute("UPDATE clients SET expires_at = clock_timestamp()")
        after = await callers.look_up(connection, client_id=north.client_id)

    assert before.client is not None
    assert after.client is not None
    assert (before.client.expired, after.client.expired) == (False, True)


def as_sent(statement: TextClause | Statement) -> tuple[str, Sequence[str]]:
    """Give a statement with its parameters numbered, and what they are called."""
    if isinstance(statement, Statement):
        return statement.numbered.decode(), statement.names
    dialect = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
    compiled = statement.compile(dialect=dialect)
    return str(compiled), compiled.positiontup or ()


@pytest.mark.parametrize(
    "statement",
    [callers.CALLER, standing.OF_TOKEN, standing.OF_SECRET, callers.LISTING, callers.TRUST_GROUPS],
    ids=["caller", "of token", "of secret", "listing", "trust groups"],
)
async def test_every_table_is_reached_by_an_index(alliance: Alliance, statement: TextClause | Statement) -> None:
    """Whatever the alliance grows to: the plan made once for all parameters has no need to read a table through."""
    numbered, names = as_sent(statement)
    alliance.execute("SET enable_seqscan = off")
    alliance.execute("SET plan_cache_mode = force_generic_plan")
    alliance.execute(f"PREPARE hot AS {numbered}")

    nulls = ", ".join("NULL" for _ in names)
    plan = "\n".join(line for (line,) in alliance.execute(f"EXPLAIN EXECUTE hot({nulls})"))

    assert "Index" in plan
    assert "Seq Scan" not in plan


async def test_one_plan_serves_all_requests(alliance: Alliance) -> None:
    """Planning takes several times as long as running it, so it must not be planned anew for each request."""
    numbered, names = as_sent(callers.CALLER)
    client = alliance.client("north").client_id
    alliance.execute("SET plan_cache_mode = auto")
    alliance.execute(f"PREPARE asked AS {numbered}")
    given = {"client_id": f"'{client}'", "trust_group": "'fraud'", "alias": "'indicators'"}
    values = ", ".join(given.get(name, "NULL") for name in names)
    for _ in range(10):
        alliance.execute(f"EXECUTE asked({values})")

    [(kept, anew)] = alliance.execute(
        "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE name = 'asked'"
    )

    assert (kept, anew) == (5, 5)


async def test_an_outside_issuer_and_whom_it_names_are_found_in_one(
    db: Database, alliance: Alliance, north: Issued
) -> None:
    """The issuer's own claim decides; a subject of another issuer, or of a revoked client, is nobody's."""
    alliance.issuer("bank", "https://bank.example", claim="azp", algorithms=("ES256",))
    alliance.issuer("other", "https://other.example")
    tied = alliance.tied("north", "bank", "siem")

    async def named(issuer: str, **claims: str) -> Found:
        async with db.statement() as connection:
            token = Presented(issuer, "kid", None)
            return await callers.look_up(connection, client_id=None, token=token, named=claims)

    found = await named("https://bank.example", sub="nobody", azp="siem")
    others = [
        await named("https://bank.example", sub="siem"),
        await named("https://other.example", sub="siem", azp="siem"),
        await named("https://none.example", azp="siem"),
    ]
    alliance.execute("UPDATE clients SET revoked_at = now() WHERE client_id = %s", tied)
    others.append(await named("https://bank.example", azp="siem"))

    assert found.client is not None
    assert found.client.client_id == tied
    assert found.issuer is not None
    assert (found.issuer.slug, found.issuer.audience) == ("bank", "https://taxii.example.org")
    assert found.issuer.algorithms == {"ES256"}
    assert [one.client for one in others] == [None] * 4
    assert [one.issuer and one.issuer.slug for one in others] == ["bank", "other", None, "bank"]


async def test_the_columns_are_named_in_the_statement_s_order(db: Database, alliance: Alliance) -> None:
    names = dict.fromkeys(callers.CALLER.names)
    async with db.statement() as connection:
        result = await connection.execute(text(callers._CALLER), names)

    assert list(result.keys()) == list(callers.CALLER.columns)


class TestListing:
    async def test_visible_collections_with_their_grants_by_id(self, db: Database, alliance: Alliance) -> None:
        for number in range(20):
            alliance.collection("fraud", f"more-{number}")
            alliance.grant("north", f"fraud/more-{number}", ("write",))

        async with db.statement() as connection:
            found = await callers.listing(connection, principal(alliance, "north"), alliance.groups["fraud"])

        ids = [collection.id for collection, _ in found]
        assert len(ids) == 22
        assert ids == sorted(ids)
        grants = {collection.alias: grant.rights for collection, grant in found}
        assert grants["indicators"] == {Right.READ, Right.WRITE}
        assert grants["reports"] == {Right.READ}
        assert grants["more-3"] == {Right.WRITE}
        assert {collection.trust_group_id for collection, _ in found} == {alliance.groups["fraud"]}

    async def test_nothing_of_other_groups_or_members(self, db: Database, alliance: Alliance) -> None:
        async with db.statement() as connection:
            police = await callers.listing(connection, principal(alliance, "north"), alliance.groups["police"])
            harbour = await callers.listing(connection, principal(alliance, "harbour"), alliance.groups["fraud"])

        assert police == []
        assert [collection.alias for collection, _ in harbour] == ["indicators"]

    async def test_a_narrowed_client_s_listing(self, db: Database, alliance: Alliance) -> None:
        narrow = principal(
            alliance, "north", {alliance.collections["fraud/reports"], alliance.collections["police/indicators"]}
        )
        async with db.statement() as connection:
            found = await callers.listing(connection, narrow, alliance.groups["fraud"])
            nothing = await callers.listing(connection, principal(alliance, "north", set()), alliance.groups["fraud"])

        assert [collection.alias for collection, _ in found] == ["reports"]
        assert nothing == []

    async def test_it_agrees_with_the_caller_statement(self, db: Database, alliance: Alliance, north: Issued) -> None:
        async with db.statement() as connection:
            found = await callers.listing(connection, principal(alliance, "north"), alliance.groups["fraud"])

        for collection, grant in found:
            place = (await look_up(db, north.client_id, "fraud", str(collection.id))).place
            assert (place.collection, place.grant) == (collection, grant)


class TestTrustGroups:
    async def slugs(self, db: Database, who: Principal) -> list[str]:
        with statements(db) as sent:
            async with db.statement() as connection:
                found = await callers.trust_groups(connection, who)
        assert len(sent) == 1
        return [group.slug for group in found]

    async def test_visible_ones_by_slug(self, db: Database, alliance: Alliance) -> None:
        for slug in ("zebra", "a-group", "b-group"):
            alliance.group(slug)
            alliance.collection(slug, "feed")
            alliance.grant("north", f"{slug}/feed", ("read",))

        assert await self.slugs(db, principal(alliance, "north")) == ["a-group", "b-group", "fraud", "zebra"]
        assert await self.slugs(db, principal(alliance, "harbour")) == ["fraud"]
        assert await self.slugs(db, principal(alliance, "stranger")) == []

    async def test_a_narrowed_client_s(self, db: Database, alliance: Alliance) -> None:
        alliance.grant("north", "police/indicators", ("read",))
        narrowed = {alliance.collections["police/indicators"]}

        assert await self.slugs(db, principal(alliance, "north")) == ["fraud", "police"]
        assert await self.slugs(db, principal(alliance, "north", narrowed)) == ["police"]
        assert await self.slugs(db, principal(alliance, "north", set())) == []
