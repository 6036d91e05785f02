"""The API documents, for tests to walk through: references resolved, one row for each answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from pydantic import SecretStr

from taxii_server.app import create_app
from taxii_server.settings import Settings
from taxii_server.site.api_document import documents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

Json = dict[str, Any]


@dataclass(frozen=True)
class Operation:
    """One operation of a document."""

    document: Json
    path: str
    method: str
    content: Json

    @property
    def id(self) -> str:
        """What it is called."""
        return str(self.content["operationId"])

    @property
    def parameters(self) -> list[Json]:
        """Its parameters, references resolved."""
        return [self.resolved(one) for one in self.content.get("parameters", [])]

    @property
    def answers(self) -> dict[int, Json]:
        """Its answers by status, references resolved."""
        return {int(status): self.resolved(one) for status, one in self.content["responses"].items()}

    def resolved(self, value: Json) -> Json:
        """Follow a reference."""
        if "$ref" not in value:
            return value
        found: Any = self.document
        for step in value["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return self.resolved(found)

    def check(self, schema: Json, value: Any) -> None:
        """Hold a value to a schema of the document."""
        whole = schema | {"components": self.document.get("components", {})}
        Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)


def an_app(**over: Any) -> FastAPI:
    """Build the application as `taxii-server openapi` does: it connects to nothing."""
    url = SecretStr("postgresql+psycopg://nobody@127.0.0.1/nothing")
    return create_app(Settings.model_construct(database_url=url, secret_key=SecretStr("-"), **over))


@cache
def both() -> dict[str, Json]:
    """Give both documents by name."""
    return documents(an_app())


@cache
def operations() -> list[Operation]:
    """Give every operation of both documents."""
    return [
        Operation(document, path, method, content)
        for document in both().values()
        for path, methods in document["paths"].items()
        for method, content in methods.items()
    ]


def references(value: Any) -> Iterator[str]:
    """Give every `$ref` in a part of a document."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)
