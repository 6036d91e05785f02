"""Hypothesis strategies: STIX objects that are valid, and ones that no longer are."""

import copy
from typing import Any, Final

from hypothesis import strategies as st

from tests import factories
from tests.factories import Stix, stix_id

_LETTERS: Final = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts: Final = st.text(_LETTERS, min_size=1, max_size=20)
custom_names: Final = st.from_regex("[a-z][a-z0-9_]{2,20}", fullmatch=True).map(lambda name: f"x_{name}")
integers: Final = st.integers(-(2**53) + 1, 2**53 - 1)
json_values: Final = st.recursive(
    st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
digits: Final = st.integers(0, 6)


@st.composite
def timestamps(draw: st.DrawFn, most_digits: int = 6) -> str:
    """STIX timestamps with any number of fractional digits up to `most_digits`."""
    moment = draw(st.datetimes()).replace(microsecond=0).isoformat()
    fraction = draw(st.text("0123456789", max_size=most_digits))
    return f"{moment}.{fraction}Z" if fraction else f"{moment}Z"


def ids(stix_type: str) -> st.SearchStrategy[str]:
    return st.uuids(version=4).map(lambda uuid: f"{stix_type}--{uuid}")


@st.composite
def _versions(draw: st.DrawFn) -> Stix:
    earlier, later = sorted(
        draw(st.tuples(timestamps(), timestamps())), key=lambda text: (text[:19], text[20:-1].ljust(6, "0"))
    )
    return {"created": earlier, "modified": later}


@st.composite
def _extras(draw: st.DrawFn) -> Stix:
    """What any object may have besides: custom properties, labels, references, markings, extensions."""
    some = st.fixed_dictionaries(
        {},
        optional={
            "labels": st.lists(texts, min_size=1, max_size=3),
            "revoked": st.booleans(),
            "created_by_ref": ids("identity"),
            "object_marking_refs": st.lists(
                st.sampled_from([*factories.TLP1.values(), *factories.TLP2.values(), stix_id("marking-definition")]),
                min_size=1,
                max_size=2,
            ),
            "external_references": st.lists(
                st.fixed_dictionaries({"source_name": texts, "description": texts}), min_size=1, max_size=2
            ),
            "granular_markings": st.just([{"marking_ref": factories.TLP1["red"], "selectors": ["id", "type"]}]),
        },
    )
    return {**draw(some), **draw(st.dictionaries(custom_names, json_values, max_size=2))}


_extras_of_2_1: Final = st.fixed_dictionaries(
    {},
    optional={
        "confidence": st.integers(0, 100),
        "lang": st.just("en"),
        "extensions": st.dictionaries(
            ids("extension-definition"),
            st.fixed_dictionaries({"extension_type": st.just("property-extension"), "rank": integers}),
            min_size=1,
            max_size=1,
        ),
    },
)

patterns: Final = st.lists(
    st.sampled_from(
        [
            "[ipv4-addr:value = '198.51.100.1']",
            "[file:hashes.'SHA-256' = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855']",
            "([url:value LIKE '%.example/pay'] FOLLOWEDBY [process:name = 'a.exe']) WITHIN 300 SECONDS",
            "[email-message:subject MATCHES '^Invoice [0-9]+$'] REPEATS 5 TIMES",
            "[network-traffic:dst_port IN (22, 80) AND network-traffic:protocols[*] = 'tcp']",
        ],
    ),
    min_size=1,
    max_size=3,
).map(" OR ".join)


@st.composite
def sdos(draw: st.DrawFn) -> Stix:
    """Versioned objects of STIX 2.1: indicators, malware, identities, relationships, custom types."""
    build = draw(
        st.sampled_from(
            [factories.indicator, factories.malware, factories.identity, factories.relationship, factories.custom]
        )
    )
    plain = build()
    found = {**plain, "id": draw(ids(plain["type"])), **draw(_versions()), **draw(_extras()), **draw(_extras_of_2_1)}
    if found["type"] == "indicator":
        found["pattern"] = draw(patterns)
    return found


@st.composite
def sdos_2_0(draw: st.DrawFn) -> Stix:
    """Indicators of STIX 2.0."""
    found = factories.indicator_2_0(id=draw(ids("indicator")), pattern=draw(patterns), **draw(_versions()))
    return {**draw(_extras()), **found}


@st.composite
def scos(draw: st.DrawFn) -> Stix:
    """Observables of STIX 2.1, with deterministic identifiers or without."""
    value = str(draw(st.ip_addresses(v=4)))
    found = factories.ipv4(value=value)
    if draw(st.booleans()):
        found["id"] = draw(ids("ipv4-addr"))
    if draw(st.booleans()):
        del found["spec_version"]
    return {**found, **draw(st.dictionaries(custom_names, json_values, max_size=2))}


markings: Final = st.one_of(
    st.sampled_from([factories.tlp1(colour) for colour in factories.TLP1]),
    st.sampled_from([factories.tlp2(colour) for colour in factories.TLP2]),
    st.builds(lambda stix_id: factories.marking(id=stix_id), ids("marking-definition")),
)
objects_2_1: Final = st.one_of(sdos(), scos(), markings)
objects: Final = st.one_of(objects_2_1, sdos_2_0())

_WORDS_THAT_BITE: Final = (
    "type id spec_version created modified valid_from pattern pattern_type pattern_version definition definition_type "
    "extensions granular_markings object_marking_refs external_references kill_chain_phases labels confidence lang "
    "revoked objects object_refs hashes name source_ref allow_custom interoperability custom_properties self cls "
    "kwargs _valid_refs _inner __class__"
)
_NAMES_THAT_BITE: Final = st.sampled_from(_WORDS_THAT_BITE.split()) | texts
_VALUES_THAT_BITE: Final = json_values | st.sampled_from(
    [
        {},
        [],
        [[]],
        [{}],
        "",
        "{}",
        '{"statement": "x"}',
        "tlp",
        "2.1",
        "[a:b = 1",
        "[file:hashes[0] = 'x']",
        "(" * 300,
        "marking-definition--",
        {"tlp": "white"},
        {"tlp": []},
        {"x": None},
        {"x": "y"},
        {"archive-ext": {"extension_type": "toplevel-property-extension"}},
        {"0": {"type": "file", "hashes": {"MD5": 1}}},
        [{"selectors": ["a.[0]"], "marking_ref": 1}],
        "9999-12-31T23:59:60Z",
        "0000-00-00T00:00:00Z",
    ],
).map(copy.deepcopy)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for step, child in inner for place in _places(child, (*path, step)))]


@st.composite
def mutated(draw: st.DrawFn) -> Stix:
    """A valid object to which one to three things were done: a value replaced, removed or added, anywhere inside."""
    found: Any = copy.deepcopy(draw(objects))
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(_places(found)[1:] or [("type",)]))
        parent = found
        for step in above:
            parent = parent[step]
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                parent[last] = draw(_VALUES_THAT_BITE)
            case "remove":
                del parent[last]
            case _ if isinstance(parent, dict):
                parent[draw(_NAMES_THAT_BITE)] = draw(_VALUES_THAT_BITE)
            case _:
                parent.append(draw(_VALUES_THAT_BITE))
    return dict(found)


json_objects: Final = st.dictionaries(_NAMES_THAT_BITE, _VALUES_THAT_BITE, max_size=6)
