"""Which credentials were let in before, without a certificate: what they may do now is asked in short (`storage.standing`).

Whether they still hold is asked each time. To know them only tells in which of two ways to ask first, and who was let in with a
certificate is none of them: or a thief without it would cost another number of statements than one with a wrong secret.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import Final

MOST: Final = 4_096
"""Credentials that are remembered, by digest."""


class LetIn:
    """Secrets, or tokens; make one for each."""

    def __init__(self, most: int = MOST) -> None:
        """Take how many to remember."""
        self._most = most
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def knows(self, client_id: str, credential: str) -> bool:
        """Tell whether a client was let in with this."""
        name = _digest(client_id, credential)
        if name not in self._known:
            return False
        self._known.move_to_end(name)
        return True

    def keep(self, client_id: str, credential: str) -> None:
        """Remember it, and forget what wasn't shown for the longest."""
        name = _digest(client_id, credential)
        self._known[name] = None
        self._known.move_to_end(name)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def forget(self, client_id: str, credential: str) -> None:
        """Know it no more: it was refused."""
        self._known.pop(_digest(client_id, credential), None)


def _digest(client_id: str, credential: str) -> bytes:
    return sha256(f"{client_id}\0{credential}".encode("utf-8", "surrogatepass")).digest()
