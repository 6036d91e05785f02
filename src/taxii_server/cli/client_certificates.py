"""`client certificate`: whose certificate is whose; `client require`: what a client must show."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from taxii_server.auth import certificates
from taxii_server.auth.certificates import Certificate
from taxii_server.cli import context, output, paste
from taxii_server.cli.context import Place
from taxii_server.domain.access import Authentication
from taxii_server.domain.errors import OperatorError
from taxii_server.operations import client_certificates as operation
from taxii_server.operations import clients
from taxii_server.operations.client_certificates import CertifiedClient

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Certificates that clients show.")

_ClientId = Annotated[str, typer.Argument(metavar="ID", help="The client's id.", show_default=False)]
_THUMBPRINT = re.compile(r"[0-9a-f]{64}")


def of_file(file: Path, *, known: bool = False) -> Certificate:
    """Read a certificate.

    Raises:
        OperatorError: naming the file and what is wrong with it.
    """
    try:
        with file.open("rb") as opened:
            # one octet more shows that there is more, whatever is behind the name
            return certificates.of_file(opened.read(certificates.LARGEST_FILE + 1), known=known)
    except OSError as error:
        raise OperatorError(f"{file} can't be read: {error.strerror}.") from error
    except OperatorError as error:
        raise OperatorError(f"{file}: {error}") from error


@app.command()
def add(
    client_id: _ClientId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The certificate, PEM or DER.", show_default=False)],
    json: output.AsJson = False,
) -> None:
    """Let a client in with this certificate as well, from the next request on."""
    certificate = of_file(file)
    added = context.run(partial(operation.add, client_id=client_id, certificate=certificate))
    thumbprint = certificate.thumbprint.hex()
    if json:
        output.as_json({"client_id": client_id, "thumbprint": thumbprint, "changed": added})
    else:
        print(f"{client_id} {'has' if added else 'had'} the certificate {thumbprint}{'.' if added else ' already.'}")
    _warn_of(certificate)


@app.command()
def remove(
    client_id: _ClientId,
    which: Annotated[
        str, typer.Argument(metavar="THUMBPRINT|FILE", help="Its SHA-256, or the file.", show_default=False)
    ],
    json: output.AsJson = False,
) -> None:
    """Refuse a certificate from the next request on, and the tokens that are bound to it."""
    hexadecimal = which.replace(":", "").lower()
    if _THUMBPRINT.fullmatch(hexadecimal):
        thumbprint = bytes.fromhex(hexadecimal)
    elif os.path.exists(which):  # noqa: PTH110 - of a name too long for a file it says no, and Path raises
        thumbprint = of_file(Path(which), known=True).thumbprint
    else:
        raise OperatorError(f"{which} is neither a SHA-256 thumbprint, 64 hexadecimal digits, nor a file.")
    left = context.run(partial(operation.remove, client_id=client_id, thumbprint=thumbprint))
    if json:
        output.as_json({"client_id": client_id, "thumbprint": thumbprint.hex(), "certificates": left.certificates})
    else:
        print(f"{client_id} no longer has the certificate {thumbprint.hex()}.")
    if not left.certificates and left.authentication is not Authentication.ANY:
        output.note(
            f"Warning: {client_id} must show a certificate and has none that holds: it is refused until it has."
        )


@app.command("list")
def list_certificates(
    client_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Only this client's.")] = None,
    json: output.AsJson = False,
) -> None:
    """List certificates with their thumbprints, those that expired too."""
    listed = context.run(partial(operation.listing, client_id=client_id))
    if json:
        output.as_json(listed)
        return
    output.table(
        ("CLIENT", "THUMBPRINT (SHA-256)", "SUBJECT", "STATE", "VALID FROM", "UNTIL", "ADDED"),
        [
            (one.client_id, one.thumbprint, one.subject, one.state, one.not_before, one.not_after, one.added_at)
            for one in listed
        ],
        "There are no certificates: taxii-server client certificate add ID FILE",
    )


def require(
    client_id: _ClientId,
    must: Annotated[
        Authentication,
        typer.Argument(
            metavar="any|certificate|both", help="Either, a certificate, or it and a secret.", show_default=False
        ),
    ],
    json: output.AsJson = False,
) -> None:
    """Set what a client must show from its next request on: a secret or a certificate, a certificate, or both."""
    changed = context.run(partial(operation.require, client_id=client_id, must=must))
    if json:
        output.as_json({"client_id": client_id, "authentication": must.value, "changed": changed})
        return
    words = {
        Authentication.ANY: "a secret or a certificate",
        Authentication.CERTIFICATE: "a certificate, and has no secret",
        Authentication.BOTH: "a certificate and its secret",
    }[must]
    print(f"{client_id} {'must' if changed else 'had to'} show {words}{'.' if changed else ' already.'}")


def _warn_of(certificate: Certificate) -> None:
    if certificate.not_before > datetime.now(UTC):
        output.note(
            f"Warning: this certificate holds from {certificate.not_before:%Y-%m-%d %H:%MZ} on, and not before."
        )


def tell(here: Place, issued: CertifiedClient, shown: Sequence[Certificate], *, json: bool) -> None:
    """Tell what a client with these certificates was issued as, and how it is tried."""
    if json:
        output.as_json(
            {"client_id": issued.client_id, "client_secret": issued.client_secret, "thumbprints": issued.thumbprints}
        )
    else:
        print(f"client id      {issued.client_id}")
        for thumbprint in issued.thumbprints:
            print(f"certificate    {thumbprint}")
        by_secret = ""
        if issued.client_secret is None:
            print("It has no secret: the certificate alone is enough.")
        else:
            print(f"client secret  {issued.client_secret}")
            print("The secret is not shown again. Each request takes both.", flush=True)
            by_secret = f"-u '{issued.client_id}:{issued.client_secret}' "
        print()
        print(
            f"curl --cert client.pem --key client.key {by_secret}-H 'Accept: application/taxii+json;version=2.1' "
            f"{here.settings.public_url}/taxii2/"
        )
    for certificate in shown:
        _warn_of(certificate)
    for warning in paste.warnings(here.run(partial(clients.reach, client_id=issued.client_id))):
        output.note(f"Warning: {warning}")
    if here.settings.client_cert_header is None:
        output.note(
            "Warning: TAXII_CLIENT_CERT_HEADER is not set here: a server without it sees no certificates "
            "and lets this client in nowhere."
        )
