"""What is known to be valid without stix2 is what stix2 accepts, and has the same columns."""

import itertools
import json
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks import objects as realistic
from taxii_server.domain import stix_objects
from taxii_server.domain.stix_objects import SCO_TYPES, VERSIONED_TYPES
from taxii_server.operations import certain, stix2_rules
from tests import factories, strategies
from tests.factories import Stix, as_json, stix_id

_EARLY, _LATE = "2024-05-02T08:15:30Z", "2024-05-02T08:15:30.000001Z"
_REAL: Final = {one["type"]: one for one in itertools.islice(realistic.objects(1), 600)}
_CUSTOM: Final = {"x_text": "a", "x_number": -3, "x_list": ["a"], "x_flag": False}
_WHOLE: Final[list[Stix]] = [
    *_REAL.values(),
    factories.relationship(source_ref=stix_id("x-mitre-tactic"), start_time=_EARLY, stop_time=_LATE, **_CUSTOM),
    factories.indicator(pattern_version="2.1", valid_from=_EARLY, valid_until=_LATE, indicator_types=["benign"]),
    factories.malware(
        first_seen=_EARLY, last_seen=_EARLY, implementation_languages=["c"], object_marking_refs=[factories.TLP2["red"]]
    ),
    factories.identity(roles=["a"], sectors=["retail"], contact_information="", revoked=True),
    factories._sdo("campaign", {}, name="a", objective="b", first_seen=_EARLY, last_seen=_LATE),
    factories._sdo("course-of-action", {}, name="a"),
    factories._sdo(
        "tool",
        {},
        name="a",
        tool_types=["a"],
        tool_version="1",
        kill_chain_phases=[{"kill_chain_name": "", "phase_name": ""}],
    ),
    factories._sdo(
        "vulnerability",
        {},
        name="CVE-2024-1",
        external_references=[{"source_name": "cve", "external_id": "CVE-2024-1"}],
    ),
    factories._sdo("intrusion-set", {}, name="a", goals=["a"], resource_level="a", secondary_motivations=["a"]),
    factories._sdo("threat-actor", {}, name="a", roles=["a"], sophistication="a", personal_motivations=["a"]),
    *({"type": name, "id": stix_id(name), "value": "a"} for name in ("email-addr", "ipv6-addr", "mac-addr", "url")),
]
_TYPES: Final = sorted(SCO_TYPES | VERSIONED_TYPES | {"bundle", "x-custom", "x-", "2x", "nothing-known", ""})
_JUNK: Final[list[Any]] = [
    None, True, False, 0, 1, -1, 101, 2**53, 1.5, 1e400, "", "x", "2.1", "2.0", [], {}, [[]], [{}], ["x"], ["x", 1], [None], [""],
    _EARLY, _LATE, "2024-02-30T00:00:00Z", "2024-02-29T24:00:00Z", "2024-02-29T23:59:60Z", "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z", "2024-05-02t08:15:30z", "2024-05-02T08:15:30", "2024-05-02T08:15:30.Z", "2024-05-02T08:15:30.1234567Z",
    "2024-05-02T08:15:30+00:00", "\uff12024-05-02T08:15:30Z", "2024-05-02T08:15:30Z\n", "stix", "yara",
    "[a:b = 1", "[a:b = 1]", "[file:hashes.MD5 = 'x']", {"x": 1}, {"source_name": "x"}, [{"source_name": "x", "hashes": {"MD5": "x"}}],
    [{"source_name": "x", "url": None}], [{"source_name": "x", "url": "y"}], [{"source_name": "x", "x_y": "y"}], [{"phase_name": "x"}],
    [{"kill_chain_name": "x", "phase_name": 1}], [{"lang": "en", "selectors": ["type"]}], "\0", "\ud83d\ude00", "\x7f\u2028",
    *(f"{name}--6ba7b810-9dad-41d1-80b4-00c04fd430c8" for name in _TYPES),
    *([f"{name}--6ba7b810-9dad-41d1-80b4-00c04fd430c8"] for name in _TYPES),
    "identity--6BA7B810-9DAD-41D1-80B4-00C04FD430C8", "identity--6ba7b810-9dad-41d1-00b4-00c04fd430c8", "identity--x",
]  # fmt: skip
_NAMES: Final = sorted(
    {name for one in _WHOLE for name in one}
    | set(strategies._WORDS_THAT_BITE.split())
    | {"x_", "X_x", "x_y", "defanged", "summary"}
)


def _held(octets: bytes) -> bool:
    """Hold what is found to what the long way finds; tell whether anything was."""
    columns = certain.read(octets)
    if columns is not None:
        parsed = stix_objects.parse(octets)
        assert columns == stix_objects.columns(parsed)
        stix2_rules.check(parsed.value, columns.form)
    return columns is not None


@pytest.mark.parametrize("whole", _WHOLE, ids=lambda one: one["type"])
def test_ordinary_objects_are_certain(whole: Stix) -> None:
    """However they are written: compact or with blanks, in ASCII or not."""
    for octets in (
        as_json(whole),
        json.dumps(whole).encode(),
        json.dumps(whole, indent=2, ensure_ascii=False).encode(),
    ):
        assert _held(octets)


@st.composite
def _changed(draw: st.DrawFn) -> bytes:
    found = dict(draw(st.sampled_from(_WHOLE)))
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(sorted(found)) | st.sampled_from(_NAMES))
        if draw(st.integers(0, 5)):
            found[name] = draw(st.sampled_from(_JUNK) | strategies.timestamps() | strategies.texts)
        else:
            found.pop(name, None)
    return json.dumps(found, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))).encode(
        errors="surrogatepass"
    )


@given(_changed())
@settings(max_examples=150)
def test_what_is_certain_is_what_stix2_accepts(octets: bytes) -> None:
    """Ordinary objects with one or two properties changed."""
    _held(octets)


@given(strategies.mutated() | strategies.objects)
@settings(max_examples=100)
@example(factories.indicator(pattern="[file:hashes.MD5 = 'x']"))
def test_so_it_is_with_any_object(found: Any) -> None:
    """Generated ones, and those that something was done to on any level."""
    _held(json.dumps(found).encode())


@pytest.mark.slow
@pytest.mark.parametrize("whole", _WHOLE, ids=lambda one: one["type"])
def test_every_property_with_every_junk(whole: Stix) -> None:
    """Each property replaced by each kind of junk, each property added with each, each left out."""
    for name in {*whole, *_NAMES}:
        _held(as_json({key: value for key, value in whole.items() if key != name}))
        for junk in _JUNK:
            _held(json.dumps({**whole, name: junk}).encode())


@pytest.mark.parametrize(
    "written",
    [
        '"name": "again"', '"name" : "again"', '"name"\n:"again"', '"n\\u0061me": "again"', '"x_n": 1e0', '"x_n": 01', '"x_n": -0',
        '"x_n": "a:b\\u003a"',
        '"name": "a\\u003Ab"',
        '"name": "\\u003a", "name": "::"',
        '"x_n": 9007199254740992', '"x_n": NaN', '"x_n": "\\u0000"', '"x_n": "\\ud800"', '"x_n": "\\"name\\": "', '"x_n": "a :b"',
        '"x_n": {"a": 1, "a": 2}', '"x_n": [{}]', '"x_n": "a', '"x_n": "\\u00e9"', '"x_n": "\\/"',
    ],
)  # fmt: skip
def test_nothing_written_twice_or_badly_is_certain(written: str) -> None:
    """What the quick reader would pass over, the careful one decides."""
    octets = as_json(factories.malware())[:-1] + b", " + written.encode() + b"}"
    try:
        stix_objects.columns(stix_objects.parse(octets))
    except ValueError:
        assert certain.read(octets) is None
    else:
        _held(octets)
