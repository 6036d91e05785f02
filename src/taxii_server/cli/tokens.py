"""`token`: an access token for curl; `revoke-token`: one that shall be refused."""

from __future__ import annotations

import os
import sys
from functools import partial
from getpass import getpass
from typing import Annotated

import typer

from taxii_server.auth.identify import Identifier
from taxii_server.cli import context, output
from taxii_server.domain.errors import OperatorError
from taxii_server.operations import tokens as operation
from taxii_server.operations.tokens import IssuedToken, TokenIssuing, issue_token
from taxii_server.storage.engine import Database


def token(
    client_id: Annotated[str, typer.Argument(metavar="CLIENT_ID", help="The client's id.", show_default=False)],
    scope: Annotated[
        str | None, typer.Option(help="Narrow the token, to taxii:read for one.", show_default=False)
    ] = None,
    json: output.AsJson = False,
) -> None:
    """Print an access token. The client's secret comes from TAXII_CLIENT_SECRET, or from stdin."""
    secret = _secret()
    with context.place() as here:
        here.need_schema()

        async def issue(db: Database) -> IssuedToken:
            issuing = TokenIssuing(
                identifier=Identifier(db, here.settings.public_url),
                keys=here.signing_keys(db),
                issuer=here.settings.public_url,
                lifetime=here.settings.token_lifetime,
                db=db,
            )
            return await issue_token(issuing, client_id=client_id, secret=secret, scope=scope)

        issued = here.run(issue)
    if json:
        output.as_json(
            {
                "access_token": issued.access_token,
                "token_type": "Bearer",
                "expires_in": int(issued.expires_in.total_seconds()),
                "scope": issued.scope,
            }
        )
    else:
        print(issued.access_token)


def revoke_token(
    jti: Annotated[
        str | None,
        typer.Option("--jti", metavar="JTI", help="The token's jti, as the log tells it.", show_default=False),
    ] = None,
    outside: Annotated[
        str | None,
        typer.Option("--issuer", metavar="SLUG", help="With --jti: of this outside issuer.", show_default=False),
    ] = None,
    json: output.AsJson = False,
) -> None:
    """Refuse an access token from the next request on. It comes from TAXII_TOKEN, or from stdin; or name its jti."""
    if outside is not None and jti is None:
        raise typer.BadParameter("--issuer goes with --jti; a token names its issuer itself")
    token = None if jti is not None else _token()
    with context.place() as here:
        here.need_schema()
        issuer = here.settings.public_url
        if token is not None:
            revoked = here.run(partial(operation.revoke_token, issuer=issuer, token=token))
        else:
            revoked = here.run(partial(operation.revoke_jti, issuer=issuer, jti=str(jti), outside=outside))
    if json:
        output.as_json(revoked)
    else:
        print(
            f"The token {revoked.jti} {'is' if revoked.changed else 'was'} revoked{'.' if revoked.changed else ' already.'}"
        )


def _token() -> str:
    token = os.environ.get("TAXII_TOKEN")
    if token is None:
        token = getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline()
    if not token.strip():
        raise OperatorError("No token was given: set TAXII_TOKEN, write the token to stdin, or name its --jti.")
    return token.strip()


def _secret() -> str:
    secret = os.environ.get("TAXII_CLIENT_SECRET")
    if secret is None:
        secret = getpass("Client secret: ") if sys.stdin.isatty() else sys.stdin.readline()
    if not secret.strip():
        raise OperatorError("No secret was given: set TAXII_CLIENT_SECRET, or write the secret to stdin.")
    return secret.strip()
