"""What stix2 isn't shown, because it could but accept it, changes no outcome."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taxii_server.domain.stix_objects import Form, Refused
from taxii_server.operations import stix2_rules
from tests import factories, strategies
from tests.factories import Stix

_HASHES = {"MD5": "d41d8cd98f00b204e9800998ecf8427e"}
_values: st.SearchStrategy[Any] = st.sampled_from(["", "x", "x", "x", "https://example.net/", None, 1, [], {}, _HASHES])
_phases = st.dictionaries(st.sampled_from(["kill_chain_name", "phase_name", "x_other"]), _values, max_size=3)
_references = st.dictionaries(
    st.sampled_from(["source_name", "description", "url", "external_id", "hashes", "x_other"]), _values, max_size=5
)
_indicators = st.fixed_dictionaries(
    {},
    optional={
        "kill_chain_phases": st.lists(_phases, max_size=2),
        "external_references": st.lists(_references, max_size=2),
        "name": _values,
    },
).map(lambda properties: factories.indicator(**properties))
_PHASE = {"kill_chain_name": "x", "phase_name": ""}
_REFERENCE = {"source_name": "", "url": ""}


def _outcome(found: Any, form: Form) -> str | None:
    try:
        stix2_rules.check(found, form)
    except Refused as refused:
        return str(refused)
    return None


@given(_indicators | strategies.mutated() | strategies.objects)
@settings(max_examples=100)
@example(factories.indicator(kill_chain_phases=[_PHASE], external_references=[_REFERENCE]))
@example(factories.indicator(kill_chain_phases=[_PHASE, {"phase_name": "x"}]))
@example(factories.indicator(external_references=[_REFERENCE, {"source_name": "x"}]))
@example(factories.indicator(external_references=[{"url": "x"}]))
@example(factories.indicator(external_references=[{**_REFERENCE, "hashes": {"MD5": "x"}}]))
def test_outcomes_are_those_of_stix2_shown_everything(found: Any) -> None:
    """The same objects pass, and the others are refused in the same words."""
    for form in Form:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stix2_rules, "leave_out_the_certain", lambda _: None)
            judged_whole = _outcome(found, form)
        assert _outcome(found, form) == judged_whole


def test_common_lists_are_left_out() -> None:
    """Nothing of an ordinary phase or reference is left for stix2; what may be wrong is."""
    ordinary: Stix = {"kill_chain_phases": [_PHASE], "external_references": [_REFERENCE]}
    stix2_rules.leave_out_the_certain(ordinary)
    assert not ordinary
    doubtful: Stix = {"kill_chain_phases": [{"phase_name": "x"}], "external_references": [{"source_name": "x"}]}
    stix2_rules.leave_out_the_certain(doubtful)
    assert len(doubtful) == 2
