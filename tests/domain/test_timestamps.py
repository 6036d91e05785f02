"""Timestamps: lenient in, exactly six digits and `Z` out (§2, D-14)."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.domain import timestamps
from taxii_server.domain.timestamps import BadTimestamp
from tests import strategies

moments = st.datetimes(timezones=st.just(UTC))


@given(moments)
def test_what_is_written_is_read_back(moment: datetime) -> None:
    """§2: RFC 3339 in UTC with six fractional digits, years below 1000 included."""
    text = timestamps.to_taxii(moment)
    assert len(text) == len("2024-05-02T08:15:30.000001Z")
    assert text.endswith("Z")
    assert timestamps.from_parameter(text) == timestamps.from_stix(text) == moment


def test_other_zones_are_written_in_utc() -> None:
    """§2: a timestamp is in UTC."""
    moment = datetime(2024, 5, 2, 10, 15, 30, 5, tzinfo=timezone(timedelta(hours=2)))
    assert timestamps.to_taxii(moment) == "2024-05-02T08:15:30.000005Z"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2024-05-02T08:15:30Z", "2024-05-02T08:15:30.000000Z"),
        ("2024-05-02T08:15:30.1Z", "2024-05-02T08:15:30.100000Z"),
        ("2024-05-02T08:15:30.123456789Z", "2024-05-02T08:15:30.123456Z"),
        ("2024-05-02T08:15:30.999999999Z", "2024-05-02T08:15:30.999999Z"),
        ("2024-05-02T10:15:30+02:00", "2024-05-02T08:15:30.000000Z"),
        ("2024-05-01T23:15:30.5-09:00", "2024-05-02T08:15:30.500000Z"),
        ("2024-05-02T08:15:30-00:00", "2024-05-02T08:15:30.000000Z"),
        ("2024-02-29T23:59:59Z", "2024-02-29T23:59:59.000000Z"),
    ],
)
def test_parameters_are_read_leniently(text: str, same: str) -> None:
    """D-14: 0 to 9 fractional digits, `Z` or an offset; digits past the sixth are cut off, never rounded up."""
    assert timestamps.to_taxii(timestamps.from_parameter(text)) == same


NO_TIMESTAMPS = [
    "",
    "yesterday",
    "2024-05-02",
    "2024-05-02T08:15Z",
    "2024-05-02T08:15:30",
    "2024-05-02 08:15:30Z",
    "2024-05-02t08:15:30z",
    "2024-5-2T8:15:30Z",
    "2024-05-02T08:15:30.Z",
    "2024-05-02T08:15:30,5Z",
    "2024-02-30T08:15:30Z",
    "2024-05-02T24:00:00Z",
    "2024-05-02T23:59:60Z",
    "0000-01-01T00:00:00Z",
    "2024-05-02T08:15:30Z\n",
    " 2024-05-02T08:15:30Z",
    "\u0662\u0660\u0662\u0664-05-02T08:15:30Z",
    "2024-05-02T08:15:30.\u0665Z",
    "12024-05-02T08:15:30Z",
    "-024-05-02T08:15:30Z",
]


@pytest.mark.parametrize("text", NO_TIMESTAMPS)
def test_what_is_no_timestamp_is_refused(text: str) -> None:
    """T-MVER-07 and the like: a malformed timestamp is an error, whatever it looks like."""
    with pytest.raises(BadTimestamp):
        timestamps.from_parameter(text)
    with pytest.raises(BadTimestamp):
        timestamps.from_stix(text)


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-02T08:15:30.1234567890Z",
        "2024-05-02T08:15:30+2:00",
        "2024-05-02T08:15:30+02:60",
        "2024-05-02T08:15:30+24:00",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
    ],
)
def test_parameters_have_bounds(text: str) -> None:
    """More than nine digits, offsets that don't exist, and instants before or after all years."""
    with pytest.raises(BadTimestamp):
        timestamps.from_parameter(text)


@given(strategies.timestamps())
def test_stix_timestamps_of_up_to_six_digits_are_read(text: str) -> None:
    """Up to six fractional digits can be kept apart."""
    digits = text[20:-1]
    assert timestamps.to_taxii(timestamps.from_stix(text)) == f"{text[:19]}.{digits.ljust(6, '0')}Z"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("2024-05-02T08:15:30.1234567Z", "more than six fractional digits"),
        ("2024-05-02T08:15:30+00:00", "must be a UTC timestamp"),
        (1714637730, "must be a string"),
        (None, "must be a string"),
        (["2024-05-02T08:15:30Z"], "must be a string"),
    ],
)
def test_a_stix_timestamp_is_utc_text(value: object, said: str) -> None:
    """STIX 2.1 §2.13: UTC with `Z`; the message says what is wrong."""
    with pytest.raises(BadTimestamp, match=said):
        timestamps.from_stix(value)


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever a client sends is a timestamp or a BadTimestamp."""
    for read in (timestamps.from_parameter, timestamps.from_stix):
        try:
            assert read(text).tzinfo is UTC
        except BadTimestamp as error:
            said = str(error)
            assert said
