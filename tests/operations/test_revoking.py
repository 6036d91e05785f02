"""Revoked versions: whoever could see the object ends with one, and what was valid STIX stays so."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.domain import stix_objects
from taxii_server.domain.filters import Filter
from taxii_server.domain.stix_objects import Form
from taxii_server.domain.stix_versions import Version, selected
from taxii_server.domain.timestamps import MICROSECOND, to_taxii
from taxii_server.domain.tlp import Level
from taxii_server.operations import stix2_rules
from taxii_server.operations.revoking import revocation
from tests.factories import TLP2, as_json, custom, identity, indicator, indicator_2_0, malware, relationship, stix_id

if TYPE_CHECKING:
    from tests.factories import Stix

ONE = stix_id("indicator", 1)
NOW = datetime(2024, 1, 1, tzinfo=UTC)
LEVELS = {Level.CLEAR: "clear", Level.GREEN: "green", Level.AMBER: "amber", Level.RED: "red"}

versions = st.lists(
    st.tuples(
        st.sampled_from(Form),
        # around now, to the microsecond and past it
        st.sampled_from([-3_000_000, -1_000, -1, 0, 1, 999, 1_000, 5_000_000]),
        st.sampled_from(list(LEVELS)),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda one: one[:2],
)


@given(versions, st.sampled_from(list(LEVELS)))
def test_whoever_could_see_the_object_ends_with_a_revoked_version(
    given_versions: list[tuple[Form, int, Level, bool]], clearance: Level
) -> None:
    """Of each clearance up to the caller's, of either form or both; and no version takes the place of another."""
    stored: list[Version] = []
    bodies: dict[datetime, str] = {}
    for number, (form, microseconds, level, revoked) in enumerate(given_versions):
        modified = NOW + timedelta(microseconds=microseconds)
        build = indicator if form is Form.STIX_2_1 else indicator_2_0
        over = {"modified": to_taxii(modified), "object_marking_refs": [TLP2[LEVELS[level]]]}
        date = NOW + number * MICROSECOND
        stored.append(Version(ONE, form, modified, date, level))
        bodies[date] = as_json(build(id=ONE, **over, **({"revoked": True} if revoked else {}))).decode()
    visible = [version for version in stored if version.level <= clearance]
    if not visible:
        return

    plan = revocation(visible, stored, bodies, NOW)
    for number, (_, columns, body) in enumerate(plan.new, start=100):
        assert columns.version_at is not None
        assert columns.level is not None
        date = NOW + number * MICROSECOND
        assert (columns.form, columns.version_at) not in {version.order for version in stored}
        stored.append(Version(ONE, columns.form, columns.version_at, date, columns.level))
        bodies[date] = body.decode()

    for reader in (level for level in LEVELS if level <= clearance):
        for forms in (None, (int(Form.STIX_2_0),), (int(Form.STIX_2_1),)):
            # what only others brought, above the caller's clearance, is none of this recall's business
            known = [version for version in stored if version.level <= clearance]
            for last in selected(known, reader, Filter(forms=forms)):
                assert json.loads(bodies[last.date_added]).get("revoked") is True


@pytest.mark.parametrize(
    "one",
    [
        indicator(),
        malware(),
        relationship(),
        identity(),
        custom(),
        indicator_2_0(),
        indicator(modified="2024-05-02T08:15:30.123456Z", revoked=False, labels=["a"]),
        indicator(granular_markings=[{"marking_ref": TLP2["green"], "selectors": ["pattern"]}]),
    ],
    ids=lambda one: f"{one['type']} {one.get('spec_version')} {len(one)}",
)
def test_what_was_valid_stix_stays_so(one: Stix) -> None:
    """The revoked version passes the strict rules, in a collection that has them as in any other."""
    columns = stix_objects.columns(stix_objects.parse(as_json(one)))
    stix2_rules.check(dict(one), columns.form)
    assert columns.version_at is not None
    place = Version(columns.stix_id, columns.form, columns.version_at, NOW, Level.CLEAR)
    [(_, revoked, octets)] = revocation([place], [place], {NOW: as_json(one).decode()}, NOW).new

    stix2_rules.check(json.loads(octets), revoked.form)
    assert revoked.revoked
    assert {**json.loads(octets), "modified": one["modified"]} == {**one, "revoked": True}
