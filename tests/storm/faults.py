"""What goes wrong in a storm, chosen by dice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from tests.postgres import Postgres
from tests.storm.site import Node
from tests.storm.storm import Fault


@dataclass
class Faults:
    """Workers, servers and PostgreSQL that are killed, and a replica that is held back or killed; until `enough` says so."""

    primary: Postgres
    replica: Postgres
    nodes: Sequence[Node]
    enough: Callable[[int], bool]
    """Is told how many there were."""
    happened: int = 0
    held_back: bool = False
    left: list[str] = field(default_factory=list)

    def choose(self, dice: Random) -> tuple[str, Fault] | None:
        """Choose the next one; each comes once before any comes again. In the end the replica is held back, and tells of nothing new."""
        if self.enough(self.happened):
            if self.held_back:
                return None
            return "the replica held back", self._hold_back
        self.happened += 1
        node, number = dice.choice(self.nodes), dice.randrange(1000)
        faults: dict[str, Fault] = {
            "a worker": lambda: self.nodes[0].kill_worker(number),
            "a server": lambda: _again(node),
            "PostgreSQL": lambda: _again(self.primary),
            "the replica held back": self._hold_back,
            "the replica": self._kill_replica,
        }
        if not self.left:
            self.left = list(faults)
            dice.shuffle(self.left)
        name = self.left.pop()
        return name, faults[name]

    def _hold_back(self) -> None:
        self.held_back = not self.held_back
        self.replica.execute(f"SELECT pg_wal_replay_{'pause' if self.held_back else 'resume'}()")

    def _kill_replica(self) -> None:
        # it comes back replaying
        self.held_back = False
        _again(self.replica)


def _again(what: Node | Postgres) -> None:
    what.kill()
    what.start()
