"""Durations as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.keep_alive import FOR_GOOD, parse_keep_alive


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("5m", 300), ("1h30m", 5400), ("90s", 90), ("90", 90), ("1.5h", 5400), ("500ms", 0.5), ("1d", 86400),
        (300, 300), (0.5, 0.5), (0, 0), ("0", 0), ("0s", 0), (-1, FOR_GOOD), ("-1", FOR_GOOD), ("-1m", FOR_GOOD),
        (" 5m ", 300),
    ],
)  # fmt: skip
def test_what_may_be_written(said, seconds):
    assert parse_keep_alive(said) == seconds


@pytest.mark.parametrize(
    "said",
    [
        "",
        "5 m",
        "m",
        "5w",
        "five",
        "5m5",
        "nan",
        "inf",
        "-",
        "--1",
        "1e400",
        True,
        None,
        [],
        float("nan"),
        1e10,
        "9" * 99,
    ],
)
def test_what_may_not(said):
    with pytest.raises(ValueError, match="seconds"):
        parse_keep_alive(said)


@given(st.one_of(st.text(), st.floats(), st.integers(), st.none()))
def test_anything_is_seconds_or_is_refused(said):
    try:
        seconds = parse_keep_alive(said)
    except ValueError:
        return
    assert seconds == FOR_GOOD or 0 <= seconds <= 366 * 86400
