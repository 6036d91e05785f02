"""The validating processes of a command."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taxii_server.operations.validation import Validators
from taxii_server.settings import Settings


@asynccontextmanager
async def validators(settings: Settings) -> AsyncIterator[Validators]:
    """Lend validating processes, and end them."""
    judges = Validators(
        settings.validator_processes or max(1, os.cpu_count() or 1), max_object_length=settings.max_object_length
    )
    try:
        yield judges
    finally:
        judges.close()
