"""What `apply` did, as acts: each step of a plan says what it calls with what, and that is what is written down."""

from __future__ import annotations

from dataclasses import is_dataclass
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from taxii_server.domain.audit import ALLIANCE, OPERATOR, Act, Contents, Entry, of_collection
from taxii_server.domain.tlp import Level
from taxii_server.operations import durations
from taxii_server.operations.alliance_steps import Kind
from taxii_server.storage import alliance, issuers
from taxii_server.storage.levels import Releveled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from taxii_server.operations.alliance_steps import Step

_ACTS: Final[Mapping[Callable[..., Any], Mapping[Kind, Act]]] = MappingProxyType(
    {
        alliance.add_trust_group: {Kind.CREATE: Act.TRUST_GROUP_CREATED},
        alliance.change_trust_group: {Kind.CHANGE: Act.TRUST_GROUP_CHANGED},
        alliance.remove_trust_group: {Kind.DELETE: Act.TRUST_GROUP_REMOVED},
        alliance.put_member: {Kind.CREATE: Act.MEMBER_CREATED, Kind.CHANGE: Act.MEMBER_CHANGED},
        alliance.remove_member: {Kind.DELETE: Act.MEMBER_REMOVED},
        alliance.add_collection: {Kind.CREATE: Act.COLLECTION_CREATED},
        alliance.change_collection: {Kind.CHANGE: Act.COLLECTION_CHANGED},
        alliance.remove_collection: {Kind.DELETE: Act.COLLECTION_REMOVED},
        alliance.put_grant: {Kind.CREATE: Act.GRANT_GIVEN, Kind.CHANGE: Act.GRANT_CHANGED},
        alliance.remove_grant: {Kind.DELETE: Act.GRANT_WITHDRAWN},
        issuers.put: {Kind.CREATE: Act.ISSUER_CREATED, Kind.CHANGE: Act.ISSUER_CHANGED},
        issuers.remove: {Kind.DELETE: Act.ISSUER_REMOVED},
    }
)
# a grant on a collection is a step of its own
_TOLD_ELSEWHERE: Final = frozenset({"grants"})


def entries(step: Step, done: object) -> Iterator[Entry]:
    """Give what is written down of a step that was taken; `done` is what it gave back, the versions it was about or nothing.

    The collection's clock is locked where it is written in that one's stream.

    Raises:
        KeyError: if nobody said which act it is.
    """
    if not isinstance(step.act, partial):
        raise KeyError(step.what)
    named = step.act.keywords
    if isinstance(done, Releveled):
        was = {level.text: versions for level, versions in sorted(done.was.items())}
        told = {**done.contents.details, "was": was, "level": _plain(named["level"])}
        yield Entry(of_collection(named["where"].collection_id), Act.OBJECTS_RELEVELED, OPERATOR, told)
        return
    if isinstance(done, Contents):
        yield Entry(of_collection(named["where"].collection_id), Act.OBJECTS_PRUNED, OPERATOR, done.details)
    details = {name: _plain(value) for name, value in named.items()}
    yield Entry(ALLIANCE, _ACTS[step.act.func][step.kind], OPERATOR, {"what": step.what, **details})


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one for each kind of value
    """Write a value as JSON has it: levels and lengths of time as alliance.yaml does."""
    match value:
        case Level():
            return value.text
        case UUID():
            return str(value)
        case timedelta():
            return durations.write(value)
        case frozenset():
            return sorted(value)
        case dict():
            return {name: _plain(each) for name, each in value.items() if name not in _TOLD_ELSEWHERE}
        case tuple():
            return [_plain(each) for each in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return _plain({name: getattr(value, name) for name in value.__dataclass_fields__})
        case _:
            return value
