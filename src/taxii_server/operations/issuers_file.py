"""The `issuers` of alliance.yaml: who, besides this server, may vouch for clients that an operator ties to them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import yaml

from taxii_server.domain.issuers import ALGORITHMS, url_problem
from taxii_server.domain.words import did_you_mean
from taxii_server.operations.yaml_nodes import Entry, Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_ISSUERS: Final = 64
"""Each may cost a worker a fetch and some memory."""

_CLAIM: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")


@dataclass(frozen=True, slots=True)
class WantedIssuer:
    """An issuer as the file wants it; `claim` names the claim of its tokens that says which client it is."""

    slug: str
    issuer: str
    audience: str
    line: int
    jwks_uri: str | None = None
    claim: str = "sub"
    algorithms: tuple[str, ...] = ()


class IssuersReader(Reader):
    """Walks the nodes below `issuers`."""

    def issuers(self, node: yaml.Node, slug: re.Pattern[str]) -> tuple[WantedIssuer, ...]:
        """Read them all; `slug` is what one may be called."""
        found = tuple(self._issuers(node, slug))
        if len(found) > MOST_ISSUERS:
            self.problem(node, f"there are {len(found)} issuers; this server takes {MOST_ISSUERS}")
        lines: dict[str, int] = {}
        for one in found:
            if one.issuer and one.issuer in lines:
                self.problem(one.line, f"issuer {one.issuer!r} is there twice; see line {lines[one.issuer]}")
            lines[one.issuer] = one.line
        return found

    def _issuers(self, node: yaml.Node, slug: re.Pattern[str]) -> Iterator[WantedIssuer]:
        for entry in self.entries(node, "issuers"):
            if not slug.fullmatch(entry.key):
                self.problem(entry.line, f"issuer {entry.key!r} must be called by 1 to 63 small letters, digits or '-'")
            parts = self.mapping(
                entry.value,
                f"issuer {entry.key}",
                required=("issuer", "audience", "algorithms"),
                optional=("jwks_uri", "claim"),
            )
            yield WantedIssuer(
                slug=entry.key,
                issuer=self._url(parts.get("issuer"), "issuer") or "",
                audience=self.words(parts.get("audience"), "audience") or "",
                line=entry.line,
                jwks_uri=self._url(parts.get("jwks_uri"), "jwks_uri"),
                claim=self._claim(parts.get("claim")),
                algorithms=self._algorithms(parts.get("algorithms")),
            )

    def _url(self, entry: Entry | None, what: str) -> str | None:
        text = self.words(entry, what)
        problem = None if text is None else url_problem(text)
        if entry is not None and problem:
            self.problem(entry.value, f"{what} {text!r} {problem}")
            return None
        return text

    def _claim(self, entry: Entry | None) -> str:
        text = self.words(entry, "claim")
        if entry is not None and text is not None and not _CLAIM.fullmatch(text):
            self.problem(entry.value, f"claim {text!r} must be the name of a claim, like sub, client_id or azp")
        return text or "sub"

    def _algorithms(self, entry: Entry | None) -> tuple[str, ...]:
        if entry is None:
            return ()
        if not isinstance(entry.value, yaml.SequenceNode) or not entry.value.value:
            self.problem(entry.line, "algorithms must be a list, like [RS256] or [ES256, ES384]")
            return ()
        found: list[str] = []
        for node in entry.value.value:
            told = node.value if isinstance(node, yaml.ScalarNode) else "a list or mapping"
            if told in ALGORITHMS and told not in found:
                found.append(told)
            elif told in found:
                self.problem(node, f"the algorithm {told} is there twice")
            else:
                hint = did_you_mean(told, ALGORITHMS)
                self.problem(node, f"unknown algorithm {told!r}: there are {', '.join(ALGORITHMS)}{hint}")
        return tuple(sorted(found))


def read_issuers(
    node: yaml.Node | None, file: str, slug: re.Pattern[str]
) -> tuple[tuple[WantedIssuer, ...], set[tuple[int, str]]]:
    """Read the issuers of a file, and what is wrong with them, by line."""
    if node is None:
        return (), set()
    reader = IssuersReader(file)
    return reader.issuers(node, slug), reader.problems
