"""Parts of the machine that some tests need and not every machine has."""

import os

import pytest


def need(found: object, what: str) -> None:
    """Skip, saying aloud what is missing; under CI, where everything was installed, fail."""
    if found:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"this machine lacks {what}, which CI installs")
    pytest.skip(f"this machine lacks {what}")
