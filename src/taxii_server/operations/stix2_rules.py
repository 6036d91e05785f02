"""Whether an object is valid STIX: the `strict` validation, and the only module that imports stix2.

stix2 converts what it is given (numbers to text, text to booleans, a missing `modified` to now) and so passes much that
STIX doesn't. Before it is asked, the object is held against the JSON types of stix2's own property tables, and what
STIX leaves to the sender (custom properties, unknown extensions) is put aside: it needs no check but its name's, and
some names would collide with stix2's parameters. Patterns are checked with the OASIS grammar itself.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import antlr4
import stix2
from antlr4.error.Errors import ParseCancellationException, RecognitionException
from antlr4.error.ErrorStrategy import BailErrorStrategy
from stix2 import properties as kinds
from stix2.exceptions import (
    InvalidObjRefError,
    InvalidValueError,
    STIXError,
    TLPMarkingDefinitionError,
)
from stix2.registry import class_for_type
from stix2patterns.exceptions import ParserErrorListener
from stix2patterns.inspector import INDEX_STAR
from stix2patterns.v20.grammars.STIXPatternLexer import STIXPatternLexer as Lexer20
from stix2patterns.v20.grammars.STIXPatternParser import STIXPatternParser as Parser20
from stix2patterns.v20.inspector import InspectionListener as Inspection20
from stix2patterns.v21.grammars.STIXPatternLexer import STIXPatternLexer as Lexer21
from stix2patterns.v21.grammars.STIXPatternParser import STIXPatternParser as Parser21
from stix2patterns.v21.inspector import InspectionListener as Inspection21
from stix2patterns.v21.validator import DuplicateQualifierTypeError
from stix2patterns.v21.validator import ValidationListener as Qualifiers21

from taxii_server.domain.stix_objects import SCO_TYPES, Form, Refused

Table: TypeAlias = Mapping[str, Any]
"""A class's properties as stix2 declares them: name to `Property`."""

MOST_WORDS = 300
"""Characters of a refusal's message."""

_MOST_QUOTED = 60
_CUSTOM_NAME = {Form.STIX_2_0: re.compile("[a-z0-9_]{3,250}"), Form.STIX_2_1: re.compile("[a-z][a-z0-9_]{2,249}")}
_CUSTOM_TYPE = {
    Form.STIX_2_0: re.compile("(?!.*--)[a-z0-9-]{3,250}"),
    Form.STIX_2_1: re.compile("(?!.*--)[a-z][a-z0-9-]{2,249}"),
}
_IDENTIFIER = re.compile(
    "(?P<type>[a-z0-9][a-z0-9-]*)--(?P<uuid>[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})"
)
_TIMESTAMP = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?Z")
_SELECTOR_STEP = re.compile(r"\[([0-9]{1,9})\]")
_HASHES = {
    name.replace("-", ""): re.compile(f"[0-9a-fA-F]{{{digits}}}")
    for name, digits in {
        "MD5": 32,
        "RIPEMD-160": 40,
        "SHA-1": 40,
        "SHA-224": 56,
        "SHA-256": 64,
        "SHA-384": 96,
        "SHA-512": 128,
        "SHA3-224": 56,
        "SHA3-256": 64,
        "SHA3-384": 96,
        "SHA3-512": 128,
        "WHIRLPOOL": 128,
    }.items()
}


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
    whoever calls this for strangers sets a limit (`validation` does, for each object).

    Raises:
        Refused: naming what to mend, in at most `MOST_WORDS` characters; never anything else.
    """
    try:
        _check(value, form)
    except Refused as refused:
        if len(str(refused)) <= MOST_WORDS:
            raise
        raise Refused(_short(str(refused), MOST_WORDS)) from None
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
    table: Table = _CUSTOM[form]._properties if known is None else known._properties  # noqa: SLF001 - stix2 has no other way to its tables
    _identifier(value.get("id"), "id", form)
    if _type_in(value["id"]) != found_type:
        raise Refused(f"id must begin with {_quoted(found_type)}--")
    _custom_names(value, table, form)
    _required(value, found_type, table, form, custom=known is None)
    given = _fit_all(value, table, "", form)
    if "granular_markings" in given:
        _granular_markings(value, given.pop("granular_markings"), table, form)
    if found_type == "marking-definition":
        _definition(value, given, form)
    if found_type == "indicator":
        _indicator(given, form)
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
        raise Refused(f"type {_quoted(found_type)} must be 3 to 250 of a-z, 0-9 and single hyphens{first}")
    return None


def _custom_names(value: Mapping[str, Any], table: Table, form: Form) -> None:
    allowed = _CUSTOM_NAME[form]
    for name in value:
        if name not in table and name not in {"type", "id"} and not allowed.fullmatch(name):
            first = ", beginning with a letter" if form is Form.STIX_2_1 else ""
            raise Refused(
                f"custom property {_quoted(name)} must be named with 3 to 250 of a-z, 0-9 and underscore{first}"
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


def _fit_all(value: Mapping[str, Any], table: Table, where: str, form: Form) -> dict[str, Any]:
    """Check the JSON types of what the table knows, and give a copy of that much."""
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


def _identifier(value: Any, where: str, form: Form) -> str:
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
    return _identifier(value, where, form)


def _list(value: Any, prop: Any, where: str, form: Form) -> Any:
    if not isinstance(value, list):
        raise Refused(f"{where} must be a list")
    if not value:
        raise Refused(f"{where} must not be an empty list: leave it out")
    if isinstance(prop.contained, kinds.Property):
        return [_fit(item, prop.contained, f"{where}[{index}]", form) for index, item in enumerate(value)]
    return [
        _fit_all(_dictionary(item, prop, f"{where}[{index}]", form), _table(prop.contained), f"{where}[{index}]", form)
        for index, item in enumerate(value)
    ]


def _dictionary(value: Any, prop: Any, where: str, form: Form) -> Any:
    if not isinstance(value, dict):
        raise Refused(f"{where} must be a JSON object")
    return value


def _hashes(value: Any, prop: Any, where: str, form: Form) -> Any:
    given = {}
    for name, digest in _dictionary(value, prop, where, form).items():
        _string(digest, prop, f"{where}.{_quoted(name)}", form)
        # stix2 knows neither today's TLSH, which begins with T1, nor that an SSDEEP hash may have 148 characters
        kind = name.upper()
        given[name] = digest.removeprefix("T1") if kind == "TLSH" else digest[:128] if kind == "SSDEEP" else digest
    return given


def _embedded(value: Any, prop: Any, where: str, form: Form) -> Any:
    return _fit_all(_dictionary(value, prop, where, form), _table(prop.type), where, form)


def _extensions(value: Any, prop: Any, where: str, form: Form) -> Any:
    given = {}
    for name, extension in _dictionary(value, prop, where, form).items():
        path = f"{where}.{_quoted(name)}"
        known = class_for_type(name, form.text, "extensions")
        _dictionary(extension, prop, path, form)
        # what an unknown extension holds is between those who know it
        given[name] = {} if known is None else _fit_all(extension, _table(known), path, form)
    return given


def _observables(value: Any, prop: Any, where: str, form: Form) -> Any:
    given = {}
    for key, observable in _dictionary(value, prop, where, form).items():
        path = f"{where}.{_quoted(key)}"
        found_type = _dictionary(observable, prop, path, form).get("type")
        _string(found_type, prop, f"{path}.type", form)
        known = class_for_type(found_type, form.text, "observables")
        fitted = {} if known is None else _fit_all(observable, _table(known), path, form)
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
    kinds.DictionaryProperty: _dictionary,
    kinds.HashesProperty: _hashes,
    kinds.ExtensionsProperty: _extensions,
    kinds.EmbeddedObjectProperty: _embedded,
    kinds.ObservableProperty: _observables,
    kinds.Property: _as_it_is,
}


def _table(stix2_class: Any) -> Table:
    table: Table = stix2_class._properties  # noqa: SLF001
    return table


def _granular_markings(value: Mapping[str, Any], markings: list[Any], table: Table, form: Form) -> None:
    """Check granular markings and that each selector leads somewhere.

    stix2's own check takes the square of the object's size, loses equal list items, and refuses selectors of properties
    that are false, 0 or empty.
    """
    for index, marking in enumerate(markings):
        where = f"granular_markings[{index}]"
        for selector in marking.get("selectors", ()):
            if not _leads_somewhere(value, selector):
                raise Refused(f"{where}: selector {_quoted(selector)} leads to nothing in the object")
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
    definition = _dictionary(value["definition"], None, "definition", form)
    known = class_for_type(given["definition_type"], form.text, "markings")
    if known is None:
        given |= {"definition_type": "statement", "definition": {"statement": "not shown to stix2"}}
    else:
        given["definition"] = _fit_all(definition, _table(known), "definition", form)


def _indicator(given: dict[str, Any], form: Form) -> None:
    if form is Form.STIX_2_1 and given.get("pattern_type") != "stix":
        return
    pattern = given.get("pattern")
    if pattern is None:
        return
    check_pattern(pattern, form if given.get("pattern_version") != Form.STIX_2_0.text else Form.STIX_2_0)
    # checked once is enough
    given["pattern"] = "[a:b = 1]"
    given.pop("pattern_version", None)


def check_pattern(pattern: str, form: Form) -> None:
    """Hold a pattern against the grammar of the given form, and its hashes against their lengths.

    Raises:
        Refused: with the line and column of the first error.
    """
    tree = _tree(pattern, form)
    inspection = Inspection20() if form is Form.STIX_2_0 else Inspection21()
    try:
        _walk(tree, [inspection] if form is Form.STIX_2_0 else [inspection, Qualifiers21()])
    except DuplicateQualifierTypeError as twice:
        raise Refused(f"pattern has the qualifier {twice.qual_type.name} twice on one observation") from None
    for comparisons in inspection.pattern_data().comparisons.values():
        for path, operator, literal in comparisons:
            _pattern_hash(path, operator, literal)


def _tree(pattern: str, form: Form) -> Any:
    lexer_class, parser_class = (Lexer20, Parser20) if form is Form.STIX_2_0 else (Lexer21, Parser21)
    lexer = lexer_class(antlr4.InputStream(pattern))
    lexer.removeErrorListeners()
    parser = parser_class(antlr4.CommonTokenStream(lexer))
    parser.removeErrorListeners()
    heard = ParserErrorListener()
    parser.addErrorListener(heard)
    parser._errHandler = BailErrorStrategy()  # noqa: SLF001 - the runtime offers no other way to stop at the first error
    try:
        return parser.pattern()
    except RecursionError:
        raise Refused("pattern nests its parentheses too deeply") from None
    except ParseCancellationException as cancelled:
        cause = cancelled.args[0] if cancelled.args else None
        if isinstance(cause, RecognitionException):
            parser._errHandler.reportError(parser, cause)  # noqa: SLF001
        raise Refused(_pattern_words(getattr(heard, "error_message", ""))) from None


def _pattern_words(message: str) -> str:
    place, _, said = message.partition(": ")
    line, _, column = place.partition(":")
    if not said or not column.isdecimal():
        return "pattern is not a STIX pattern"
    return f"pattern, line {line}, column {int(column) + 1}: {_short(said, 200)}"


def _walk(tree: Any, listeners: list[Any]) -> None:
    """Walk the parse tree without recursion: a thousand alternatives make a tree a thousand levels deep."""
    stack = [(tree, False)]
    while stack:
        node, left = stack.pop()
        if not isinstance(node, antlr4.ParserRuleContext):
            continue
        if left:
            for listener in listeners:
                node.exitRule(listener)
            continue
        for listener in listeners:
            node.enterRule(listener)
        stack.append((node, True))
        stack.extend((child, False) for child in reversed(list(node.getChildren())))


def _pattern_hash(path: list[Any], operator: str, literal: str) -> None:
    if operator.removeprefix("NOT ") not in {"=", "!="} or "hashes" not in path[:-1] or path[-1] is INDEX_STAR:
        return
    name = str(path[-1])
    expected = _HASHES.get(name.upper().replace("-", ""))
    if expected is not None and literal.startswith("'") and not expected.fullmatch(literal[1:-1]):
        raise Refused(f"pattern compares {_quoted(name)} with something that is no such hash")


def _words(error: Exception, form: Form) -> str:
    if isinstance(error, TLPMarkingDefinitionError):
        return f"is not one of the TLP marking-definitions of STIX {form.text}: they have fixed ids and dates"
    if isinstance(error, InvalidValueError | InvalidObjRefError):
        text = f"{error.prop_name}: {error.reason}"
    else:
        text = str(error)
    return _short(text, MOST_WORDS)


def _quoted(text: str) -> str:
    return _short("".join(letter if letter.isprintable() else "�" for letter in text[: _MOST_QUOTED + 1]), _MOST_QUOTED)


def _short(text: str, most: int) -> str:
    plain = "".join(letter if letter.isprintable() else "�" for letter in text[: most + 1])
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def _type_in(stix_id: str) -> str:
    return stix_id.rpartition("--")[0]
