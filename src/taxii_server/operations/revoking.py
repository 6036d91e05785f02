"""The text of a revoked version: that of the version before, with `revoked` and a later `modified`, all else verbatim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from taxii_server.domain import recalls, stix_objects
from taxii_server.domain.timestamps import to_stix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from taxii_server.domain.stix_objects import Columns
    from taxii_server.domain.stix_versions import Version

_PROPERTIES = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Revocation:
    """What has to be added so that every reader's newest version says `revoked`, and which versions say so already.

    Beside each new one stands the version that it follows. None of either: the object can't be revoked.
    """

    new: tuple[tuple[Version, Columns, bytes], ...] = ()
    already: tuple[Version, ...] = ()


def revocation(
    visible: Sequence[Version], stored: Sequence[Version], bodies: Mapping[datetime, str], now: datetime
) -> Revocation:
    """Make the revoked versions of an object that the caller can see as far as `visible`; `bodies` are those of its heads.

    `stored` are all versions, for no instant can be given out twice.
    """
    new: list[tuple[Version, Columns, bytes]] = []
    already: list[Version] = []
    taken = {version.order for version in stored}
    newest = {
        form: max(one.version_at for one in visible if one.form == form) for form in {one.form for one in visible}
    }
    for head in recalls.heads(visible):
        body = bodies[head.date_added]
        properties = _PROPERTIES.decode(body)
        if not recalls.is_revoked_by_a_new_version(head, has_modified="modified" in properties):
            return Revocation()
        if _columns(body.encode()).revoked:
            already.append(head)
            continue
        try:
            moment = recalls.moment_after(
                newest[head.form], now, {version_at for form, version_at in taken if form == head.form}
            )
        except OverflowError:
            return Revocation()
        newest[head.form] = moment
        octets = _revoked(properties, to_stix(moment))
        new.append((head, _columns(octets), octets))
    return Revocation(tuple(new), tuple(already))


def _revoked(properties: Mapping[str, msgspec.Raw], modified: str) -> bytes:
    """Write the object anew: values as they were spelled, numbers included, in the order in which they stood."""
    written: dict[str, Any] = {}
    for name, value in properties.items():
        written[name] = modified if name == "modified" else value
        if name == "modified" and "revoked" not in properties:
            written["revoked"] = True
    if "revoked" in properties:
        written["revoked"] = True
    return msgspec.json.encode(written)


def _columns(octets: bytes) -> Columns:
    return stix_objects.columns(stix_objects.parse(octets))
