"""`openapi`: the documents in openapi/, written or compared."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import SecretStr

from taxii_server.app import create_app
from taxii_server.cli import output
from taxii_server.domain.errors import OperatorError
from taxii_server.settings import Settings
from taxii_server.site.api_document import documents


def openapi(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 if a file differs.")] = False,
    folder: Annotated[Path, typer.Option("--folder", help="Where the documents are.")] = Path("openapi"),
    json: output.AsJson = False,
) -> None:
    """Write the API's OpenAPI documents, or see whether they are up to date."""
    wanted = _documents()
    differing = [str(folder / name) for name, text in wanted.items() if _read(folder / name) != text]
    if not check:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in wanted.items():
            (folder / name).write_text(text, encoding="utf-8")
    if json:
        output.as_json({"checked" if check else "written": differing})
    elif check and differing:
        raise OperatorError(f"{' and '.join(differing)} out of date: run taxii-server openapi and commit.")
    else:
        print("Up to date." if not differing else f"Written: {', '.join(differing)}")
    if check and differing:
        raise typer.Exit(output.REFUSED)


def _documents() -> dict[str, str]:
    # defaults only: the documents depend on nobody's environment, and nothing is connected to
    settings = Settings.model_construct(
        database_url=SecretStr("postgresql+psycopg://nobody@127.0.0.1/nothing"), secret_key=SecretStr("-")
    )
    written = {}
    for name, document in documents(create_app(settings)).items():
        written[f"{name}.json"] = jsonlib.dumps(document, indent=2, ensure_ascii=False) + "\n"
        written[f"{name}.yaml"] = yaml.dump(document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
    return written


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


class _Plain(yaml.SafeDumper):
    """Writes every value where it stands, without YAML's anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
