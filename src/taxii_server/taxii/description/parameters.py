"""The parameters of TAXII's operations, each as the server reads it (§3.4, docs/rulings.md).

Examples are of the alliance that `taxii-server demo` serves, so that what the API pages try out is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from taxii_server.domain.stix_objects import LARGEST_INTEGER
from taxii_server.web.describing import Component

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taxii_server.web.describing import Json

INDICATOR: Final = "indicator--bb28639b-2379-4150-872d-101c60c62553"
"""An object of the demo in two versions."""

PUSHED: Final = "indicator--0c3bd6ae-3d4a-4c39-9c0b-6d1c2a1f3f55"
"""The object that the examples of adding add, and that of removing removes."""

RECALLED: Final = "indicator--5e1b3f0c-7a52-4c0e-9d0b-2f6a1c8e4b77"
"""The object that the examples of recalling recall."""

_OTHER_INDICATOR: Final = "indicator--826be925-e97b-42aa-a5f3-521aed787aad"
_NAME: Final = {"type": "string", "minLength": 1, "pattern": "^[^/]+$"}
_VALUE: Final = {"type": "string", "minLength": 1, "pattern": "^[^,\\u0000]+$"}
_FRACTION: Final = r"(\.\d{1,6})?"


def path_parameters() -> Mapping[str, Component]:
    """Describe what stands in paths."""
    described = [
        _of_path(
            "trust_group",
            "The trust group, an API Root of this server: the last part of one of discovery's `api_roots`.",
            _NAME,
            fraud_intel=("The demo's banks", "fraud-intel"),
            crime_desk=("The demo's banks and its police", "crime-desk"),
        ),
        _of_path(
            "collection",
            "The collection, by its `id` or its `alias`; both stand in the list of collections.",
            _NAME,
            alias=("By alias", "indicators"),
            id=("By id", "5d3b1b0a-3f0f-4a0e-9c55-0f4c3c6f7a11"),
        ),
        _of_path("object_id", "The STIX identifier of the object.", _NAME, indicator=("An indicator", INDICATOR)),
        _of_path(
            "status_id",
            "The `id` of the status that answered a POST. A status is kept for at least 24 hours.",
            _NAME,
            status=("From the answer to a POST", "2d086da7-4bdc-4f91-900e-d77486753710"),
        ),
    ]
    return {one["name"]: one for one in described} | {
        "delete_object object_id": _of_path(
            "object_id",
            "The STIX identifier of the object.",
            _NAME,
            component="object_id_to_delete",
            pushed=("What the example of adding added", PUSHED),
        ),
        "recall_object object_id": _recalled(),
        "get_recall object_id": _recalled(),
    }


def _recalled() -> Component:
    return _of_path(
        "object_id",
        "The STIX identifier of the object.",
        _NAME,
        component="object_id_to_recall",
        recalled=("An object of the client's own member", RECALLED),
    )


def query_parameters(page_size: int, page_size_max: int) -> Mapping[str, Component]:
    """Describe the fields of query strings, with this server's own page sizes."""
    described = [
        _of_query(
            "added_after",
            "Only what was added to the collection after this instant, strictly: what was added at it is left out. To "
            "go on polling, give the `X-TAXII-Date-Added-Last` of the last page. Up to nine digits of a second, of which "
            "six count; `Z` or an offset, whose `+` is sent as `%2B`.",
            {
                "type": "string",
                "format": "date-time",
                "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$",
            },
            all=("Everything there is", "2024-01-01T00:00:00Z"),
            exact=("As an answer's header has it", "2026-05-02T08:15:30.000001Z"),
            offset=("With an offset", "2026-05-02T10:15:30+02:00"),
        ),
        _of_query(
            "limit",
            f"At most so many items on the page. Without it {page_size}; more than {page_size_max} is cut down to that "
            "without a word. A page may hold fewer although more follow: only `more` tells.",
            {"type": "integer", "minimum": 1, "maximum": LARGEST_INTEGER, "default": page_size},
            five=("A short page", 5),
        ),
        _of_query(
            "next",
            "Go on where the page that gave this value ended. Opaque: take it as it is from the answer that said `more`. It "
            "carries the filters of its request: leave them out, or repeat them. Other `match` fields are refused, and so "
            "is a value of another endpoint; one of another collection, or one that a later `added_after` has left behind, "
            "is set aside. `limit` may change. It doesn't expire.",
            {"type": "string", "minLength": 1},
        ),
        _of_values(
            "match[id]",
            "Only objects with one of these STIX identifiers; with commas between them.",
            _VALUE,
            one=("One object", [INDICATOR]),
            several=("Any of two", [INDICATOR, _OTHER_INDICATOR]),
        ),
        _of_values(
            "match[type]",
            "Only objects of one of these STIX types; with commas between them.",
            _VALUE,
            one=("Indicators", ["indicator"]),
            several=("Indicators and malware", ["indicator", "malware"]),
        ),
        _versions("Without it `last`."),
        _of_values(
            "match[spec_version]",
            "Only versions in one of these STIX specification versions. Without it, of what the other filters leave only "
            "each object's latest specification version. With several, later specification versions count as later "
            "versions of the object.",
            _VALUE,
            one=("STIX 2.1 alone", ["2.1"]),
            both=("STIX 2.0 and 2.1", ["2.0", "2.1"]),
        ),
    ]
    return {one["name"]: one for one in described} | {
        "DELETE match[version]": _versions(
            "Without it, and without `match[spec_version]`, every version goes. `all` and exact versions mean every "
            "specification version, unless `match[spec_version]` names some.",
            name="match_version_to_delete",
        ),
    }


def next_of_disclosures() -> Component:
    """Describe the one field of the question who received an object."""
    return _of_query(
        "next",
        "Go on where the answer that gave this value ended. Opaque, and for the same object only. It doesn't expire.",
        {"type": "string", "minLength": 1},
        component="next_of_disclosures",
    )


def _versions(default: str, name: str | None = None) -> Component:
    exact = {
        "type": "string",
        "format": "date-time",
        "pattern": rf"^\d{{4}}-\d{{2}}-\d{{2}}T\d{{2}}:\d{{2}}:\d{{2}}{_FRACTION}Z$",
    }
    return _of_values(
        "match[version]",
        "Which versions of each object: `last` or `first` of those that the other filters leave, `all`, or exact "
        "versions: the `version` of a manifest, an object's own `modified` or `created`. With commas between them, the "
        f"union of what each gives; `all` stands alone. {default}",
        {"anyOf": [{"type": "string", "enum": ["last", "first", "all"]}, exact]},
        {"uniqueItems": True, "anyOf": [{"maxItems": 1}, {"items": {"not": {"const": "all"}}}]},
        name=name,
        all=("Every version", ["all"]),
        ends=("The first and the last", ["first", "last"]),
        exact=("One exact version", ["2026-03-02T08:00:00.000000Z"]),
    )


def _of_path(
    name: str, description: str, schema: Mapping[str, Any], component: str = "", **examples: tuple[str, Any]
) -> Component:
    content = {"name": name, "in": "path", "required": True, "description": description, "schema": schema}
    return Component("parameters", component or name, content | {"examples": _examples(examples)})


def _of_query(
    name: str,
    description: str,
    schema: Mapping[str, Any],
    more: Mapping[str, Any] | None = None,
    *,
    component: str | None = None,
    **examples: tuple[str, Any],
) -> Component:
    content: Json = {"name": name, "in": "query", "required": False, "description": description}
    content |= dict(more or {}) | {"schema": schema} | ({"examples": _examples(examples)} if examples else {})
    return Component("parameters", component or name, content)


def _of_values(
    field: str,
    description: str,
    item: Mapping[str, Any],
    besides: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    **examples: tuple[str, Any],
) -> Component:
    """Describe a field of one or more values with commas between: a field occurs once (§3.4)."""
    schema = {"type": "array", "minItems": 1, "items": item} | dict(besides or {})
    component = name or field.replace("[", "_").removesuffix("]")
    return _of_query(field, description, schema, {"style": "form", "explode": False}, component=component, **examples)


def _examples(examples: Mapping[str, tuple[str, Any]]) -> Json:
    return {name: {"summary": summary, "value": value} for name, (summary, value) in examples.items()}
