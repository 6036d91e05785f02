"""Whether the values of an object have the JSON types that STIX gives them, by stix2's own property tables.

stix2 converts what it is given (numbers to text, text to booleans) and so passes much that STIX doesn't. What is left of
an object once it fits here is what stix2 may be asked about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from stix2 import properties as kinds
from stix2.registry import class_for_type

from taxii_server.domain.stix_objects import Form, Refused
from taxii_server.domain.words import quoted

Table: TypeAlias = Mapping[str, Any]
"""A class's properties as stix2 declares them: name to `Property`."""

_IDENTIFIER = re.compile(
    "(?P<type>[a-z0-9][a-z0-9-]*)--(?P<uuid>[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})"
)
_TIMESTAMP = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?Z")


def fit_all(value: Mapping[str, Any], table: Table, where: str, form: Form) -> dict[str, Any]:
    """Check the JSON types of what the table knows, and give a copy of that much.

    Raises:
        Refused: naming the first value that is of another type.
    """
    given = {}
    for name, prop in table.items():
        if name in value:
            path = f"{where}.{name}" if where else name
            if value[name] is None:
                raise Refused(f"{path} must not be null: leave it out")
            given[name] = _fit(value[name], prop, path, form)
    return given


def _fit(value: Any, prop: Any, where: str, form: Form) -> Any:
    return _shape_of(type(prop))(value, prop, where, form)


_Shape: TypeAlias = Callable[[Any, Any, str, Form], Any]
_known_shapes: dict[type, _Shape] = {}


def _shape_of(kind: type) -> _Shape:
    if kind not in _known_shapes:
        _known_shapes[kind] = next(_SHAPES[base] for base in kind.__mro__ if base in _SHAPES)
    return _known_shapes[kind]


def _string(value: Any, prop: Any, where: str, form: Form) -> Any:
    if not isinstance(value, str):
        raise Refused(f"{where} must be a string")
    return value


def _boolean(value: Any, prop: Any, where: str, form: Form) -> Any:
    if not isinstance(value, bool):
        raise Refused(f"{where} must be true or false")
    return value


def _integer(value: Any, prop: Any, where: str, form: Form) -> Any:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(f"{where} must be an integer")
    return value


def _number(value: Any, prop: Any, where: str, form: Form) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Refused(f"{where} must be a number")
    return value


def _timestamp(value: Any, prop: Any, where: str, form: Form) -> Any:
    parts = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
    if parts is None:
        raise Refused(f"{where} must be a UTC timestamp like 2024-05-02T08:15:30.000Z")
    # stix2 can't read more than six digits; STIX sets no bound
    return f"{parts[1]}{(parts[2] or '')[:7]}Z"


def identifier(value: Any, where: str, form: Form) -> str:
    """Hold an identifier against the form's rules.

    Raises:
        Refused: saying which rule.
    """
    parts = _IDENTIFIER.fullmatch(value) if isinstance(value, str) else None
    if parts is None:
        raise Refused(f"{where} must be a STIX identifier: a type, two hyphens, a UUID")
    uuid = parts["uuid"]
    if uuid[19] not in "89abAB":
        raise Refused(f"{where} must have a UUID of RFC 4122: the first digit of its fourth group is 8, 9, a or b")
    if form is Form.STIX_2_0 and uuid[14] != "4":
        raise Refused(f"{where} must have a UUID of version 4, as STIX 2.0 asks")
    return str(value)


def _reference(value: Any, prop: Any, where: str, form: Form) -> Any:
    return identifier(value, where, form)


def _list(value: Any, prop: Any, where: str, form: Form) -> Any:
    if not isinstance(value, list):
        raise Refused(f"{where} must be a list")
    if not value:
        raise Refused(f"{where} must not be an empty list: leave it out")
    if isinstance(prop.contained, kinds.Property):
        return [_fit(item, prop.contained, f"{where}[{index}]", form) for index, item in enumerate(value)]
    return [
        fit_all(dictionary(item, prop, f"{where}[{index}]", form), table_of(prop.contained), f"{where}[{index}]", form)
        for index, item in enumerate(value)
    ]


def dictionary(value: Any, prop: Any, where: str, form: Form) -> Any:
    """Hold a value against what a dictionary is in JSON.

    Raises:
        Refused: if it is anything else.
    """
    if not isinstance(value, dict):
        raise Refused(f"{where} must be a JSON object")
    return value


def _hashes(value: Any, prop: Any, where: str, form: Form) -> Any:
    given = {}
    for name, digest in dictionary(value, prop, where, form).items():
        _string(digest, prop, f"{where}.{quoted(name)}", form)
        # stix2 knows neither today's TLSH, which begins with T1, nor that an SSDEEP hash may have 148 characters
        kind = name.upper()
        given[name] = digest.removeprefix("T1") if kind == "TLSH" else digest[:128] if kind == "SSDEEP" else digest
    return given


def _embedded(value: Any, prop: Any, where: str, form: Form) -> Any:
    return fit_all(dictionary(value, prop, where, form), table_of(prop.type), where, form)


def _extensions(value: Any, prop: Any, where: str, form: Form) -> Any:
    given = {}
    for name, extension in dictionary(value, prop, where, form).items():
        path = f"{where}.{quoted(name)}"
        known = class_for_type(name, form.text, "extensions")
        dictionary(extension, prop, path, form)
        # what an unknown extension holds is between those who know it
        given[name] = {} if known is None else fit_all(extension, table_of(known), path, form)
    return given


def _observables(value: Any, prop: Any, where: str, form: Form) -> Any:
    given = {}
    for key, observable in dictionary(value, prop, where, form).items():
        path = f"{where}.{quoted(key)}"
        found_type = dictionary(observable, prop, path, form).get("type")
        _string(found_type, prop, f"{path}.type", form)
        known = class_for_type(found_type, form.text, "observables")
        fitted = {} if known is None else fit_all(observable, table_of(known), path, form)
        fitted.pop("granular_markings", None)
        given[key] = {**fitted, "type": found_type}
    return given


def _as_it_is(value: Any, prop: Any, where: str, form: Form) -> Any:
    return value


_SHAPES: Final[Mapping[type, _Shape]] = {
    kinds.StringProperty: _string,
    kinds.TypeProperty: _string,
    kinds.IDProperty: _reference,
    kinds.ReferenceProperty: _reference,
    kinds.BinaryProperty: _string,
    kinds.HexProperty: _string,
    kinds.SelectorProperty: _string,
    kinds.BooleanProperty: _boolean,
    kinds.IntegerProperty: _integer,
    kinds.FloatProperty: _number,
    kinds.TimestampProperty: _timestamp,
    kinds.ListProperty: _list,
    kinds.DictionaryProperty: dictionary,
    kinds.HashesProperty: _hashes,
    kinds.ExtensionsProperty: _extensions,
    kinds.EmbeddedObjectProperty: _embedded,
    kinds.ObservableProperty: _observables,
    kinds.Property: _as_it_is,
}


def table_of(stix2_class: Any) -> Table:
    """Give the properties that a class of stix2 declares."""
    table: Table = stix2_class._properties  # noqa: SLF001 - stix2 has no other way to its tables
    return table
