"""What the members of the demo alliance have to tell: STIX 2.1, the same on every run.

All of it is made up: addresses are from the blocks for documentation (RFC 5737, RFC 3849), names end in .example.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID, uuid5

from taxii_server.domain.timestamps import to_taxii

_SCO_NAMESPACE: Final = UUID("00abedb4-aa42-466c-9c01-fed23315a9b7")  # STIX 2.1 §2.9
_BEGIN: Final = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
_TLP: Final = {
    "white": "marking-definition--613f2e26-407d-48c7-9eca-b8e91df99dc9",
    "green": "marking-definition--34098fce-860f-48ae-8e50-ebd3cc5e41da",
    "amber": "marking-definition--f88d31f6-486f-44da-b317-01333bde0b82",
}

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one member brings to one collection."""

    collection: str
    member: str
    objects: tuple[Object, ...]

    def bundle(self) -> bytes:
        """The objects as a STIX bundle."""
        return json.dumps(
            {"type": "bundle", "id": _id("bundle", self.collection, self.member), "objects": self.objects}
        ).encode()


_PHISHING: Final = (
    ("north-bank-login.example", "green", "Copies the login page of North Bank; link sent by SMS"),
    ("secure-northbank.example", "green", "Asks for card number and one-time password"),
    ("harbour-bank-verify.example", "green", "Parcel-fee pretext, then the login page of Harbour Bank"),
    ("meadow-update.example", "green", "Fake update of the Meadow Bank app"),
    ("refund-tax-office.example", "white", "Tax refund pretext, collects card data of all banks"),
    ("parcel-fee.example", "white", "Parcel fee of 1.99, subscription in the small print"),
    ("invest-safely.example", "green", "Investment fraud, call centre rings back"),
    ("card-replacement.example", "green", "Asks to post the 'old' card in an envelope"),
    ("pay-request.example", "white", "Payment request with swapped account number"),
    ("support-callback.example", "amber", "Remote-support fraud, installs remote control"),
    ("mobile-topup.example", "white", "Top-up page that skims cards"),
    ("ticket-resale.example", "white", "Ticket resale that skims cards"),
)
_SKIMMERS: Final = (
    ("203.0.113.17", "Serves the skimming script of group Copper Wren"),
    ("203.0.113.41", "Receives skimmed cards"),
    ("203.0.113.77", "Tests stolen cards with charges below one euro"),
    ("198.51.100.23", "Panel for mule accounts"),
    ("198.51.100.24", "Panel for mule accounts, second node"),
    ("198.51.100.140", "Sends the SMS of the parcel campaign"),
)
_TROJANS: Final = (
    ("Tidepool", "Overlay trojan for Android; reads one-time passwords from notifications", "remote-access-trojan"),
    ("Gull", "Web-inject trojan; swaps account numbers in transfer forms", "trojan"),
    ("Lanternfish", "Loader spread by mailed invoices", "dropper"),
)
_CONTROL: Final = (
    ("tidepool-c2.example", "Tidepool"),
    ("tidepool-backup.example", "Tidepool"),
    ("gull-gate.example", "Gull"),
    ("gull-injects.example", "Gull"),
    ("lanternfish-drop.example", "Lanternfish"),
)
_SAMPLES: Final = ("Tidepool", "Tidepool", "Gull", "Gull", "Lanternfish", "Lanternfish")
_CASES: Final = (
    ("192.0.2.14", "Copper Wren", "Jump host of the skimming group"),
    ("192.0.2.15", "Copper Wren", "Build server of the skimming script"),
    ("192.0.2.80", "Copper Wren", "Shop for stolen cards"),
    ("192.0.2.200", "Slate Heron", "Account-takeover group: credential stuffing"),
    ("192.0.2.201", "Slate Heron", "Account-takeover group: second proxy exit"),
)


def contributions() -> tuple[Contribution, ...]:
    """Everything, in the order in which it is brought."""
    return (
        Contribution("fraud-intel/indicators", "north-bank", (*_markings(), _member("North Bank"), *_phishing())),
        Contribution("fraud-intel/indicators", "meadow-bank", (_member("Meadow Bank"), *_skimming())),
        Contribution("fraud-intel/malware", "harbour-bank", (*_markings(), _member("Harbour Bank"), *_trojans())),
        Contribution("crime-desk/cases", "cyber-police", (*_markings(), _member("Cybercrime Police Unit"), *_cases())),
    )


def _phishing() -> Iterator[Object]:
    for number, (domain, tlp, description) in enumerate(_PHISHING):
        yield _sco({"type": "domain-name", "value": domain})
        found = _indicator(
            f"Phishing: {domain}", f"[domain-name:value = '{domain}']", "North Bank", number, tlp, description
        )
        yield found
        if number % 4 == 0:
            later = found | {"modified": _time(number + 40), "confidence": 90}
            yield later | {"description": f"{description}. Confirmed by two banks."}


def _skimming() -> Iterator[Object]:
    group = _object("intrusion-set", "Copper Wren", "Meadow Bank", 60, "green") | {
        "description": "Skims cards in web shops and sells them",
        "goals": ["stolen cards"],
        "primary_motivation": "personal-gain",
    }
    yield group
    for number, (address, description) in enumerate(_SKIMMERS, 61):
        yield _sco({"type": "ipv4-addr", "value": address})
        found = _indicator(
            f"Card skimming: {address}", f"[ipv4-addr:value = '{address}']", "Meadow Bank", number, "green", description
        )
        yield found
        yield _relationship(found, "indicates", group, "Meadow Bank", number)


def _trojans() -> Iterator[Object]:
    families = {}
    for number, (name, description, kind) in enumerate(_TROJANS, 80):
        families[name] = _object("malware", name, "Harbour Bank", number, "green") | {
            "description": description,
            "is_family": True,
            "malware_types": [kind],
        }
        yield families[name]
    for number, (domain, name) in enumerate(_CONTROL, 90):
        found = _indicator(
            f"{name} control server: {domain}",
            f"[domain-name:value = '{domain}']",
            "Harbour Bank",
            number,
            "green",
            f"Infected devices of customers reported to it: block and look for {name}",
        )
        yield found
        yield _relationship(found, "indicates", families[name], "Harbour Bank", number)
    for number, name in enumerate(_SAMPLES, 100):
        digest = sha256(f"demo sample {number}".encode()).hexdigest()
        yield _sco({"type": "file", "hashes": {"SHA-256": digest}})
        found = _indicator(
            f"{name} sample {number - 99}",
            f"[file:hashes.'SHA-256' = '{digest}']",
            "Harbour Bank",
            number,
            "amber",
            f"Sample of {name} taken from a customer's device",
        )
        yield found
        yield _relationship(found, "indicates", families[name], "Harbour Bank", number)


def _cases() -> Iterator[Object]:
    groups = {}
    for number, name in enumerate(dict.fromkeys(group for _, group, _ in _CASES), 120):
        groups[name] = _object("threat-actor", name, "Cybercrime Police Unit", number, "amber") | {
            "threat_actor_types": ["crime-syndicate"],
            "sophistication": "intermediate",
        }
        yield groups[name]
    for number, (address, name, description) in enumerate(_CASES, 130):
        yield _sco({"type": "ipv4-addr", "value": address})
        found = _indicator(
            f"{name}: {address}",
            f"[ipv4-addr:value = '{address}'] OR [ipv6-addr:value = '2001:db8::{number}']",
            "Cybercrime Police Unit",
            number,
            "amber",
            f"{description}. Report sightings to the desk, do not block.",
        )
        yield found
        yield _relationship(found, "indicates", groups[name], "Cybercrime Police Unit", number)


def _indicator(name: str, pattern: str, by: str, number: int, tlp: str, description: str) -> Object:
    return _object("indicator", name, by, number, tlp) | {
        "description": description,
        "indicator_types": ["malicious-activity"],
        "pattern": pattern,
        "pattern_type": "stix",
        "valid_from": _time(number),
        "confidence": 70,
    }


def _relationship(source: Object, what: str, target: Object, by: str, number: int) -> Object:
    related = _object("relationship", f"{source['id']} {target['id']}", by, number, "green")
    del related["name"]
    return related | {"relationship_type": what, "source_ref": source["id"], "target_ref": target["id"]}


def _object(kind: str, name: str, by: str, number: int, tlp: str) -> Object:
    return {
        "type": kind,
        "spec_version": "2.1",
        "id": _id(kind, name),
        "created_by_ref": _id("identity", by),
        "created": _time(number),
        "modified": _time(number),
        "name": name,
        "object_marking_refs": [_TLP[tlp]],
    }


def _member(name: str) -> Object:
    made = _object("identity", name, name, 0, "white")
    del made["created_by_ref"]
    return made | {"identity_class": "organization", "sectors": ["financial-services"]}


def _sco(properties: Object) -> Object:
    contributing = {name: value for name, value in properties.items() if name != "type"}
    canonical = json.dumps(contributing, sort_keys=True, separators=(",", ":"))
    kind = properties["type"]
    return {"type": kind, "spec_version": "2.1", "id": f"{kind}--{uuid5(_SCO_NAMESPACE, canonical)}"} | contributing


def _markings() -> Iterable[Object]:
    return (
        {
            "type": "marking-definition",
            "spec_version": "2.1",
            "id": marking_id,
            "created": "2017-01-20T00:00:00.000Z",
            "definition_type": "tlp",
            "name": f"TLP:{tlp.upper()}",
            "definition": {"tlp": tlp},
        }
        for tlp, marking_id in _TLP.items()
    )


def _id(kind: str, *names: str) -> str:
    octets = sha256("\n".join((kind, *names)).encode()).digest()[:16]
    return f"{kind}--{UUID(bytes=octets, version=4)}"


def _time(number: int) -> str:
    return to_taxii(_BEGIN + timedelta(hours=7 * number, minutes=13 * number % 60))
