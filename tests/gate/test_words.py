"""Times, durations, lists and suggestions as a person on call reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from airflow_provider_flokit.gate.words import ago, duration, listed, suggestion

NOW = datetime(2026, 3, 15, 8, 0, 30, tzinfo=UTC)
NAMES = [f"n{number}" for number in range(104)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.3, "0.3 s"),
        (45, "45 s"),
        (5400, "1 h 30 min"),
        (7 * 86400, "7 days"),
        (2 * 86400 + 3600 + 1, "2 days 1 h"),
    ],
)
def test_durations_are_written_as_people_say_them(seconds: float, text: str) -> None:
    """The two largest units tell enough."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (None, "never"),
        (NOW, "08:00:30 UTC (just now)"),
        (NOW - timedelta(minutes=8), "07:52:30 UTC (8 min ago)"),
        (NOW - timedelta(days=1), "14 Mar 08:00:30 UTC (1 day ago)"),
        (NOW.replace(year=2024), "2024-03-15 08:00:30 UTC (730 days ago)"),
        (NOW.astimezone(timezone(timedelta(hours=-12))), "08:00:30 UTC (just now)"),
    ],
)
def test_a_past_time_has_its_age(time: datetime | None, text: str) -> None:
    """Times are in UTC to the second, with as much of the date as is needed, and say how long ago they were."""
    assert ago(time, NOW) == text


def test_lists_are_cut_at_ten() -> None:
    """A workspace of hundreds does not fill the log."""
    assert listed(NAMES[:10]) == "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9"
    assert listed(NAMES) == "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9 and 94 more"


def test_what_comes_closest_is_suggested() -> None:
    """A typing mistake gets its correction, anything else nothing."""
    known = ["int_01hx4j7stripe", "int_01hx4j7adjust"]
    assert suggestion("int_01hx4j7strip", known) == "did you mean int_01hx4j7stripe?"
    assert suggestion("quite_different", known) == ""
