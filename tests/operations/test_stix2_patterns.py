"""Patterns of indicators: held against the grammar, of any length, and refused with the place of the error."""

from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taxii_server.domain.stix_objects import Form, Refused
from taxii_server.operations import plain_patterns, stix2_patterns, stix2_rules
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
        " OR ".join(["[ipv4-addr:value == '198.51.100.1']"] * 1500),
        "[" + " OR ".join([f"file:hashes.'SHA-256' == '{SHA256}'"] * 500) + "]",
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


@pytest.mark.parametrize(
    "pattern",
    [
        "[ipv4-addr:value = '198.51.100.1']",
        "[domain-name:value = 'login.example.net']",
        "[url:value LIKE 'https://example.net/%?a=1&b=2#c']",
        "[email-message:sender_ref.value != 'someone@example.net']",
        "[network-traffic:dst_ref.value = '198.51.100.1' AND network-traffic:dst_port = 443]",
        f"[file:hashes.'SHA-256' = '{SHA256}' OR file:hashes.MD5 = '{SHA256[:32].upper()}']",
        "[ipv4-addr:value = '198.51.100.1'] OR [domain-name:value = 'example.net']",
        "[domain-name:value='example.net']",
        "[ domain-name:value = 'example.net' ]",
        "[network-traffic:dst_port IN (443, 8443) AND network-traffic:protocols[*] = 'tcp' AND x:y[0].z IN ('a','b')]",
        (
            "([network-traffic:dst_ref.value = '198.51.100.1' AND network-traffic:dst_port IN (443, 8443)] FOLLOWEDBY "
            "[url:value LIKE 'https://example.net/%']) WITHIN 300 SECONDS"
        ),
        "[process:name = 'a.exe'] REPEATS 5 TIMES FOLLOWEDBY [process:name = 'b.exe'] WITHIN 5 SECONDS REPEATS 2 TIMES",
        "[file:extensions.'windows-pebinary-ext'.number_of_sections >= 3 AND (file:size < 10 OR file:name != 'a')]",
        "[ipv4-addr:value ISSUBSET '198.51.100.0/24' OR process:is_hidden = true]",
        " OR ".join(["[ipv4-addr:value = '198.51.100.1']"] * 1500),
    ],
    ids=lambda pattern: pattern[:40],
)
def test_common_patterns_need_no_grammar(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What most indicators say is known to be valid without the grammar, which takes a hundred times as long."""
    for form in Form:
        if pattern.count("[") < 10:
            stix2_patterns.check_by_grammar(pattern, form)
    monkeypatch.delattr(stix2_patterns, "check_by_grammar")
    for form in Form:
        stix2_patterns.check_pattern(pattern, form)


_names = st.sampled_from(["value", "dst_ref", "x_1", "start", "in", "h", "t", "hashes_x", "hashes", "true", "false"])
_types = st.sampled_from(["file", "ipv4-addr", "x", "a--b", "a-", "h", "b", "not", "hashes", "true", "false-x"])
_steps = _names | st.builds("{}[{}]".format, _names, st.sampled_from(["*", "0", "12", "-1", "01", "a", ""]))
_extensions = st.sampled_from(["'a-ext'", "'a-ex'", "'-ext'", "'hashes'", "'hashes-ext'", "'a'"])
_hashes = st.sampled_from(["MD5", "'MD5'", "'SHA-1'", "'SHA-256'", "'SHA-512'", "SHA1", "'sha-256'", "SSDEEP"])
_texts = st.one_of(
    st.sampled_from([0, 31, 32, 40, 64, 128]).map(lambda length: ("aF09" * 32)[:length]),
    st.text("aZ9 /*-#%[]():.=t+~!", max_size=8),
).map(lambda text: f"'{text}'")
_values = st.one_of(_texts, st.sampled_from(["0", "443", "-1", "007", "1.5", "true", "9" * 18, "h'aa'"]))
_sets = st.builds("({})".format, st.lists(_values, max_size=3).map(", ".join))
_paths = st.lists(_steps | _extensions, min_size=1, max_size=3).map(".".join) | st.builds(
    "{}.{}".format, _steps, _hashes
)
_OPERATORS = [
    " = ",
    "=",
    " =",
    "= ",
    " = ",
    " != ",
    "!=",
    " LIKE ",
    " MATCHES ",
    "LIKE",
    " == ",
    " > ",
    "<=",
    " < ",
    " ISSUBSET ",
    " ISSUPERSET ",
    " IN ",
    " NOT = ",
]
_comparisons = st.builds(
    "{}:{}{}{}".format,
    _types,
    _paths | st.builds("{}hashes.{}".format, st.just("") | _steps.map("{}.".format), _hashes),
    st.sampled_from(_OPERATORS),
    _values | _sets,
)
_joints = st.sampled_from([" AND ", " OR ", " FOLLOWEDBY "])


def _joined(parts: st.SearchStrategy[str], most: int) -> st.SearchStrategy[str]:
    return st.builds(lambda joint, several: joint.join(several), _joints, st.lists(parts, min_size=1, max_size=most))


_GOOD = st.sampled_from(
    [
        "a:b = 'c'",
        "a-b:c.d[*].e>=1",
        "a:b IN (1, 2)",
        "a:'b-ext'.c IN ('d','e')",
        "a:hashes.MD5 = 'd41d8cd98f00b204e9800998ecf8427e'",
        "a:b ISSUBSET 'c'",
        "a:b[0].c = true",
        "a:b LIKE '%'",
    ]
)


def _perhaps(inner: st.SearchStrategy[str], *around: str) -> st.SearchStrategy[str]:
    return st.builds(lambda form, part: form.format(part), st.sampled_from(["{}", "{}", *around]), inner)


_groups = _perhaps(_joined(_comparisons, 2), "({})") | _perhaps(_joined(_GOOD, 2), "({})")
_observations = _joined(_groups, 2) | _joined(_perhaps(_joined(_GOOD, 2), "({})"), 2)
_QUALIFIED = ("{} WITHIN 5 SECONDS", "{} REPEATS 2 TIMES", "{} WITHIN 5 SECONDS REPEATS 2 TIMES", "{} WITHIN 0 SECONDS")
_terms = _perhaps(_perhaps(_observations, "[ {} ]").map("[{}]".format), *_QUALIFIED)
_patterns = _joined(_perhaps(_perhaps(_joined(_terms, 2), "({})"), *_QUALIFIED), 2)
_ODD_CHARACTERS = list(
    "'\\[]():.=!<>-_ aAtTrue0/*\"\t\n\r\0\x7f\x85\u00a0\u2028\uff07\uff3b\u0430\u0665\U0001d7d8\ud800"
)


@st.composite
def _mutated(draw: st.DrawFn) -> str:
    pattern = draw(_patterns)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(pattern)))
        put = draw(st.sampled_from(_ODD_CHARACTERS) | st.just(""))
        pattern = pattern[:place] + put + pattern[place + draw(st.integers(0, 1)) :]
    return pattern


def _plain_is_valid(pattern: str) -> None:
    if plain_patterns.is_plain(pattern):
        # raises where it isn't
        for form in Form:
            stix2_patterns.check_by_grammar(pattern, form)


def _one_character_off(pattern: str) -> Iterator[str]:
    for place, _ in enumerate(pattern):
        yield pattern[:place] + pattern[place + 1 :]
        for put in _ODD_CHARACTERS:
            yield pattern[:place] + put + pattern[place:]
            yield pattern[:place] + put + pattern[place + 1 :]


@pytest.mark.parametrize(
    "pattern",
    [
        "[a-b:c.d = 'e']",
        "[a:b != 10]",
        "[a:hashes.MD5 = 'd41d8cd98f00b204e9800998ecf8427e']",
        *(
            pytest.param(pattern, marks=pytest.mark.slow)
            for pattern in (
                "[a:b IN (1, 2) AND c:d[*] IN ('e')]",
                "([a:b=1] FOLLOWEDBY [ a:b>=1 ]) WITHIN 5 SECONDS REPEATS 2 TIMES",
                "[(a:'b-ext'.c < 'd' OR a:b[0].c ISSUBSET 'd') AND a:b = true]",
            )
        ),
    ],
)
def test_one_character_off_is_plain_only_if_valid(pattern: str) -> None:
    """Every character left out, every odd one put before it or in its place."""
    assert plain_patterns.is_plain(pattern)
    for other in _one_character_off(pattern):
        _plain_is_valid(other)


@pytest.mark.parametrize("name", ["MD5", "'MD5'", "SHA1", "'SHA-1'", "'SHA-256'", "'SHA-512'", "'SHA3-256'", "SSDEEP"])
def test_hashes_are_plain_only_at_their_length(name: str) -> None:
    """A hash of another length is for the slower check, which refuses it."""
    for digits in range(130):
        for operator in ("=", "!="):
            _plain_is_valid(f"[file:hashes.{name} {operator} '{'aF09' * 40:.{digits}}']")


@given(_mutated())
@settings(max_examples=200)
@example("[file:hashes.MD5 = 'zz']")
@example("[file:hashes.MD5 LIKE '%']")
@example("[a:b = '']\n")
@example("[true:false = 'x']")
def test_what_counts_as_plain_is_valid(pattern: str) -> None:
    """Whatever passes without the grammar passes with it, in both forms."""
    _plain_is_valid(pattern)


@pytest.mark.slow
@given(_mutated())
@settings(max_examples=3_000)
def test_what_counts_as_plain_is_valid_many_times(pattern: str) -> None:
    """The same with many more patterns."""
    _plain_is_valid(pattern)
