"""What each TAXII operation is called and does, in Markdown, and where its answer leads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taxii_server.web.describing import Json

_HERE: Final = {"trust_group": "$request.path.trust_group", "collection": "$request.path.collection"}
_GROUP: Final = {"trust_group": "$request.path.trust_group"}


def _link(operation: str, description: str, parameters: Mapping[str, Any]) -> Json:
    return {"operationId": operation, "description": description, "parameters": dict(parameters)}


def _next_page(operation: str, **more: str) -> Json:
    parameters = _HERE | more | {"next": "$response.body#/next"}
    return {"next_page": _link(operation, "If `more` is true, the page after this one.", parameters)}


_OF_THE_OBJECT: Final = {"object_id": "$request.path.object_id"}


@dataclass(frozen=True, slots=True)
class Text:
    """What is said of one operation.

    `links` are those of its good answer, `scopes` what a token needs; `paged` answers carry dates, `kept` ones an `ETag`.
    """

    summary: str
    description: str
    links: Mapping[str, Json] = field(default_factory=dict)
    scopes: tuple[str, ...] = ()
    paged: bool = False
    kept: bool = False


TEXTS: Final[Mapping[str, Text]] = {
    "get_discovery": Text(
        "Discovery",
        "What this server is, and the API Roots in which the client sees a collection (§4.1). The one URL a client has "
        "to know.",
        kept=True,
    ),
    "get_api_root": Text(
        "API Root",
        "A trust group: its title, and the largest body that a POST to it may have (§4.2).",
        {"collections": _link("get_collections", "The collections of this API Root.", _GROUP)},
        kept=True,
    ),
    "get_status": Text(
        "Status of an addition",
        "What became of each object of an earlier POST (§4.3). Seen by the clients of the member that sent it; for "
        "everyone else it does not exist. Always `complete`: the POST was answered when all was stored.",
    ),
    "get_collections": Text(
        "List collections",
        "The collections of a trust group that the client may see, ascending by `id`, each with what it may do there "
        "(§5.1). A collection without a grant is not in the list.",
        {
            "first_collection": _link(
                "get_collection",
                "One of the collections, by its `id`.",
                _GROUP | {"collection": "$response.body#/collections/0/id"},
            ),
            "objects": _link(
                "get_objects",
                "The objects of one of the collections.",
                _GROUP | {"collection": "$response.body#/collections/0/id"},
            ),
        },
        kept=True,
    ),
    "get_collection": Text(
        "One collection",
        "A collection by `id` or `alias`, and what the client may do with it (§5.2).",
        {
            "objects": _link("get_objects", "The objects of this collection.", _HERE),
            "manifest": _link("get_manifest", "Which versions of objects there are.", _HERE),
        },
        kept=True,
    ),
    "get_manifest": Text(
        "List versions without their content",
        "Which versions of which objects match, in the order in which they were added, without the objects themselves "
        "(§5.3). Takes the same filters as reading objects, and pages the same way.",
        _next_page("get_manifest")
        | {
            "object": _link("get_object", "One of the objects.", _HERE | {"object_id": "$response.body#/objects/0/id"}),
        },
        scopes=("taxii:read",),
        paged=True,
    ),
    "get_objects": Text(
        "Read objects",
        "A page of the objects that match, in the order in which they were added, each octet for octet as it was posted "
        "(§5.4). Without filters: the last version of every object. While the answer says `more`, go on with its "
        "`next`; afterwards poll with `added_after` = its `X-TAXII-Date-Added-Last`.",
        _next_page("get_objects"),
        scopes=("taxii:read",),
        paged=True,
    ),
    "add_objects": Text(
        "Add objects",
        "Adds the objects of an envelope, or of a STIX bundle (§5.5). The answer comes when they are stored and visible, "
        "and has a verdict for each: one that is refused is listed in `failures` with what to mend, and the others are "
        "stored all the same. Only a body that is no envelope at all is refused as a whole.\n\n"
        "The same version again with the same content is a success; with other content it is a failure. Send gzip with "
        "`Content-Encoding: gzip` if you like. No more octets than the API Root's `max_content_length`, no more than "
        "100,000 objects.",
        {
            "status": _link("get_status", "The same status, later.", _GROUP | {"status_id": "$response.body#/id"}),
            "object": _link(
                "get_object",
                "The first object that was added.",
                _HERE | {"object_id": "$response.body#/successes/0/id"},
            ),
            "versions": _link("get_versions", "Its versions.", _HERE | {"object_id": "$response.body#/successes/0/id"}),
            "delete": _link("delete_object", "Take it back.", _HERE | {"object_id": "$response.body#/successes/0/id"}),
        },
        scopes=("taxii:write",),
    ),
    "get_object": Text(
        "Read one object",
        "The last version of one object, or those that the filters name (§5.6). 404 if the client sees no version of it; "
        "an empty page if it sees some, but none that matches.",
        _next_page("get_object", **_OF_THE_OBJECT)
        | {"versions": _link("get_versions", "Its versions.", _HERE | _OF_THE_OBJECT)},
        scopes=("taxii:read",),
        paged=True,
    ),
    "delete_object": Text(
        "Remove one object",
        "Removes an object, or the versions of it that are named (§5.7), if the client's own member brought them. If one "
        "of them is another member's, nothing is removed: 403. Takes both the right to read and the right to write. "
        "What is posted again afterwards is new, with a new date.",
        scopes=("taxii:read", "taxii:write"),
    ),
    "recall_object": Text(
        "Recall an object",
        "Withdraws an object that the client's own member brought: every version that the client can see has to be its "
        "member's. What STIX can revoke gets a new version, the newest one's text with `revoked` and a later "
        "`modified`, which pollers get like any other; observables and marking-definitions can't be revoked and are "
        "deleted. The object isn't taken again afterwards, from anybody: adding it is a failure that tells the reason. "
        "What was recalled already is so once more, and nothing is done. Not part of TAXII.",
        {"recall": _link("get_recall", "The same, later.", _HERE | _OF_THE_OBJECT)},
        scopes=("taxii:write",),
    ),
    "get_recall": Text(
        "How a recall stands",
        "What became of an object that the client's member had brought and that was recalled, by itself or by the "
        "operator; and of each member that had been sent it, whether the recall reached its clients and when they last "
        "polled. Not part of TAXII.",
        scopes=("taxii:write",),
    ),
    "get_versions": Text(
        "List the versions of one object",
        "The versions of an object in its latest specification version, or in those that are named, in the order in "
        "which they were added (§5.8).",
        _next_page("get_versions", **_OF_THE_OBJECT)
        | {"object": _link("get_object", "The object itself.", _HERE | _OF_THE_OBJECT)},
        scopes=("taxii:read",),
        paged=True,
    ),
    "get_disclosures": Text(
        "Who received an object",
        "Which members were sent which version of an object that the client's own member brought, first and last when, and "
        "how often: its content, or only a listing that names it. Removed versions are told of too. An extension: the "
        "standard has nothing like it. Takes the right to write; an object that another member brought does not exist here. "
        "What is told was recorded before each page was sent, so a member that is not named was sent nothing.\n\n"
        "While the answer says `more`, go on with its `next`. A member may stand on several answers with the same version: "
        "then the earliest `first` and the latest `last` count, and `times` add up.",
        {
            "next_page": _link(
                "get_disclosures",
                "If `more` is true, what follows.",
                _HERE | _OF_THE_OBJECT | {"next": "$response.body#/next"},
            ),
        },
        scopes=("taxii:write",),
    ),
}
