"""What schemathesis is told of this API beyond its documents: loaded by the runs of test_schemathesis, not a test itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import schemathesis
from jsonschema import Draft202012Validator, ValidationError

from tests.api.document import operations
from tests.factories import indicator

if TYPE_CHECKING:
    from schemathesis import Case, CheckContext, HookContext, Response

    AnyCase = Case[Any]

PAGES = {"get_manifest", "get_objects", "get_object", "get_versions", "get_disclosures"}


def _id(case: AnyCase) -> str:
    return str(case.operation.definition.raw["operationId"])


def _is(case: AnyCase, mode: str) -> bool:
    return case.meta is not None and case.meta.generation.mode.value == mode


@schemathesis.hook
def filter_case(context: HookContext, case: AnyCase) -> bool:
    """Leave out what breaks the schema no longer once it is written into a URL, like 17 in the place of ["17"]."""
    if not _is(case, "negative") or case.meta is None:
        return True
    broken = {where.value for where, component in case.meta.components.items() if component.mode.value == "negative"}
    return broken != {"query"} or not all(_valid_in_a_url(case, name, value) for name, value in case.query.items())


def _valid_in_a_url(case: AnyCase, name: str, value: Any) -> bool:
    parameter = case.operation.query.get(name)
    if parameter is None:
        # D-04: unknown fields are ignored
        return True
    schema = parameter.definition["schema"]
    if isinstance(value, dict) or value in ("", [], None):
        return False
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    read: Any = text.split(",") if schema["type"] == "array" else int(text) if text.isdecimal() else text
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).is_valid(read)


@schemathesis.hook
def map_case(context: HookContext, case: AnyCase) -> AnyCase:
    """Have every other of the objects that are posted be one that a strict collection takes.

    No schema can say what STIX is: without this each would be refused by itself, and nothing would ever be added.
    """
    body: Any = case.body
    if _id(case) == "add_objects" and _is(case, "positive") and isinstance(body, dict):
        taken = [
            indicator(id=f"indicator--{uuid4()}") if place % 2 == 0 else one
            for place, one in enumerate(body["objects"])
        ]
        case.body = body | {"objects": taken}
    if _id(case) in PAGES and _is(case, "positive") and len(case.query.get("next", "")) % 8:
        # most pages are asked for without a made-up `next`, which would have them refused
        del case.query["next"]
    return case


@schemathesis.check
def valid_data_is_refused_for_two_reasons(ctx: CheckContext, response: Response, case: AnyCase) -> None:
    """A 400 to data that fits the schema is about what no schema can say.

    Either which values of `next` were handed out (§3.5), or that two spellings in `match[version]` are one instant.
    """
    if _id(case) in PAGES | {"delete_object"} and _is(case, "positive") and response.status_code == 400:
        error = response.json()
        twice = error["description"] == "match[version] names a version twice."
        assert error["details"] == {"parameter": "match[version]" if twice else "next"}


@schemathesis.check
def bad_objects_are_told_in_the_status(ctx: CheckContext, response: Response, case: AnyCase) -> None:
    """An envelope whose objects break the schema is taken, and each of them is refused by itself (§4.3.1)."""
    if _id(case) == "add_objects" and _is(case, "negative") and response.status_code == 202:
        [adding] = [one for one in operations() if one.id == "add_objects"]
        for schema in adding.content["requestBody"]["content"].values():
            try:
                adding.check(schema["schema"], case.body)
            except ValidationError:
                assert response.json()["failure_count"] > 0
