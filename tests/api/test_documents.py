"""The API documents are valid OpenAPI 3.1, whole, and without anything that leads nowhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from fastapi.routing import iter_route_contexts
from openapi_spec_validator import OpenAPIV31SpecValidator

from taxii_server.site.api_document import PATHS, contact, documents
from tests.api.document import an_app, both, operations, references

if TYPE_CHECKING:
    from tests.api.document import Operation

EXPORTED = Path(__file__).parents[2] / "openapi"
SHARED_NAMES = {"schemas", "responses", "parameters", "headers", "securitySchemes"}
# What people's browsers ask for, and the documents themselves.
_PAGES = ("/docs", "/redoc", "/assets")

every_operation = pytest.mark.parametrize("operation", operations(), ids=lambda one: one.id)
every_document = pytest.mark.parametrize("name", PATHS)


@every_document
def test_it_is_openapi_3_1(name: str) -> None:
    """By the specification's own schema, and beyond it: references, duplicate parameters, path parameters."""
    for found in (both()[name], json.loads((EXPORTED / f"{name}.json").read_text("utf-8"))):
        assert found["openapi"].startswith("3.1.")
        assert [error.message for error in OpenAPIV31SpecValidator(found).iter_errors()] == []


@every_document
def test_both_exported_forms_are_the_document(name: str) -> None:
    """JSON and YAML say the same."""
    assert json.loads((EXPORTED / f"{name}.json").read_text("utf-8")) == both()[name]
    assert yaml.safe_load((EXPORTED / f"{name}.yaml").read_text("utf-8")) == both()[name]


@every_document
def test_nothing_stands_there_unused_and_nothing_is_missing(name: str) -> None:
    """Every component is referred to, every reference leads to one."""
    document = both()[name]
    there = {f"#/components/{kind}/{one}" for kind, found in document.get("components", {}).items() for one in found}
    schemes = {
        f"#/components/securitySchemes/{scheme}"
        for methods in document["paths"].values()
        for operation in methods.values()
        for way in operation["security"]
        for scheme in way
    }

    assert set(document.get("components", {})) <= SHARED_NAMES
    assert there == set(references(document)) | schemes


def test_every_route_is_in_exactly_one_document() -> None:
    """What is served is told: but for pages and the documents, HEAD, and the second form of TAXII's paths."""
    routes = {
        (method, f"{context.path.removesuffix('/')}/" if context.path.startswith("/taxii2") else context.path)
        for context in iter_route_contexts(an_app().routes)
        for method in (context.methods or set()) - {"HEAD"}
        if context.path and context.path != "/" and not context.path.startswith((*_PAGES, *PATHS.values()))
    }
    described = [(one.method.upper(), one.path) for one in operations()]

    assert sorted(described) == sorted(routes)


def test_operations_are_called_shortly_and_once() -> None:
    """Their ids become the names of methods in generated clients, so they are words and don't change."""
    assert sorted(one.id for one in operations()) == [
        "add_objects",
        "delete_object",
        "get_api_root",
        "get_collection",
        "get_collections",
        "get_disclosures",
        "get_discovery",
        "get_health",
        "get_keys",
        "get_manifest",
        "get_object",
        "get_objects",
        "get_readiness",
        "get_recall",
        "get_server_metadata",
        "get_status",
        "get_token",
        "get_versions",
        "recall_object",
        "revoke_token",
    ]


@every_operation
def test_an_operation_is_told_in_full(operation: Operation) -> None:
    """Summary, description, a tag that is explained, and who may use it, or that anybody may."""
    content = operation.content
    tags = {tag["name"] for tag in operation.document["tags"] if tag["description"]}

    assert content["summary"]
    assert content["description"].endswith(".")
    assert set(content["tags"]) <= tags
    assert content["security"] or operation.path.startswith(("/.well-known/", "/healthz", "/readyz"))
    assert bool(content["security"]) or content["security"] == []


@every_operation
def test_every_answer_with_a_body_has_examples_that_fit(operation: Operation) -> None:
    """A reader sees what comes, and it is what the schema says."""
    for answer in operation.answers.values():
        assert answer["description"]
        for content in answer.get("content", {}).values():
            assert content["examples"]
            for example in content["examples"].values():
                assert example["summary"]
                operation.check(content["schema"], example["value"])
        for reference in answer["headers"].values():
            header = operation.resolved(reference)
            operation.check(header["schema"], header["example"])


@every_operation
def test_every_body_and_parameter_has_examples_that_fit(operation: Operation) -> None:
    """What a reader copies is understood. `next` has none: it comes from an answer."""
    for content in operation.content.get("requestBody", {"content": {}})["content"].values():
        assert content["examples"]
        for example in content["examples"].values():
            operation.check(content["schema"], example["value"])
    for parameter in operation.parameters:
        assert parameter["description"]
        assert ("examples" in parameter) == (parameter["name"] != "next")
        for example in parameter.get("examples", {}).values():
            operation.check(parameter["schema"], example["value"])


@every_operation
def test_every_link_leads_to_an_operation_and_its_parameters(operation: Operation) -> None:
    """A client generated from the document can follow it."""
    known = {one.id: {parameter["name"] for parameter in one.parameters} for one in operations()}
    links: list[dict[str, Any]] = [
        link for answer in operation.answers.values() for link in answer.get("links", {}).values()
    ]

    for link in links:
        assert set(link["parameters"]) <= known[link["operationId"]]


def test_nobody_is_told_of_health_who_asks_for_taxii() -> None:
    """Operators have a document of their own."""
    assert {path.split("/")[1] for path in both()["taxii"]["paths"]} == {"taxii2", "oauth2", ".well-known"}
    assert set(both()["operators"]["paths"]) == {"/healthz", "/readyz"}


@pytest.mark.parametrize(
    ("told", "read"),
    [
        (None, None),
        (" ", None),
        ("soc@north-bank.example", {"email": "soc@north-bank.example"}),
        ("mailto:soc@north-bank.example", {"email": "soc@north-bank.example"}),
        ("https://soc.north-bank.example/", {"url": "https://soc.north-bank.example/"}),
        ("SOC of North Bank, +44 20 7946 0000", {"name": "SOC of North Bank, +44 20 7946 0000"}),
    ],
)
def test_whom_to_ask_is_a_mail_address_a_page_or_a_name(told: str | None, read: dict[str, str] | None) -> None:
    """TAXII's contact is any text; OpenAPI's has kinds."""
    assert contact(told) == read


def test_what_the_operator_says_of_the_server_stands_in_both() -> None:
    """Title, description and contact are the settings'."""
    app = an_app()
    app.title, app.description, app.contact = "Bank exchange", "Run by the desk.", {"email": "desk@exchange.example"}

    for document in documents(app).values():
        assert document["info"]["title"].startswith("Bank exchange")
        assert document["info"]["description"].startswith("Run by the desk.\n\n")
        assert document["info"]["contact"] == {"email": "desk@exchange.example"}
        assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_the_sizes_of_pages_are_this_servers_own() -> None:
    """What the operator set is what an integrator reads."""
    limit = documents(an_app(page_size=7, page_size_max=70))["taxii"]["components"]["parameters"]["limit"]

    assert limit["schema"]["default"] == 7
    assert "Without it 7; more than 70 is cut down" in limit["description"]
