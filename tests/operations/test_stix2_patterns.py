"""Patterns of indicators: held against the grammar, of any length, and refused with the place of the error."""

import pytest

from taxii_server.domain.stix_objects import Form, Refused
from taxii_server.operations import stix2_rules
from tests import factories

SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize(
    "pattern",
    [
        "[file:hashes.MD5 IN ('d41d8cd98f00b204e9800998ecf8427e', 'd41d8cd98f00b204e9800998ecf8427f')]",
        "[file:hashes.'SHA-256' MATCHES '^aa']",
        "[file:hashes.'SHA-256' LIKE 'aa%']",
        f"[file:hashes.'SHA-256' = '{SHA256}']",
        "[network-traffic:src_ref.value ISSUBSET '198.51.100.0/24']",
        " OR ".join(["[ipv4-addr:value = '198.51.100.1']"] * 1500),
        "[" + " OR ".join([f"file:hashes.'SHA-256' = '{SHA256}'"] * 500) + "]",
    ],
    ids=lambda pattern: pattern[:40],
)
def test_patterns_that_pass(pattern: str) -> None:
    """Valid patterns that stix2's own check refuses or overflows on, thousands of alternatives among them."""
    stix2_rules.check(factories.indicator(pattern=pattern), Form.STIX_2_1)
    stix2_rules.check(factories.indicator_2_0(pattern=pattern), Form.STIX_2_0)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("", "pattern, line 1, column 1"),
        ("[a:b = 1", "pattern, line 1, column 9"),
        ("[a:b = 1] nonsense", "pattern, line 1, column 11"),
        ("[a:b =\n'1' ☃]", "pattern, line 2, column 5"),
        ("ipv4-addr:value = '198.51.100.1'", "pattern, line 1, column 1"),
        ("[file:hashes.MD5 = 'zz']", "pattern compares MD5 with something that is no such hash"),
        ("[a:b = 1] WITHIN 5 SECONDS WITHIN 6 SECONDS", "pattern has the qualifier WITHIN twice"),
        ("(" * 2000 + "[a:b = 1]" + ")" * 2000, "pattern nests its parentheses too deeply"),
    ],
    ids=lambda value: value[:30],
)
def test_patterns_that_are_refused(pattern: str, said: str) -> None:
    """A STIX pattern is held against the grammar; the refusal names line and column."""
    with pytest.raises(Refused) as caught:
        stix2_rules.check(factories.indicator(pattern=pattern), Form.STIX_2_1)
    assert said in str(caught.value)
