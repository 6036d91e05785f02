"""What a server says passes one place before it is shown, whatever the check that heard it did with it."""

from __future__ import annotations

import base64

import pytest

from taxii_server.check.look import Look, Options
from taxii_server.check.results import fault
from taxii_server.check.run import CHECKS, _result
from taxii_server.check.words import Redaction, plain


@pytest.mark.parametrize("form", ["{}", "Basic {basic}", "{quoted}"])
def test_no_finding_holds_a_secret_or_a_control_character(form: str) -> None:
    """Though a check forgot to quote."""
    secret = "pass word/1"
    basic = base64.b64encode(f"id:{secret}".encode()).decode()
    said = "\x1b[31m" + form.format(secret, basic=basic, quoted="pass%20word%2F1")
    result = _result(CHECKS[0], fault(said, said, said), None, Look(Options("x"), Redaction("id", [secret])))

    for text in (result.seen, result.remedy, result.about):
        assert text is not None
        assert text.startswith("\\u001b[31m")
        assert "[secret]" in text
        assert not any(one in text for one in (secret, basic, "pass%20word"))


def test_plain_text_stays_as_it_is() -> None:
    """Letters of every script, on one line."""
    assert plain("Überweisung, 詐欺\n\tx") == "Überweisung, 詐欺 x"


def test_secrets_do_not_show_in_a_repr() -> None:
    """A traceback or a log may hold one."""
    options = Options(
        "x", client_id="id", secret="hidden-one", token="hidden-two", proxies={"all": "http://u:hidden-three@p"}
    )

    assert "hidden" not in repr(options)
