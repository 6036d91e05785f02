"""Whether an object is valid STIX: the `strict` validation.

stix2 converts what it is given (a missing `modified` to now, for one) and so passes much that STIX doesn't. Before it is
asked, the object is held against the JSON types of stix2's own property tables (`stix2_shapes`), and what STIX leaves
to the sender (custom properties, unknown extensions) is put aside: it needs no check but its name's, and some names
would collide with stix2's parameters. Patterns are checked with the OASIS grammar itself (`stix2_patterns`). The three
modules are the only ones that import stix2 and its pattern checker.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import stix2
from stix2 import properties as kinds
from stix2.exceptions import (
    InvalidObjRefError,
    InvalidValueError,
    STIXError,
    TLPMarkingDefinitionError,
)
from stix2.registry import class_for_type

from taxii_server.domain.stix_objects import SCO_TYPES, Form, Refused
from taxii_server.domain.words import quoted, short
from taxii_server.operations.stix2_patterns import check_pattern
from taxii_server.operations.stix2_shapes import Table, dictionary, fit_all, identifier, table_of

MOST_WORDS = 300
"""Characters of a refusal's message."""

_CUSTOM_NAME = {Form.STIX_2_0: re.compile("[a-z0-9_]{3,250}"), Form.STIX_2_1: re.compile("[a-z][a-z0-9_]{2,249}")}
_CUSTOM_TYPE = {
    Form.STIX_2_0: re.compile("(?!.*--)[a-z0-9-]{3,250}"),
    Form.STIX_2_1: re.compile("(?!.*--)[a-z][a-z0-9-]{2,249}"),
}
_PHASE: Final = {"kill_chain_name", "phase_name"}
_ENOUGH_OF_A_REFERENCE: Final = {"description", "url", "external_id"}
_SELECTOR_STEP = re.compile(r"\[([0-9]{1,9})\]")


class Inexplicable(Refused):
    """stix2 failed on the object instead of judging it; `error` is the class of what it raised, fit for the log."""

    def __init__(self, form: Form, error: str) -> None:
        """Tell the sender as much as is known."""
        self.error = error
        super().__init__(f"is built in a way that STIX {form.text} does not provide for ({error})")


def check(value: dict[str, Any], form: Form) -> None:
    """Hold one object against STIX of the given form. The object is only read.

    Custom properties, types and extensions are taken as STIX allows them; a custom type is held to the common
    properties. How long a pattern may take is not bounded here: its cost can grow with the square of its length, and
    whoever calls this for strangers sets a limit (`judging` does, for each object).

    Raises:
        Refused: naming what to mend, in at most `MOST_WORDS` characters; never anything else.
    """
    try:
        _check(value, form)
    except Refused as refused:
        if len(str(refused)) <= MOST_WORDS:
            raise
        raise Refused(short(str(refused), MOST_WORDS)) from None
    except MemoryError:
        raise
    except (STIXError, ValueError) as error:
        raise Refused(_words(error, form)) from None
    except RecursionError:
        raise Refused("is nested too deeply") from None
    # what stix2 raises beside its own errors is anything: the object's content decides
    except Exception as error:  # noqa: BLE001
        raise Inexplicable(form, type(error).__name__) from None


def _check(value: Mapping[str, Any], form: Form) -> None:
    found_type = value.get("type") if isinstance(value, dict) else None
    if not isinstance(found_type, str):
        raise Refused("type must be a string")
    known = _known(found_type, form)
    table = table_of(_CUSTOM[form] if known is None else known)
    identifier(value.get("id"), "id", form)
    if _type_in(value["id"]) != found_type:
        raise Refused(f"id must begin with {quoted(found_type)}--")
    _custom_names(value, table, form)
    _required(value, found_type, table, form, custom=known is None)
    given = fit_all(value, table, "", form)
    if "granular_markings" in given:
        _granular_markings(value, given.pop("granular_markings"), table, form)
    if found_type == "marking-definition":
        _definition(value, given, form)
    if found_type == "indicator":
        _indicator(given, form)
    if form is Form.STIX_2_1 and found_type != "marking-definition":
        leave_out_the_certain(given)
    with warnings.catch_warnings():
        # observed-data with `objects` is deprecated, and allowed
        warnings.simplefilter("ignore")
        if known is None:
            parsed = _CUSTOM[form](allow_custom=True, **given)
        else:
            parsed = stix2.parse(given, allow_custom=True, version=form.text)
    created, modified = parsed.get("created"), parsed.get("modified")
    if "modified" in given and "created" in given and modified < created:
        raise Refused("modified must not be earlier than created")
    confidence = value.get("confidence")
    if form is Form.STIX_2_1 and "confidence" in table and confidence is not None and not 0 <= confidence <= 100:  # noqa: PLR2004
        raise Refused("confidence must be an integer from 0 to 100")


def _common(table: Table, names: str) -> Table:
    return MappingProxyType({name: table[name] for name in names.split()})


class _Custom20(stix2.v20._DomainObject):  # type: ignore[misc]  # noqa: SLF001
    """An object of a type that STIX 2.0 doesn't define: the common properties hold all the same."""

    _type = "x-custom"
    _properties = _common(
        stix2.v20.Vulnerability._properties,  # noqa: SLF001
        "created_by_ref created modified revoked labels external_references object_marking_refs granular_markings",
    )


class _Custom21(stix2.v21._DomainObject):  # type: ignore[misc]  # noqa: SLF001
    """The same for STIX 2.1; `defanged` is a common property of observables."""

    _type = "x-custom"
    _properties = _common(
        {**stix2.v21.URL._properties, **stix2.v21.Vulnerability._properties},  # noqa: SLF001
        "spec_version created_by_ref created modified revoked labels confidence lang external_references "
        "object_marking_refs granular_markings defanged extensions",
    )


_CUSTOM: Final[Mapping[Form, Any]] = {Form.STIX_2_0: _Custom20, Form.STIX_2_1: _Custom21}


def _known(found_type: str, form: Form) -> Any:
    """Give stix2's class for the type; None for a custom type."""
    if found_type == "bundle":
        raise Refused("a bundle can't be stored: send its objects")
    known = class_for_type(found_type, form.text, "objects")
    if known is None and form is Form.STIX_2_1:
        known = class_for_type(found_type, form.text, "observables")
    if known is not None:
        return known
    if form is Form.STIX_2_0:
        if found_type in SCO_TYPES:
            raise Refused(f"STIX 2.0 has no {found_type} outside observed-data: leave spec_version out")
        if class_for_type(found_type, Form.STIX_2_1.text, "objects") is not None:
            raise Refused(f'{found_type} exists since STIX 2.1: add "spec_version": "2.1"')
    if not _CUSTOM_TYPE[form].fullmatch(found_type):
        first = ", beginning with a letter" if form is Form.STIX_2_1 else ""
        raise Refused(f"type {quoted(found_type)} must be 3 to 250 of a-z, 0-9 and single hyphens{first}")
    return None


def _custom_names(value: Mapping[str, Any], table: Table, form: Form) -> None:
    allowed = _CUSTOM_NAME[form]
    for name in value:
        if name not in table and name not in {"type", "id"} and not allowed.fullmatch(name):
            first = ", beginning with a letter" if form is Form.STIX_2_1 else ""
            raise Refused(
                f"custom property {quoted(name)} must be named with 3 to 250 of a-z, 0-9 and underscore{first}"
            )


def _required(value: Mapping[str, Any], found_type: str, table: Table, form: Form, *, custom: bool) -> None:
    """Ask for what STIX requires and stix2 would make up.

    A custom object without timestamps is taken for an observable, which STIX 2.1 doesn't version.
    """
    versioned = not custom or form is Form.STIX_2_0 or "created" in value or "modified" in value
    missing = [
        name
        for name, prop in table.items()
        if versioned and name not in value and isinstance(prop, kinds.TimestampProperty) and hasattr(prop, "default")
    ]
    observable = found_type in SCO_TYPES or not versioned
    if form is Form.STIX_2_1 and not observable and "spec_version" not in value:
        missing.append("spec_version")
    if missing:
        raise Refused(f"required property {missing[0]} is missing")


def _granular_markings(value: Mapping[str, Any], markings: list[Any], table: Table, form: Form) -> None:
    """Check granular markings and that each selector leads somewhere.

    stix2's own check takes the square of the object's size, loses equal list items, and refuses selectors of properties
    that are false, 0 or empty.
    """
    for index, marking in enumerate(markings):
        where = f"granular_markings[{index}]"
        for selector in marking.get("selectors", ()):
            if not _leads_somewhere(value, selector):
                raise Refused(f"{where}: selector {quoted(selector)} leads to nothing in the object")
        table["granular_markings"].contained(**{**marking, **({"selectors": ["id"]} if "selectors" in marking else {})})


def _leads_somewhere(value: Any, selector: str) -> bool:
    for step in selector.split("."):
        position = _SELECTOR_STEP.fullmatch(step)
        if isinstance(value, list) and position and int(position[1]) < len(value):
            value = value[int(position[1])]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            return False
    return True


def _definition(value: Mapping[str, Any], given: dict[str, Any], form: Form) -> None:
    """Prepare what a marking-definition defines: stix2 knows two types, STIX leaves room for others."""
    if ("definition" in value) != ("definition_type" in value):
        missing = "definition" if "definition_type" in value else "definition_type"
        raise Refused(f"required property {missing} is missing")
    if "definition" not in value:
        return
    definition = dictionary(value["definition"], None, "definition", form)
    known = class_for_type(given["definition_type"], form.text, "markings")
    if known is None:
        given |= {"definition_type": "statement", "definition": {"statement": "not shown to stix2"}}
    else:
        given["definition"] = fit_all(definition, table_of(known), "definition", form)


def _indicator(given: dict[str, Any], form: Form) -> None:
    if form is Form.STIX_2_1 and given.get("pattern_type") != "stix":
        return
    pattern = given.get("pattern")
    if pattern is None:
        return
    check_pattern(pattern, form if given.get("pattern_version") != Form.STIX_2_0.text else Form.STIX_2_0)
    # checked once is enough: stix2 parses no pattern of another type, and has a short one to parse in STIX 2.0
    given["pattern"] = "[a:b = 1]"
    given.pop("pattern_version", None)
    if form is Form.STIX_2_1:
        given["pattern_type"] = "checked"


def leave_out_the_certain(given: dict[str, Any]) -> None:
    """Take out lists that stix2 can but accept in STIX 2.1, where their JSON types fit: they are a fifth of its work."""
    if all(phase.keys() == _PHASE for phase in given.get("kill_chain_phases", ())):
        given.pop("kill_chain_phases", None)
    if all(
        "source_name" in reference and "hashes" not in reference and not _ENOUGH_OF_A_REFERENCE.isdisjoint(reference)
        for reference in given.get("external_references", ())
    ):
        given.pop("external_references", None)


def _words(error: Exception, form: Form) -> str:
    if isinstance(error, TLPMarkingDefinitionError):
        return f"is not one of the TLP marking-definitions of STIX {form.text}: they have fixed ids and dates"
    if isinstance(error, InvalidValueError | InvalidObjRefError):
        text = f"{error.prop_name}: {error.reason}"
    else:
        text = str(error)
    return short(text, MOST_WORDS)


def _type_in(stix_id: str) -> str:
    return stix_id.rpartition("--")[0]
