"""Whatever is killed, no poller misses a version or gets it twice, and nothing acknowledged is lost (promises 1, 2 and 7).

`make torture` has the same for as long as you like, with other seeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.storm import rounds

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def whose(pytestconfig: pytest.Config) -> str:
    return str(pytestconfig.option.postgres)


async def test_nothing_is_lost_whatever_is_killed(tmp_path: Path, whose: str) -> None:
    """Writers, deleters and pollers at two servers; kill -9 of workers, servers, PostgreSQL and a replica, which also lags."""
    found, told = await rounds.with_faults(tmp_path, seed=1, faults=7, whose=whose)

    assert found == [], told
    assert told["versions"] > 1000, told
    assert told["removed"] > 0, told


async def test_nothing_is_lost_by_a_failover(tmp_path: Path, whose: str) -> None:
    """The primary is killed under load, the synchronous standby promoted; servers find it, pollers go on from their cursors.

    The new primary's clock is half a minute behind, so by itself it would give out dates that pollers have passed.
    """
    found, told = await rounds.with_failover(tmp_path, seed=2, whose=whose)

    assert found == [], told
    assert told["since the failover"] > 10, told


async def test_without_a_synchronous_standby_it_would_be(tmp_path: Path, whose: str) -> None:
    """The same with a standby that nobody waits for: the verdict finds what was acknowledged, and what was delivered, and is gone."""
    found, told = await rounds.with_failover(tmp_path, seed=2, whose=whose, synchronous=False)

    assert any("acknowledged and lost" in fault for fault in found), (told, found)
    assert any("never there for it" in fault for fault in found), (told, found)
