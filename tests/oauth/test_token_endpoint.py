"""POST /oauth2/token: client credentials (RFC 6749 §4.4), its answers (§5.1) and its refusals (§5.2)."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import quote_plus

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taxii_server.auth import secrets
from taxii_server.auth.identify import PathNames
from taxii_server.domain.access import Right
from taxii_server.domain.errors import NotAuthenticated
from taxii_server.operations.tokens import TokenIssuing, issue_token
from taxii_server.storage.engine import Database
from tests.auth.alliance import Alliance, Issued, statements

pytestmark = pytest.mark.anyio

TOKEN = "/oauth2/token"
GRANT = {"grant_type": "client_credentials"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def north(alliance: Alliance) -> Issued:
    return alliance.client("north")


def by_post(client: Issued) -> dict[str, str]:
    return {"client_id": client.client_id, "client_secret": client.secret}


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{client_id}:{secret}".encode()).decode()}


def by_basic(client: Issued) -> dict[str, str]:
    return basic(client.client_id, client.secret)


def assert_refused(answer: httpx.Response, status: int, error: str) -> None:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["error"] == error
    assert body["error_id"] == "request-1"
    assert all(" " <= letter <= "~" and letter not in '"\\' for letter in body["error_description"])
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert ("www-authenticate" in answer.headers) == (status == 401)


async def rights(issuing: TokenIssuing, answer: httpx.Response) -> frozenset[Right]:
    assert answer.status_code == 200, answer.text
    token = answer.json()["access_token"]
    return (await issuing.identifier.caller(f"Bearer {token}", PathNames())).principal.rights


class TestAnswer:
    async def test_it_is_a_bearer_token_that_works(
        self, http: httpx.AsyncClient, issuing: TokenIssuing, north: Issued
    ) -> None:
        answer = await http.post(TOKEN, data=GRANT | by_post(north))

        assert answer.status_code == 200
        assert answer.json().keys() == {"access_token", "token_type", "expires_in", "scope"}
        assert answer.json()["token_type"] == "Bearer"
        assert answer.json()["expires_in"] == 900
        assert answer.json()["scope"] == "taxii:read taxii:write"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["pragma"] == "no-cache"
        caller = await issuing.identifier.caller(
            f"Bearer {answer.json()['access_token']}", PathNames("fraud", "indicators")
        )
        assert caller.principal.client == north.row
        assert caller.place.collection is not None

    async def test_by_http_basic(self, http: httpx.AsyncClient, issuing: TokenIssuing, north: Issued) -> None:
        answer = await http.post(TOKEN, data=GRANT, headers=by_basic(north))

        assert await rights(issuing, answer) == set(Right)

    async def test_basic_is_form_decoded(
        self, http: httpx.AsyncClient, issuing: TokenIssuing, alliance: Alliance
    ) -> None:
        """§2.3.1: id and secret are form-encoded before they are put together."""
        odd = alliance.client("north", client_id="a:b+c%41")

        answer = await http.post(TOKEN, data=GRANT, headers=basic(quote_plus(odd.client_id), odd.secret))

        assert await rights(issuing, answer) == set(Right)

    async def test_client_id_may_stand_beside_basic(self, http: httpx.AsyncClient, north: Issued) -> None:
        answer = await http.post(TOKEN, data=GRANT | {"client_id": north.client_id}, headers=by_basic(north))

        assert answer.status_code == 200

    async def test_every_token_has_its_own_id(self, http: httpx.AsyncClient, north: Issued) -> None:
        tokens = [(await http.post(TOKEN, data=GRANT | by_post(north))).json()["access_token"] for _ in range(2)]

        assert tokens[0] != tokens[1]

    async def test_unknown_parameters_and_a_charset_are_ignored(self, http: httpx.AsyncClient, north: Issued) -> None:
        answer = await http.post(
            TOKEN,
            data=GRANT | by_post(north) | {"audience": "x", "resource": "y"},
            headers={"Content-Type": "application/X-WWW-Form-urlencoded ; charset=UTF-8"},
        )

        assert answer.status_code == 200

    async def test_it_takes_four_statements(self, http: httpx.AsyncClient, db: Database, north: Issued) -> None:
        """Caller, key; then, before the token goes out, its stream's lock and the act, durable."""
        await http.post(TOKEN, data=GRANT | by_post(north))
        with statements(db) as sent:
            await http.post(TOKEN, data=GRANT | by_post(north))

        assert len(sent) == 4

    async def test_a_key_at_its_end_shortens_the_token(
        self, http: httpx.AsyncClient, alliance: Alliance, north: Issued
    ) -> None:
        await http.post(TOKEN, data=GRANT | by_post(north))
        alliance.execute(
            "UPDATE signing_keys SET signs_until = now() + interval '1 minute', "
            "verifies_until = now() + interval '2 minutes'"
        )

        answer = await http.post(TOKEN, data=GRANT | by_post(north))

        assert 110 <= answer.json()["expires_in"] <= 120


class TestScope:
    @pytest.mark.parametrize(
        ("asked", "given_rights"),
        [
            ("taxii:read", {Right.READ}),
            ("taxii:write", {Right.WRITE}),
            ("taxii:write taxii:read", {Right.READ, Right.WRITE}),
            ("taxii:read taxii:read", {Right.READ}),
            ("", {Right.READ, Right.WRITE}),
        ],
    )
    async def test_narrows(
        self, asked: str, given_rights: set[Right], http: httpx.AsyncClient, issuing: TokenIssuing, north: Issued
    ) -> None:
        answer = await http.post(TOKEN, data=GRANT | by_post(north) | {"scope": asked})

        assert await rights(issuing, answer) == given_rights
        assert set(answer.json()["scope"].split()) == {f"taxii:{right}" for right in given_rights}

    async def test_left_out_is_what_the_client_was_issued_with(
        self, http: httpx.AsyncClient, issuing: TokenIssuing, alliance: Alliance
    ) -> None:
        siem = alliance.client("north", rights=("read",))

        answer = await http.post(TOKEN, data=GRANT | by_post(siem))

        assert await rights(issuing, answer) == {Right.READ}
        assert answer.json()["scope"] == "taxii:read"

    async def test_more_than_the_client_was_issued_with_is_refused(
        self, http: httpx.AsyncClient, alliance: Alliance
    ) -> None:
        siem = alliance.client("north", rights=("read",))

        for scope in ("taxii:write", "taxii:read taxii:write"):
            answer = await http.post(TOKEN, data=GRANT | by_post(siem) | {"scope": scope})
            assert_refused(answer, 400, "invalid_scope")

    @pytest.mark.parametrize(
        "scope", ["admin", "taxii:read admin", "TAXII:READ", " ", "taxii:read ", "taxii:read  taxii:write", "é", '"']
    )
    async def test_unknown_or_malformed_is_refused(self, scope: str, http: httpx.AsyncClient, north: Issued) -> None:
        assert_refused(await http.post(TOKEN, data=GRANT | by_post(north) | {"scope": scope}), 400, "invalid_scope")


class TestWrongClient:
    async def test_in_the_form(self, http: httpx.AsyncClient, north: Issued) -> None:
        for wrong in (
            {"client_secret": secrets.generate()},
            {"client_secret": "guess"},
            {"client_id": "nobody"},
            {"client_id": "\x00"},
            {"client_id": "é" * 300},
        ):
            assert_refused(await http.post(TOKEN, data=GRANT | by_post(north) | wrong), 401, "invalid_client")

    async def test_by_basic(self, http: httpx.AsyncClient, north: Issued) -> None:
        for header in (
            basic(north.client_id, secrets.generate()),
            basic("nobody", north.secret),
            basic("%ff", north.secret),
            {"Authorization": "Basic !"},
            {"Authorization": "Basic"},
            {"Authorization": "Bearer abc"},
            {"Authorization": "Digest abc"},
        ):
            answer = await http.post(TOKEN, data=GRANT, headers=header)
            assert_refused(answer, 401, "invalid_client")
            assert answer.headers["www-authenticate"] == 'Basic realm="taxii", charset="UTF-8"'

    async def test_unknown_and_wrong_answer_alike(self, http: httpx.AsyncClient, db: Database, north: Issued) -> None:
        with statements(db) as for_unknown:
            unknown = await http.post(TOKEN, data=GRANT | by_post(north) | {"client_id": "nobody"})
        with statements(db) as for_wrong:
            wrong = await http.post(TOKEN, data=GRANT | by_post(north) | {"client_secret": secrets.generate()})

        assert unknown.content == wrong.content
        assert unknown.headers == wrong.headers
        assert for_unknown == for_wrong

    @pytest.mark.parametrize("given_part", [{}, {"client_id": "north"}, {"client_secret": "x"}, {"client_id": ""}])
    async def test_nothing_or_half(self, given_part: dict[str, str], http: httpx.AsyncClient, db: Database) -> None:
        with statements(db) as sent:
            assert_refused(await http.post(TOKEN, data=GRANT | given_part), 401, "invalid_client")
        assert sent == []

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE clients SET revoked_at = now()",
            "UPDATE clients SET expires_at = now()",
            "UPDATE members SET suspended_at = now()",
        ],
    )
    async def test_who_lost_standing_gets_no_token(
        self, change: str, http: httpx.AsyncClient, alliance: Alliance, north: Issued
    ) -> None:
        alliance.execute(change)

        assert_refused(await http.post(TOKEN, data=GRANT | by_post(north)), 401, "invalid_client")


class TestWrongRequest:
    async def test_two_ways_at_once(self, http: httpx.AsyncClient, north: Issued) -> None:
        answer = await http.post(TOKEN, data=GRANT | by_post(north), headers=by_basic(north))

        assert_refused(answer, 400, "invalid_request")

    async def test_two_authorization_headers(self, http: httpx.AsyncClient, north: Issued) -> None:
        header = ("Authorization", by_basic(north)["Authorization"])

        assert_refused(await http.post(TOKEN, data=GRANT, headers=[header, header]), 400, "invalid_request")

    async def test_another_client_id_beside_basic(self, http: httpx.AsyncClient, north: Issued) -> None:
        answer = await http.post(TOKEN, data=GRANT | {"client_id": "other"}, headers=by_basic(north))

        assert_refused(answer, 400, "invalid_request")

    @pytest.mark.parametrize("name", ["grant_type", "client_id", "client_secret", "scope", "unknown"])
    async def test_a_parameter_twice(self, name: str, http: httpx.AsyncClient, north: Issued) -> None:
        fields: list[tuple[str, str]] = [*GRANT.items(), *by_post(north).items(), ("scope", "taxii:read")]
        fields += [(name, value) for known, value in fields if known == name] or [("unknown", "1"), ("unknown", "1")]
        content = "&".join(f"{known}={quote_plus(value)}" for known, value in fields)

        assert_refused(await http.post(TOKEN, content=content, headers=FORM), 400, "invalid_request")

    @pytest.mark.parametrize("grant", [{}, {"grant_type": ""}])
    async def test_no_grant_type(self, grant: dict[str, str], http: httpx.AsyncClient, north: Issued) -> None:
        assert_refused(await http.post(TOKEN, data=grant | by_post(north)), 400, "invalid_request")

    @pytest.mark.parametrize("grant", ["password", "authorization_code", "refresh_token", "CLIENT_CREDENTIALS"])
    async def test_another_grant_type(self, grant: str, http: httpx.AsyncClient, north: Issued) -> None:
        answer = await http.post(TOKEN, data={"grant_type": grant} | by_post(north))

        assert_refused(answer, 400, "unsupported_grant_type")

    @pytest.mark.parametrize("media_type", ["application/json", "multipart/form-data; boundary=x", "text/plain", ""])
    async def test_not_a_form(self, media_type: str, http: httpx.AsyncClient, north: Issued) -> None:
        content = json.dumps(GRANT | by_post(north))

        answer = await http.post(TOKEN, content=content, headers={"Content-Type": media_type})

        assert_refused(answer, 415, "invalid_request")

    async def test_a_compressed_form(self, http: httpx.AsyncClient) -> None:
        answer = await http.post(TOKEN, content=b"\x1f\x8b", headers=FORM | {"Content-Encoding": "gzip"})

        assert_refused(answer, 415, "invalid_request")

    @pytest.mark.parametrize(
        "content", [b"\xff", b"grant_type=%ff", b"&".join(b"a%d=1" % number for number in range(40))]
    )
    async def test_a_form_that_is_none(self, content: bytes, http: httpx.AsyncClient) -> None:
        assert_refused(await http.post(TOKEN, content=content, headers=FORM), 400, "invalid_request")

    async def test_too_large(self, http: httpx.AsyncClient, db: Database, north: Issued) -> None:
        with statements(db) as sent:
            answer = await http.post(TOKEN, data=GRANT | by_post(north) | {"padding": "x" * 65536})
        assert_refused(answer, 413, "invalid_request")
        assert sent == []

    async def test_too_large_without_a_length(self, http: httpx.AsyncClient) -> None:
        read = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal read
            while True:
                read += 4096
                yield b"x" * 4096

        assert_refused(await http.post(TOKEN, content=endless(), headers=FORM), 413, "invalid_request")
        assert read < 200_000

    async def test_as_large_as_allowed(self, http: httpx.AsyncClient, north: Issued) -> None:
        fields = "&".join(f"{name}={value}" for name, value in (GRANT | by_post(north)).items())
        content = f"{fields}&padding=".ljust(64 * 1024, "x")

        assert (await http.post(TOKEN, content=content, headers=FORM)).status_code == 200

    @pytest.mark.parametrize("name", ["client_secret", "client_id", "grant_type", "scope"])
    async def test_parameters_in_the_url(self, name: str, http: httpx.AsyncClient, north: Issued) -> None:
        answer = await http.post(TOKEN, params={name: "x"}, data=GRANT | by_post(north))

        assert_refused(answer, 400, "invalid_request")

    async def test_get(self, http: httpx.AsyncClient) -> None:
        """§3.2: POST only."""
        assert (await http.get(TOKEN)).status_code == 405

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(content=st.binary(max_size=300), authorization=st.none() | st.binary(max_size=60))
    async def test_anything_is_refused_in_the_rfc_s_words(
        self, http: httpx.AsyncClient, content: bytes, authorization: bytes | None
    ) -> None:
        value = None if authorization is None else b"Basic " + b64encode(authorization)
        headers = FORM if value is None else FORM | {"Authorization": value.decode()}

        answer = await http.post(TOKEN, content=content, headers=headers)

        assert answer.status_code in {400, 401}
        assert answer.json()["error"] in {"invalid_request", "invalid_client", "unsupported_grant_type"}


async def test_the_secret_is_never_repeated(http: httpx.AsyncClient, north: Issued) -> None:
    answers = [
        await http.post(TOKEN, data=GRANT | by_post(north)),
        await http.post(TOKEN, data=GRANT | by_post(north) | {"client_id": "nobody"}),
        await http.post(TOKEN, data=GRANT | by_post(north) | {"scope": north.secret}),
        await http.post(TOKEN, data={"grant_type": north.secret} | by_post(north)),
    ]

    assert all(north.secret not in answer.text for answer in answers)


async def test_a_scope_narrower_than_the_issue_still_narrows_after_the_issue_changed(
    http: httpx.AsyncClient, issuing: TokenIssuing, alliance: Alliance, north: Issued
) -> None:
    answer = await http.post(TOKEN, data=GRANT | by_post(north) | {"scope": "taxii:write"})
    alliance.execute("UPDATE clients SET rights = '{read}'")

    assert await rights(issuing, answer) == frozenset()


async def test_a_token_ends_when_it_says(issuing: TokenIssuing, http: httpx.AsyncClient, north: Issued) -> None:
    short = TokenIssuing(issuing.identifier, issuing.keys, issuing.issuer, timedelta(seconds=0), issuing.db)
    issued = await issue_token(short, client_id=north.client_id, secret=north.secret)

    with pytest.raises(NotAuthenticated) as refusal:
        await issuing.identifier.caller(f"Bearer {issued.access_token}", PathNames())
    assert refusal.value.reason == "token has expired"
