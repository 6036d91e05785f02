"""How the faces describe their operations for the API documents (OpenAPI 3.1).

A face hands each route one operation, written out whole as a plain dict, as the route's `openapi_extra`. What several
operations share is a `Component`: it is used where it is meant, and `assemble` puts it among the document's components
and a `$ref` in its place. So no reference leads nowhere, and nothing stands there that no operation uses.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from fastapi.routing import iter_route_contexts
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fastapi import FastAPI
    from pydantic import BaseModel
    from pydantic_core import core_schema

Json = dict[str, Any]

_REFERENCE: Final = "#/components/schemas/"


class Component(Json):
    """A part of a document that stands in it once, under `#/components/{kind}/{name}`."""

    def __init__(self, kind: str, name: str, content: Mapping[str, Any]) -> None:
        """Take where it belongs, and what it is."""
        super().__init__(content)
        self.kind = kind
        self.name = name


def header(name: str, description: str, variant: str = "", *, example: Any, **schema: Any) -> Component:
    """Describe a header that an answer always has; `variant` tells headers of one name apart."""
    described = {"description": description, "required": True, "schema": {"type": "string"} | schema}
    return Component("headers", f"{name}.{variant}" if variant else name, described | {"example": example})


def vary(value: str, variant: str = "") -> Component:
    """Describe on what else an answer depends."""
    return header("Vary", "What else the answer depends on, for whoever keeps it.", variant, example=value)


_TAG: Final = 'W/"8f0c4c1e3c7e4c0f9b7d2a5e6f1a3b2c"'

REQUEST_ID: Final = header(
    "X-Request-ID",
    "Names this request in the operator's log; in an error it is also the `error_id`.",
    format="uuid",
    example="9f0a2c56-4f0e-4b62-8a52-2f9f8ad7e6a3",
)
RETRY_AFTER: Final = header(
    "Retry-After", "Seconds after which the same request may succeed.", type="integer", minimum=1, example=5
)
ETAG: Final = header(
    "ETag",
    "Names this state of the answer: send it as `If-None-Match` to be told whether it changed.",
    pattern='^W/"[0-9a-f]{32}"$',
    example=_TAG,
)
IF_NONE_MATCH: Final = Component(
    "parameters",
    "If-None-Match",
    {
        "name": "If-None-Match",
        "in": "header",
        "required": False,
        "description": "The `ETag` of an earlier answer: if it is still true, 304 without a body.",
        "schema": {"type": "string"},
        "examples": {"kept": {"summary": "The ETag of an earlier answer", "value": _TAG}},
    },
)


@cache
def schema(model: type[BaseModel]) -> Component:
    """Describe a model, by its name."""
    _, found = models_json_schema(
        [(model, "serialization")], schema_generator=_OnTheWire, ref_template=_REFERENCE + "{model}"
    )
    definitions = found["$defs"]

    def component(name: str) -> Component:
        return Component("schemas", name, linked(definitions[name]))

    def linked(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return component(value["$ref"].removeprefix(_REFERENCE))
            return {name: linked(inner) for name, inner in value.items()}
        return [linked(inner) for inner in value] if isinstance(value, list) else value

    return component(model.__name__)


def answer(
    description: str,
    *headers: Component,
    media_type: str | None = None,
    model: type[BaseModel] | None = None,
    examples: Mapping[str, Json] | None = None,
    links: Mapping[str, Json] | None = None,
) -> Json:
    """Describe an answer; without a model it has no body."""
    described: Json = {"description": description, "headers": {one.name.partition(".")[0]: one for one in headers}}
    if media_type is not None and model is not None:
        described["content"] = {media_type: {"schema": schema(model), "examples": examples or {}}}
    if links:
        described["links"] = links
    return described


@cache
def examples(package: str, name: str) -> Mapping[str, Mapping[str, Json]]:
    """Read the examples of one operation, `examples/{name}.json` of a package.

    By status, or by the media type of what is sent; then by name.
    """
    found: dict[str, dict[str, Json]] = json.loads(
        resources.files(package).joinpath("examples", f"{name}.json").read_text("utf-8")
    )
    return found


def operations(app: FastAPI) -> Iterator[tuple[str, str, Json]]:
    """Give path, method and description of every route that has one."""
    for context in iter_route_contexts(app.routes):
        described = getattr(context.route, "openapi_extra", None)
        if described and context.path is not None:
            for method in sorted(context.methods or ()):
                yield context.path, method.lower(), described


def assemble(head: Mapping[str, Any], described: Iterable[tuple[str, str, Json]]) -> Json:
    """Put a document together from its head, security schemes included, and its operations."""
    components: dict[str, Json] = {}

    def placed(value: Any) -> Any:
        if isinstance(value, Component):
            content = {name: placed(inner) for name, inner in value.items()}
            if components.setdefault(value.kind, {}).setdefault(value.name, content) != content:
                message = f"two {value.kind} are called {value.name}"
                raise ValueError(message)
            return {"$ref": f"#/components/{value.kind}/{value.name}"}
        if isinstance(value, dict):
            return {name: placed(inner) for name, inner in value.items()}
        return [placed(inner) for inner in value] if isinstance(value, list | tuple) else value

    paths: dict[str, Json] = {}
    for path, method, operation in described:
        paths.setdefault(path, {})[method] = placed(operation)
    own = placed(head.get("components", {}))
    shared = {kind: dict(sorted(found.items())) for kind, found in sorted((own | components).items())}
    document: Json = {"openapi": "3.1.0"} | placed(dict(head)) | {"paths": paths}
    return document | ({"components": shared} if shared else {})


class _OnTheWire(GenerateJsonSchema):
    """Schemas of what is sent: a property without a value is left out and never null; all others are always there."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Json:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Json:
        return self.generate_inner(schema["schema"])

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        inner = field["schema"]
        return not (inner["type"] == "default" and inner.get("default", inner) is None)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> Json:
        described = super().model_schema(schema)
        described.pop("title", None)
        return described
