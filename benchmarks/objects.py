"""STIX 2.1 as a fraud-sharing alliance exchanges it: mixed types and sizes of about 1.1 KB, the same for the same seed."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Stix = dict[str, Any]

_BEGIN: Final = datetime(2026, 1, 5, 6, 30, tzinfo=UTC)
_MARKINGS: Final = (
    "marking-definition--bab4a63c-aed9-4cf5-a766-dfca5abac2bb",  # TLP 2.0 GREEN
    "marking-definition--34098fce-860f-48ae-8e50-ebd3cc5e41da",  # TLP 1.0 GREEN
    "marking-definition--94868c89-83c2-464b-929b-a1a8aa3c8487",  # TLP 2.0 CLEAR
)
_WORDS: Final = [
    "account",
    "app",
    "bank",
    "beacon",
    "call",
    "campaign",
    "card",
    "carrier",
    "cash",
    "centre",
    "cluster",
    "code",
    "control",
    "courier",
    "credential",
    "customer",
    "device",
    "domain",
    "dropper",
    "fake",
    "form",
    "fraud",
    "gateway",
    "group",
    "hosting",
    "host",
    "inject",
    "invoice",
    "kit",
    "link",
    "loader",
    "login",
    "mail",
    "mobile",
    "mule",
    "overlay",
    "panel",
    "parcel",
    "password",
    "payment",
    "phishing",
    "portal",
    "pretext",
    "proxy",
    "redirect",
    "refund",
    "relay",
    "report",
    "sample",
    "script",
    "sender",
    "server",
    "session",
    "shop",
    "site",
    "skimmer",
    "sms",
    "stolen",
    "tax",
    "terminal",
    "token",
    "traffic",
    "transfer",
    "trojan",
    "victim",
    "wallet",
    "web",
    "with",
    "from",
    "the",
    "of",
    "in",
    "at",
    "via",
    "for",
    "and",
    "to",
    "seen",
    "used",
    "after",
    "before",
    "by",
]  # a line a word would be longer than the rest
_TYPES: Final = {
    "indicator": 45,
    "relationship": 35,
    "sighting": 5,
    "malware": 4,
    "attack-pattern": 3,
    "identity": 2,
    "report": 2,
    "ipv4-addr": 2,
    "domain-name": 2,
}


def objects(seed: int, *, kinds: tuple[str, ...] | None = None) -> Iterator[Stix]:
    """Give objects without end; `kinds` keeps to some types, in the same proportions."""
    maker = _Maker(seed)
    chosen = kinds or tuple(_TYPES)
    weights = [_TYPES[kind] for kind in chosen]
    while True:
        [kind] = maker.draw.choices(chosen, weights)
        yield maker.make(kind)


def as_json(one: Stix) -> bytes:
    """Write an object as clients do: compact, in UTF-8."""
    return json.dumps(one, separators=(",", ":"), ensure_ascii=False).encode()


def envelopes(source: Iterator[Stix], size: int) -> Iterator[bytes]:
    """Put so many objects into each envelope."""
    while True:
        yield b'{"objects":[' + b",".join(as_json(next(source)) for _ in range(size)) + b"]}"


class _Maker:
    """Makes objects that refer to some of those made before."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)  # noqa: S311 # the same each time is what is wanted
        self.made = {kind: [self._id(kind)] for kind in ("indicator", "malware", "identity", "attack-pattern")}

    def make(self, kind: str) -> Stix:
        makers: dict[str, Callable[[], Stix]] = {
            "indicator": self._indicator,
            "relationship": self._relationship,
            "sighting": self._sighting,
            "malware": self._malware,
            "attack-pattern": self._attack_pattern,
            "identity": lambda: {
                "name": self._text(3),
                "identity_class": "organization",
                "sectors": ["financial-services"],
            },
            "report": self._report,
        }
        if kind in makers:
            one = self._common(kind) | makers[kind]()
            if kind in self.made:
                known = self.made[kind]
                known.append(one["id"])
                del known[:-200]
            return one
        value = self._address() if kind == "ipv4-addr" else self._domain()
        return {"type": kind, "spec_version": "2.1", "id": self._id(kind), "value": value}

    def _common(self, kind: str) -> Stix:
        created = _BEGIN + timedelta(milliseconds=self.draw.randrange(300 * 86_400_000))
        modified = created + timedelta(milliseconds=self.draw.choice((0, 0, self.draw.randrange(86_400_000))))
        return {
            "type": kind,
            "spec_version": "2.1",
            "id": self._id(kind),
            "created_by_ref": self.made["identity"][-1],
            "created": _stamp(created),
            "modified": _stamp(modified),
            "confidence": self.draw.randrange(15, 100),
            "lang": "en",
            "labels": self.draw.sample(_WORDS, 2),
            "object_marking_refs": [self.draw.choice(_MARKINGS)],
            "external_references": [
                {
                    "source_name": self.draw.choice(_WORDS) + "-desk",
                    "description": self._text(8),
                    "url": f"https://{self._domain()}/case/{self.draw.randrange(10**6)}",
                    "external_id": f"CASE-{self.draw.randrange(10**6)}",
                }
            ],
        }

    def _indicator(self) -> Stix:
        return {
            "name": self._text(5),
            "description": self._text(45),
            "indicator_types": [self.draw.choice(("malicious-activity", "compromised", "anomalous-activity"))],
            "pattern": self._pattern(),
            "pattern_type": "stix",
            "valid_from": _stamp(_BEGIN),
            "kill_chain_phases": [{"kill_chain_name": "lockheed-martin-cyber-kill-chain", "phase_name": "delivery"}],
        }

    def _pattern(self) -> str:
        sha256 = f"{self.draw.getrandbits(256):064x}"
        simple = (
            f"[ipv4-addr:value = '{self._address()}']",
            f"[domain-name:value = '{self._domain()}']",
            f"[url:value = 'https://{self._domain()}/{self.draw.choice(_WORDS)}?id={self.draw.randrange(10**6)}']",
            f"[file:hashes.'SHA-256' = '{sha256}']",
            f"[email-message:sender_ref.value = '{self.draw.choice(_WORDS)}@{self._domain()}']",
        )
        shape = self.draw.random()
        if shape < 0.7:
            return self.draw.choice(simple)
        if shape < 0.85:
            return f"[file:hashes.'SHA-256' = '{sha256}' OR file:hashes.MD5 = '{self.draw.getrandbits(128):032x}']"
        if shape < 0.95:
            return f"[ipv4-addr:value = '{self._address()}'] OR [domain-name:value = '{self._domain()}']"
        return (
            f"([network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = '{self._address()}' AND "
            f"network-traffic:dst_port IN (443, 8443)] FOLLOWEDBY [url:value LIKE 'https://{self._domain()}/%']) "
            "WITHIN 300 SECONDS"
        )

    def _relationship(self) -> Stix:
        return {
            "relationship_type": "indicates",
            "description": self._text(40),
            "source_ref": self.draw.choice(self.made["indicator"]),
            "target_ref": self.draw.choice(self.made["malware"]),
            "start_time": _stamp(_BEGIN),
        }

    def _sighting(self) -> Stix:
        return {
            "description": self._text(30),
            "first_seen": _stamp(_BEGIN),
            "last_seen": _stamp(_BEGIN + timedelta(days=self.draw.randrange(1, 90))),
            "count": self.draw.randrange(1, 900),
            "sighting_of_ref": self.draw.choice(self.made["indicator"]),
            "where_sighted_refs": [self.draw.choice(self.made["identity"])],
        }

    def _malware(self) -> Stix:
        return {
            "name": self._text(2),
            "description": self._text(60),
            "malware_types": ["trojan"],
            "is_family": True,
            "aliases": [self._text(2), self._text(2)],
            "capabilities": ["steals-authentication-credentials", "exfiltrates-data"],
        }

    def _attack_pattern(self) -> Stix:
        return {"name": self._text(4), "description": self._text(80), "aliases": [self._text(3)]}

    def _report(self) -> Stix:
        return {
            "name": self._text(6),
            "description": self._text(180),
            "report_types": ["campaign"],
            "published": _stamp(_BEGIN),
            "object_refs": sorted({*self.draw.choices(self.made["indicator"], k=12), *self.made["malware"][-3:]}),
        }

    def _id(self, kind: str) -> str:
        return f"{kind}--{UUID(int=self.draw.getrandbits(128), version=4)}"

    def _text(self, words: int) -> str:
        return " ".join(self.draw.choices(_WORDS, k=words))

    def _address(self) -> str:
        return f"{self.draw.choice(('192.0.2', '198.51.100', '203.0.113'))}.{self.draw.randrange(256)}"

    def _domain(self) -> str:
        return f"{self.draw.choice(_WORDS)}-{self.draw.choice(_WORDS)}{self.draw.randrange(10**4)}.example"


def _stamp(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03}Z"
