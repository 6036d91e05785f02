"""alliance.yaml is refused with file and line for whatever makes no sense in it."""

from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from uuid import UUID

import pytest

from taxii_server.domain.access import Right, Validation
from taxii_server.domain.errors import AllianceInvalid
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
      harbour-bank: {name: Harbour Bank}
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
    assert (first.validation, first.retention) == (Validation.STRUCTURAL, timedelta(days=90))
    assert first.grants == {"north-bank": frozenset(Right), "harbour-bank": frozenset({Right.READ})}
    assert (second.id, second.validation, second.retention, second.grants) == (None, Validation.STRICT, None, {})
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
        (("harbour-bank: {name: Harbour Bank}", "north-bank: {name: Again}"), 17, "the first is in line 16"),
        (("  fraud-intel:", "  Fraud_Intel:"), 2, "small letters"),
        (("  fraud-intel:", "  taxii2:"), 2, "reserved"),
        (("  fraud-intel:", f"  {'a' * 64}:"), 2, "small letters"),
        (("  north-bank: {", "  operator: {"), 16, "reserved"),
        (("trust_groups:", "trust_groups: &x"), 1, "anchors and aliases"),
        (("[read, write]", "*x"), 12, "anchors and aliases"),
        (("    title: Fraud intelligence", "\ttitle: Fraud intelligence"), 3, "is not YAML"),
        (("members:", "membres:"), 15, "did you mean 'members'"),
        (("{name: Harbour Bank}", "Harbour Bank"), 17, "must be a mapping with name"),
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
        ("[" * 2_000, "nested too deeply"),
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
