"""Client secrets: recognisable outside, unreadable inside."""

import re

from hypothesis import given
from hypothesis import strategies as st

from taxii_server.auth import secrets


def test_a_secret_has_the_shape_that_scanners_look_for() -> None:
    assert re.fullmatch(r"txs_[0-9a-f]{64}[0-9a-f]{8}", secrets.generate())


def test_secrets_are_well_formed_and_differ() -> None:
    made = {secrets.generate() for _ in range(100)}

    assert len(made) == 100
    assert all(map(secrets.well_formed, made))


@given(st.integers(0, 75), st.characters())
def test_any_one_typo_is_noticed(position: int, typo: str) -> None:
    secret = secrets.generate()
    mistyped = secret[:position] + typo + secret[position + 1 :]

    assert secrets.well_formed(mistyped) == (mistyped == secret)


@given(st.text())
def test_other_texts_are_not_secrets(text: str) -> None:
    assert not secrets.well_formed(text)


def test_an_old_and_a_new_secret_both_match_and_no_other() -> None:
    old, new = secrets.generate(), secrets.generate()
    digests = [secrets.digest(old), secrets.digest(new)]

    assert secrets.matches(digests, old)
    assert secrets.matches(digests, new)
    assert not secrets.matches(digests, secrets.generate())


def test_without_a_live_secret_nothing_matches() -> None:
    assert not secrets.matches([], secrets.generate())


def test_a_digest_does_not_show_the_secret() -> None:
    secret = secrets.generate()

    assert secret.encode() not in secrets.digest(secret)
    assert len(secrets.digest(secret)) == 32
