"""alliance.yaml is refused with file and line for whatever makes no sense in it."""

from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from uuid import UUID

import pytest

from taxii_server.domain.access import Attribution, Grant, Policy, Right, Validation
from taxii_server.domain.errors import AllianceInvalid
from taxii_server.domain.tlp import Level
from taxii_server.operations import alliance_file

GOOD = dedent("""\
    trust_groups:
      fraud-intel:
        title: Fraud intelligence
        description: Payment-fraud indicators shared among members
        collections:
          - alias: indicators
            id: 91a7b528-80eb-42ed-a74d-c6fbd5a26116     # optional, UUIDv4
            title: Fraud indicators
            validation: structural                        # strict | structural
            retention: 90d
            grants:
              north-bank: [read, write]
              harbour-bank: [read]
          - {alias: other, title: Others}
    members:
      north-bank: {name: North Bank, kind: bank}
      harbour-bank: {name: Harbour Bank, quota: 10GiB}
    """)


def problems(text: str) -> list[str]:
    with pytest.raises(AllianceInvalid) as refused:
        alliance_file.parse(text, "a.yaml")
    return list(refused.value.problems)


def test_a_whole_file_is_understood() -> None:
    """Everything the file can say arrives, and what it leaves out takes its default."""
    alliance = alliance_file.parse(GOOD)

    (group,) = alliance.trust_groups
    first, second = group.collections
    assert (group.slug, group.title) == ("fraud-intel", "Fraud intelligence")
    assert first.id == UUID("91a7b528-80eb-42ed-a74d-c6fbd5a26116")
    assert [member.quota for member in alliance.members] == [None, 10 * 1024**3]
    assert (first.policy, first.retention) == (Policy(Validation.STRUCTURAL), timedelta(days=90))
    assert first.grants == {
        "north-bank": Grant(frozenset(Right), Level.RED),
        "harbour-bank": Grant(frozenset({Right.READ}), Level.RED),
    }
    assert (second.id, second.policy, second.retention, second.grants) == (None, Policy(Validation.STRICT), None, {})
    assert [(member.slug, member.kind) for member in alliance.members] == [
        ("north-bank", "bank"),
        ("harbour-bank", "other"),
    ]


@pytest.mark.parametrize(
    ("changed", "line", "said"),
    [
        (("title: Fraud intelligence", "titel: Fraud intelligence"), 3, "did you mean 'title'"),
        (("title: Fraud intelligence", "title: [a]"), 3, "title must be text"),
        (("title: Fraud intelligence", "title:"), 3, "title must be text"),
        (("title: Fraud intelligence", "title: 2024"), 3, 'put it in quotes, "2024"'),
        (("title: Fraud intelligence", 'title: "a\\0b"'), 3, "control characters"),
        (("alias: indicators", "alias: a/b"), 6, "doesn't fit into a URL"),
        (("alias: indicators", "alias: .."), 6, "doesn't fit into a URL"),
        (("alias: indicators", "alias: 91a7b528-80eb-42ed-a74d-c6fbd5a26116"), 6, "looks like an id"),
        (("alias: indicators", "alias: other"), 14, "two collections with the alias 'other'"),
        (("title: Fraud indicators", "title: Others"), 14, "two collections with the title 'Others'"),
        (("-42ed-", "-52ed-"), 7, "is not a UUIDv4"),
        (("42ed-a74d", "12ed-a74d"), 7, "is not a UUIDv4"),
        (("91a7b528", "91a7b52"), 7, "is not a UUIDv4"),
        (("validation: structural", "ceiling: AMBR"), 9, "did you mean 'AMBER'"),
        (("validation: structural", "ceiling: amber"), 9, "did you mean 'AMBER'"),
        (("validation: structural", "ceiling: TLP:GREEN"), 9, "did you mean 'GREEN'"),
        (("validation: structural", "ceiling: WHITE"), 9, "did you mean 'CLEAR'"),
        (("validation: structural", "ceiling: amber-strict"), 9, "did you mean 'AMBER+STRICT'"),
        (("validation: structural", "ceiling: refuse"), 9, "CLEAR, GREEN, AMBER, AMBER+STRICT or RED, not 'refuse'"),
        (("validation: structural", "ceiling: [RED]"), 9, "ceiling must be text"),
        (("validation: structural", "ceiling: 4"), 9, "ceiling must be text"),
        (("validation: structural", "unmarked: refuze"), 9, "did you mean 'refuse'"),
        (("validation: structural", "unmarked: [refuse]"), 9, "unmarked must be text"),
        (("retention: 90d", "ceiling: GREEN\n        unmarked: AMBER"), 11, "above the ceiling GREEN"),
        (
            ("quota: 10GiB", "quota: 10"),
            17,
            "quota: '10' is not an amount: write a whole number with KiB, MiB, GiB or TiB",
        ),
        (("quota: 10GiB", "quota: 0GiB"), 17, "more than nothing"),
        (("quota: 10GiB", "quota: 2000TiB"), 17, "at most 1024TiB"),
        (("quota: 10GiB", "quota: "), 17, "leave the line out for none"),
        (("validation: structural", "cieling: RED"), 9, "did you mean 'ceiling'"),
        (("validation: structural", "owner_only: maybe"), 9, "must be true or false"),
        (("validation: structural", "owner_only:"), 9, "must be true or false"),
        (("validation: structural", "owner_only: [true]"), 9, "must be true or false"),
        (("validation: structural", "attribution: anonymos"), 9, "did you mean 'anonymous'"),
        (("[read]", "{clearance: AMBER}"), 13, "the grant of harbour-bank needs rights"),
        (("[read]", "{rights: [read], clearence: AMBER}"), 13, "did you mean 'clearance'"),
        (("[read]", "{rights: [read], clearance: ambr}"), 13, "clearance must be"),
        (("[read]", "{rights: read, clearance: AMBER}"), 13, "must be a list"),
        (("[read]", "{rights: [], clearance: AMBER}"), 13, "is empty"),
        (("validation: structural", "validation: structual"), 9, "did you mean 'structural'"),
        (("90d", "90"), 10, "not a length of time"),
        (("90d", "0d"), 10, "longer than nothing"),
        (("90d", "999999999w"), 10, "hundred years"),
        (("north-bank: [read, write]", "north-bank: read"), 12, "must be a list"),
        (("north-bank: [read, write]", "north-bank: [raed]"), 12, "did you mean 'read'"),
        (("north-bank: [read, write]", "north-bank: [read, read]"), 12, "twice"),
        (("north-bank: [read, write]", "north-bank: []"), 12, "is empty"),
        (("north-bank: [read, write]", "nort-bank: [read]"), 12, "did you mean 'north-bank'"),
        (("kind: bank", "kind: bnak"), 16, "did you mean 'bank'"),
        (
            ("harbour-bank: {name: Harbour Bank, quota: 10GiB}", "north-bank: {name: Again}"),
            17,
            "the first is in line 16",
        ),
        (("  fraud-intel:", "  Fraud_Intel:"), 2, "small letters"),
        (("  fraud-intel:", "  taxii2:"), 2, "reserved"),
        (("  fraud-intel:", f"  {'a' * 64}:"), 2, "small letters"),
        (("  north-bank: {", "  operator: {"), 16, "reserved"),
        (("trust_groups:", "trust_groups: &x"), 1, "anchors and aliases"),
        (("[read, write]", "*x"), 12, "anchors and aliases"),
        (("    title: Fraud intelligence", "\ttitle: Fraud intelligence"), 3, "is not YAML"),
        (("members:", "membres:"), 15, "did you mean 'members'"),
        (("{name: Harbour Bank, quota: 10GiB}", "Harbour Bank"), 17, "must be a mapping with name"),
        (("    title: Fraud intelligence\n", ""), 3, "needs title"),
        (("- {alias: other, title: Others}", "- other"), 14, "must be a mapping with alias, title"),
    ],
)
def test_nonsense_is_refused_with_its_line(changed: tuple[str, str], line: int, said: str) -> None:
    """Each mistake is told with the line it stands in and what would be right."""
    text = GOOD.replace(*changed, 1)
    assert text != GOOD

    found = problems(text)

    assert any(one.startswith(f"a.yaml:{line}: ") and said in one for one in found), found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("[]", "must be a mapping"),
        ("a: b: c", "is not YAML"),
        ("---\nmembers: {}\n---\nmembers: {}", "is not YAML"),
        ("\x00", "character"),
        ("[" * 500, "nested too deeply"),
    ],
)
def test_what_is_no_alliance_is_refused(text: str, said: str) -> None:
    """A file that isn't YAML, or is something else, is refused in words."""
    assert any(said in one for one in problems(text))


def test_all_problems_are_told_at_once() -> None:
    """An operator mends a file in one go."""
    text = GOOD.replace("title: Fraud intelligence", "titel: x").replace("kind: bank", "kind: bnak")

    assert [one.split(": ")[0] for one in problems(text)] == ["a.yaml:3", "a.yaml:3", "a.yaml:16"]


def test_an_id_is_there_once_in_the_whole_file() -> None:
    """Two trust groups can't hold the same collection."""
    second = (
        "  g:\n    title: G\n    collections:\n      - {alias: x, title: X, id: 91a7b528-80eb-42ed-a74d-c6fbd5a26116}\n"
    )

    assert "a.yaml:18: the id 91a7b528-80eb-42ed-a74d-c6fbd5a26116 is there twice; see line 6" in problems(
        GOOD.replace("members:\n", f"{second}members:\n")
    )


def test_a_file_that_cant_be_read_is_refused(tmp_path: Path) -> None:
    """A missing file, a folder and another encoding are each told as such."""
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("members: {a: {name: B}}\n# Zürich".encode("latin-1"))

    for path, said in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "directory"), (latin, "2: is not UTF-8")):
        with pytest.raises(AllianceInvalid, match=said):
            alliance_file.load(path)


def test_rules_of_sharing_are_understood() -> None:
    """A collection's ceiling, its rule for unmarked objects, whose objects, attribution; and a grant's clearance."""
    rules = "ceiling: AMBER+STRICT, unmarked: GREEN, owner_only: true, attribution: anonymous"
    text = GOOD.replace("{alias: other, title: Others}", f"{{alias: other, title: Others, {rules}}}")
    text = text.replace("harbour-bank: [read]", "harbour-bank: {rights: [read], clearance: AMBER}")
    [group] = alliance_file.parse(text).trust_groups
    first, second = group.collections

    assert second.policy == Policy(
        Validation.STRICT,
        ceiling=Level.AMBER_STRICT,
        unmarked_level=Level.GREEN,
        owner_only=True,
        attribution=Attribution.ANONYMOUS,
    )
    assert first.grants["harbour-bank"] == Grant(frozenset({Right.READ}), Level.AMBER)


@pytest.mark.parametrize("level", ["CLEAR", "GREEN", "AMBER", "AMBER+STRICT", "RED"])
def test_every_level_can_be_a_ceiling_a_clearance_and_what_unmarked_counts_as(level: str) -> None:
    """CLEAR is a level like the others, not the absence of one."""
    text = GOOD.replace("title: Others", f"title: Others, ceiling: {level}, unmarked: {level}")
    text = text.replace("harbour-bank: [read]", f"harbour-bank: {{rights: [read], clearance: {level}}}")
    [group] = alliance_file.parse(text).trust_groups
    first, second = group.collections

    assert second.policy.ceiling.text == second.policy.unmarked_level.text == level
    assert first.grants["harbour-bank"].clearance.text == level


def test_unmarked_objects_can_be_refused() -> None:
    """`refuse` says nothing about the level of what is stored."""
    text = GOOD.replace("title: Others", "title: Others, ceiling: CLEAR, unmarked: refuse")
    [group] = alliance_file.parse(text).trust_groups

    assert group.collections[1].policy.unmarked_refused
