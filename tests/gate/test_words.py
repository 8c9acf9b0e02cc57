"""Times, durations, lists and suggestions as a person on call reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from airflow_provider_flokit.gate.words import ago, duration, listed, moment, suggestion

NOW = datetime(2026, 3, 15, 8, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.3, "0.3 s"),
        (45, "45 s"),
        (60, "1 min"),
        (90, "1 min 30 s"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (86400, "1 day"),
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
        (NOW - timedelta(seconds=618, microseconds=-7), "07:50:12 UTC (10 min ago)"),
        (NOW - timedelta(minutes=8), "07:52:30 UTC (8 min ago)"),
        (NOW - timedelta(hours=5), "03:00:30 UTC (5 h ago)"),
        (NOW - timedelta(days=1), "14 Mar 08:00:30 UTC (1 day ago)"),
        (NOW.replace(year=2024), "2024-03-15 08:00:30 UTC (730 days ago)"),
        (NOW, "08:00:30 UTC (just now)"),
        (None, "never"),
    ],
)
def test_a_past_time_has_its_age(time: datetime | None, text: str) -> None:
    """Times are in UTC to the second, with as much of the date as is needed, and say how long ago they were."""
    assert ago(time, NOW) == text


def test_times_of_other_zones_are_written_in_utc() -> None:
    """Whatever zone a DAG author works in, the log has one."""
    assert moment(NOW.astimezone(timezone(timedelta(hours=-4))), NOW) == "08:00:30 UTC"


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "n0"), (3, "n0, n1, n2"), (10, ", ".join(f"n{i}" for i in range(10)))],
)
def test_short_lists_are_written_in_full(count: int, text: str) -> None:
    """Up to ten names stand in a message."""
    assert listed(f"n{i}" for i in range(count)) == text


def test_long_lists_are_cut_at_ten() -> None:
    """A workspace of hundreds does not fill the log."""
    assert listed(f"n{i}" for i in range(104)).endswith("n9 and 94 more")


@pytest.mark.parametrize(
    ("name", "known", "text"),
    [
        ("int_01hx4j7strip", ["int_01hx4j7stripe", "int_01hx4j7adjust"], "did you mean int_01hx4j7stripe?"),
        ("strpe", {"stripe", "adjust"}, "did you mean stripe?"),
        ("quite_different", ["int_01hx4j7stripe"], ""),
        ("anything", [], ""),
    ],
)
def test_what_comes_closest_is_suggested(name: str, known: list[str], text: str) -> None:
    """A typing mistake gets its correction, anything else nothing."""
    assert suggestion(name, known) == text
