"""STIX objects for tests: plain, always the same, and made up by us.

Each builder gives a valid object as a dict; name what should differ: `indicator(id=stix_id("indicator", 7))`. A value of
`None` leaves the property out.
"""

import json
from typing import Any, Final
from uuid import UUID, uuid5

_OURS: Final = UUID("7d2c7a38-5c7e-4c58-9d1b-5a3f3c1f0f5e")
_SCO_NAMESPACE: Final = UUID("00abedb4-aa42-466c-9c01-fed23315a9b7")
WHEN: Final = "2024-05-02T08:15:30.000Z"

TLP1: Final = {
    "white": "marking-definition--613f2e26-407d-48c7-9eca-b8e91df99dc9",
    "green": "marking-definition--34098fce-860f-48ae-8e50-ebd3cc5e41da",
    "amber": "marking-definition--f88d31f6-486f-44da-b317-01333bde0b82",
    "red": "marking-definition--5e57c739-391a-4eb3-b6be-7d15ca92d5ed",
}
TLP2: Final = {
    "clear": "marking-definition--94868c89-83c2-464b-929b-a1a8aa3c8487",
    "green": "marking-definition--bab4a63c-aed9-4cf5-a766-dfca5abac2bb",
    "amber": "marking-definition--55d920b0-5e8b-4f79-9ee9-91f868d9b421",
    "amber+strict": "marking-definition--939a9414-2ddd-4d32-a0cd-375ea402b003",
    "red": "marking-definition--e828b379-4e03-4974-9ac4-e53a884c97c1",
}

Stix = dict[str, Any]


def stix_id(stix_type: str, number: int = 0) -> str:
    """The `number`th identifier of a type, with a UUID of version 4, so that it is good for STIX 2.0 too."""
    return f"{stix_type}--{UUID(bytes=uuid5(_OURS, f'{stix_type} {number}').bytes, version=4)}"


def sco_id(stix_type: str, **contributing: Any) -> str:
    """An observable's deterministic identifier (STIX 2.1 §2.9), for contributing properties of ASCII text."""
    name = json.dumps(contributing, sort_keys=True, separators=(",", ":"))
    return f"{stix_type}--{uuid5(_SCO_NAMESPACE, name)}"


def _sdo(stix_type: str, over: Stix, **own: Any) -> Stix:
    common = {"type": stix_type, "spec_version": "2.1", "id": stix_id(stix_type), "created": WHEN, "modified": WHEN}
    return {name: value for name, value in {**common, **own, **over}.items() if value is not None}


def indicator(**over: Any) -> Stix:
    return _sdo(
        "indicator",
        over,
        pattern="[domain-name:value = 'login.north-bank.example']",
        pattern_type="stix",
        valid_from=WHEN,
    )


def indicator_2_0(**over: Any) -> Stix:
    """An indicator as STIX 2.0 has it: no `spec_version`, labels required."""
    own = {"spec_version": None, "pattern_type": None, "labels": ["malicious-activity"]}
    return indicator(**{**own, **over})


def malware(**over: Any) -> Stix:
    return _sdo("malware", over, name="Tollkeeper", is_family=True, malware_types=["banking-trojan"])


def identity(**over: Any) -> Stix:
    return _sdo("identity", over, name="North Bank", identity_class="organization")


def relationship(**over: Any) -> Stix:
    return _sdo(
        "relationship",
        over,
        relationship_type="indicates",
        source_ref=stix_id("indicator"),
        target_ref=stix_id("malware"),
    )


def marking(**over: Any) -> Stix:
    """A statement marking; marking-definitions have no `modified`."""
    own = {"modified": None, "definition_type": "statement", "definition": {"statement": "For members only"}}
    return _sdo("marking-definition", {**own, **over})


def tlp1(colour: str, **over: Any) -> Stix:
    """One of the four marking-definitions of TLP 1.0, as STIX 2.1 prints them."""
    own = {
        "id": TLP1[colour],
        "created": "2017-01-20T00:00:00.000Z",
        "definition_type": "tlp",
        "name": f"TLP:{colour.upper()}",
        "definition": {"tlp": colour},
    }
    return marking(**{**own, **over})


def tlp2(colour: str, **over: Any) -> Stix:
    """One of the five marking-definitions of TLP 2.0, which are extensions of STIX 2.1."""
    own = {
        "id": TLP2[colour],
        "created": "2022-10-01T00:00:00.000Z",
        "definition_type": None,
        "definition": None,
        "name": f"TLP:{colour.upper()}",
        "extensions": {
            "extension-definition--60a3c5c5-0d10-413e-aab3-9e08dde9e88d": {
                "extension_type": "property-extension",
                "tlp_2_0": colour,
            },
        },
    }
    return marking(**{**own, **over})


def ipv4(**over: Any) -> Stix:
    """An observable: neither `created` nor `modified`, and a deterministic id."""
    value = over.get("value", "198.51.100.17")
    found = {"type": "ipv4-addr", "spec_version": "2.1", "id": sco_id("ipv4-addr", value=value), "value": value, **over}
    return {name: each for name, each in found.items() if each is not None}


def custom(**over: Any) -> Stix:
    """An object of a type of our own."""
    return _sdo("x-alliance-case", over, x_alliance_priority=3)


def as_json(stix_object: Stix) -> bytes:
    return json.dumps(stix_object, ensure_ascii=False).encode()


def envelope(*objects: Stix | bytes) -> bytes:
    """An envelope of these objects; give one as octets to have it posted exactly so."""
    return b'{"objects": [' + b", ".join(each if isinstance(each, bytes) else as_json(each) for each in objects) + b"]}"
