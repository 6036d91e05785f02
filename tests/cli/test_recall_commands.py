"""`recall` as operators use it: any object, one collection or everywhere, and the way back."""

import asyncio
import json
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from taxii_server.domain import stix_objects
from taxii_server.domain.access import Validation
from taxii_server.operations import transfer
from taxii_server.operations.transfer import Imported
from taxii_server.operations.validation import Accepted, Validators, Verdict
from taxii_server.storage.engine import Database
from tests.cli.conftest import Run
from tests.factories import as_json, indicator, ipv4, stix_id

HERE, THERE = "fraud-intel/indicators", "fraud-intel/other"
ONE = stix_id("indicator", 1)


class _InThisProcess(Validators):
    """Judges without a process of its own, which takes a second to start."""

    async def judge(self, slices: Sequence[bytes], validation: Validation) -> list[Verdict]:
        return [Accepted(stix_objects.columns(stix_objects.parse(one)), one) for one in slices]


Add = Callable[..., Imported]


@pytest.fixture
def add(environment: dict[str, str], alliance: Path) -> Add:
    """Import objects, as `import` does."""

    def imported(*objects: dict[str, Any], member: str = "north-bank", to: str = HERE) -> Imported:
        async def store() -> Imported:
            db = Database(environment["TAXII_DATABASE_URL"], connections=2)
            try:
                return await transfer.import_objects(
                    db,
                    _InThisProcess(1, max_object_length=1),
                    collection=to,
                    member=member,
                    file=BytesIO(json.dumps({"objects": objects}).encode()),
                )
            finally:
                await db.close()

        return asyncio.run(store())

    return imported


def held(run: Run, collection: str) -> list[Any]:
    return list(json.loads(run("export", collection, "--versions", "all").out)["objects"])


def test_an_object_is_recalled_shown_and_lifted(run: Run, add: Add) -> None:
    """The word for it may be left out; import is refused with the reason until it is lifted."""
    add(indicator(id=ONE))
    told = run("recall", HERE, ONE, "--reason", "A customer's own\naddress")
    shown = run("recall", "show", HERE, ONE, "--json").json
    again = run("recall", "object", HERE, ONE, "--json").json
    [refused] = add(indicator(id=ONE)).refused

    assert told.code == 0
    assert told.out == f"{HERE}: {ONE} is revoked; {shown['versions'][0]['version']} says so to whoever polls.\n"
    assert (shown["state"], shown["outcome"], shown["member"], shown["client"], shown["reason"]) == (
        "recalled",
        "revoked",
        "north-bank",
        None,
        "A customer's own address",
    )
    assert again["recalled"] == [{**shown, "changed": False, "recipients": None}]
    assert "was recalled by the operator at" in str(refused.message)
    assert "A customer's own address" in str(refused.message)
    assert [one.get("revoked") for one in held(run, HERE)] == [None, True]

    assert run("recall", "lift", HERE, ONE).out == f"{ONE} may be added again.\n"
    assert run("recall", "lift", HERE, ONE, "--json").json["changed"] is False
    assert "Nobody had been sent it." in run("recall", "show", HERE, ONE).out
    assert run("recall", "list", HERE, "--json").json[0]["state"] == "lifted"
    assert add(indicator(id=ONE, modified="2999-01-01T00:00:00.000Z")).stored == 1
    assert run("recall", HERE, ONE).code == 0
    assert run("recall", "show", HERE, ONE, "--json").json["state"] == "recalled"


def test_where_else_it_is_stored_is_told_and_everywhere_means_there_too(run: Run, add: Add) -> None:
    """An object is withdrawn from each collection by itself."""
    observable = ipv4(value="203.0.113.5")
    for collection in (HERE, THERE):
        add(observable, to=collection)
    first = run("recall", HERE, observable["id"])
    left = held(run, THERE)
    both = run("recall", HERE, observable["id"], "--everywhere", "--json").json

    assert first.out == (
        f"{HERE}: {observable['id']} can't be revoked and was deleted. Pollers don't learn of it: tell whoever has it.\n"
    )
    assert f"It is stored in {THERE} too" in first.err
    assert left == [json.loads(as_json(observable))]
    assert [(one["collection"], one["changed"]) for one in both["recalled"]] == [(HERE, False), (THERE, True)]
    assert held(run, THERE) == []


def test_a_dry_run_changes_nothing(run: Run, add: Add) -> None:
    """It says what would become of it."""
    add(indicator(id=ONE))
    told = run("recall", HERE, ONE, "--dry-run")

    assert told.out == f"{HERE}: {ONE} would be revoked by a new version.\n"
    assert len(held(run, HERE)) == 1
    assert run("recall", "list", HERE).out == "Nothing was recalled.\n"


def test_in_a_members_name_only_its_own(run: Run, add: Add) -> None:
    """By that member's rights; without a name the operator recalls whatever is there."""
    add(indicator(id=ONE))
    add(indicator(id=ONE, modified="2025-01-01T00:00:00.000Z"), member="harbour-bank")
    refused = run("recall", HERE, ONE, "--as", "north-bank")

    assert (refused.code, refused.out) == (1, "")
    assert "Another member brought this object, or versions of it" in refused.err
    assert run("recall", HERE, ONE).code == 0
    assert run("recall", "show", HERE, ONE, "--json").json["member"] == "harbour-bank"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((HERE, ONE), f"{HERE}: There is no {ONE} here"),
        (("fraud-intel/indicator", ONE), "did you mean 'fraud-intel/indicators'"),
        ((HERE, ONE, "--as", "nobody"), "There is no member 'nobody'"),
        (("show", HERE, ONE), f"{ONE} was never recalled from {HERE}"),
        (("lift", HERE, ONE), f"{ONE} was never recalled from {HERE}"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Run, alliance: Path, arguments: tuple[str, ...], said: str) -> None:
    """With what to do about it."""
    refused = run("recall", *arguments)

    assert (refused.code, refused.out) == (1, "")
    assert said in refused.err


def test_a_reason_is_short(run: Run, alliance: Path) -> None:
    """It stands in every refusal that the recall causes."""
    assert run("recall", HERE, ONE, "--reason", "x" * 301).code == 2
