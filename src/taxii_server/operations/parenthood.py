"""Processes that must not outlive the one that started them: web workers and validating processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from multiprocessing import connection, parent_process
from multiprocessing.process import BaseProcess


def when_parent_ends(then: Callable[[], None]) -> None:
    """Call `then`, in a thread, once the process that started this one has ended, be it by kill -9.

    Does nothing in a process that wasn't started by `multiprocessing`.
    """
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_wait, args=(parent, then), name="parent", daemon=True).start()


def _wait(parent: BaseProcess, then: Callable[[], None]) -> None:
    connection.wait([parent.sentinel])
    then()
