"""Outside issuers in alliance.yaml, and the clients that are tied to them."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from taxii_server.domain.access import BOTH
from taxii_server.domain.errors import AllianceInvalid, OperatorError
from taxii_server.operations import alliance, alliance_file, clients, issuers
from taxii_server.storage import clients as storage
from taxii_server.storage import members
from taxii_server.storage.clients import NewClient
from tests.auth.alliance import alliance_in
from tests.auth.conftest import db
from tests.storage.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from taxii_server.storage.embedded import DatabaseUrls
    from taxii_server.storage.engine import Database
    from tests.auth.alliance import Alliance

    Apply = Callable[..., Awaitable[list[str]]]

__all__ = ["db"]

pytestmark = pytest.mark.anyio

REST = "trust_groups: {}\nmembers:\n  north: {name: North, kind: bank}\n"
BANK = """\
issuers:
  bank:
    issuer: https://login.bank.example/
    jwks_uri: https://login.bank.example/keys
    audience: https://taxii.example.org
    claim: client_id
    algorithms: [RS256, ES256]
"""


def bank(**changes: str | None) -> str:
    """Write the file with some of the issuer's lines changed, or left out."""
    text = BANK
    for name, value in changes.items():
        text = re.sub(rf"    {name}: .*\n", "" if value is None else f"    {name}: {value}\n", text)
    return text + REST


def problems(text: str) -> list[str]:
    with pytest.raises(AllianceInvalid) as refusal:
        alliance_file.parse(text)
    return list(refusal.value.problems)


@pytest.fixture
def small_alliance(database_urls: DatabaseUrls) -> Iterator[Alliance]:
    """A member, and nothing else."""
    with alliance_in(database_urls, filled=False) as made:
        made.member("north")
        yield made


@pytest.fixture
def apply(db: Database, small_alliance: Alliance) -> Apply:
    """Apply a file and give the lines of its plan that tell of issuers."""

    async def applied(text: str, *, prune: bool = False) -> list[str]:
        plan = await alliance.apply(db, alliance_file.parse(text), prune=prune)
        return [step.line for step in plan.steps if "issuer" in step.line]

    return applied


class TestFile:
    def test_an_issuer(self) -> None:
        [one] = alliance_file.parse(bank()).issuers

        assert (one.slug, one.issuer, one.jwks_uri) == (
            "bank",
            "https://login.bank.example/",
            "https://login.bank.example/keys",
        )
        assert (one.audience, one.claim, one.algorithms) == (
            "https://taxii.example.org",
            "client_id",
            ("ES256", "RS256"),
        )

    def test_what_may_be_left_out(self) -> None:
        [one] = alliance_file.parse(bank(jwks_uri=None, claim=None)).issuers

        assert (one.jwks_uri, one.claim) == (None, "sub")
        assert alliance_file.parse(REST).issuers == ()

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"issuer": "http://login.bank.example"}, "must begin with https://"),
            ({"issuer": "login.bank.example"}, "must be a URL"),
            ({"issuer": None}, "needs issuer"),
            ({"jwks_uri": "file:///etc/passwd"}, "must be a URL"),
            ({"jwks_uri": "https://user:secret@bank.example/"}, "name or password"),
            ({"jwks_uri": "https://bank.example:port/"}, "is not a URL"),
            ({"audience": None}, "needs audience"),
            ({"claim": "'a b'"}, "name of a claim"),
            ({"algorithms": "[HS256]"}, "unknown algorithm"),
            ({"algorithms": "[none]"}, "unknown algorithm"),
            ({"algorithms": "[RS256, RS256]"}, "twice"),
            ({"algorithms": "[]"}, "must be a list"),
            ({"algorithms": "RS256"}, "must be a list"),
        ],
    )
    def test_mistakes_are_told_with_their_line(self, change: dict[str, str | None], told: str) -> None:
        [problem] = problems(bank(**change))

        assert re.match(r"alliance\.yaml:\d+: ", problem)
        assert told in problem

    def test_one_name_under_two_slugs(self) -> None:
        twice = BANK + BANK.replace("issuers:\n", "").replace("bank:", "again:", 1) + REST

        assert ["is there twice" in problem for problem in problems(twice)] == [True]

    def test_too_many(self) -> None:
        many = "".join(
            BANK.replace("issuers:\n", "").replace("bank:", f"bank-{number}:", 1).replace("login.", f"login{number}.")
            for number in range(65)
        )

        assert "65 issuers" in problems(f"issuers:\n{many}{REST}")[0]

    @pytest.mark.parametrize("own", ["https://login.bank.example", "https://LOGIN.bank.example/"])
    def test_our_own_name_is_refused(self, own: str) -> None:
        with pytest.raises(AllianceInvalid, match="this server's own name"):
            issuers.refuse_own(alliance_file.parse(bank()), own)
        issuers.refuse_own(alliance_file.parse(bank()), "https://taxii.example.org")


class TestApply:
    async def test_an_issuer_is_added_changed_told_and_removed(
        self, apply: Apply, db: Database, small_alliance: Alliance
    ) -> None:
        added = await apply(bank())
        nothing = await apply(bank())
        changed = await apply(bank(audience="https://other.example", jwks_uri=None))
        tied = await clients.tie(db, "north", name="siem", issuer="bank", subject="s")
        told = await apply(REST)
        removed = await apply(REST, prune=True)
        again = await apply(bank())

        assert added == ["create issuer bank (https://login.bank.example/)"]
        assert nothing == []
        assert changed == [
            (
                "change issuer bank: jwks_uri 'https://login.bank.example/keys' → by its metadata, "
                "audience 'https://taxii.example.org' → 'https://other.example'"
            )
        ]
        assert told == ["absent issuer bank (https://login.bank.example/) is not in the file and stays"]
        assert removed == ["delete issuer bank (https://login.bank.example/), and its 1 clients are revoked"]
        assert again == ["create issuer bank (https://login.bank.example/) again; it needs new clients"]
        assert small_alliance.execute(
            "SELECT revoked_at IS NOT NULL FROM clients WHERE client_id = %s", tied.client_id
        ) == [(True,)]

    @pytest.mark.parametrize("change", [{"issuer": "https://other.example/"}, {"claim": "azp"}])
    async def test_clients_are_not_handed_to_somebody_else(
        self, change: dict[str, str], apply: Apply, db: Database
    ) -> None:
        """Who vouches for whom stays as it was tied: another name or claim would let other subjects in as these clients."""
        await apply(bank())
        tied = await clients.tie(db, "north", name="siem", issuer="bank", subject="s")

        with pytest.raises(AllianceInvalid, match="a slug of its own"):
            await apply(bank(**change))
        await clients.revoke(db, tied.client_id)

        assert len(await apply(bank(**change))) == 1

    async def test_a_name_that_another_slug_has(self, apply: Apply) -> None:
        await apply(bank())
        renamed = bank().replace("  bank:", "  other:")

        with pytest.raises(AllianceInvalid, match="that of bank already"):
            await apply(renamed)
        assert len(await apply(renamed, prune=True)) == 2


class TestClients:
    async def test_one_subject_is_one_client(self, apply: Apply, db: Database) -> None:
        await apply(bank())
        first = await clients.tie(db, "north", name="siem", issuer="bank", subject="s")

        with pytest.raises(OperatorError, match=re.escape(first.client_id)):
            await clients.tie(db, "north", name="other", issuer="bank", subject="s")
        await clients.revoke(db, first.client_id)
        second = await clients.tie(db, "north", name="siem", issuer="bank", subject="s")

        assert (second.issuer, second.claim, second.subject) == ("https://login.bank.example/", "client_id", "s")

    async def test_it_has_no_secret_to_rotate(self, apply: Apply, db: Database) -> None:
        await apply(bank())
        tied = await clients.tie(db, "north", name="siem", issuer="bank", subject="s")

        with pytest.raises(OperatorError, match="has no secret"):
            await clients.rotate(db, tied.client_id)
        [listed] = [one for one in await clients.clients(db) if one.client_id == tied.client_id]
        assert (listed.secrets, listed.issuer, listed.subject) == (0, "bank", "s")

    @pytest.mark.parametrize("subject", ["", "a\n", "x" * 257, "\x00"])
    async def test_a_subject_that_no_token_can_say(self, subject: str, apply: Apply, db: Database) -> None:
        await apply(bank())

        with pytest.raises(OperatorError, match="subject"):
            await clients.tie(db, "north", name="siem", issuer="bank", subject=subject)

    async def test_an_unknown_or_removed_issuer(self, apply: Apply, db: Database) -> None:
        await apply(bank())
        with pytest.raises(OperatorError, match="bank"):
            await clients.tie(db, "north", name="siem", issuer="bnak", subject="s")
        await apply(REST, prune=True)

        with pytest.raises(OperatorError, match="no issuer"):
            await clients.tie(db, "north", name="siem", issuer="bank", subject="s")


class TestWhileItIsRemoved:
    """A client that is being issued while `apply` removes who it belongs to doesn't outlive that."""

    async def test_a_client_tied_meanwhile(self, apply: Apply, db: Database, small_alliance: Alliance) -> None:
        await apply(bank())
        with small_alliance.connection.transaction():
            small_alliance.execute("SELECT FROM members FOR UPDATE")
            tying = asyncio.create_task(clients.tie(db, "north", name="siem", issuer="bank", subject="s"))
            await waiting(db, 1)
            removing = asyncio.ensure_future(apply(REST, prune=True))
            await waiting(db, 2)
        tied = await tying
        await removing
        await apply(bank())

        assert [(one.client_id, one.state) for one in await clients.clients(db)] == [(tied.client_id, "revoked")]

    @pytest.mark.parametrize("change", [{"issuer": "https://other.example/"}, {"claim": "azp"}])
    async def test_an_issuer_that_gets_another_name_meanwhile(
        self, change: dict[str, str], apply: Apply, db: Database, small_alliance: Alliance
    ) -> None:
        """Else another's subject would be that client."""
        await apply(bank())
        with small_alliance.connection.transaction():
            small_alliance.execute("SELECT FROM members FOR UPDATE")
            tying = asyncio.create_task(clients.tie(db, "north", name="siem", issuer="bank", subject="s"))
            await waiting(db, 1)
            changing = asyncio.ensure_future(apply(bank(**change)))
            await waiting(db, 2)
        await tying

        with pytest.raises(AllianceInvalid, match="a slug of its own"):
            await changing

    async def test_a_client_issued_meanwhile(self, apply: Apply, db: Database) -> None:
        none = "trust_groups: {}\nmembers: {}\n"
        async with db.write() as connection:
            owner = await members.lock(connection, "north")
            assert owner is not None
            removing = asyncio.ensure_future(apply(none, prune=True))
            await waiting(db, 1)
            await storage.add(connection, owner.id, NewClient("north.siem", "siem", BOTH, None, None))
        await removing
        await apply(REST)

        assert [(one.client_id, one.state) for one in await clients.clients(db)] == [("north.siem", "revoked")]
