"""What a client's owner pastes: the URLs that products ask for, lines for curl, lines of Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from taxii_server.domain.access import Right
from taxii_server.operations.clients import IssuedClient, Reach, Reached

_MEDIA_TYPE: Final = "application/taxii+json;version=2.1"
_MANY: Final = 12
_ACCEPT: Final = f"-H 'Accept: {_MEDIA_TYPE}'"
# takes the token out of the JSON without a tool that may not be there
_PICK: Final = """sed 's/.*"access_token": *"\\([^"]*\\)".*/\\1/'"""


def lines(issued: IssuedClient, reach: Reach, public_url: str) -> list[str]:
    """Everything to paste for a client, by what it may do; nothing in a line needs quoting for a shell.

    Each curl line stands alone: it can be copied without the others. The secret is in it, as the value of -u, which curl
    itself hides from the process list as soon as it runs.
    """
    read, write = _of(reach.collections, Right.READ), _of(reach.collections, Right.WRITE)
    said = ["", *_places(reach.collections, public_url), "", *_curl(issued, read, write, public_url)]
    said += ["", "Whether all is well from where it will run, step by step:", "", _check(issued, public_url)]
    if read or write:
        said += ["", "The same in Python, with pip install taxii2-client:", "", *python(issued, reach, public_url)]
    return said


def warnings(reach: Reach) -> list[str]:
    """Say why a client can do nothing yet, and what would change that."""
    said = []
    if not reach.collections:
        said.append(f"this client sees nothing yet: grant {reach.member} a collection in alliance.yaml and apply it.")
    elif not any(one.rights for one in reach.collections):
        said.append(
            "this client may neither read nor write anywhere: the rights it was issued for are not among those "
            f"{reach.member} is granted. Grant them in alliance.yaml, or issue a client with other --rights."
        )
    if reach.suspended:
        said.append(f"{reach.member} is suspended: its clients are refused until taxii-server member resume.")
    return said


def python(issued: IssuedClient, reach: Reach, public_url: str) -> list[str]:
    """Lines for the OASIS client that run as they are."""
    read, write = _of(reach.collections, Right.READ), _of(reach.collections, Right.WRITE)
    said = [f"from taxii2client.v21 import {'Collection, as_pages' if read else 'Collection'}", ""]
    if read:
        said += [
            *_collection("feed", issued, _url(read, public_url)),
            "for page in as_pages(feed.get_objects, per_request=1000):",
            '    for stix_object in page.get("objects", []):',
            '        print(stix_object["id"], stix_object.get("name", ""))',
            "",
        ]
    if write:
        said += [
            *([] if write is read else _collection("feed", issued, _url(write, public_url))),
            'with open("bundle.json", "rb") as bundle:',
            "    status = feed.add_objects(bundle.read())",
            "",
            "print(status.status, status.success_count, status.failure_count, status.failures)",
            "",
        ]
    return said


def _of(collections: Sequence[Reached], right: Right) -> Reached | None:
    """Choose a collection for an example: one to read and write if there is one, so that the lines fit together."""
    able = [one for one in collections if right in one.rights]
    return next((one for one in able if one.rights == frozenset(Right)), able[0] if able else None)


def _places(collections: Sequence[Reached], public_url: str) -> list[str]:
    said = [f"discovery      {public_url}/taxii2/"]
    for one in collections[:_MANY]:
        may = " and ".join(sorted(one.rights)) or "neither read nor write"
        said += [
            "",
            f"collection     {one.collection.title} (may {may})",
            f"  API root     {public_url}/taxii2/{one.trust_group.slug}/",
            f"  id           {one.collection.id}",
            f"  objects      {_url(one, public_url)}objects/",
        ]
    if len(collections) > _MANY:
        said += ["", f"and {len(collections) - _MANY} more: each API Root lists its own at collections/"]
    return said


def _curl(issued: IssuedClient, read: Reached | None, write: Reached | None, public_url: str) -> list[str]:
    basic = f"-u '{issued.client_id}:{issued.client_secret}'"
    said = [
        "Lines to paste, each by itself: discovery, then what the client may do"
        + (" (bundle.json: a STIX bundle or TAXII envelope of yours)." if write else "."),
        "",
        f"curl {basic} {_ACCEPT} {public_url}/taxii2/",
    ]
    if read:
        said.append(f"curl -i {basic} {_ACCEPT} '{_url(read, public_url)}objects/?limit=5'")
    if write:
        target = f"{_url(write, public_url)}objects/"
        said.append(f"curl {basic} {_ACCEPT} -H 'Content-Type: {_MEDIA_TYPE}' --data-binary @bundle.json {target}")
    return [
        *said,
        "",
        "With a token in place of the secret:",
        "",
        f"TOKEN=$(curl -s {basic} -d grant_type=client_credentials {public_url}/oauth2/token | {_PICK})",
        f'curl -H "Authorization: Bearer $TOKEN" {_ACCEPT} {public_url}/taxii2/',
    ]


def _check(issued: IssuedClient, public_url: str) -> str:
    secret = f"TAXII_CLIENT_SECRET='{issued.client_secret}'"
    return f"{secret} taxii-server check {public_url}/taxii2/ --client '{issued.client_id}'"


def _collection(name: str, issued: IssuedClient, url: str) -> list[str]:
    return [
        f"{name} = Collection(",
        f'    "{url}",',
        f'    user="{issued.client_id}",',
        f'    password="{issued.client_secret}",',
        ")",
    ]


def _url(one: Reached, public_url: str) -> str:
    return f"{public_url}/taxii2/{one.trust_group.slug}/collections/{one.collection.id}/"
