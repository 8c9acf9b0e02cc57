"""What a call gets back from the hook that performs it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_flokit.steps import Answer


@pytest.mark.parametrize("date", ["", "soon", "Sat, 01 Jan 2026 00:00:00 +9999999999", "Sat, 01 Jan 99999 00:00 GMT"])
def test_an_absurd_date_is_none(date: str) -> None:
    """A Date header that no clock shows is as good as none."""
    assert abs(Answer(200, {"date": date}, b"").server_time - datetime.now(tz=UTC)) < timedelta(seconds=5)
