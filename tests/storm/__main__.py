"""`make torture`: one storm after the other until the time is over, or one of them finds something.

make torture MINUTES=60
make torture MINUTES=0 SEED=4711        # one of those that were, again
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.storm import rounds

_FAULTS = 20
_FAILOVER_EVERY = 3


def main() -> None:
    """Run storms by seeds that go up; exit with 1 at the first that finds something."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description="Storms with faults.")
    parser.add_argument("--minutes", type=float, default=10, help="for how long new ones are begun")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the first")
    parser.add_argument("--postgres", choices=["embedded", "system"], default="embedded")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    seed = given.seed
    while True:
        failover = seed % _FAILOVER_EVERY == 0
        print(f"seed {seed}: {'failover' if failover else f'{_FAULTS} faults'} …", flush=True)
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="taxii-torture-") as folder:
            if failover:
                found, told = asyncio.run(rounds.with_failover(Path(folder), seed, given.postgres))
            else:
                found, told = asyncio.run(rounds.with_faults(Path(folder), seed, _FAULTS, given.postgres))
        print(f"  {time.monotonic() - begun:.0f} s, {', '.join(f'{count} {what}' for what, count in told.items())}")
        if found:
            print("\n".join(found))
            sys.exit(f"Storm {seed} found this. Once more: make torture MINUTES=0 SEED={seed}")
        seed += 1
        if time.monotonic() > until:
            return


if __name__ == "__main__":
    main()
