"""The Traffic Light Protocol as an order of levels, and the marking-definitions that stand for them.

Both generations are known: TLP 1.0 as STIX 2.0 and 2.1 define it, and TLP 2.0 as published for STIX 2.1. So is the id
that OpenCTI gives AMBER+STRICT.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum


class Level(IntEnum):
    """How far something may travel; a higher level travels less far."""

    CLEAR = 0
    GREEN = 1
    AMBER = 2
    AMBER_STRICT = 3
    RED = 4

    @property
    def text(self) -> str:
        """The level as people and alliance.yaml write it."""
        return self.name.replace("_", "+")


LEVELS: Mapping[str, Level] = {level.text: level for level in Level}
NEVER = 5
"""One above the highest level: `superseded_level` and `newer_form_level` of a version that nothing follows."""

_TLP1 = {
    "613f2e26-407d-48c7-9eca-b8e91df99dc9": Level.CLEAR,  # WHITE
    "34098fce-860f-48ae-8e50-ebd3cc5e41da": Level.GREEN,
    "f88d31f6-486f-44da-b317-01333bde0b82": Level.AMBER,
    "5e57c739-391a-4eb3-b6be-7d15ca92d5ed": Level.RED,
}
_TLP2 = {
    "94868c89-83c2-464b-929b-a1a8aa3c8487": Level.CLEAR,
    "bab4a63c-aed9-4cf5-a766-dfca5abac2bb": Level.GREEN,
    "55d920b0-5e8b-4f79-9ee9-91f868d9b421": Level.AMBER,
    "939a9414-2ddd-4d32-a0cd-375ea402b003": Level.AMBER_STRICT,
    "e828b379-4e03-4974-9ac4-e53a884c97c1": Level.RED,
}
# OpenCTI and what is built for it mark AMBER+STRICT with this, not with TLP 2.0's: unknown, it would travel as unmarked.
_OPENCTI = {"826578e1-40ad-459f-bc73-ede076f81f37": Level.AMBER_STRICT}
MARKING_LEVELS: Mapping[str, Level] = {
    f"marking-definition--{uuid}": level for uuid, level in (_TLP1 | _TLP2 | _OPENCTI).items()
}
_WORDS: Mapping[str, Level] = {f"{before}{level.text.lower()}": level for level in Level for before in ("", "tlp:")} | {
    "white": Level.CLEAR,
    "tlp:white": Level.CLEAR,
}


def level_of(stix_object: Mapping[str, object]) -> Level | None:
    """Give the strictest TLP level the object is marked with, by reference or on any part of it; None if unmarked.

    A reference to a marking that is no TLP marking counts as no marking. UUIDs are the same in either case, and a reference
    counts though the list around it has another shape than it should: what somebody meant to be RED shall not travel as
    unmarked. The TLP markings themselves are CLEAR where nothing marks them: everybody has to be able to read what
    others are marked with.
    """
    levels = [
        MARKING_LEVELS[reference]
        for name in ("object_marking_refs", "granular_markings")
        for reference in (text.strip().lower() for text in _texts(stix_object.get(name)))
        if reference in MARKING_LEVELS
    ]
    return max(levels, default=Level.CLEAR if _is_tlp_marking(stix_object.get("id")) else None)


def misstated(stix_object: Mapping[str, object]) -> Level | None:
    """Give the level whose own marking-definition this pretends to be while naming another level, or none; else None.

    It may say so as TLP 1.0, TLP 2.0 or OpenCTI do, with other words beside.
    """
    stix_id = stix_object.get("id")
    own = MARKING_LEVELS.get(stix_id.lower()) if isinstance(stix_id, str) else None
    if own is None:
        return None
    definition, extensions = stix_object.get("definition"), stix_object.get("extensions")
    said = [stix_object.get("name"), stix_object.get("x_opencti_definition")]
    said += definition.values() if isinstance(definition, dict) else []
    parts = extensions.values() if isinstance(extensions, dict) else []
    said += [part.get("tlp_2_0") for part in parts if isinstance(part, dict)]
    named = {_WORDS[word.lower()] for word in said if isinstance(word, str) and word.lower() in _WORDS}
    return None if named == {own} else own


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, dict):
        yield from _texts([*value.values()])


def _is_tlp_marking(stix_id: object) -> bool:
    return isinstance(stix_id, str) and stix_id.lower() in MARKING_LEVELS
