"""The metrics listener: apart from the API, and right whatever the number of workers.

Workers write their numbers to files in a folder of ours; the parent, which is asked, adds them up. What a worker that
died had under way is forgotten when next asked; what it had counted stays counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Metric, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from taxii_server.domain.errors import OperatorError

_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def listening(host: str, port: int, workers: int) -> Iterator[None]:
    """Answer with the metrics of all workers, which must be started after this; port 0 means not at all.

    Raises:
        OperatorError: if the port is taken.
    """
    if port == 0:
        yield
        return
    if workers == 1:
        with _answering(host, port, REGISTRY):
            yield
        return
    with TemporaryDirectory(prefix="taxii-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ[_FOLDER] = folder
        registry = CollectorRegistry()
        registry.register(_Workers(folder))
        try:
            with _answering(host, port, registry):
                yield
        finally:
            del os.environ[_FOLDER]


class _Workers:
    """The workers' numbers, added up; those of the dead no longer count as under way."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._all = MultiProcessCollector(CollectorRegistry(), path=folder)  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        for file in Path(self._folder).glob("gauge_live*_*.db"):
            pid = file.stem.rpartition("_")[2]
            if pid.isdigit() and not _runs(int(pid)):
                mark_process_dead(int(pid), self._folder)  # type: ignore[no-untyped-call]
        added_up: Iterable[Metric] = self._all.collect()  # type: ignore[no-untyped-call]
        return added_up

    def describe(self) -> Iterable[Metric]:
        return ()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _answering(host: str, port: int, registry: CollectorRegistry) -> Iterator[None]:
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        message = (
            f"The metrics can't be answered at {host}:{port}: {error.strerror}. "
            "Set TAXII_METRICS_PORT to another port, or to 0 for none."
        )
        raise OperatorError(message) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
