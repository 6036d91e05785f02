"""Push a STIX bundle or TAXII envelope to a TAXII 2.1 collection, and say what became of each object.

    python pusher.py https://taxii.example.org/taxii2/fraud-intel/collections/<id>/ bundle.json --report report.json
    produce-indicators | python pusher.py https://…/collections/<id>/ -

Credentials come from the environment, see taxii_http.py. The objects are split into envelopes that the server takes
whole: their octets stay within the API Root's `max_content_length`. A push that was cut off is sent again, and a file
that was pushed in part can be pushed again: what is there already with the same content is a success, not a second
copy.

Exit codes: 0, all objects are stored; 1, some were refused, the report says which and why; 2, the push did not happen
or stopped half way.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from taxii_http import Body, Taxii, TaxiiError, collection_url

_HEAD, _TAIL = b'{"objects":[', b"]}"


@dataclass(frozen=True)
class Item:
    """An object, as it stands in an envelope."""

    id: str
    version: str | None
    octets: bytes


@dataclass
class Report:
    """What became of the objects."""

    objects: int
    stored: int = 0
    refused: list[dict[str, str | None]] = field(default_factory=list)
    pending: int = 0

    def refuse(self, item: Item, message: str) -> None:
        """Add an object that no server was asked about, or that came back unjudged."""
        self.refused.append({"id": item.id, "version": item.version, "message": message})


class Pusher:
    """Pushes to one collection."""

    def __init__(self, taxii: Taxii, collection: str, *, patience: float) -> None:
        self._taxii = taxii
        self._objects_url = f"{collection}objects/"
        self._api_root = collection.rpartition("collections/")[0]
        self._patience = patience

    def push(self, items: Sequence[Item], count: int, report: Report) -> None:
        """Push objects in envelopes of at most `count`, filling the report in."""
        limit = self._taxii.get(self._api_root)[0].get("max_content_length")
        if not isinstance(limit, int):
            raise TaxiiError(f"{self._api_root} has no max_content_length, so it is no API Root of TAXII 2.1")
        fitting = []
        for item in items:
            length = len(envelope([item]))
            if length <= limit:
                fitting.append(item)
            else:
                report.refuse(item, f"takes an envelope of {length} octets; the server takes {limit}")
        for part in split(fitting, limit, count):
            self._push(part, report)
            done = report.stored + len(report.refused) + report.pending
            print(f"{done} of {report.objects}", file=sys.stderr, flush=True)

    def _push(self, items: Sequence[Item], report: Report) -> None:
        try:
            status = self._taxii.post(self._objects_url, envelope(items))
        except TaxiiError as error:
            if error.status != httpx.codes.REQUEST_ENTITY_TOO_LARGE:
                raise
            # something between here and there takes less than the API Root says
            if len(items) == 1:
                report.refuse(items[0], str(error))
                return
            middle = len(items) // 2
            self._push(items[:middle], report)
            self._push(items[middle:], report)
            return
        self._count(self._completed(status), report)

    def _completed(self, status: Body) -> Body:
        """Wait until the server has judged all objects of an envelope (§4.3), or patience ends."""
        until, pause = time.monotonic() + self._patience, 0.25
        while status["status"] != "complete" and time.monotonic() < until:
            time.sleep(pause)
            pause = min(pause * 2, 10)
            status, _ = self._taxii.get(f"{self._api_root}status/{status['id']}/")
        return status

    @staticmethod
    def _count(status: Body, report: Report) -> None:
        report.stored += status["success_count"]
        report.pending += status["pending_count"]
        named = status.get("failures", [])
        report.refused += [{name: one.get(name) for name in ("id", "version", "message")} for one in named]
        unnamed = status["failure_count"] - len(named)  # the list is optional in the standard
        report.refused += [{"id": None, "version": None, "message": f"refused, see status {status['id']}"}] * unnamed


def envelope(items: Sequence[Item]) -> bytes:
    """Give the octets of an envelope, the ones that are sent and counted."""
    return _HEAD + b",".join(item.octets for item in items) + _TAIL


def split(items: Sequence[Item], limit: int, count: int) -> Iterator[list[Item]]:
    """Cut objects into envelopes of at most `limit` octets and `count` objects, in order."""
    part: list[Item] = []
    octets = len(_HEAD) + len(_TAIL)
    for item in items:
        added = len(item.octets) + len(b",") * bool(part)
        if part and (octets + added > limit or len(part) == count):
            yield part
            part, octets, added = [], len(_HEAD) + len(_TAIL), len(item.octets)
        part.append(item)
        octets += added
    if part:
        yield part


def read(text: bytes) -> list[Item]:
    """Read the objects of a bundle or an envelope."""
    content: Any = json.loads(text)
    objects = content.get("objects") if isinstance(content, dict) else None
    if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
        raise ValueError("this is neither a STIX bundle nor a TAXII envelope: it needs a list of objects")
    return [
        Item(
            str(one.get("id")),
            one.get("modified", one.get("created")),
            json.dumps(one, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(),
        )
        for one in objects
    ]


def main() -> int:
    """Push one file."""
    parser = argparse.ArgumentParser(description="Push a STIX bundle or envelope to a TAXII 2.1 collection.")
    parser.add_argument("collection", help="URL of the collection, ending in /collections/<id>/")
    parser.add_argument("file", help="the bundle or envelope; - reads stdin")
    parser.add_argument("--report", type=Path, help="where to write the report (stdout)")
    parser.add_argument("--count", type=int, default=1000, help="objects an envelope, at most (1000)")
    parser.add_argument("--patience", type=float, default=300, help="seconds to go on trying (300)")
    parser.add_argument("--backoff", type=float, default=1, help="first pause before another try, in seconds (1)")
    options = parser.parse_args()
    try:
        items = read(sys.stdin.buffer.read() if options.file == "-" else Path(options.file).read_bytes())
    except (OSError, ValueError) as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 2
    report, failed = Report(len(items)), False
    try:
        collection = collection_url(options.collection)
        taxii = Taxii(patience=options.patience, backoff=options.backoff)
        Pusher(taxii, collection, patience=options.patience).push(items, options.count, report)
    except TaxiiError as error:
        print(f"{options.collection}: {error}", file=sys.stderr)
        failed = True
    told = json.dumps(asdict(report), indent=2, ensure_ascii=False) + "\n"
    if options.report is None:
        sys.stdout.write(told)
    else:
        options.report.write_text(told, encoding="utf-8")
    return 2 if failed or report.pending else 1 if report.refused else 0


if __name__ == "__main__":
    sys.exit(main())
