"""What a token may say of how it is bound (RFC 7800, RFC 8705 §3.1) and shall be refused for, whoever its issuer is."""

from __future__ import annotations

from taxii_server.auth.certificates import CONFIRMATION, confirmation
from tests.auth.certified import byte_sequence, certificate, thumbprint

BEARERS = certificate("the bearer's")
SHOWN = byte_sequence(BEARERS)
"""A certificate that the bearer shows, so that nothing but what a token says of it can be what refuses it."""

GOOD = confirmation(thumbprint(BEARERS))
_ITS = GOOD[CONFIRMATION]

ANOTHER_KIND: tuple[object, ...] = (
    None,
    True,
    7,
    "",
    _ITS,
    [],
    [GOOD],
    {},
    {"jkt": _ITS},
    {"kid": "x"},
    {"jwk": {"kty": "EC"}},
    {"jwe": "x"},
    {"jku": "https://evil.example/jwks.json"},
    GOOD | {"jkt": _ITS},
    GOOD | {"x5t": _ITS},
    {"x5t": _ITS},
    {"x5t#S1": _ITS},
    {"x5t#s256": _ITS},
    {"X5T#S256": _ITS},
    {f"{CONFIRMATION} ": _ITS},
)
"""Bound in a way that its bearer can't be asked to prove, or in none, though it says it is (RFC 7800 §3.1)."""

ANOTHER_SPELLING: tuple[object, ...] = tuple(
    {CONFIRMATION: said}
    for said in (
        None,
        True,
        7,
        [_ITS],
        {"value": _ITS},
        "",
        "abc",
        _ITS[:-1],
        f"{_ITS}A",
        f"{_ITS}=",
        f" {_ITS}",
        f"{_ITS}\n",
        f"{_ITS}\x00",
        f"é{_ITS[1:]}",
        f"+{_ITS[1:]}",
        f"{_ITS[:-1]}{'B' if _ITS[-1] != 'B' else 'C'}",
        f"{'A' * 42}B",
        thumbprint(BEARERS).hex(),
        "A" * 1000,
    )
)
"""A thumbprint that is none, or that another reader could take for another one (RFC 4648 §3.5)."""

WRONG = ANOTHER_KIND + ANOTHER_SPELLING
