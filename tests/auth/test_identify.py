"""From the Authorization header to a caller: Basic (RFC 7617) and bearer tokens (RFC 6750)."""

import json
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taxii_server.auth import secrets, tokens
from taxii_server.auth.authorization import CHALLENGES, basic_credentials, challenges
from taxii_server.auth.identify import Identifier, PathNames
from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.domain.access import Caller, Right
from taxii_server.domain.errors import NotAuthenticated
from taxii_server.storage.engine import Database
from tests.auth.alliance import Alliance, Issued, statements
from tests.auth.forge import ISSUER, b64

pytestmark = pytest.mark.anyio

INDICATORS = PathNames("fraud", "indicators")
NOWHERE = PathNames()


def segment(value: object) -> str:
    return b64(json.dumps(value).encode())


def basic(client_id: str, secret: str) -> str:
    return "Basic " + b64encode(f"{client_id}:{secret}".encode()).decode()


@pytest.fixture
def north(alliance: Alliance) -> Issued:
    return alliance.client("north")


@pytest.fixture
async def bearer(keys: SigningKeys) -> Callable[..., str]:
    key = await keys.current()

    def write(client_id: str, *rights: Right) -> str:
        token = tokens.issue(
            key.private_key,
            kid=key.kid,
            issuer=ISSUER,
            client_id=client_id,
            rights=rights,
            lifetime=timedelta(minutes=5),
        )
        return f"Bearer {token}"

    return write


async def reason(identifier: Identifier, authorization: str | None) -> str:
    with pytest.raises(NotAuthenticated) as refusal:
        await identifier.caller(authorization, INDICATORS)
    return refusal.value.reason


async def test_basic(identifier: Identifier, alliance: Alliance, north: Issued) -> None:
    caller = await identifier.caller(basic(north.client_id, north.secret), INDICATORS)

    assert caller.principal.client == north.row
    assert caller.principal.client_id == north.client_id
    assert caller.principal.member == alliance.members["north"]
    assert caller.principal.member_slug == "north"
    assert caller.principal.rights == {Right.READ, Right.WRITE}
    assert caller.principal.collections is None
    assert caller.place.collection is not None
    assert caller.place.collection.id == alliance.collections["fraud/indicators"]


async def test_bearer(identifier: Identifier, alliance: Alliance, north: Issued, bearer: Callable[..., str]) -> None:
    by_token = await identifier.caller(bearer(north.client_id, *Right), INDICATORS)

    assert by_token == await identifier.caller(basic(north.client_id, north.secret), INDICATORS)


@pytest.mark.parametrize("scheme", ["basic", "BASIC", "bAsIc", "Basic  "])
async def test_the_scheme_s_case_and_extra_blanks_do_not_matter(
    scheme: str, identifier: Identifier, north: Issued
) -> None:
    authorization = basic(north.client_id, north.secret).replace("Basic", scheme)

    assert (await identifier.caller(authorization, NOWHERE)).principal.client == north.row


async def test_the_bearer_scheme_s_case_does_not_matter(
    identifier: Identifier, north: Issued, bearer: Callable[..., str]
) -> None:
    authorization = bearer(north.client_id, Right.READ).replace("Bearer", "bEARER")

    assert (await identifier.caller(authorization, NOWHERE)).principal.client == north.row


@pytest.mark.parametrize("authorization", [None, "", " ", "Digest abc", "Token abc", "Negotiate", "Basic", "Bearer"])
async def test_without_credentials_of_ours_nothing_is_looked_up(
    authorization: str | None, identifier: Identifier, db: Database
) -> None:
    with statements(db) as sent:
        await reason(identifier, authorization)

    assert sent == []


async def test_unknown_client_and_wrong_secret_run_the_same_statement(
    identifier: Identifier, db: Database, north: Issued
) -> None:
    with statements(db) as unknown:
        assert await reason(identifier, basic("nobody", north.secret)) == "unknown client"
    with statements(db) as wrong:
        assert await reason(identifier, basic(north.client_id, secrets.generate())) == "wrong secret"

    assert unknown == wrong
    assert len(unknown) == 1


async def test_a_secret_that_can_be_none_is_not_looked_up(identifier: Identifier, db: Database, north: Issued) -> None:
    with statements(db) as sent:
        assert await reason(identifier, basic(north.client_id, north.secret[:-1] + "x")) == "secret is malformed"

    assert sent == []


async def test_everybody_refused_is_told_the_same(identifier: Identifier, north: Issued) -> None:
    told = set()
    for authorization in (None, basic("nobody", north.secret), basic(north.client_id, secrets.generate()), "Bearer x"):
        with pytest.raises(NotAuthenticated) as refusal:
            await identifier.caller(authorization, NOWHERE)
        told.add(str(refusal.value))

    assert len(told) == 1


async def test_another_client_s_secret_is_wrong(identifier: Identifier, alliance: Alliance, north: Issued) -> None:
    assert await reason(identifier, basic(north.client_id, alliance.client("north").secret)) == "wrong secret"


async def test_two_secrets_overlap_and_an_expired_one_is_wrong(
    identifier: Identifier, alliance: Alliance, north: Issued
) -> None:
    new = alliance.secret(north.row)
    await identifier.caller(basic(north.client_id, north.secret), NOWHERE)
    await identifier.caller(basic(north.client_id, new), NOWHERE)
    expired = alliance.secret(north.row, expires_in=timedelta(seconds=-1))

    assert await reason(identifier, basic(north.client_id, expired)) == "wrong secret"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("UPDATE clients SET revoked_at = now()", "client was revoked"),
        ("UPDATE clients SET expires_at = now()", "client has expired"),
        ("UPDATE members SET suspended_at = now()", "member is suspended"),
        ("UPDATE members SET removed_at = now()", "member was removed"),
        ("DELETE FROM client_secrets", "wrong secret"),
    ],
)
async def test_the_next_request_is_refused(
    change: str, why: str, identifier: Identifier, alliance: Alliance, north: Issued, db: Database
) -> None:
    await identifier.caller(basic(north.client_id, north.secret), NOWHERE)
    alliance.execute(change)

    with statements(db) as sent:
        assert await reason(identifier, basic(north.client_id, north.secret)) == why
    assert len(sent) == 1


async def test_a_client_that_expires_later_is_accepted(
    identifier: Identifier, alliance: Alliance, north: Issued
) -> None:
    alliance.execute("UPDATE clients SET expires_at = now() + interval '1 hour'")

    await identifier.caller(basic(north.client_id, north.secret), NOWHERE)


class TestBasic:
    """RFC 7617, to the letter."""

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "=",
            "*",
            "bm9ydGg",
            "bm9ydGg6c2VjcmV0=",
            "bm9ydGg6 c2VjcmV0",
            "bm9ydGg6\nc2VjcmV0",
            "bm9ydGg6c2VjcmV0 extra",
            b64encode(b"no colon").decode(),
            b64encode(b"north:\xff\xfe").decode(),
            b64encode(b"nor\x00th:secret").decode(),
            b64encode("nor\x85th:secret".encode()).decode(),
            b64encode(b"x:" + b"y" * 4000).decode(),
            "-_" * 4,
        ],
    )
    async def test_malformed(self, value: str, identifier: Identifier, db: Database) -> None:
        with statements(db) as sent:
            assert "Basic" in await reason(identifier, f"Basic {value}")
        assert sent == []

    def test_a_colon_belongs_to_the_secret(self) -> None:
        assert basic_credentials(basic("north", "a:b:c")) == ("north", "a:b:c")

    def test_utf_8(self) -> None:
        assert basic_credentials(basic("Jürgen", "пароль")) == ("Jürgen", "пароль")

    def test_another_scheme_is_not_ours_to_read(self) -> None:
        assert basic_credentials("Bearer abc") is None

    async def test_odd_client_ids_are_looked_up_like_others(
        self, identifier: Identifier, db: Database, north: Issued
    ) -> None:
        for odd in ("", "Jürgen", "x" * 1000, "' OR true --", "%", "\U0001f600", "\ufffe"):
            with statements(db) as sent:
                assert await reason(identifier, basic(odd, north.secret)) == "unknown client"
            assert len(sent) == 1


class TestNarrowing:
    async def test_a_client_issued_for_reading_only_reads(self, identifier: Identifier, alliance: Alliance) -> None:
        siem = alliance.client("north", rights=("read",))

        caller = await identifier.caller(basic(siem.client_id, siem.secret), INDICATORS)

        assert caller.principal.rights == {Right.READ}
        assert caller.place.grant is not None
        assert caller.place.grant.rights == {Right.READ, Right.WRITE}

    async def test_a_scope_takes_away(self, identifier: Identifier, north: Issued, bearer: Callable[..., str]) -> None:
        caller = await identifier.caller(bearer(north.client_id, Right.WRITE), INDICATORS)

        assert caller.principal.rights == {Right.WRITE}

    async def test_a_scope_never_gives(
        self, identifier: Identifier, alliance: Alliance, bearer: Callable[..., str]
    ) -> None:
        siem = alliance.client("north", rights=("read",))

        caller = await identifier.caller(bearer(siem.client_id, Right.READ, Right.WRITE), INDICATORS)

        assert caller.principal.rights == {Right.READ}

    async def test_without_scope_a_token_can_nothing(
        self, identifier: Identifier, north: Issued, bearer: Callable[..., str]
    ) -> None:
        assert (await identifier.caller(bearer(north.client_id), INDICATORS)).principal.rights == frozenset()

    async def test_a_client_issued_for_a_collection_carries_it(
        self, identifier: Identifier, alliance: Alliance
    ) -> None:
        reports = alliance.collections["fraud/reports"]
        narrow = alliance.client("north", collections=[reports])

        caller = await identifier.caller(basic(narrow.client_id, narrow.secret), INDICATORS)

        assert caller.principal.collections == frozenset({reports})
        assert caller.place.collection is None


class TestAgain:
    """Inside the write transaction the same is asked once more."""

    async def again(self, identifier: Identifier, db: Database, before: Caller) -> Caller:
        async with db.write() as connection:
            with statements(db) as sent:
                now = await identifier.again(connection, before, INDICATORS)
            assert len(sent) == 1
            return now

    async def test_nothing_changed(self, identifier: Identifier, db: Database, north: Issued) -> None:
        before = await identifier.caller(basic(north.client_id, north.secret), INDICATORS)

        assert await self.again(identifier, db, before) == before

    async def test_the_scope_still_narrows(
        self, identifier: Identifier, db: Database, north: Issued, bearer: Callable[..., str]
    ) -> None:
        before = await identifier.caller(bearer(north.client_id, Right.READ), INDICATORS)

        assert (await self.again(identifier, db, before)).principal.rights == {Right.READ}

    async def test_what_was_taken_away_meanwhile_is_gone(
        self, identifier: Identifier, db: Database, alliance: Alliance, north: Issued
    ) -> None:
        before = await identifier.caller(basic(north.client_id, north.secret), INDICATORS)
        alliance.execute("UPDATE clients SET rights = '{read}'")
        alliance.execute("DELETE FROM grants")

        now = await self.again(identifier, db, before)

        assert now.principal.rights == {Right.READ}
        assert now.place.grant is None
        assert now.place.trust_group is None

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE clients SET revoked_at = now()",
            "UPDATE clients SET expires_at = now()",
            "UPDATE members SET suspended_at = now()",
            "UPDATE members SET removed_at = now()",
        ],
    )
    async def test_who_may_no_longer_is_refused(
        self, change: str, identifier: Identifier, db: Database, alliance: Alliance, north: Issued
    ) -> None:
        before = await identifier.caller(basic(north.client_id, north.secret), INDICATORS)
        async with db.write() as connection:
            await identifier.again(connection, before, INDICATORS)
            alliance.execute(change)
            with pytest.raises(NotAuthenticated):
                await identifier.again(connection, before, INDICATORS)

    async def test_a_client_of_the_same_name_made_anew_is_another(
        self, identifier: Identifier, db: Database, alliance: Alliance, north: Issued
    ) -> None:
        before = await identifier.caller(basic(north.client_id, north.secret), INDICATORS)
        alliance.execute("DELETE FROM client_secrets")
        alliance.execute("DELETE FROM clients")
        alliance.client("harbour", client_id=north.client_id)

        with pytest.raises(NotAuthenticated, match="No credentials"):
            await self.again(identifier, db, before)

    async def test_an_expiry_that_passes_during_the_transaction_counts(
        self, identifier: Identifier, db: Database, alliance: Alliance, north: Issued
    ) -> None:
        before = await identifier.caller(basic(north.client_id, north.secret), INDICATORS)
        async with db.write() as connection:
            await identifier.again(connection, before, INDICATORS)
            alliance.execute("UPDATE clients SET expires_at = clock_timestamp()")
            with pytest.raises(NotAuthenticated):
                await identifier.again(connection, before, INDICATORS)


class TestRemembering:
    async def test_a_good_signature_is_checked_once(
        self, identifier: Identifier, north: Issued, bearer: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authorization = bearer(north.client_id, Right.READ)
        first = await identifier.caller(authorization, NOWHERE)
        monkeypatch.setattr("jose.jwt.decode", None)

        assert await identifier.caller(authorization, NOWHERE) == first

    async def test_rights_are_not_remembered(
        self, identifier: Identifier, alliance: Alliance, north: Issued, bearer: Callable[..., str]
    ) -> None:
        authorization = bearer(north.client_id, *Right)
        await identifier.caller(authorization, INDICATORS)
        alliance.execute("UPDATE clients SET rights = '{write}'")
        alliance.execute("DELETE FROM grants")

        caller = await identifier.caller(authorization, INDICATORS)

        assert caller.principal.rights == {Right.WRITE}
        assert caller.place.collection is None

    async def test_a_remembered_token_still_expires(
        self, identifier: Identifier, north: Issued, bearer: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authorization = bearer(north.client_id, Right.READ)
        await identifier.caller(authorization, NOWHERE)
        later = time.time() + 301
        monkeypatch.setattr("time.time", lambda: later)

        assert await reason(identifier, authorization) == "token has expired"

    async def test_only_so_many_are_remembered(self, keys: SigningKeys, alliance: Alliance) -> None:
        reader = tokens.Tokens(ISSUER, cached=2)
        key = await keys.current()
        [jwk] = alliance.execute("SELECT public_jwk FROM signing_keys")
        for _ in range(5):
            token = tokens.issue(
                key.private_key,
                kid=key.kid,
                issuer=ISSUER,
                client_id="north",
                rights=Right,
                lifetime=timedelta(minutes=5),
            )
            reader.verify(token, jwk[0])

        assert len(reader._good) == 2


async def test_client_and_secret_alone(identifier: Identifier, north: Issued, db: Database) -> None:
    assert (await identifier.client(north.client_id, north.secret)).principal.client == north.row
    with statements(db) as sent, pytest.raises(NotAuthenticated):
        await identifier.client("nobody", secrets.generate())
    assert len(sent) == 1


def test_there_is_a_challenge_for_each_scheme() -> None:
    assert CHALLENGES == ('Basic realm="taxii", charset="UTF-8"', 'Bearer realm="taxii"')


@pytest.mark.parametrize(
    ("authorization", "error"),
    [
        ("", False),
        ("Basic abc", False),
        ("Digest x", False),
        ("Bearerx", False),
        ("Bearer x", True),
        ("bEARER x", True),
        ("Bearer", True),
    ],
)
def test_a_refused_token_is_named_as_the_error(authorization: str, *, error: bool) -> None:
    """RFC 6750 §3.1: `invalid_token` and no reason; without a token there is no error to name."""
    basic, bearer = challenges(authorization)

    assert basic == CHALLENGES[0]
    assert bearer == 'Bearer realm="taxii"' + (', error="invalid_token"' if error else "")


class TestAnything:
    """Nothing that a caller sends ends in anything but NotAuthenticated."""

    anything = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)

    @anything
    @given(st.text(), st.text(), st.text())
    async def test_as_a_header(self, identifier: Identifier, header: str, group: str, collection: str) -> None:
        with pytest.raises(NotAuthenticated):
            await identifier.caller(header, PathNames(group, collection))

    @anything
    @given(st.sampled_from(["Basic", "Bearer"]), st.binary())
    async def test_as_octets_under_a_scheme(self, identifier: Identifier, scheme: str, octets: bytes) -> None:
        for value in (octets.decode("latin-1"), b64encode(octets).decode()):
            with pytest.raises(NotAuthenticated):
                await identifier.caller(f"{scheme} {value}", INDICATORS)

    @anything
    @given(client_id=st.text())
    async def test_as_a_client_id(self, identifier: Identifier, client_id: str) -> None:
        with pytest.raises(NotAuthenticated):
            await identifier.client(client_id, secrets.generate())

    @anything
    @given(secret=st.text())
    async def test_as_a_secret(self, identifier: Identifier, secret: str) -> None:
        with pytest.raises(NotAuthenticated):
            await identifier.client(str(uuid4()), secret)

    @anything
    @given(group=st.text(), collection=st.text())
    async def test_as_a_path(self, identifier: Identifier, group: str, collection: str, alliance: Alliance) -> None:
        north = alliance.client("north")

        caller = await identifier.caller(basic(north.client_id, north.secret), PathNames(group, collection))

        assert caller.place.collection is None

    @anything
    @given(
        st.lists(
            st.one_of(
                st.recursive(
                    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                ).map(segment),
                st.text(alphabet="ABCabc012-_=."),
            ),
            max_size=5,
        )
    )
    async def test_as_a_token(self, identifier: Identifier, segments: list[str]) -> None:
        with pytest.raises(NotAuthenticated):
            await identifier.caller("Bearer " + ".".join(segments), NOWHERE)
