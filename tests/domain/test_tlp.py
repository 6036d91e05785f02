"""The Traffic Light Protocol: which markings count, and that the strictest one does."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.domain import tlp
from taxii_server.domain.tlp import Level
from tests import factories, strategies

OF_TLP1 = {"white": Level.CLEAR, "green": Level.GREEN, "amber": Level.AMBER, "red": Level.RED}
OF_TLP2 = {
    "clear": Level.CLEAR,
    "green": Level.GREEN,
    "amber": Level.AMBER,
    "amber+strict": Level.AMBER_STRICT,
    "red": Level.RED,
}
LEVELS = {factories.TLP1[name]: level for name, level in OF_TLP1.items()} | {
    factories.TLP2[name]: level for name, level in OF_TLP2.items()
}
OPENCTI_STRICT = "marking-definition--826578e1-40ad-459f-bc73-ede076f81f37"
LEVELS[OPENCTI_STRICT] = Level.AMBER_STRICT
OTHER = factories.stix_id("marking-definition")


def test_the_levels_are_an_order() -> None:
    """CLEAR < GREEN < AMBER < AMBER+STRICT < RED, and NEVER is above all of them."""
    assert Level.CLEAR < Level.GREEN < Level.AMBER < Level.AMBER_STRICT < Level.RED < tlp.NEVER


def test_both_generations_are_known() -> None:
    """T-X3-19: the nine identifiers of TLP 1.0 and 2.0, the one that OpenCTI gives AMBER+STRICT, and no others."""
    assert dict(tlp.MARKING_LEVELS) == LEVELS


@pytest.mark.parametrize(("reference", "level"), LEVELS.items())
def test_a_reference_counts_in_either_case(reference: str, level: Level) -> None:
    """A UUID is the same in capitals: a marking must not get lost by its spelling, or RED would travel as CLEAR."""
    assert level == tlp.level_of({"object_marking_refs": [reference.upper()]})
    assert level == tlp.level_of(
        {"granular_markings": [{"marking_ref": reference.replace("a", "A").replace("e", "E")}]}
    )


@given(st.lists(st.sampled_from([*LEVELS, OTHER]), max_size=4), st.lists(st.sampled_from([*LEVELS, OTHER]), max_size=3))
def test_the_strictest_marking_counts(by_reference: list[str], granular: list[str]) -> None:
    """By reference or on any part: what is strictest for a part is strictest for the object that carries it."""
    found = factories.indicator(
        object_marking_refs=by_reference,
        granular_markings=[{"marking_ref": each, "selectors": ["name"]} for each in granular],
    )
    expected = [LEVELS[each] for each in by_reference + granular if each in LEVELS]
    assert tlp.level_of(found) == max(expected, default=None)


def test_an_unmarked_object_has_no_level() -> None:
    """Its collection decides; a marking that is no TLP marking says nothing about the level."""
    assert tlp.level_of(factories.indicator()) is None
    assert tlp.level_of(factories.indicator(object_marking_refs=[OTHER])) is None


@pytest.mark.parametrize("stix_id", [*LEVELS, *map(str.upper, LEVELS)])
def test_tlps_own_markings_are_clear_unless_marked(stix_id: str) -> None:
    """No rule for unmarked objects holds for them; a marking on one counts as on any object."""
    assert tlp.level_of({"id": stix_id}) is Level.CLEAR
    assert tlp.level_of({"id": stix_id, "object_marking_refs": [factories.TLP2["red"]]}) is Level.RED
    assert tlp.level_of({"id": stix_id, "object_marking_refs": [OTHER]}) is Level.CLEAR


def test_levels_are_written_as_people_write_them() -> None:
    """In alliance.yaml, in plans and in refusals."""
    assert list(tlp.LEVELS) == ["CLEAR", "GREEN", "AMBER", "AMBER+STRICT", "RED"]
    assert [level.text for level in Level] == list(tlp.LEVELS)


RED_MARK = factories.TLP2["red"]


@pytest.mark.parametrize(
    "shape",
    [
        {"object_marking_refs": RED_MARK},
        {"object_marking_refs": [[RED_MARK]]},
        {"object_marking_refs": {"ref": RED_MARK}},
        {"granular_markings": {"marking_ref": RED_MARK, "selectors": ["name"]}},
        {"granular_markings": [{"marking_ref": [RED_MARK]}]},
        {"granular_markings": [RED_MARK]},
        {"object_marking_refs": [f" {RED_MARK}\n"]},
    ],
)
def test_a_marking_counts_whatever_the_shape_around_it(shape: dict[str, Any]) -> None:
    """Structural validation lets odd shapes through: what somebody meant to be RED must not travel as unmarked."""
    assert tlp.level_of(shape) is Level.RED


@pytest.mark.parametrize("name", ["object_marking_refs", "granular_markings"])
@given(value=strategies.json_values)
def test_malformed_markings_are_no_markings(name: str, value: Any) -> None:
    """Levels are read of objects in any shape: structural validation lets odd ones through."""
    assert tlp.level_of({name: value}) is None
    assert tlp.level_of({name: [value]}) is None
    assert tlp.level_of({name: [{"marking_ref": value}, value, factories.TLP1["red"]]}) in {None, Level.RED}


@pytest.mark.parametrize(
    "one",
    [
        *(factories.tlp1(colour) for colour in factories.TLP1),
        *(factories.tlp2(colour) for colour in factories.TLP2),
        factories.tlp1("red", name=None, spec_version=None),
        factories.tlp1("white", name="TLP:CLEAR"),
        factories.tlp1("green", definition_type="TLP", definition={"TLP": "TLP:GREEN"}, x_opencti_id="1"),
        factories.marking(id=OPENCTI_STRICT, definition_type="TLP", definition={"TLP": "TLP:AMBER+STRICT"}),
        factories.marking(id=OPENCTI_STRICT, x_opencti_definition="TLP:AMBER+STRICT"),
        factories.marking(definition_type="tlp", definition={"tlp": "red"}),
        factories.indicator(name="TLP:RED"),
    ],
)
def test_tlps_own_markings_say_which_they_are(one: dict[str, Any]) -> None:
    """As STIX prints them and as OpenCTI writes them; other objects may say what they like."""
    assert tlp.misstated(one) is None


@pytest.mark.parametrize(
    "one",
    [
        factories.tlp1("red", definition={"tlp": "white"}),
        factories.tlp1("red", name="TLP:CLEAR"),
        factories.tlp1("red", id=factories.TLP1["red"].upper(), name="tlp:green"),
        factories.tlp1("red", name="Share freely", definition_type="statement", definition={"statement": "Go on"}),
        factories.tlp1("red", name=None, definition=None),
        factories.tlp2("red", name="TLP:AMBER+STRICT"),
        factories.tlp2("red", extensions=factories.tlp2("clear")["extensions"]),
        factories.marking(id=OPENCTI_STRICT, x_opencti_definition="TLP:CLEAR"),
        {"id": factories.TLP2["red"], "name": 7, "definition": ["red"], "extensions": {"a": 1, "b": {"tlp_2_0": {}}}},
    ],
)
def test_a_forged_tlp_marking_is_told(one: dict[str, Any]) -> None:
    """Who finds RED's own id explained as CLEAR would pass on what it must not."""
    assert tlp.misstated(one) is tlp.MARKING_LEVELS[one["id"].lower()]
