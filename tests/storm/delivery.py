"""What a poller got, held against what it had to get: for storms with faults, and for those that `benchmarks` measures.

It knows of no client and no database, so each brings its own: the tests ask the database what was ever stored, and survive
whatever is killed; a measurement asks the writers what was acknowledged, which any server can be asked, with a client that costs
next to nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

Key = tuple[str, str]
"""A version as its object shows it, id and `modified`; in manifests id and date."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How often each version came, how often it had to come, and how often it may have."""

    got: Counter[Key]
    least: Counter[Key]
    most: Counter[Key]

    @property
    def missed(self) -> Counter[Key]:
        """What it had to get and didn't."""
        return self.least - self.got

    @property
    def repeated(self) -> Counter[Key]:
        """What it got more often than that, or was never there for it."""
        return self.got - self.most
