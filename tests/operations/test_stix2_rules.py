"""`strict`: what STIX allows is taken, what it doesn't is refused in words that help, and nothing breaks the check."""

import copy
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from stix2.registry import STIX2_OBJ_MAPS

from taxii_server.domain.stix_objects import Form, Refused
from taxii_server.operations import stix2_rules
from tests import factories, strategies
from tests.factories import Stix, sco_id, stix_id

OBSERVED_2_0: Stix = {
    "type": "observed-data",
    "id": stix_id("observed-data"),
    "created": factories.WHEN,
    "modified": factories.WHEN,
    "first_observed": factories.WHEN,
    "last_observed": factories.WHEN,
    "number_observed": 1,
    "objects": {
        "0": {"type": "file", "name": "a.exe", "parent_directory_ref": "1"},
        "1": {"type": "directory", "path": "/"},
    },
}


def check(found: Stix) -> None:
    stix2_rules.check(found, form_of(found))


def form_of(found: Stix) -> Form:
    versioned = found.get("type") != "ipv4-addr"
    return Form.STIX_2_0 if versioned and "spec_version" not in found else Form.STIX_2_1


def outcome(found: Any, form: Form) -> str | None:
    try:
        stix2_rules.check(found, form)
    except Refused as refused:
        return str(refused)
    return None


def refusal(found: Any, form: Form | None = None) -> str:
    with pytest.raises(Refused) as caught:
        stix2_rules.check(found, form or form_of(found))
    return str(caught.value)


@given(strategies.objects)
def test_valid_objects_pass(found: Stix) -> None:
    """Whatever STIX 2.0 and 2.1 allow is taken, custom properties, extensions and markings included."""
    check(found)


@given(strategies.mutated() | strategies.json_objects)
@settings(max_examples=200)
@example({"type": "marking-definition", "definition_type": [], "definition": {}})
@example({**factories.marking(), "definition_type": "tlp"})
@example({**factories.indicator(), "pattern": ""})
@example({**factories.indicator(), "pattern": "[file:hashes[0] = 'x']"})
@example({**factories.indicator(), "pattern": f"[a:b[{'9' * 5000}] = 1]"})
@example({**factories.indicator(), "pattern": "(" * 5000})
@example({**factories.ipv4(), "extensions": {"archive-ext": {"extension_type": "toplevel-property-extension"}}})
@example({**factories.indicator(), "extensions": ["x"]})
@example({**factories.indicator(), "labels": {"x": 1}})
@example({**OBSERVED_2_0, "objects": {"0": "file"}})
@example({**OBSERVED_2_0, "objects": {"0": {"type": []}}})
def test_nothing_but_a_refusal_ever_comes_out(found: Stix) -> None:
    """No JSON object makes the check fail in another way, and a refusal is short and printable."""
    for form in Form:
        before = copy.deepcopy(found)
        said = outcome(found, form)
        assert said is None or (0 < len(said) <= stix2_rules.MOST_WORDS and said.isprintable())
        assert found == before


def test_hostile_values_in_every_property_of_every_type() -> None:
    """Each property that stix2 knows of each type, in both forms, against values made to break something."""
    an_id = stix_id("identity")
    values: list[Any] = [
        *(None, True, -1, 10**12, 1e308, "", "{}", [], {}, [[]], [{}], [None], {"": 1}, {"abc": None}, an_id, [an_id]),
        *("0000-01-01T00:00:00Z", "9999-12-31T23:59:60.9Z", "tlp", {"tlp": "white"}, {"MD5": 1}, {"SHA-256": "zz"}),
        {"0": {"type": "file", "allow_custom": 1, "_valid_refs": 1, "extensions": {"ntfs-ext": {"self": 1}}}},
        {"0": {"type": "process", "child_refs": ["0"], "parent_ref": "1"}},
        {"windows-pebinary-ext": {"pe_type": "exe", "optional_header": {}}},
        {"socket-ext": {"address_family": 1, "extension_type": "toplevel-property-extension"}},
        {"extension-definition--x": {}},
        [{"source_name": "a", "hashes": {"x": "y"}, "url": "z"}],
        [{"selectors": [""], "lang": "x", "marking_ref": an_id}],
    ]
    for form in Form:
        for kind in ("objects", "observables"):
            for stix_type, known in STIX2_OBJ_MAPS[form.text][kind].items():
                plain = {**factories.malware(type=stix_type, id=stix_id(stix_type)), "valid_from": factories.WHEN}
                for name in known._properties:
                    for value in values:
                        said = outcome({**plain, name: value}, form)
                        assert said is None or (len(said) <= stix2_rules.MOST_WORDS and said.isprintable())


def test_a_deeply_nested_object_is_refused() -> None:
    """Depth is bounded before this check; should it ever not be, the answer is a refusal all the same."""
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    check({**factories.malware(), "x_deep": deep})
    assert "must be a string" in refusal({**factories.malware(), "labels": [deep]})
    observed = {**OBSERVED_2_0, "objects": {"0": {"type": "file", "name": deep}}}
    assert "name must be a string" in refusal(observed)


REFERENCES = [stix_id("malware"), stix_id("indicator")]
MD5 = "d41d8cd98f00b204e9800998ecf8427e"
VERSIONED: dict[str, Stix] = {
    "attack-pattern": {
        "name": "Phishing page",
        "kill_chain_phases": [{"kill_chain_name": "ours", "phase_name": "lure"}],
    },
    "campaign": {"name": "Toll road", "first_seen": factories.WHEN, "last_seen": factories.WHEN},
    "course-of-action": {"name": "Block the payee"},
    "extension-definition": {
        "created_by_ref": stix_id("identity"),
        "name": "Ours",
        "schema": "https://north-bank.example/schema",
        "version": "1.0.0",
        "extension_types": ["property-extension"],
    },
    "grouping": {"context": "suspicious-activity", "object_refs": REFERENCES},
    "identity": {"name": "North Bank", "sectors": ["financial-services"], "roles": ["payments"]},
    "incident": {"name": "Card testing"},
    "infrastructure": {"name": "Relay", "infrastructure_types": ["command-and-control"]},
    "intrusion-set": {"name": "Set", "goals": ["money"], "resource_level": "organization"},
    "language-content": {"object_ref": stix_id("malware"), "contents": {"de": {"name": "Zöllner"}}},
    "location": {"latitude": 52.1, "longitude": 0, "precision": 10.5, "region": "northern-europe"},
    "malware": {"is_family": False, "sample_refs": [stix_id("file")], "capabilities": ["exfiltrates-data"]},
    "malware-analysis": {"product": "x", "result": "malicious", "sample_ref": stix_id("file")},
    "note": {"content": "Seen again", "object_refs": REFERENCES},
    "observed-data": {
        "first_observed": factories.WHEN,
        "last_observed": factories.WHEN,
        "number_observed": 2,
        "object_refs": [stix_id("ipv4-addr")],
    },
    "opinion": {"opinion": "strongly-agree", "object_refs": REFERENCES},
    "report": {"name": "Weekly", "published": factories.WHEN, "object_refs": [*REFERENCES, stix_id("x-alliance-case")]},
    "sighting": {
        "sighting_of_ref": stix_id("x-alliance-case"),
        "count": 0,
        "summary": False,
        "where_sighted_refs": [stix_id("identity")],
    },
    "threat-actor": {"name": "Someone", "roles": ["agent"], "sophistication": "minimal"},
    "tool": {"name": "Scanner", "tool_types": ["network-capture"]},
    "vulnerability": {"name": "CVE-2024-0001", "external_references": [{"source_name": "cve", "external_id": "x"}]},
}
OBSERVABLES: dict[str, Stix] = {
    "artifact": {"payload_bin": "AAEC", "mime_type": "application/x-x", "hashes": {"MD5": MD5}},
    "autonomous-system": {"number": 64500, "rir": "RIPE"},
    "directory": {"path": "/tmp/a", "ctime": factories.WHEN, "contains_refs": [stix_id("file")]},  # noqa: S108
    "domain-name": {"value": "north-bank.example", "resolves_to_refs": [stix_id("ipv4-addr")]},
    "email-addr": {"value": "a@north-bank.example", "belongs_to_ref": stix_id("user-account")},
    "email-message": {
        "is_multipart": True,
        "body_multipart": [{"body": "x", "content_type": "text/plain"}],
        "additional_header_fields": {"Reply-To": ["a@north-bank.example"]},
    },
    "file": {
        "name": "a.exe",
        "size": 0,
        "magic_number_hex": "ffd8",
        "extensions": {
            "ntfs-ext": {"alternate_data_streams": [{"name": "x", "size": 1, "hashes": {"MD5": MD5}}]},
            "windows-pebinary-ext": {
                "pe_type": "exe",
                "optional_header": {"magic_hex": "010b", "size_of_code": 1},
                "sections": [{"name": "CODE", "entropy": 0.5}],
            },
        },
    },
    "ipv6-addr": {"value": "2001:db8::1"},
    "mac-addr": {"value": "00:00:5e:00:53:01"},
    "mutex": {"name": "x"},
    "network-traffic": {
        "protocols": ["tcp"],
        "src_ref": stix_id("ipv4-addr"),
        "dst_port": 443,
        "is_active": False,
        "extensions": {"tcp-ext": {"src_flags_hex": "02"}, "http-request-ext": {"request_method": "get", "request_value": "/"}},
    },
    "process": {"pid": 4, "environment_variables": {"A": "b"}, "extensions": {"windows-process-ext": {"aslr_enabled": True}}},
    "software": {"name": "x", "version": "1", "languages": ["en"]},
    "url": {"value": "https://north-bank.example/"},
    "user-account": {"user_id": "1", "extensions": {"unix-account-ext": {"gid": 1, "groups": ["a"]}}},
    "windows-registry-key": {"key": "hklm\\x", "values": [{"name": "a", "data": "1", "data_type": "REG_DWORD"}]},
    "x509-certificate": {"serial_number": "1", "x509_v3_extensions": {"key_usage": "x"}, "validity_not_before": factories.WHEN},
}  # fmt: skip


@pytest.mark.parametrize("stix_type", VERSIONED)
def test_every_versioned_type_passes(stix_type: str) -> None:
    """STIX 2.1 §4, §5, §7: objects with some of everything their type has."""
    common = {"type": stix_type, "spec_version": "2.1", "id": stix_id(stix_type)}
    check({**common, "created": factories.WHEN, "modified": factories.WHEN, **VERSIONED[stix_type]})


@pytest.mark.parametrize("stix_type", OBSERVABLES)
def test_every_observable_type_passes(stix_type: str) -> None:
    """STIX 2.1 §6."""
    stix2_rules.check({"type": stix_type, "id": stix_id(stix_type), **OBSERVABLES[stix_type]}, Form.STIX_2_1)


def test_the_examples_leave_no_type_out() -> None:
    """All types that stix2 knows are tried."""
    known = STIX2_OBJ_MAPS["2.1"]
    elsewhere = {"bundle", "indicator", "marking-definition", "relationship"}
    assert set(known["objects"]) == set(VERSIONED) | elsewhere
    assert set(known["observables"]) == set(OBSERVABLES) | {"ipv4-addr"}


@pytest.mark.parametrize("colour", factories.TLP2)
def test_tlp_2_markings_pass(colour: str) -> None:
    """TLP 2.0, published after stix2's tables: the marking-definitions and what refers to them."""
    check(factories.tlp2(colour))
    check(factories.indicator(object_marking_refs=[factories.TLP2[colour]]))


@pytest.mark.parametrize("colour", factories.TLP1)
def test_tlp_1_markings_pass_as_printed_only(colour: str) -> None:
    """STIX 2.1 §7.2.1.4: the four TLP marking-definitions are these and no others."""
    check(factories.tlp1(colour))
    forged = factories.tlp1(colour, id=stix_id("marking-definition"))
    assert refusal(forged).startswith("is not one of the TLP marking-definitions")


@pytest.mark.parametrize("fraction", ["", ".1", ".12", ".123", ".1234", ".12345", ".123456", ".1234567", ".123456789"])
def test_timestamps_of_any_precision_pass(fraction: str) -> None:
    """STIX sets no bound to fractional digits; what the server can order is decided in `domain.stix_objects`."""
    when = f"2024-05-02T08:15:30{fraction}Z"
    check(factories.indicator(valid_from=when, created=when, modified=when))
    check(factories.indicator_2_0(valid_from=when, created=when, modified=when))


@pytest.mark.parametrize(
    "found",
    [
        factories.ipv4(),
        factories.ipv4(id=stix_id("ipv4-addr")),
        factories.ipv4(spec_version=None),
        factories.ipv4(x_alliance_seen=4, defanged=True),
        {
            "type": "file",
            "id": sco_id("file", name="a.exe"),
            "name": "a.exe",
            "hashes": {"MD5": "d41d8cd98f00b204e9800998ecf8427e", "X-OURS": "anything"},
            "extensions": {"windows-pebinary-ext": {"pe_type": "exe", "x_ours": 1}, "x-ours-ext": {"a": [{}]}},
        },
        {"type": "x-alliance-account", "id": stix_id("x-alliance-account"), "iban": "…"},
    ],
)
def test_observables_pass(found: Stix) -> None:
    """Observables, with deterministic identifiers or without, `spec_version` or without, predefined or custom."""
    stix2_rules.check(found, Form.STIX_2_1)


def test_stix_2_0_content_passes() -> None:
    """STIX 2.0 objects, observables in their container included."""
    check(OBSERVED_2_0)
    check(factories.indicator_2_0())
    check(factories.marking(spec_version=None))
    check({**factories.indicator_2_0(), "type": "x-alliance-case", "id": stix_id("x-alliance-case")})


@pytest.mark.parametrize(
    "name", ["allow_custom", "interoperability", "custom_properties", "self", "statement", "kwargs"]
)
def test_custom_properties_may_have_the_names_of_stix2_parameters(name: str) -> None:
    """A custom property is the sender's affair: stix2 would take some of these for its own parameters."""
    check(factories.malware(**{name: {"x": 1}}))
    check(factories.malware(external_references=[{"source_name": "a", "description": "b", name: 1}]))


def test_hashes_as_they_are_today_pass() -> None:
    """TLSH has begun with T1 since 2021; SSDEEP grows to 148 characters."""
    ssdeep = f"3:{'A' * 64}:{'b' * 64}"
    found = {"type": "file", "id": stix_id("file"), "hashes": {"TLSH": f"T1{'A0' * 35}", "SSDEEP": ssdeep, "MD5": MD5}}
    stix2_rules.check(found, Form.STIX_2_1)
    assert refusal({**found, "hashes": {"MD5": "T1"}}, Form.STIX_2_1) == "hashes: 'T1' is not a valid MD5 hash"


def test_custom_marking_types_pass() -> None:
    """`definition_type` names one of two types or another that the parties agreed on."""
    check(factories.marking(definition_type="x-alliance", definition={"tier": 2}))
    check(factories.marking(definition_type="x-alliance", definition={"tier": 2}, spec_version=None))


def test_granular_markings_may_select_anything_there_is() -> None:
    """STIX 2.1 §7.2.3: a selector leads to a property or list item, whatever its value."""
    found = factories.malware(
        revoked=False,
        labels=["same", "same"],
        x_alliance={"Tier": [0, {"a": ""}]},
        granular_markings=[
            {
                "marking_ref": factories.TLP1["red"],
                "selectors": ["revoked", "labels.[1]", "x_alliance.Tier.[0]", "x_alliance.Tier.[1].a"],
            },
            {"lang": "de", "selectors": ["name"]},
        ],
    )
    check(found)
    found["granular_markings"][0]["selectors"].append("labels.[2]")
    assert refusal(found) == "granular_markings[0]: selector labels.[2] leads to nothing in the object"


def test_granular_markings_cost_time_in_proportion() -> None:
    """A large object with many selectors is checked in well under a second: stix2 alone would take hours."""
    found = factories.malware(
        x_list=list(range(50_000)),
        granular_markings=[{"lang": "de", "selectors": [f"x_list.[{index}]" for index in range(20_000)]}],
    )
    began = time.process_time()
    check(found)
    assert time.process_time() - began < 2


def test_patterns_follow_the_grammar_of_their_version() -> None:
    """EXISTS came with STIX 2.1; `pattern_version` says which grammar an indicator of 2.1 means."""
    pattern = "[EXISTS a:b]"
    check(factories.indicator(pattern=pattern))
    assert "pattern" in refusal(factories.indicator(pattern=pattern, pattern_version="2.0"))
    assert "pattern" in refusal(factories.indicator_2_0(pattern=pattern))


def test_other_pattern_languages_are_left_alone() -> None:
    """Sigma, YARA, Snort and others are not ours to parse."""
    check(factories.indicator(pattern="rule x { condition: true }", pattern_type="yara"))


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"name": 1}, "name must be a string"),
        ({"name": None}, "name must not be null: leave it out"),
        ({"labels": []}, "labels must not be an empty list: leave it out"),
        ({"labels": "one"}, "labels must be a list"),
        ({"labels": [1]}, "labels[0] must be a string"),
        ({"is_family": "true"}, "is_family must be true or false"),
        ({"is_family": 1}, "is_family must be true or false"),
        ({"confidence": "50"}, "confidence must be an integer"),
        ({"confidence": 50.0}, "confidence must be an integer"),
        ({"confidence": True}, "confidence must be an integer"),
        ({"last_seen": "2024-01-01T00:00:00Z", "first_seen": factories.WHEN}, f"{stix_id('malware')} 'last_seen' must be greater than or equal to 'first_seen'"),
        ({"confidence": 101}, "confidence must be an integer from 0 to 100"),
        ({"first_seen": "2024-05-02"}, "first_seen must be a UTC timestamp like 2024-05-02T08:15:30.000Z"),
        ({"first_seen": "2024-05-02T08:15:30+00:00"}, "first_seen must be a UTC timestamp like 2024-05-02T08:15:30.000Z"),
        ({"created_by_ref": "identity--{0}"}, "created_by_ref must be a STIX identifier: a type, two hyphens, a UUID"),
        ({"modified": "2024-05-02T08:15:29.999Z"}, "modified must not be earlier than created"),
        ({"external_references": [{"source_name": 1}]}, "external_references[0].source_name must be a string"),
        ({"extensions": []}, "extensions must be a JSON object"),
        ({"extensions": {"x-ours": 1}}, "extensions.x-ours must be a JSON object"),
        ({"x-ours": 1}, "custom property x-ours must be named with 3 to 250 of a-z, 0-9 and underscore, beginning with a letter"),
        ({"Xours": 1}, "custom property Xours must be named with 3 to 250 of a-z, 0-9 and underscore, beginning with a letter"),
        ({"id": "malware--11111111-1111-1111-1111-111111111111"}, "id must have a UUID of RFC 4122: the first digit of its fourth group is 8, 9, a or b"),
        ({"id": stix_id("indicator")}, "id must begin with malware--"),
        ({"type": "X"}, "type X must be 3 to 250 of a-z, 0-9 and single hyphens, beginning with a letter"),
        ({"type": "bundle"}, "a bundle can't be stored: send its objects"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(over: Stix, said: str) -> None:
    """Types are JSON's (STIX 2.1 §2), required means sent: stix2 would convert these, or make them up."""
    assert refusal({**factories.malware(), **over}) == said


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (factories.malware, "created"),
        (factories.malware, "modified"),
        (factories.custom, "modified"),
        (factories.marking, "created"),
        (factories.indicator, "valid_from"),
        (factories.marking, "definition"),
        (factories.marking, "definition_type"),
    ],
)
def test_what_stix2_would_make_up_is_required(build: Any, name: str) -> None:
    """A missing `modified` is not now."""
    assert refusal(build(**{name: None})) == f"required property {name} is missing"


def test_other_required_properties_are_named() -> None:
    """Properties marked as required in STIX's tables must be there."""
    assert "pattern" in refusal(factories.indicator(pattern=None))
    assert "value" in refusal(factories.ipv4(value=None), Form.STIX_2_1)


def test_spec_version_is_required_of_stix_2_1_objects() -> None:
    """STIX 2.1 §3.2: all but observables state it; without it the object counts as STIX 2.0."""
    assert refusal(factories.malware(spec_version=None), Form.STIX_2_1) == "required property spec_version is missing"
    location = {**factories.malware(spec_version=None), "type": "location", "id": stix_id("location"), "region": "x"}
    assert refusal(location) == 'location exists since STIX 2.1: add "spec_version": "2.1"'
    assert "STIX 2.0 has no ipv4-addr" in refusal(factories.ipv4(spec_version="2.0"), Form.STIX_2_0)


def test_stix_2_0_identifiers_have_a_uuid_of_version_4() -> None:
    """STIX 2.0 part 1 §2.5."""
    found = factories.indicator_2_0(id="indicator--0c4b6f6f-2f5e-5f0e-9f55-2a4f3d1c7b10")
    assert refusal(found) == "id must have a UUID of version 4, as STIX 2.0 asks"


def test_a_custom_type_is_held_to_the_common_properties() -> None:
    """STIX 2.1 §11.3: custom objects must have the common properties; stix2 returns them unchecked."""
    assert refusal(factories.custom(labels=[1])) == "labels[0] must be a string"
    assert refusal(factories.custom(external_references=[{"source_name": "x"}])) != ""
    assert refusal(factories.custom(object_marking_refs=["x"])).startswith("object_marking_refs[0] must be")
    assert "not one of the valid types" in refusal(factories.custom(created_by_ref=stix_id("malware")))


def test_a_refusal_does_not_carry_the_object() -> None:
    """What is wrong is named, not repeated: bodies don't belong into statuses and logs."""
    secret = "S3cr3t" * 200
    for over in ({"name": [secret]}, {"created_by_ref": secret}, {"labels": {secret: secret}}, {secret: 1}):
        assert refusal({**factories.malware(), **over}).count("S3cr3t") <= 11
